//! `domstat show`: a domain's statistics.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use domstat_consumer::{Region, Snapshot};
use domstat_layout::State;

use crate::error::Failure;
use crate::signals::Stop;
use crate::{described, find, render};

mod rfc_v3;

const EXAMPLES: &str = "\
Examples:
  domstat show web1
  domstat show web1 --watch --interval 0.5
  domstat show web1 --all
  domstat show /dev/shm/test.region --json | jq '.vcpus[0].groups.runstate.fields.running_ns'

In JSON a field that is not produced is null, a saturated one is \"saturated\", and a group that
is not active has no fields: none of them is ever 0.

A region in the vCPU-only layout of Xen's RFC v3 (magic 0xaabbccdd) is recognized by itself.";

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
    /// Show again and again until the domain is gone
    #[arg(long)]
    watch: bool,
    /// Time between two samples
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// End after this many samples
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// Seconds from 0.01 to a day.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.01..=86_400.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        _ => Err("expected seconds from 0.01 to 86400".to_owned()),
    }
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let path = find::region_path(&args.domain, dir)?;
    let mapped = find::map(&args.domain, &path)?;
    if mapped.is_rfc_v3() {
        return rfc_v3::run(args, &path, &mapped.attach_rfc_v3()?);
    }
    let region = mapped.attach()?;
    if region.is_held() == Some(false) {
        eprintln!("domstat: no producer holds {}: its values may be old", path.display());
    }
    let mut out = std::io::stdout().lock();
    if args.all {
        return described::show(&mut out, &region, &args.domain, args.json);
    }
    let mut snapshot = Snapshot::new();
    let mut before = Snapshot::new();
    if !args.watch {
        region.snapshot(&mut snapshot);
        let state = region.status().state;
        if args.json {
            writeln!(out, "{}", render::json(&region, &snapshot, state))?;
        } else {
            render::text(&mut out, &region, &snapshot, None, state)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stop = Stop::on_signals()?;
    let live_screen = out.is_terminal() && !args.json;
    let mut screen = Drawn::default();
    let mut shown = 0;
    loop {
        region.snapshot(&mut snapshot);
        // In this order: a producer that ends retires the region, then takes the entry away.
        let gone = find::xen_domid(&args.domain).is_none() && !is_the_same(&path, &region);
        let status = region.status();
        if gone && status.state != Some(State::Retired) {
            return Err(Failure::ProducerGone { name: args.domain.clone() });
        }
        if args.json {
            writeln!(out, "{}", render::json(&region, &snapshot, status.state))?;
        } else {
            let mut text = Vec::new();
            let earlier = (shown > 0).then_some(&before);
            render::text(&mut text, &region, &snapshot, earlier, status.state)?;
            if shown > 0 {
                match live_screen {
                    true => screen.back(&mut out)?,
                    false => writeln!(out)?,
                }
            }
            out.write_all(&text)?;
            screen = Drawn::of(&text);
        }
        out.flush()?;
        shown += 1;
        let ended = status.state == Some(State::Retired);
        if ended || args.count.is_some_and(|n| shown >= n) || stop.wait(args.interval) {
            return Ok(ExitCode::SUCCESS);
        }
        std::mem::swap(&mut snapshot, &mut before);
    }
}

/// Whether the region at `path` is still the one that was attached.
fn is_the_same(path: &Path, region: &Region) -> bool {
    let (Ok(now), Some(mapped)) = (rustix::fs::stat(path), region.files().next()) else {
        return false;
    };
    rustix::fs::fstat(mapped).is_ok_and(|was| (was.st_dev, was.st_ino) == (now.st_dev, now.st_ino))
}

/// What was drawn last on a terminal, to be drawn over.
#[derive(Default)]
struct Drawn {
    rows: usize,
    /// Rows that the terminal had.
    height: usize,
}

impl Drawn {
    fn of(text: &[u8]) -> Self {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let (width, height) =
            size.map_or((80, 24), |s| (usize::from(s.ws_col), usize::from(s.ws_row)));
        let text = String::from_utf8_lossy(text);
        let rows_of = |line: &str| line.chars().count().div_ceil(width.max(1)).max(1);
        Self { rows: text.lines().map(rows_of).sum(), height }
    }

    /// Goes back to its first row, or to the screen's where that was scrolled away, and clears
    /// from there to the end.
    fn back(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.rows < self.height {
            write!(out, "\x1b[{}A\r\x1b[J", self.rows)
        } else {
            write!(out, "\x1b[H\x1b[J")
        }
    }
}
