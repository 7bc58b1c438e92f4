//! `domstat events`: what happens to a domain, as it happens.

#![allow(
    clippy::indexing_slicing,
    reason = "a serde_json::Value that is read by a key that it lacks is Null, not a panic"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::control::client::Client;
use crate::error::Failure;
use crate::output;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat events web1
  domstat events --json | jq 'select(.event == \"write_threshold\")'

Each event is told once. One that QEMU emitted while nobody was connected is concluded from what
is found afterwards, and says \"reconciled\".";

/// Print events of a VM that `domstat run qemu` observes, as they come
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The domain; without it, all of the daemon's
    domain: Option<String>,
    /// The daemon's control socket; default: control.sock beside the regions
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON, one line for each event
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(args.control.as_deref(), dir)?;
    client.subscribe(args.domain.as_deref())?;
    eprintln!("domstat: waiting for events; stop with Ctrl-C");
    let stop = Stop::on_signals()?;
    let stream = client.stream()?;
    std::thread::spawn(move || {
        while !stop.wait(std::time::Duration::from_secs(3600)) {}
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let mut out = std::io::stdout().lock();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(event) = client.next_line()? else { break };
        print(&mut out, &event, args.json)?;
        out.flush()?;
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// One event, as a line.
pub(crate) fn print(out: &mut impl Write, event: &Value, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return writeln!(out, "{event}");
    }
    let name = |key: &str| output::printable(event[key].as_str().unwrap_or("-"));
    write!(out, "{}  {}", name("domain"), name("event"))?;
    for (key, value) in event.as_object().into_iter().flatten() {
        match value {
            _ if key == "domain" || key == "event" => {}
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => write!(out, "  {key}")?,
            Value::String(text) => write!(out, "  {key} {}", output::printable(text))?,
            other => write!(out, "  {key} {other}")?,
        }
    }
    writeln!(out)
}
