//! `domstat ls`: what is published.

use std::io::Write;
use std::process::ExitCode;

use domstat_consumer::attach::Truncated;
use domstat_consumer::{Attachment, Region, Snapshot};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::locate::{self, Entry, Places};
use crate::output::{self, ABSENT, Seen, age, identity, plain, printable, runstate};

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

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    locate::raise_limit_of_files();
    let found = places.all()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let list: Value = found.iter().map(as_json).collect();
        writeln!(out, "{list:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        writeln!(out, "no domain is published {}", places.describe()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&["NAME", "DOMID", "VCPUS", "STATE", "AGE", "REV"]);
    let mut broken = Vec::new();
    for Entry { name, attachment, .. } in &found {
        match attachment.as_ref().map(|a| (a, look(a))) {
            Ok((attachment, Ok((snapshot, seen)))) => {
                table.add_row(row(name, attachment.region(), &snapshot, seen));
            }
            Ok((_, Err(e))) => broken.push(format!("{}: {e}", output::printable(name))),
            Err(e) => broken.push(format!("{}: {e}", output::printable(name))),
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

fn as_json(entry: &Entry) -> Value {
    let Entry { name, place, attachment } = entry;
    let path = place.display().to_string();
    let failed =
        |e: &dyn std::error::Error| json!({ "entry": name, "path": path, "error": e.to_string() });
    let attachment = match attachment {
        Ok(attachment) => attachment,
        Err(e) => return failed(e),
    };
    match look(attachment) {
        Ok((snapshot, seen)) => {
            let mut map = output::json::summary(attachment.region(), &snapshot, seen);
            map.insert("entry".to_owned(), json!(name));
            map.insert("path".to_owned(), json!(path));
            Value::Object(map)
        }
        Err(e) => failed(&e),
    }
}

fn look(attachment: &Attachment) -> Result<(Snapshot, Seen), Truncated> {
    let region = attachment.region();
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let seen = Seen { liveness: attachment.liveness(), state: region.status().state };
    region.intact()?;
    Ok((snapshot, seen))
}

/// A domain's row.
fn row(name: &str, region: &Region, snapshot: &Snapshot, seen: Seen) -> Vec<String> {
    let newest = (0..snapshot.nr_vcpus())
        .filter_map(|i| runstate(snapshot, i).ok()?.active().map(|s| s.updated))
        .max();
    vec![
        printable(name),
        identity(snapshot).map_or(ABSENT.into(), |i| plain(i.domid.get())),
        snapshot.nr_vcpus().to_string(),
        seen.name().to_owned(),
        newest.map_or(ABSENT.into(), |updated| age(snapshot.taken(), updated)),
        region.header().revision.to_string(),
    ]
}
