//! `domstat events`: what happens to a domain, as it happens.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domstat_sources::contract::Event;
use domstat_sources::control::{Cursor, EventLine, line};

use crate::control::client::Client;
use crate::error::Failure;
use crate::output;
use crate::output::json::Safe;
use crate::output::message::message;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat events web1
  domstat events --json | jq 'select(.event == \"write_threshold\")'
  domstat events --json --from 5f3a90c1d2e4b678:17

Each event is reported once. One that QEMU emitted while nobody was connected is concluded from \
what is found afterwards and marked \"reconciled\". Of a domain whose events come too fast, some \
are left out: the event \"lost\" in their place says how many.

Each event has a number. --from continues with that one, as far as the daemon remembers (4096 events): \
what it does not, and what another daemon had numbered, is the event \"lost\".

Exit status: 3 after the daemon has ended (the event \"daemon_ends\" comes first), 6 if it died.";

/// Print events of a VM that `domstat run qemu` or `run libvirt` observes, as they come
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The domain; without it, all of the daemon's
    domain: Option<String>,
    /// The daemon's control socket; default: control.sock next to the regions
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Begin with this event, by the daemon's epoch and the event's number as --json prints them; by
    /// the number alone of the daemon that runs now
    #[arg(long, value_name = "EPOCH:N")]
    from: Option<Cursor>,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON, one line for each event
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(args.control.as_deref(), dir)?;
    let mut next = client.subscribe(args.domain.as_deref(), args.from.as_ref())?;
    let stop = Stop::on_signals()?;
    message("waiting for events; stop with Ctrl-C");
    let stream = client.stream()?;
    let asked = Arc::new(AtomicBool::new(false));
    let asks = Arc::clone(&asked);
    std::thread::spawn(move || {
        while !stop.wait(std::time::Duration::from_secs(3600)) {}
        // ORDERING: the shutdown that the other thread sees comes after it.
        asks.store(true, Ordering::SeqCst);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let mut out = std::io::stdout().lock();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = match client.next_event() {
            Ok(Some(event)) => event,
            // ORDERING: as in the thread above.
            _ if asked.load(Ordering::SeqCst) => break,
            // Without the daemon no event comes any more: not the same as no event.
            Ok(None) => return Err(blind(client.ended(), next.as_ref())),
            Err(failure) => return Err(blind(failure, next.as_ref())),
        };
        print(&mut out, &event, args.json)?;
        out.flush()?;
        if event.event == Event::DaemonEnds {
            return Err(blind(client.ended_in_order(), next.as_ref()));
        }
        if let Some(at) = event.at {
            next = Some(Cursor { number: at.number.saturating_add(1), ..at });
        }
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how to continue after a failure, where nothing is seen any more.
fn blind(failure: Failure, next: Option<&Cursor>) -> Failure {
    if let Some(next) = next {
        let next = output::printable(&next.to_string());
        eprintln!("domstat: continue with domstat events --from {next}");
    }
    failure
}

/// One event, as a line.
pub(crate) fn print(out: &mut impl Write, event: &EventLine, as_json: bool) -> std::io::Result<()> {
    if as_json {
        return write!(out, "{}", Safe(&line(event)));
    }
    let domain = if event.domain.is_empty() { output::ABSENT } else { &event.domain };
    write!(out, "{}  {}", output::printable(domain), event.event.name())?;
    let mut text = |key: &str, value: &str| match value {
        "" => Ok(()),
        value => write!(out, "  {key} {}", output::printable(value)),
    };
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    match &event.event {
        Event::WriteThreshold { disk, node, threshold_bytes, excess_bytes, reconciled } => {
            text("disk", disk)?;
            text("threshold_bytes", &threshold_bytes.to_string())?;
            text("excess_bytes", &number(*excess_bytes))?;
            text("node", node)?;
            flag(out, "reconciled", *reconciled)?;
        }
        Event::JobReady { disk, job, kind } => {
            text("disk", disk.as_deref().unwrap_or_default())?;
            text("job", job)?;
            text("kind", kind)?;
        }
        Event::JobEnded { disk, job, kind, outcome, error, reconciled } => {
            text("disk", disk.as_deref().unwrap_or_default())?;
            text("job", job)?;
            text("kind", kind)?;
            text("outcome", outcome.name())?;
            text("error", error.as_deref().unwrap_or_default())?;
            flag(out, "reconciled", *reconciled)?;
        }
        Event::ThresholdReplaced { disk, node, threshold_bytes, new_bytes } => {
            text("disk", disk)?;
            text("threshold_bytes", &threshold_bytes.to_string())?;
            text("new_bytes", &new_bytes.to_string())?;
            text("node", node)?;
        }
        Event::ThresholdLost { disk, node, threshold_bytes, reason } => {
            text("disk", disk)?;
            text("threshold_bytes", &threshold_bytes.to_string())?;
            text("reason", reason.name())?;
            text("node", node)?;
        }
        Event::ThresholdsUnreadable { records, address, error } => {
            text("records", &number(*records))?;
            text("address", address.as_deref().unwrap_or_default())?;
            text("error", error)?;
        }
        Event::Lost { events } => text("events", &number(*events))?,
        Event::State { state, reason, disk } => {
            text("state", state)?;
            text("reason", reason.as_deref().unwrap_or_default())?;
            text("disk", disk.as_deref().unwrap_or_default())?;
        }
        _ => {}
    }
    writeln!(out)
}

fn flag(out: &mut impl Write, key: &str, set: bool) -> std::io::Result<()> {
    if set { write!(out, "  {key}") } else { Ok(()) }
}
