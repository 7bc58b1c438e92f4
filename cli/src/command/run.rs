//! `domstat run`: publish a domain.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use domstat_producer::Placement;
use domstat_sources::Source;
use domstat_sources::kvm::{KvmOptions, KvmSource};
use domstat_sources::process::{ProcessProbe, ProcessSource};

use crate::error::Failure;
use crate::find;
use crate::publish::{End, publish};
use crate::signals::Stop;

mod xen;

const EXAMPLES: &str = "\
Examples:
  domstat run process --pid $(pidof qemu-system-x86_64) --thread-name 'CPU '
  domstat run kvm --vcpus 4 --name test
  domstat run xen                                in dom0: every domain, as they come and go
  domstat run kvm --file /dev/shm/test.region    as a plain file, for any program to map";

/// Publish the statistics of a domain until it is gone
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    source: From,
}

#[derive(Subcommand)]
enum From {
    /// A process of this host: each of its threads is shown as a vCPU
    Process(ProcessArgs),
    /// An embedded micro-VM, run through /dev/kvm
    Kvm(KvmArgs),
    /// The domains of this Xen host, each from when it appears until it is gone (in dom0)
    Xen(xen::Args),
}

#[derive(clap::Args)]
struct Common {
    /// Publish under this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Publish as a plain file at PATH instead of in sealed memory; put it on a tmpfs
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// How records are placed
    #[arg(long, value_enum, default_value = "packed")]
    placement: PlacementArg,
    /// Bring polled statistics up to date this often
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    interval: u64,
    /// End after this time instead of with the domain
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    time: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlacementArg {
    /// As close together as cache lines allow
    Packed,
    /// Each vCPU record on a page of its own
    Page,
}

impl std::convert::From<PlacementArg> for Placement {
    fn from(placement: PlacementArg) -> Self {
        match placement {
            PlacementArg::Packed => Self::Packed,
            PlacementArg::Page => Self::PageGranular,
        }
    }
}

#[derive(clap::Args)]
struct ProcessArgs {
    /// The process
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// Only threads whose name starts with this, for example 'CPU ' for QEMU's vCPU threads
    /// (QEMU names them when started with -name debug-threads=on)
    #[arg(long, value_name = "PREFIX")]
    thread_name: Option<String>,
    /// Slots for threads; default: 16 or more, with room to grow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_vcpus: Option<u32>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct KvmArgs {
    /// vCPUs of the micro-VM
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    match &args.source {
        From::Process(args) => {
            let mut source = ProcessSource::new(args.pid)?
                .with_interval(Duration::from_millis(args.common.interval))?;
            if let Some(name) = &args.common.name {
                source = source.with_name(name)?;
            }
            if let Some(prefix) = &args.thread_name {
                source = source.with_thread_prefix(prefix)?;
            }
            if let Some(max) = args.max_vcpus {
                source = source.with_nr_vcpus(max)?;
            }
            let probe = source.probe();
            serve(source, &args.common, dir, &|| not_shown(&probe))
        }
        From::Kvm(args) => {
            let mut options = KvmOptions {
                nr_vcpus: args.vcpus,
                interval: Duration::from_millis(args.common.interval),
                ..KvmOptions::default()
            };
            if let Some(name) = &args.common.name {
                options.name.clone_from(name);
            }
            serve(KvmSource::new(&options)?, &args.common, dir, &|| None)
        }
        From::Xen(args) => xen::run(args, dir),
    }
}

/// Says so if there are threads for which there is no slot.
fn not_shown(probe: &ProcessProbe) -> Option<String> {
    let count = probe.threads_not_shown();
    (count > 0).then(|| format!("{count} threads have no slot and are not shown: use --max-vcpus"))
}

fn serve<S: Source>(
    source: S,
    common: &Common,
    dir: Option<&Path>,
    warning: &dyn Fn() -> Option<String>,
) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let description = source.describe();
    let mut published =
        publish(source, common.placement.into(), common.file.as_deref(), || find::directory(dir))?;
    eprintln!(
        "domstat: publishing {} ({}, {} vCPU slots) at {}; stop with Ctrl-C",
        description.name,
        description.source,
        description.nr_vcpus,
        published.path().display(),
    );
    if let Some(warning) = warning() {
        eprintln!("domstat: {warning}");
    }
    if published.keep(&stop, common.time.map(Duration::from_secs))? == End::DomainGone {
        eprintln!("domstat: {} is gone", description.name);
    }
    Ok(ExitCode::SUCCESS)
}
