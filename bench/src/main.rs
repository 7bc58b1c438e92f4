//! Measures domstat as ratios to a floor, and next to its peers, in one run.

mod attach;
#[cfg(feature = "iceoryx2")]
mod blackboard;
mod c_reader;
mod contended;
mod foreign;
mod harness;
mod mem;
mod mmap_sync_peer;
mod peers;
mod plot;
mod report;
mod snapshot;
mod today;
mod uncontended;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::harness::Effort;
use crate::plot::Labels;
use crate::report::Report;

const EXAMPLES: &str = "\
Examples:
  domstat-bench --quick
  domstat-bench --json ratios.json
  domstat-bench --docs docs        # rewrites docs/performance.md and its plots
  domstat-bench --calls --docs docs  # rewrites its rows about the public calls

Leave the machine alone meanwhile: what else runs on it is in the figures.";

/// Measure domstat as ratios to a floor, next to its peers, in one run
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Take half a minute instead of a few; figures are less steady
    #[arg(long)]
    quick: bool,
    /// Write the figures by name: medians, and under "min" and "max" the smallest and the largest
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write performance.md with its plots into this directory
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Write the plots into this directory
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure the public calls and the cost of distributions only; with --docs, write their rows
    /// into its performance.md
    #[arg(long)]
    calls: bool,
    /// Publish domains for another process that measures
    #[arg(long, hide = true, value_name = "DIR", requires = "domains")]
    publish: Option<PathBuf>,
    #[arg(long, hide = true)]
    domains: Option<usize>,
    /// Only see that everything runs; the figures mean nothing
    #[arg(long, hide = true)]
    smoke: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("domstat-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A part of the bench: adds its tables and figures to the report.
type Stage = fn(Effort, &mut Report);

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let (Some(directory), Some(nr_domains)) = (&args.publish, args.domains) {
        return attach::publish(directory, nr_domains);
    }
    let effort = match (args.smoke, args.quick) {
        (true, _) => Effort::SMOKE,
        (false, true) => Effort::QUICK,
        (false, false) => Effort::FULL,
    };
    let mut report = Report::default();
    let mut stages: Vec<(&str, Stage)> = vec![
        ("the public calls", foreign::run),
        ("distributions that nobody asks for", snapshot::distributions),
        ("one thread alone", uncontended::run),
        ("readers next to a writer", contended::run),
        ("snapshots", snapshot::run),
        ("10,000 domains", attach::run),
        ("what there is today", today::run),
    ];
    if args.calls {
        stages.truncate(2);
    }
    for directory in [&args.plots, &args.docs].into_iter().flatten() {
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    }
    let begin = Instant::now();
    for (i, (what, stage)) in stages.iter().enumerate() {
        eprintln!("[{}/{}, {:3.0} s] {what}", i + 1, stages.len(), begin.elapsed().as_secs_f64());
        stage(effort, &mut report);
    }
    let tables = report.markdown();
    println!("{tables}");
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", report.json()))?;
    }
    if args.calls {
        let Some(directory) = &args.docs else { return Ok(()) };
        let path = directory.join("performance.md");
        let old = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        return write(&path, &report.renewed(&old)?);
    }
    if let Some(directory) = args.plots.as_deref().or(args.docs.as_deref()) {
        plots(directory, &report)?;
    }
    if let Some(directory) = &args.docs {
        write(&directory.join("performance.md"), &page(&tables))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    fs::write(path, text)
        .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// Lengths of groups in the plots, in bytes.
const SIZES: &[f64] = &[64.0, 128.0, 256.0, 512.0];

fn plots(directory: &Path, report: &Report) -> Result<(), Box<dyn Error>> {
    for (verb, title) in [
        ("read", "Cost of reading a group against its size, one thread alone"),
        ("write", "Cost of writing a group against its size, one thread alone"),
    ] {
        let (x, y) = (("bytes", SIZES), ("ns", &[1.0, 2.0, 5.0, 10.0, 20.0][..]));
        let lines = report.by_size.iter().filter_map(|(name, points)| {
            Some((name.strip_prefix(verb)?.strip_prefix(": ")?.to_owned(), points.clone()))
        });
        let path = directory.join(format!("performance-{verb}.svg"));
        plot::draw(&path, &Labels { title, x, y }, &lines.collect::<Vec<_>>())?;
    }
    let vcpus = Labels {
        title: "Cost per vCPU of a snapshot, against the number of vCPUs",
        x: ("vCPUs", &[1.0, 8.0, 64.0, 512.0, 4096.0, 16384.0, 65536.0]),
        y: ("ns per vCPU", &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0]),
    };
    plot::draw(&directory.join("performance-vcpus.svg"), &vcpus, &report.by_vcpus)
}

/// docs/performance.md: the tables, and where they come from.
fn page(tables: &str) -> String {
    let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or("unknown CPU", |(_, name)| name);
    let kernel = file("/proc/sys/kernel/osrelease");
    let cpus = harness::nr_cpus();
    let features = if cfg!(feature = "iceoryx2") { " --features iceoryx2" } else { "" };
    let widest = domstat_layout::CopyWidth::widest().name();
    format!(
        "<!-- Written by domstat-bench -->\n\
         # Performance\n\n\
         Everything here, except what names `--calls`, was measured in one run of\n\n\
         ```sh\ncargo run --release -p domstat-bench{features} -- --docs docs\n```\n\n\
         on {cpus} CPUs of an {cpu} with Linux {}, whose widest form is {widest}. Compare ratios, not \
         nanoseconds: each is the median of several runs in which both sides took turns, with the \
         smallest and the largest in brackets. `--quick` gives the same tables in half a minute, \
         `--json FILE` the figures by name. \
         `--calls` measures the public calls alone: their figures here may be of a later run than the \
         rest. The row of iceoryx2 needs the feature of that name, because it \
         takes long to build.\n\n\
         ![Cost of a read against size](performance-read.svg)\n\n\
         ![Cost of a write against size](performance-write.svg)\n\n\
         ![Cost per vCPU against the number of vCPUs](performance-vcpus.svg)\n\n\
         ## Targets\n\n{tables}",
        kernel.trim()
    )
}
