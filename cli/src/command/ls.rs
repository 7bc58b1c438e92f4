//! `domstat ls`: what is published.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use domstat_consumer::{Lost, Region, Snapshot};
use domstat_layout::State;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::{find, render};

/// List the domains that are published on this host
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  domstat ls --json | jq -r '.[] | select(.state == \"live\") | .name'"
)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let dir = find::directory(dir)?;
    let found = domstat_consumer::find(&dir)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Vec<Value> = found
            .iter()
            .map(|f| {
                let (name, path) = (&f.name, f.path.display().to_string());
                match &f.region {
                    Ok(region) => {
                        let (snapshot, state) = match look(region) {
                            Ok(seen) => seen,
                            Err(e) => return failed(name, &path, &e),
                        };
                        let mut map = render::summary(region, &snapshot, state);
                        map.insert("entry".to_owned(), json!(name));
                        map.insert("path".to_owned(), json!(path));
                        Value::Object(map)
                    }
                    Err(e) => failed(name, &path, e),
                }
            })
            .collect();
        writeln!(out, "{:#}", Value::Array(list))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        writeln!(out, "no domain is published in {}", dir.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = render::table(&["NAME", "DOMID", "VCPUS", "STATE", "AGE", "REV"]);
    let mut broken = Vec::new();
    for f in &found {
        match &f.region {
            Ok(region) => match look(region) {
                Ok((snapshot, state)) => {
                    table.add_row(render::ls_row(&f.name, region, &snapshot, state));
                }
                Err(e) => broken.push(format!("{}: {e}", f.name)),
            },
            Err(e) => broken.push(format!("{}: {e}", f.name)),
        }
    }
    if table.row_count() > 0 {
        writeln!(out, "{table}")?;
    }
    for line in broken {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(name: &str, path: &str, error: &dyn std::error::Error) -> Value {
    json!({ "entry": name, "path": path, "error": error.to_string() })
}

fn look(region: &Region) -> Result<(Snapshot, Option<State>), Lost> {
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let state = region.status().state;
    region.intact()?;
    Ok((snapshot, state))
}
