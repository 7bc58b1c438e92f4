//! `domstat run qemu`: publish VMs, each as a domain of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_producer::{
    Announcement, BlkWriter, DomWriter, NetWriter, Placement, Region, Served, Unpublished,
    VcpuWriter, systemd,
};
use domstat_sources::contract::{
    Description, Event, Fleet, Observer, Publisher, Sinks, SourceError,
};
use domstat_sources::qemu::{Discovery, Options, Qemu};

use crate::command::show::seconds;
use crate::control;
use crate::control::{Hub, Server};
use crate::error::{Failure, with_sources};
use crate::locate::{self, Places};
use crate::output::printable;
use crate::publish::builder_of;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat run qemu --qmp /run/vm1.qmp --qmp /run/vm2.qmp
  domstat run qemu --qmp-dir /run/vms        VMs come and go with their sockets
  domstat run qemu --qmp-dir /run/vms --group monitoring
  domstat run qemu --qmp-dir /run/vms --socket /run/domstat.sock   all VMs at one socket

QEMU serves one QMP client at a time, so give domstat a socket of its own:
  qemu-system-x86_64 ... -qmp unix:/run/vms/web1.qmp,server=on,wait=off

Thresholds, jobs and events are reached through the control socket: domstat block --help.";

/// QEMU VMs, through a QMP socket of each: vCPUs, disks, write thresholds, block jobs
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A VM's QMP socket; it need not be there yet
    #[arg(long, value_name = "SOCK", required_unless_present = "qmp_dir")]
    qmp: Vec<PathBuf>,
    /// Every QMP socket in this directory, as they come and go
    #[arg(long, value_name = "DIR")]
    qmp_dir: Vec<PathBuf>,
    /// Time between two looks at what moves all the time, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Time between two looks at KVM's statistics, in seconds; 0 is never. Default: as --interval,
    /// but 30 before QEMU 8.1, where each look interrupts every vCPU
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero)]
    stats_interval: Option<Duration>,
    /// How long QEMU may take to answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    limit: Duration,
    /// The control socket; default: control.sock beside the regions
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Members of this group may read events and lists through the control socket
    #[arg(long, value_name = "GROUP", value_parser = super::group)]
    group: Option<u32>,
    #[command(flatten)]
    at: super::SocketArgs,
    /// How records are placed
    #[arg(long, value_enum, default_value = "packed")]
    placement: super::PlacementArg,
    /// End after this time
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    time: Option<u64>,
}

fn seconds_or_zero(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

/// How often the directories are looked at.
const RESCAN: Duration = Duration::from_millis(500);

/// How long VMs may take to end together with the daemon.
const END: Duration = Duration::from_millis(1500);

pub(super) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let dir = locate::directory(places.dir)?;
    let handover = super::server_at(places.socket, &args.at, super::Serves::Many)?
        .map(|(server, _)| Arc::new(server));
    let hub = Hub::new();
    let publisher = || Regions {
        dir: dir.clone(),
        handover: handover.clone(),
        placement: args.placement.placement(),
        hub: Arc::clone(&hub),
    };
    let options =
        Options { interval: args.interval, stats_interval: args.stats_interval, limit: args.limit };
    let fleet = Arc::new(Fleet::new());
    let path = args.control.clone().unwrap_or_else(|| control::path_in(&dir));
    let server = Server::start(&path, args.group, Arc::clone(&fleet), Arc::clone(&hub))?;
    for path in &args.qmp {
        let qemu = Qemu { path: path.clone(), options: options.clone() };
        fleet.add(qemu.observe(publisher())?);
    }
    systemd::ready()
        .map_err(|source| Failure::Os { action: "tell the service manager", source })?;
    eprintln!(
        "domstat: {} QMP sockets and {} directories; control socket {}; stop with Ctrl-C",
        args.qmp.len(),
        args.qmp_dir.len(),
        path.display()
    );
    let mut discovery = Discovery::new(options, args.qmp_dir.clone());
    let mut notes = Notes::default();
    let until = args.time.map(|time| Instant::now() + Duration::from_secs(time));
    loop {
        notes.once(discovery.rescan(&fleet, publisher));
        let left = until.map_or(RESCAN, |until| until.saturating_duration_since(Instant::now()));
        if stop.wait(left.min(RESCAN)) || until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
    }
    // No request any more, then no VM, then no subscriber: each hears that its domain is gone.
    drop(server);
    let left = fleet.clear(END);
    if left > 0 {
        eprintln!("domstat: {left} VMs did not end in time");
    }
    hub.close();
    Ok(ExitCode::SUCCESS)
}

/// Failures that were reported, so that one that stays is reported once.
#[derive(Default)]
struct Notes(BTreeSet<String>);

impl Notes {
    fn once(&mut self, failures: Vec<SourceError>) {
        let texts: BTreeSet<String> =
            failures.iter().map(|failure| with_sources(failure)).collect();
        for text in texts.difference(&self.0) {
            eprintln!("domstat: {}", printable(text));
        }
        self.0 = texts;
    }
}

/// Publishes VMs in sealed memfds, which are handed over at a socket or announced in a directory.
struct Regions {
    dir: PathBuf,
    handover: Option<Arc<domstat_producer::Server>>,
    placement: Placement,
    hub: Arc<Hub>,
}

/// Where others find a region; dropping it takes it away.
enum Entry {
    Announced { _held: Announcement },
    Served { _held: Served },
}

/// A region and its entry, which goes first.
struct Visible {
    _entry: Entry,
    region: Region,
}

impl Publisher for Regions {
    type Dom = DomWriter;
    type Vcpu = VcpuWriter;
    type Blk = BlkWriter;
    type Net = NetWriter;
    type Unpublished = Unpublished;
    type Region = Visible;

    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError> {
        let builder = builder_of(description, self.placement).map_err(other)?;
        let new = builder.create_memfd().map_err(other)?;
        Ok(Sinks {
            dom: new.dom,
            vcpus: new.vcpus,
            blks: new.blks,
            nets: new.nets,
            unpublished: new.unpublished,
        })
    }

    fn publish(&mut self, name: &str, new: Unpublished) -> Result<Visible, SourceError> {
        let region = new.publish().map_err(other)?;
        let entry = if let Some(server) = &self.handover {
            eprintln!("domstat: publishing {name} at the socket");
            Entry::Served { _held: server.serve(&region, name).map_err(other)? }
        } else {
            let announcement = region.announce(&self.dir, name).map_err(other)?;
            eprintln!("domstat: publishing {name} at {}", announcement.path().display());
            Entry::Announced { _held: announcement }
        };
        Ok(Visible { _entry: entry, region })
    }

    fn notify(&self, visible: &Visible) {
        visible.region.notify();
    }

    fn event(&mut self, domain: &str, event: &Event) {
        self.hub.send(domain, event);
    }

    fn note(&mut self, text: &str) {
        eprintln!("domstat: {text}");
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> SourceError {
    let action = "publish the domain".to_owned();
    SourceError::Os { action, source: std::io::Error::other(error) }
}
