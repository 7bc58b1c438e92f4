//! `domstat run`: publish a domain.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use domstat_producer::{Placement, Server, systemd};
use domstat_sources::kvm::{KvmOptions, KvmSource};
use domstat_sources::process::{ProcessProbe, ProcessSource};
use domstat_sources::{Source, SourceError};
use uuid::Uuid;

use crate::error::Failure;
use crate::locate::{self, Places};
use crate::output::human::nr;
use crate::output::message::message;
use crate::output::printable;
use crate::publish::{End, Form, Kept, LabelArgs, Place, Published};
use crate::signals::Stop;

mod libvirt;
mod qemu;
mod xen;

const EXAMPLES: &str = "\
Examples:
  domstat run process --pid 4242 --thread-name 'CPU '   a QEMU's vCPUs
  domstat run kvm --vcpus 4 --name test
  domstat run libvirt                            every VM of libvirt
  domstat run qemu --qmp /run/vm1.qmp            without libvirt
  domstat run xen                                in dom0: every domain
  domstat run kvm --file /dev/shm/test.region    as a plain file
  domstat run kvm --socket /run/vm.sock          served at a socket";

/// Publish the statistics of a domain until it ends
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    source: From,
}

#[derive(Subcommand)]
enum From {
    /// A process of this host: each thread appears as a vCPU
    Process(ProcessArgs),
    /// An embedded micro-VM, run through /dev/kvm
    Kvm(KvmArgs),
    Qemu(qemu::Args),
    Libvirt(libvirt::Args),
    /// The domains of this Xen host, from their beginning to their end (in dom0)
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
    #[command(flatten)]
    at: SocketArgs,
    #[command(flatten)]
    labels: LabelArgs,
    /// How records are placed
    #[arg(long, value_enum, default_value = "packed")]
    placement: PlacementArg,
    /// Poll statistics every MS milliseconds
    #[arg(long, value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    interval: u64,
    /// End after this time instead of with the domain
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    time: Option<u64>,
}

#[derive(clap::Args)]
struct SocketArgs {
    /// Who may connect to --socket: its permission bits
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = octal)]
    socket_mode: u32,
    /// The group of --socket, by name or number
    #[arg(long, value_name = "GROUP", value_parser = group)]
    socket_group: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlacementArg {
    /// As close together as cache lines allow
    Packed,
    /// Each vCPU record on a page of its own
    Page,
}

impl PlacementArg {
    fn placement(self) -> Placement {
        match self {
            Self::Packed => Placement::Packed,
            Self::Page => Placement::PageGranular,
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
    /// Publish under this UUID; default: one of this process, the same whenever it is observed
    #[arg(long, value_name = "UUID")]
    uuid: Option<Uuid>,
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
    /// Leave the interrupt controller to the kernel, as other VMMs do: halts stay in KVM_RUN, and
    /// the vCPUs' times come from the kernel's books
    #[arg(long)]
    kernel_irqchip: bool,
    /// Publish under this UUID; default: a new one for each micro-VM
    #[arg(long, value_name = "UUID")]
    uuid: Option<Uuid>,
    #[command(flatten)]
    common: Common,
}

impl Common {
    /// The form of the region.
    fn form(&self) -> Result<Form, Failure> {
        Ok(Form { placement: self.placement.placement(), labels: self.labels.all()? })
    }

    /// When to end, if there is a time for it.
    fn until(&self) -> Option<Instant> {
        self.time.map(|seconds| Instant::now() + Duration::from_secs(seconds))
    }
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
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
            if let Some(uuid) = args.uuid {
                source = source.with_uuid(uuid.into_bytes());
            }
            let (probe, names) = (source.probe(), source.thread_names()?);
            serve(once(source), &args.common, places, &|| {
                not_shown(&probe).or_else(|| nothing_shown(&probe, args, &names))
            })
        }
        From::Kvm(args) => {
            let mut options = KvmOptions {
                nr_vcpus: args.vcpus,
                uuid: args.uuid.map(Uuid::into_bytes),
                kernel_irqchip: args.kernel_irqchip,
                interval: Duration::from_millis(args.common.interval),
                ..KvmOptions::default()
            };
            if let Some(name) = &args.common.name {
                options.name.clone_from(name);
            }
            serve(once(KvmSource::new(&options)?), &args.common, places, &|| None)
        }
        From::Qemu(args) => qemu::run(args, places),
        From::Libvirt(args) => libvirt::run(args, places),
        From::Xen(args) => xen::run(args, places),
    }
}

/// Gives a source that never outgrows its slots, once.
fn once<S>(source: S) -> impl FnMut() -> Result<S, SourceError> {
    let mut source = Some(source);
    move || {
        source.take().ok_or_else(|| SourceError::Os {
            action: "publish the domain again".to_owned(),
            source: std::io::ErrorKind::Unsupported.into(),
        })
    }
}

/// A warning about threads for which there is no slot.
fn not_shown(probe: &ProcessProbe) -> Option<String> {
    let count = probe.threads_not_shown();
    (count > 0).then(|| format!("threads without a slot, not shown: {count}; use --max-vcpus"))
}

/// A filter that lets no thread pass, and what there is to choose from.
fn nothing_shown(
    probe: &ProcessProbe,
    args: &ProcessArgs,
    names: &BTreeSet<String>,
) -> Option<String> {
    let prefix = args.thread_name.as_ref().filter(|_| probe.threads_shown() == 0)?;
    let mut listed: Vec<String> = names.iter().take(20).map(|name| format!("{name:?}")).collect();
    if names.len() > listed.len() {
        listed.push(format!("and {} more", names.len() - listed.len()));
    }
    let listed = listed.join(", ");
    Some(format!(
        "no thread is shown: none has a name that starts with {prefix:?}; there are {listed}"
    ))
}

/// How many domains a server is for: if one, nobody is answered before it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serves {
    One,
    Many,
}

/// A server at the socket that was named, or at the one that a service manager passed, with as many
/// descriptors as it may have; and the regions that the manager stored.
fn server_at(
    path: Option<&Path>,
    at: &SocketArgs,
    serves: Serves,
) -> Result<Option<(Server, Kept)>, Failure> {
    let inherited = |source| Failure::Os { action: "take what the service manager passed", source };
    let mut inherited = systemd::inherited().map_err(inherited)?;
    let mut server = Server::builder().mode(at.socket_mode);
    if serves == Serves::One {
        server = server.from_first_region();
    }
    if let Some(group) = at.socket_group {
        server = server.group(group);
    }
    // A descriptor for each client; the server leaves as many to the source.
    locate::raise_limit_of_files();
    let server = match (inherited.listeners.pop(), path) {
        (Some(listener), _) => server.on(listener)?,
        (None, Some(path)) => server.bind(path)?,
        (None, None) => return Ok(None),
    };
    Ok(Some((server, inherited.regions)))
}

/// A group by its name or number.
fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("there is no such group".to_owned()),
        Err(error) => Err(error.desc().to_owned()),
    }
}

/// Permission bits in octal digits.
fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected permission bits from 0 to 777".to_owned()),
    }
}

/// Publishes one domain, again with more slots when it has outgrown its region.
fn serve<S: Source>(
    mut make: impl FnMut() -> Result<S, SourceError>,
    common: &Common,
    places: Places<'_>,
    warning: &dyn Fn() -> Option<String>,
) -> Result<ExitCode, Failure> {
    let form = common.form()?;
    let stop = Stop::on_signals()?;
    let mut source = make()?;
    let (place, mut kept) = match (&common.file, places.socket) {
        (Some(_), Some(_)) => return Err(Failure::FileAndSocket),
        (Some(path), None) => (Place::File(path.clone()), None),
        (None, socket) => match server_at(socket, &common.at, Serves::One)? {
            Some((server, kept)) => (Place::Server(Arc::new(server)), Some(kept)),
            None => (Place::Directory(locate::directory(places.dir)?), None),
        },
    };
    let until = common.until();
    let mut follows = None;
    loop {
        let description = source.describe();
        let keeps = kept.is_some();
        let mut published = Published::start(source, &form, &place, kept.take(), follows)?;
        message(&format!(
            "{} {} ({}, {}) at {}; stop with Ctrl-C",
            if published.continues() { "continuing" } else { "publishing" },
            description.name,
            description.source,
            nr(description.nr_vcpus, "vCPU slot"),
            published.path().display(),
        ));
        if let Some(warning) = warning() {
            message(&printable(&warning));
        }
        let end = published.keep(&stop, until)?;
        if end == End::DomainGone {
            message(&format!("{} has ended", description.name));
        }
        follows = published.ancestor();
        published.end(end);
        if !matches!(end, End::Outgrown | End::Renamed) {
            return Ok(ExitCode::SUCCESS);
        }
        kept = keeps.then(Vec::new);
        source = match make() {
            Err(SourceError::NoSuchDomain { .. }) => return Ok(ExitCode::SUCCESS),
            source => source?,
        };
    }
}
