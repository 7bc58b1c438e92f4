//! `domstat run libvirt`: publish the domains of libvirt, each as a domain of its own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::command::show::seconds;
use crate::error::Failure;
use crate::locate::Places;
use crate::publish::LabelArgs;

const EXAMPLES: &str = "\
Examples:
  domstat run libvirt                            all of qemu:///system
  domstat run libvirt --read-only                changes nothing
  domstat run libvirt --connect qemu:///session
  domstat run libvirt --group monitoring --socket /run/domstat.sock

VMs need no second QMP socket and no restart. Thresholds, jobs and events work \
through the control socket: see domstat block --help.";

/// Domains of libvirt, as they come and go: vCPUs, disks, write thresholds, block jobs
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "libvirt"), allow(dead_code, reason = "help is the same without it"))]
pub(super) struct Args {
    /// libvirt's URI
    #[arg(long, value_name = "URI", default_value = "qemu:///system")]
    connect: String,
    /// Connect read-only: no thresholds, no cancellation of jobs
    #[arg(long)]
    read_only: bool,
    /// Time between two looks at what moves all the time, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// How long libvirt may take to answer for a VM, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    limit: Duration,
    /// Where libvirt keeps the pid files of its QEMUs. Default: where it does for qemu:///system and
    /// qemu:///session; with another URI, VMs are taken for those of another host
    #[arg(long, value_name = "DIR")]
    pid_dir: Option<PathBuf>,
    /// The control socket; default: control.sock next to the regions
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Members of this group may read events and lists through the control socket
    #[arg(long, value_name = "GROUP", value_parser = super::group)]
    group: Option<u32>,
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

#[cfg(not(feature = "libvirt"))]
pub(super) fn run(_: &Args, _: Places<'_>) -> Result<ExitCode, Failure> {
    Err(Failure::Source(domstat_sources::SourceError::Unavailable {
        what: "libvirt".to_owned(),
        hint: "this domstat is built without it. Build it with `cargo build --release -p domstat \
               --features libvirt`, which needs libvirt-dev (Debian) or libvirt-devel (Fedora), or \
               give the VM a QMP socket of its own for domstat run qemu",
    }))
}

#[cfg(feature = "libvirt")]
pub(super) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    use std::sync::Arc;
    use std::time::Instant;

    use domstat_producer::systemd;
    use domstat_sources::contract::Fleet;
    use domstat_sources::libvirt::{Host, Options};

    use crate::control::{self, ArmedFile, Hub, Server};
    use crate::locate;
    use crate::output::human::nr;
    use crate::output::message::message;
    use crate::publish::{Form, Place, Regions};
    use crate::signals::Stop;

    let stop = Stop::on_signals()?;
    let dir = locate::directory(places.dir)?;
    let place = match super::server_at(places.socket, &args.at, super::Serves::Many)? {
        Some((server, _)) => Place::Server(Arc::new(server)),
        None => Place::Directory(dir.clone()),
    };
    let form = Form { placement: args.placement.placement(), labels: args.labels.all()? };
    let hub = Hub::new();
    let mut options = Options::new(&args.connect);
    (options.interval, options.limit, options.read_only) =
        (args.interval, args.limit, args.read_only);
    options.pid_dir = args.pid_dir.clone().or(options.pid_dir);
    let fleet = Arc::new(Fleet::new());
    let path = args.control.clone().unwrap_or_else(|| control::path_in(&dir));
    let listening = Server::listen(&path, args.group)?;
    // Whoever listens at the control socket owns the file next to it.
    let armed = Arc::new(ArmedFile::open(control::armed_path(&path), Arc::clone(&hub)));
    let server = listening.serve(Arc::clone(&fleet), Arc::clone(&hub), Arc::clone(&armed))?;
    let (events, kept) = (Arc::clone(&hub), Arc::clone(&armed));
    let publisher = move || Regions {
        place: place.clone(),
        form: form.clone(),
        hub: Arc::clone(&events),
        armed: Arc::clone(&kept),
    };
    let host = Host::start(options, Arc::clone(&fleet), publisher)?;
    systemd::ready()
        .map_err(|source| Failure::Os { action: "notify the service manager", source })?;
    message(&format!(
        "libvirt at {}{}; control socket {}; stop with Ctrl-C",
        crate::output::printable(&args.connect),
        if args.read_only { ", read-only" } else { "" },
        path.display()
    ));
    let until = args.time.map(|time| Instant::now() + Duration::from_secs(time));
    loop {
        armed.sweep(&fleet);
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        if stop.wait(left.min(LOOK)) || until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
    }
    drop(host);
    // First requests end, then domains, then subscribers: each learns that its domain has ended.
    drop(server);
    let left = fleet.clear(END);
    if left > 0 {
        message(&format!("{} did not end in time", nr(left, "VM")));
    }
    hub.close(LAST_EVENTS);
    Ok(ExitCode::SUCCESS)
}

/// How often the main thread looks after what no domain's thread does.
#[cfg(feature = "libvirt")]
const LOOK: Duration = Duration::from_secs(10);

/// How long domains may take to end together with the daemon.
#[cfg(feature = "libvirt")]
const END: Duration = Duration::from_secs(1);

/// How long subscribers may take to read their last events.
#[cfg(feature = "libvirt")]
const LAST_EVENTS: Duration = Duration::from_secs(1);
