//! `domstat block`: disks, write thresholds and block jobs of a domain that a daemon observes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;
use domstat_layout::percent::WHOLE;
use domstat_sources::contract::{
    ControlError, DiskInfo, ErrorCode, Event, JobAborted, JobFlags, JobStatus, ThresholdFlags,
    ThresholdSet,
};
use domstat_sources::control::{Request, milliseconds};
use serde::Serialize;

use crate::control::client::Client;
use crate::error::Failure;
use crate::output;
use crate::output::human;
use crate::output::json::Safe;

const EXAMPLES: &str = "\
Examples:
  domstat block list web1
  domstat block threshold web1 vda 80%          one event past 80 %
  domstat block threshold web1 vda 10G --wait   and wait for it
  domstat block threshold web1 'vda[1]' 0       disarm a backing image's
  domstat block jobs web1
  domstat block job-abort web1 vda --timeout 30
  domstat block job-abort web1 vda --async      an event reports the end

A threshold is one-shot: when it fires it is disarmed. A percentage is of the disk's capacity and \
rounds down to a byte. A disk is named by its target (vda), by a source that is of no other disk, \
or, for a backing image, with its number in the chain (vda[1]).";

/// How long events that are on their way are waited for, once the threshold is not armed any more.
const LAST_EVENTS: Duration = Duration::from_millis(500);

/// Disks, write thresholds and block jobs of a VM that `domstat run qemu` or `run libvirt` observes
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// The daemon's control socket; default: control.sock next to the regions
    #[arg(long, global = true, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// List disks and the images that back them
    List { domain: String },
    /// List block jobs
    Jobs { domain: String },
    /// Arm a write threshold, or disarm it with 0
    Threshold {
        domain: String,
        /// The disk: its name, that of a backing image, or its source
        disk: String,
        /// Bytes (10737418240, 10G, 512M), or a percentage of the capacity (80%, 12.345%)
        #[arg(value_parser = threshold)]
        threshold: Threshold,
        /// Wait until it has fired; exit code 5 if it is replaced, disarmed or lost
        #[arg(long)]
        wait: bool,
    },
    /// Cancel the block job of a disk
    JobAbort {
        domain: String,
        /// The disk, or the job's id
        disk: String,
        /// Return as soon as QEMU has accepted it; one event reports the end
        #[arg(long = "async")]
        is_async: bool,
        /// Cancel a paused job, too, and a ready mirror without completing it
        #[arg(long)]
        force: bool,
        /// Give up waiting after this many seconds; the job still ends, and an event reports it
        #[arg(long, value_name = "SECONDS", conflicts_with = "is_async", value_parser = crate::command::show::seconds)]
        timeout: Option<Duration>,
    },
}

/// A number and the flags that say what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Threshold {
    number: u64,
    flags: u32,
}

/// `80%`, `12.345%`, `10G`, `512`.
fn threshold(text: &str) -> Result<Threshold, String> {
    let help = "expected bytes (10737418240, 10G) or a percentage with at most three digits after \
                the point (80%, 12.345%)";
    if let Some(percent) = text.strip_suffix('%') {
        let (whole, rest) = percent.split_once('.').unwrap_or((percent, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || rest.len() > 3 || !digits(whole) || !digits(rest) {
            return Err(help.to_owned());
        }
        let number: u64 = format!("{whole}{rest:0<3}").parse().map_err(|_| help.to_owned())?;
        if number > u64::from(WHOLE) {
            return Err("more than 100 %".to_owned());
        }
        return Ok(Threshold { number, flags: ThresholdFlags::PERCENTAGE });
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match text.get(digits.len()..).unwrap_or_default() {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return Err(help.to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| help.to_owned())?;
    let number = number.checked_mul(1 << power).ok_or("more than 64 bits hold")?;
    Ok(Threshold { number, flags: 0 })
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(args.control.as_deref(), dir)?;
    let mut out = std::io::stdout().lock();
    match &args.verb {
        Verb::List { domain } => {
            let disks: Vec<DiskInfo> =
                client.ask(&Request::BlockList { domain: domain.clone() })?;
            if args.json { pretty(&mut out, &disks)? } else { list(&mut out, &disks)? }
        }
        Verb::Jobs { domain } => {
            let jobs: Vec<JobStatus> =
                client.ask(&Request::BlockJobs { domain: domain.clone() })?;
            if args.json { pretty(&mut out, &jobs)? } else { list_jobs(&mut out, &jobs)? }
        }
        Verb::Threshold { domain, disk, threshold, wait } => {
            // Subscribed first, so that nothing is missed between the two.
            let events = match wait {
                true => {
                    let mut events = Client::connect(args.control.as_deref(), dir)?;
                    events.subscribe(Some(domain), None)?;
                    Some(events)
                }
                false => None,
            };
            let set: ThresholdSet = client.ask(&Request::BlockThreshold {
                domain: domain.clone(),
                disk: disk.clone(),
                threshold: threshold.number,
                flags: threshold.flags,
            })?;
            if set.threshold_bytes > 0 {
                let disks =
                    client.ask::<Vec<DiskInfo>>(&Request::BlockList { domain: domain.clone() })?;
                warn_of_read_only(&disks, &set);
            }
            if args.json {
                compact(&mut out, &set)?;
            } else {
                let name = output::printable(&set.disk);
                match set.threshold_bytes {
                    0 => writeln!(out, "{name}: no threshold")?,
                    bytes => writeln!(out, "{name}: threshold {bytes} bytes")?,
                }
            }
            if let Some(mut events) = events {
                let of = (domain.as_str(), &set);
                // The first connection may be closed by the time it is needed again.
                let connect = || Client::connect(args.control.as_deref(), dir);
                wait_for(&mut out, &mut events, connect, of, args.json)?;
            }
        }
        Verb::JobAbort { domain, disk, is_async, force, timeout } => {
            let flag = |set: bool, bit: u32| if set { bit } else { 0 };
            let aborted: JobAborted = client.ask(&Request::BlockJobAbort {
                domain: domain.clone(),
                disk: disk.clone(),
                flags: flag(*is_async, JobFlags::ASYNC) | flag(*force, JobFlags::FORCE),
                timeout_ms: timeout.map(milliseconds),
            })?;
            if args.json {
                compact(&mut out, &aborted)?;
            } else {
                let outcome = match &aborted {
                    JobAborted::Ended { outcome, .. } => outcome.name(),
                    JobAborted::Accepted { .. } => "is being canceled",
                };
                writeln!(out, "job {}: {outcome}", output::printable(aborted.job()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A disk that is read-only is never written past a threshold; an image that backs one is, by a commit.
fn warn_of_read_only(disks: &[DiskInfo], set: &ThresholdSet) {
    let disk = disks.iter().find(|disk| disk.name == set.disk && disk.backing_index == 0);
    if disk.is_some_and(|disk| disk.read_only == Some(true)) {
        let name = output::printable(&set.disk);
        eprintln!("domstat: {name} is read-only: its threshold cannot fire");
    }
}

fn pretty(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    writeln!(out, "{}", Safe(&serde_json::to_string_pretty(value)?))
}

fn compact(out: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    writeln!(out, "{}", Safe(&serde_json::to_string(value)?))
}

/// Waits until the threshold that was set has fired, or is not armed any more.
fn wait_for(
    out: &mut impl Write,
    events: &mut Client,
    connect: impl Fn() -> Result<Client, Failure>,
    (domain, set): (&str, &ThresholdSet),
    as_json: bool,
) -> Result<(), Failure> {
    if set.threshold_bytes == 0 {
        return Ok(());
    }
    out.flush()?;
    let not_armed = |why: String| Failure::NotArmed {
        disk: output::printable(&set.disk),
        threshold_bytes: set.threshold_bytes,
        why,
    };
    // Why it is not armed any more, unless one of the events that are on their way says that it fired.
    let mut doubt: Option<(String, Instant)> = None;
    loop {
        let line = match (events.next_event(), &doubt) {
            (Ok(Some(line)), None) => line,
            (Ok(Some(line)), Some((_, until))) if Instant::now() < *until => line,
            (_, Some((why, _))) => return Err(not_armed(why.clone())),
            (Ok(None), None) => return Err(events.ended()),
            (Err(failure), None) => return Err(failure),
        };
        let why = match &line.event {
            Event::WriteThreshold { disk, threshold_bytes, .. }
                if *disk == set.disk && *threshold_bytes == set.threshold_bytes =>
            {
                super::events::print(out, &line, as_json)?;
                return Ok(());
            }
            Event::WriteThreshold { node, .. } if *node == set.node => {
                "another one fired".to_owned()
            }
            Event::ThresholdReplaced { node, threshold_bytes, new_bytes, .. }
                if *node == set.node && *threshold_bytes == set.threshold_bytes =>
            {
                match new_bytes {
                    0 => "another client disarmed it".to_owned(),
                    bytes => format!("another client set {bytes} bytes"),
                }
            }
            Event::ThresholdLost { node, threshold_bytes, .. }
                if *node == set.node && *threshold_bytes == set.threshold_bytes =>
            {
                "its image was removed".to_owned()
            }
            Event::Lost { .. } => "events were lost, so it may have fired".to_owned(),
            Event::DaemonEnds => return Err(events.ended_in_order()),
            Event::Gone => {
                super::events::print(out, &line, as_json)?;
                let message =
                    "the domain ended, or is no longer observed, before the threshold fired";
                return Err(Failure::Refused(ControlError::new(ErrorCode::Gone, message)));
            }
            _ => continue,
        };
        if doubt.is_some() {
            continue;
        }
        // The event may be older than the threshold that was set.
        let request = Request::BlockList { domain: domain.to_owned() };
        let disks: Vec<DiskInfo> = connect()?.ask(&request)?;
        let is_armed = |d: &DiskInfo| {
            d.storage_node.as_ref() == Some(&set.node)
                && d.threshold_bytes == Some(set.threshold_bytes)
        };
        if !disks.iter().any(is_armed) {
            doubt = Some((why, Instant::now() + LAST_EVENTS));
            events.give_up_after(LAST_EVENTS)?;
        }
    }
}

fn list(out: &mut impl Write, disks: &[DiskInfo]) -> std::io::Result<()> {
    let mut table =
        output::table(&["DISK", "CAPACITY", "PHYSICAL", "THRESHOLD", "FIRED", "NODE", "SOURCE"]);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let text = |text: &Option<String>| output::printable(text.as_deref().unwrap_or("-"));
    for disk in disks {
        table.add_row([
            output::printable(&disk.name),
            number(disk.capacity_bytes),
            number(disk.physical_bytes),
            number(disk.threshold_bytes),
            disk.threshold_events.to_string(),
            text(&disk.storage_node),
            text(&disk.source),
        ]);
    }
    writeln!(out, "{table}")
}

fn list_jobs(out: &mut impl Write, jobs: &[JobStatus]) -> std::io::Result<()> {
    let mut table = output::table(&[
        "JOB", "DISK", "KIND", "STATE", "DONE", "CURRENT", "END", "LIMIT", "SPEED",
    ]);
    let size = |n: Option<u64>| human::or_absent(n, |n| human::bytes(n as f64));
    let speed = |n: Option<u64>| human::or_absent(n, |n| human::bytes(n as f64) + "/s");
    for job in jobs {
        let done = job.cur_bytes.zip(job.end_bytes).filter(|(_, end)| *end > 0);
        table.add_row([
            output::printable(&job.job),
            output::printable(job.disk.as_deref().unwrap_or(output::ABSENT)),
            output::printable(&job.kind),
            output::printable(job.state.as_deref().unwrap_or(output::ABSENT)),
            human::or_absent(done, |(cur, end)| {
                format!("{}%", human::percent(cur as f64 / end as f64))
            }),
            size(job.cur_bytes),
            size(job.end_bytes),
            speed(job.limit_bytes.filter(|limit| *limit > 0)),
            speed(job.bytes_per_second),
        ]);
    }
    writeln!(out, "{}", table.left(&[1, 2, 3]))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use domstat_sources::control::{Answer, EventLine, Subscribed, line};

    use super::*;

    #[test]
    fn thresholds_are_bytes_or_thousandths_of_a_percent() {
        let parsed = |text| threshold(text).map(|t| (t.number, t.flags));
        assert_eq!(parsed("80%"), Ok((80_000, 1)));
        assert_eq!(parsed("12.345%"), Ok((12_345, 1)));
        assert_eq!(parsed("0.5%"), Ok((500, 1)));
        assert_eq!(parsed("10G"), Ok((10 << 30, 0)));
        assert_eq!(parsed("0"), Ok((0, 0)));
        for bad in ["100.001%", "1.2345%", "%", "10X", "-1", "", "99999999T", "1.+2%"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    /// Waits for the threshold of 500 bytes while a daemon sends these events and lists the disk with
    /// `armed`.
    fn wait_with(events: &[Event], armed: Option<u64>) -> Result<(), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut to_events = Client::connect(Some(&path), None)?;
        let (mut daemon, _) = listener.accept().unwrap();
        let mut lines = line(&Answer::Ok(Subscribed { subscribed: None, next: None }));
        for event in events {
            lines += &line(&EventLine { domain: "d".to_owned(), at: None, event: event.clone() });
        }
        daemon.write_all(lines.as_bytes()).unwrap();
        let disk = DiskInfo {
            name: "vda".to_owned(),
            backing_index: 0,
            source: None,
            node: None,
            storage_node: Some("n".to_owned()),
            device: None,
            qdev: None,
            read_only: None,
            capacity_bytes: None,
            physical_bytes: None,
            threshold_bytes: armed,
            last_exceeded_bytes: None,
            threshold_events: 0,
        };
        // Ends with the test.
        std::thread::spawn(move || {
            for mut lists in listener.incoming().map_while(Result::ok) {
                BufReader::new(&lists).read_line(&mut String::new()).unwrap();
                lists.write_all(line(&Answer::Ok([&disk])).as_bytes()).unwrap();
            }
        });
        to_events.subscribe(None, None)?;
        let set =
            ThresholdSet { disk: "vda".to_owned(), node: "n".to_owned(), threshold_bytes: 500 };
        let connect = || Client::connect(Some(&path), None);
        wait_for(&mut Vec::new(), &mut to_events, connect, ("d", &set), false)
    }

    fn fired(threshold_bytes: u64) -> Event {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        Event::WriteThreshold { disk, node, threshold_bytes, excess_bytes: None, reconciled: false }
    }

    #[test]
    fn a_wait_ends_when_the_threshold_is_not_armed_any_more() {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        let replaced = Event::ThresholdReplaced { disk, node, threshold_bytes: 500, new_bytes: 0 };
        let lost = Event::Lost { events: Some(3) };
        let ends = |events: &[Event], armed| wait_with(events, armed).map_err(|e| e.exit_code());
        let not_armed = Err(std::process::ExitCode::from(5));
        for event in [&replaced, &lost, &fired(7)] {
            assert_eq!(ends(std::slice::from_ref(event), None), not_armed, "{event:?}");
            assert_eq!(ends(std::slice::from_ref(event), Some(600)), not_armed, "{event:?}");
            // One that is on its way says so, or it was about an older threshold.
            for armed in [None, Some(500)] {
                assert_eq!(ends(&[event.clone(), fired(500)], armed), Ok(()), "{event:?}");
            }
        }
    }
}
