//! `domstat check`: prove the layout's rules.

use std::io::{IsTerminal, Write};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use domstat_consumer::attach::Truncated;
use domstat_invariant_checker::{Options, Report, Subject, rfc_v3, watch_steps};
use domstat_layout::ReadMem;

use super::show::seconds;
use crate::error::Failure;
use crate::locate::{self, Located, Places};

const EXAMPLES: &str = "\
Examples:
  domstat check web1                 one look
  domstat check web1 --watch 10      ten seconds of looks: also the rules about change over time
  domstat check ./some.region --json | jq '.rules[] | select(.outcome != \"pass\")'

Exit codes: 0 no rule is broken, 1 a rule is broken, 3 there is no region to judge.
A rule that cannot be checked here is reported as such and breaks nothing.

A region in the vCPU-only layout of Xen's RFC v3 (magic 0xaabbccdd) is recognized by itself, and
judged by that layout's rules.";

/// Prove the layout's rules on a region
#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The domain's name, the path of its region, or xen:DOMID for what the hypervisor writes
    domain: String,
    /// Look again and again for this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    watch: Option<Duration>,
    /// Time between two looks while watching
    #[arg(long, value_name = "SECONDS", default_value = "0.01", value_parser = seconds, requires = "watch")]
    interval: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let report = match places.locate(&args.domain)? {
        Located::Served(connection) => {
            let region = connection.attach(&args.domain)?;
            let file = region.files().next();
            let what = What { name: &args.domain, mem: region.mem(), file };
            judge(args, &what, false, || region.intact())
        }
        Located::At(path) => {
            let mapped = locate::map(&args.domain, &path)?;
            // The frames of a hypervisor are not those of the file through which they are mapped.
            let is_xen = locate::xen_domid(&args.domain).is_some();
            let (name, file) = match is_xen {
                true => (args.domain.clone(), None),
                false => (path.display().to_string(), Some(mapped.file())),
            };
            let what = What { name: &name, mem: mapped.mem(), file };
            judge(args, &what, mapped.is_rfc_v3(), || mapped.intact())
        }
    }?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What is judged.
struct What<'a> {
    name: &'a str,
    mem: ReadMem<'a>,
    file: Option<BorrowedFd<'a>>,
}

fn judge(
    args: &Args,
    what: &What<'_>,
    is_rfc_v3: bool,
    intact: impl Fn() -> Result<(), Truncated>,
) -> Result<Report, Failure> {
    let options = Options::default();
    let start = Instant::now();
    let progress = args.watch.is_some() && std::io::stderr().is_terminal();
    let step = |looks| {
        let Some(time) = args.watch else { return false };
        let passed = start.elapsed();
        if progress {
            eprint!("\r{looks} looks, {:.0} of {:.0} s ", passed.as_secs_f64(), time.as_secs_f64());
        }
        std::thread::sleep(args.interval.min(time.saturating_sub(passed)));
        start.elapsed() < time && intact().is_ok()
    };
    let report = if is_rfc_v3 {
        rfc_v3::watch_steps(what.mem, &options, step)
    } else {
        let mut subject = Subject::new(what.mem);
        if let Some(file) = what.file {
            subject = subject.with_file(file);
        }
        watch_steps(&subject, &options, step)
    };
    if progress {
        eprint!("\r\x1b[K");
    }
    // What was judged after a truncation was not the region.
    intact().map_err(|source| Failure::Lost { domain: what.name.to_owned(), source })?;
    report.map_err(|source| Failure::NotAttachable { path: what.name.to_owned(), source })
}
