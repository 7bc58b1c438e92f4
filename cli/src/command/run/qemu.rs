//! `domstat run qemu`: publish VMs, each as a domain of its own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_producer::systemd;
use domstat_sources::contract::{Fleet, Observer, SourceError};
use domstat_sources::qemu::{Discovery, Names, Options, Qemu};
use glob::Pattern;

use crate::command::show::seconds;
use crate::control::{self, ArmedFile, Hub, Server};
use crate::error::Failure;
use crate::locate::{self, Places};
use crate::output::human::nr;
use crate::output::message::message;
use crate::publish::{Form, LabelArgs, Notes, Place, Regions};
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat run qemu --qmp /run/vm1.qmp --qmp /run/vm2.qmp
  domstat run qemu --qmp-dir /run/vms    VMs come and go with sockets
  domstat run qemu --qmp-dir /run/vms --group monitoring
  domstat run qemu --qmp-dir /run/vms --socket /run/domstat.sock

QEMU serves one QMP client at a time, so give domstat a socket of its own:
  qemu-system-x86_64 ... -qmp unix:/run/vms/web1.qmp,server=on,wait=off

Thresholds, jobs and events work through the control socket: see domstat block --help.";

/// QEMU VMs, through a QMP socket of each: vCPUs, disks, write thresholds, block jobs
#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    group(clap::ArgGroup::new("vms").args(["qmp", "qmp_dir"]).required(true).multiple(true))
)]
pub(super) struct Args {
    /// A VM's QMP socket; it need not be there yet
    #[arg(long, value_name = "SOCK")]
    qmp: Vec<PathBuf>,
    /// Every QMP socket in this directory, as they come and go
    #[arg(long, value_name = "DIR")]
    qmp_dir: Vec<PathBuf>,
    /// Names of QMP sockets in --qmp-dir. Others are left alone: a console or guest agent serves one
    /// client at a time
    #[arg(long, value_name = "GLOB", default_value = "*.qmp", value_parser = Pattern::new)]
    qmp_pattern: Pattern,
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
    /// Call domains as QEMU does; default: as their sockets, since a hostile QEMU may take any name
    #[arg(long)]
    trust_names: bool,
    /// The control socket; default: control.sock next to the regions
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Members of this group may read events and lists through the control socket
    #[arg(long, value_name = "GROUP", value_parser = super::group)]
    group: Option<u32>,
    /// Have QEMU keep histograms of the latency of each disk's reads, writes and flushes. They are
    /// taken back when the daemon ends; those that someone else set are left alone
    #[arg(long)]
    latency_histograms: bool,
    /// Have the balloon ask its driver in the guest every SECONDS, where nobody set an interval;
    /// taken back when the daemon ends
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    balloon_interval: Option<u64>,
    #[command(flatten)]
    labels: LabelArgs,
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
const END: Duration = Duration::from_secs(1);

/// How long subscribers may take to read their last events.
const LAST_EVENTS: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let dir = locate::directory(places.dir)?;
    let place = match super::server_at(places.socket, &args.at, super::Serves::Many)? {
        Some((server, _)) => Place::Server(Arc::new(server)),
        None => Place::Directory(dir.clone()),
    };
    let form = Form { placement: args.placement.placement(), labels: args.labels.all()? };
    let hub = Hub::new();
    let options = Options {
        interval: args.interval,
        stats_interval: args.stats_interval,
        limit: args.limit,
        latency_histograms: args.latency_histograms,
        balloon_interval: args.balloon_interval.map(Duration::from_secs),
        names: if args.trust_names { Names::OfQemu } else { Names::OfSocket },
    };
    let fleet = Arc::new(Fleet::new());
    let path = args.control.clone().unwrap_or_else(|| control::path_in(&dir));
    let listening = Server::listen(&path, args.group)?;
    // Whoever listens at the control socket owns the file next to it.
    let armed = Arc::new(ArmedFile::open(control::armed_path(&path), Arc::clone(&hub)));
    let server = listening.serve(Arc::clone(&fleet), Arc::clone(&hub), Arc::clone(&armed))?;
    let publisher = || Regions {
        place: place.clone(),
        form: form.clone(),
        hub: Arc::clone(&hub),
        armed: Arc::clone(&armed),
    };
    for path in &args.qmp {
        let qemu = Qemu { path: path.clone(), options: options.clone() };
        fleet.add(qemu.observe(publisher())?);
    }
    systemd::ready()
        .map_err(|source| Failure::Os { action: "notify the service manager", source })?;
    let sockets = (!args.qmp.is_empty()).then(|| nr(args.qmp.len(), "QMP socket"));
    let directories = match args.qmp_dir.len() {
        0 => None,
        1 => Some("1 directory of QMP sockets".to_owned()),
        n => Some(format!("{n} directories of QMP sockets")),
    };
    let watched: Vec<_> = sockets.into_iter().chain(directories).collect();
    message(&format!(
        "watching {}; control socket {}; stop with Ctrl-C",
        watched.join(" and "),
        path.display()
    ));
    let mut discovery = Discovery::new(options, args.qmp_dir.clone(), args.qmp_pattern.clone());
    let mut notes = Notes::default();
    let until = args.time.map(|time| Instant::now() + Duration::from_secs(time));
    loop {
        let failures = discovery.rescan(&fleet, publisher);
        let others = discovery.only_others().map(|others| {
            let pattern = &args.qmp_pattern;
            format!("{} not named {pattern}, left alone: see --qmp-pattern", nr(others, "socket"))
        });
        notes.all(failures.iter().map(SourceError::with_causes).chain(others));
        armed.sweep(&fleet);
        let left = until.map_or(RESCAN, |until| until.saturating_duration_since(Instant::now()));
        if stop.wait(left.min(RESCAN)) || until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
    }
    // First requests end, then VMs, then subscribers: each learns that its domain has ended.
    drop(server);
    let left = fleet.clear(END);
    if left > 0 {
        message(&format!("{} did not end in time", nr(left, "VM")));
    }
    hub.close(LAST_EVENTS);
    Ok(ExitCode::SUCCESS)
}
