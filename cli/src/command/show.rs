//! `domstat show`: a domain's statistics.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use domstat_consumer::attach::Reattached;
use domstat_consumer::{Attachment, Liveness, Patience, Region, Snapshot};

use super::tapdisk::{self, Looks};
use crate::error::Failure;
use crate::locate::{Located, Places};
use crate::output::Seen;
use crate::output::json::Safe;
use crate::output::message::message;
use crate::output::paint::{Styles, When};
use crate::output::screen::{DEFAULT_WIDTH, Screen, terminal_size};
use crate::rows::{Distributions, HeldRates, Interval};
use crate::signals::Stop;
use crate::view::{SteadyHead, View};
use crate::{locate, output};

mod domstats;
mod parts;
mod rfc_v3;
mod schema;
mod text;

use parts::{Part, parts};

const EXAMPLES: &str = "\
Examples:
  domstat show web1
  domstat show web1 --watch --interval 0.5
  domstat show web1 --all
  domstat show web1 --socket /run/domstat.sock
  domstat show web1 --format domstats
  domstat show web1 --watch --reattach     goes on with the next one
  domstat show web1 --json | jq '.vcpus[0].groups.runstate.fields'

In JSON a field that is not produced is null, a saturated one is \"saturated\", and a group that \
is not active has no fields: none of them is ever 0.

What other programs publish of web1, as a vhost-user device does under the name web1.vhost-net0, \
is shown below it, unless it has another UUID or was published by a user who is neither web1's \
nor root.

A region in the vCPU-only layout of Xen's RFC v3 (magic 0xaabbccdd) is recognized by itself, and so \
are the files in which tapdisk counts: /dev/shm/td3-PID/vbd-DOMID-DEVID and \
/dev/shm/vbd3-DOMID-DEVID/statistics.";

/// Show the statistics of a domain
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The domain's name, the path of its region, or xen:DOMID for what the hypervisor writes
    domain: String,
    /// Show everything that the region describes, by name, unit and value: from its own schema
    /// alone, so also what this program was not built to know
    #[arg(long, conflicts_with = "watch")]
    all: bool,
    /// Print JSON, one line for each sample
    #[arg(long)]
    json: bool,
    /// Print what `virsh domstats` prints, under its names and in its units
    #[arg(long, value_enum, conflicts_with_all = ["json", "all", "watch"])]
    format: Option<Format>,
    /// Images that back a disk, too, as `virsh domstats --backing`
    #[arg(long, requires = "format")]
    backing: bool,
    /// Repeat the sample until the domain ends
    #[arg(long)]
    watch: bool,
    /// When the producer exits or the domain ends, wait for the next one instead of ending
    #[arg(long, requires = "watch")]
    reattach: bool,
    /// Time between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// End after this many samples
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// When to use colors
    #[arg(long, value_enum, default_value = "auto")]
    color: When,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// One line for each key
    Domstats,
}

/// Seconds from 0.01 to a day.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.01..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("expected seconds from 0.01 to 86400".to_owned()),
    }
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    if let Some(layout) = tapdisk::layout_of(&args.domain) {
        let looks = if args.watch { Looks::Every(args.interval, args.count) } else { Looks::Once };
        return tapdisk::show(Path::new(&args.domain), layout, &looks, args.json);
    }
    let attachment = match places.locate(&args.domain)? {
        Located::Served(connection) => Attachment::from_connection(&connection, &args.domain)?,
        Located::At(path) => {
            let mapped = locate::map(&args.domain, &path)?;
            if mapped.is_rfc_v3() {
                return rfc_v3::run(args, &path, &mapped.attach_rfc_v3()?);
            }
            Attachment::from_mapped(mapped)?
        }
    };
    if args.watch {
        return watch(args, attachment);
    }
    if matches!(attachment.liveness(), Liveness::Dead | Liveness::Unheld) {
        message(&format!("no producer holds {}: its values may be old", args.domain));
    }
    let mut out = std::io::stdout().lock();
    let region = attachment.region();
    if args.all {
        let shown = schema::print(&mut out, region, &args.domain, args.json);
        still_there(args, region)?;
        return shown;
    }
    let mut snapshot = Snapshot::new();
    attachment.settle();
    let liveness = attachment.snapshot(&mut snapshot);
    let seen = Seen { liveness, state: region.status().state };
    still_there(args, region)?;
    if let Some(Format::Domstats) = args.format {
        domstats::print(&mut out, region, &snapshot, args.backing)?;
    } else if args.json {
        let mut sample = output::json::sample(region, &snapshot, seen);
        let parts = parts(places, &args.domain, &attachment, &snapshot)?;
        if let (Some(map), false) = (sample.as_object_mut(), parts.is_empty()) {
            map.insert("parts".to_owned(), parts.iter().map(Part::json).collect());
        }
        writeln!(out, "{}", Safe(&sample))?;
    } else {
        let distributions = Distributions::of(region);
        let interval = Interval::new(&snapshot, None, &seen.liveness, STALE)
            .with_distributions(&distributions, &distributions);
        let styles = Styles::new(args.color);
        let width = terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| width);
        let view = View { styles, width };
        styles.print(&mut out, &text::lines(region, interval, seen, None, view))?;
        for part in parts(places, &args.domain, &attachment, &snapshot)? {
            writeln!(out)?;
            styles.print(&mut out, &part.lines(view))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// From this age of the newest number on, a domain is stale.
pub(crate) const STALE: Duration = Duration::from_secs(10);
/// How often a producer that has exited is looked for.
const RETRY: Duration = Duration::from_millis(100);

fn watch(args: &Args, mut attachment: Attachment) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    if args.reattach {
        attachment = attachment.reattaching();
    }
    let (mut snapshot, mut before) = (Snapshot::new(), Snapshot::new());
    let mut earlier = Distributions::default();
    let stop = Stop::on_signals()?;
    let mut screen = Screen::new(out.is_terminal() && !args.json, Styles::new(args.color));
    let (mut shown, mut comparable, mut next) = (0, false, None);
    let (mut held, mut steady) = (HeldRates::default(), SteadyHead::default());
    loop {
        if let Some(found) = next.take().or_else(|| attachment.refresh().reattached) {
            comparable = found != Reattached::Restarted;
            let counters = if comparable { "continue" } else { "start from zero" };
            screen.leave(&mut out)?;
            message(&format!("{} is published again: counters {counters}", args.domain));
        }
        let region = attachment.region();
        region.set_patience(Patience::default());
        let distributions = Distributions::of(region);
        // It looks at the producer last: what was read before its end is of its life.
        let liveness = attachment.snapshot(&mut snapshot);
        let seen = Seen { liveness, state: region.status().state };
        if args.reattach && seen.liveness.is_over() {
            if stop.wait(args.interval.min(RETRY)) {
                return Ok(ExitCode::SUCCESS);
            }
            continue;
        }
        still_there(args, region)?;
        if matches!(seen.liveness, Liveness::Dead | Liveness::Restarted) {
            return Err(Failure::ProducerGone { name: args.domain.clone() });
        }
        if args.json {
            writeln!(out, "{}", Safe(&output::json::sample(region, &snapshot, seen)))?;
        } else {
            let then = comparable.then_some(&before);
            let interval = Interval::new(&snapshot, then, &seen.liveness, STALE)
                .holding(&held)
                .with_distributions(&distributions, &earlier);
            screen.draw(&mut out, |styles, width| {
                text::lines(region, interval, seen, Some(&mut steady), View { styles, width })
            })?;
        }
        out.flush()?;
        shown += 1;
        let ended = seen.liveness == Liveness::Retired;
        if args.count.is_some_and(|n| shown >= n) || (ended && !args.reattach) {
            return Ok(ExitCode::SUCCESS);
        }
        if ended {
            screen.leave(&mut out)?;
            message(&format!("{} has ended: waiting for the next one", args.domain));
            next = next_one(&mut attachment, &stop);
            if next.is_none() {
                return Ok(ExitCode::SUCCESS);
            }
            continue;
        }
        if stop.wait(args.interval) {
            return Ok(ExitCode::SUCCESS);
        }
        if comparable {
            held.note(&before, &snapshot);
        }
        std::mem::swap(&mut snapshot, &mut before);
        earlier = distributions;
        comparable = true;
    }
}

/// Waits for the next region of a domain that has ended; `None` if a signal comes before.
fn next_one(attachment: &mut Attachment, stop: &Stop) -> Option<Reattached> {
    while !stop.wait(RETRY) {
        if let Ok(found) = attachment.reattach()
            && attachment.liveness() != Liveness::Retired
        {
            return Some(found);
        }
    }
    None
}

fn still_there(args: &Args, region: &Region) -> Result<(), Failure> {
    let lost = |source| Failure::Lost { domain: args.domain.clone(), source };
    region.intact().map_err(lost)
}
