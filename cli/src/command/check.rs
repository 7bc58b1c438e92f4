//! `domstat check`: prove the layout's rules.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use domstat_invariant_checker::{Options, Report, Subject, rfc_v3, watch_steps};

use super::show::seconds;
use crate::error::Failure;
use crate::find;

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

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let path = find::region_path(&args.domain, dir)?;
    let report = judge(&args.domain, &path, args.watch, args.interval)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn judge(
    domain: &str,
    path: &Path,
    time: Option<Duration>,
    interval: Duration,
) -> Result<Report, Failure> {
    let mapped = find::map(domain, path)?;
    let options = Options::default();
    let start = Instant::now();
    let progress = time.is_some() && std::io::stderr().is_terminal();
    let step = |looks| {
        let Some(time) = time else { return false };
        let passed = start.elapsed();
        if progress {
            eprint!("\r{looks} looks, {:.0} of {:.0} s ", passed.as_secs_f64(), time.as_secs_f64());
        }
        std::thread::sleep(interval.min(time.saturating_sub(passed)));
        start.elapsed() < time
    };
    let report = if mapped.is_rfc_v3() {
        rfc_v3::watch_steps(mapped.mem(), &options, step)
    } else {
        let mut subject = Subject::new(mapped.mem());
        // The frames of a hypervisor are not those of privcmd, through which they are mapped.
        if find::xen_domid(domain).is_none() {
            subject = subject.with_file(mapped.file());
        }
        watch_steps(&subject, &options, step)
    };
    if progress {
        eprint!("\r\x1b[K");
    }
    report.map_err(|source| Failure::NotAttachable { path: path.display().to_string(), source })
}
