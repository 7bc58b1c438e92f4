//! `domstat run xen`: the domains of a Xen host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_producer::{Server, systemd};
use domstat_sources::xen::{Roots, XenProbe, XenSource, domains};
use domstat_sources::{Source, SourceError};

use super::{Common, serve};
use crate::error::Failure;
use crate::locate::{self, Places};
use crate::publish::{End, Published, Target, publish};
use crate::signals::Stop;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only this domain; default: all of them, also those that appear later
    #[arg(long, value_name = "N")]
    domid: Option<u16>,
    /// Where privcmd is
    #[arg(long, value_name = "DIR", default_value = "/dev/xen")]
    dev: PathBuf,
    /// Where sysfs is
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sys: PathBuf,
    /// Where xenstored/socket is
    #[arg(long, value_name = "DIR", default_value = "/run")]
    run: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let roots = Roots { dev: args.dev.clone(), sys: args.sys.clone(), run: args.run.clone() };
    let interval = Duration::from_millis(args.common.interval);
    if let Some(domid) = args.domid {
        let mut source = XenSource::new(&roots, domid)?.with_interval(interval)?;
        if let Some(name) = &args.common.name {
            source = source.with_name(name)?;
        }
        let probe = source.probe();
        return serve(source, &args.common, places, &|| not_shown(&probe));
    }
    if args.common.name.is_some() || args.common.file.is_some() {
        return Err(Failure::OneDomainOnly);
    }
    let place = match super::server_at(places.socket, &args.common.at, super::Serves::Many)? {
        Some((server, _)) => Place::Server(Arc::new(server)),
        None => Place::Directory(locate::directory(places.dir)?),
    };
    systemd::ready()
        .map_err(|source| Failure::Os { action: "tell the service manager", source })?;
    Host { roots, interval, place, shown: BTreeMap::new() }.serve(&args.common)
}

/// Where all domains are published.
enum Place {
    Directory(PathBuf),
    Server(Arc<Server>),
}

/// Every domain of the host.
struct Host {
    roots: Roots,
    interval: Duration,
    place: Place,
    shown: BTreeMap<u16, Shown>,
}

struct Shown {
    name: String,
    published: Published,
    probe: XenProbe,
    warned: bool,
}

impl Host {
    fn serve(mut self, common: &Common) -> Result<ExitCode, Failure> {
        let stop = Stop::on_signals()?;
        let until = common.time.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        loop {
            // First those that are gone: a domain that is rebooted keeps its name.
            if self.update(&stop) == Some(End::Asked) {
                return Ok(ExitCode::SUCCESS);
            }
            for domid in domains(&self.roots)? {
                if !self.shown.contains_key(&domid) {
                    self.show(domid, common)?;
                }
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let wait = left.map_or(self.interval, |left| left.min(self.interval));
            if stop.wait(wait) || left.is_some_and(|left| left.is_zero()) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Brings every domain up to date that is due; says so if the user asked for an end meanwhile.
    fn update(&mut self, stop: &Stop) -> Option<End> {
        let mut asked = None;
        self.shown.retain(|_, shown| match shown.published.step(stop, Duration::ZERO) {
            Ok(None) => {
                shown.warn();
                true
            }
            Ok(Some(End::Asked)) => {
                asked = Some(End::Asked);
                true
            }
            Ok(Some(End::DomainGone)) => {
                eprintln!("domstat: {} is gone", shown.name);
                false
            }
            // The others are not to suffer; if the domain is still there it is shown anew.
            Err(failure) => {
                eprintln!("domstat: {}: {failure}", shown.name);
                false
            }
        });
        asked
    }

    fn show(&mut self, domid: u16, common: &Common) -> Result<(), Failure> {
        let source = match XenSource::new(&self.roots, domid) {
            Ok(source) => source.with_interval(self.interval)?,
            // It went as it was looked at, or is still being built.
            Err(SourceError::NoSuchDomain { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut name = source.describe().name;
        if self.shown.values().any(|shown| shown.name == name) {
            name = format!("{name}-{domid}");
        }
        let source = source.with_name(&name)?;
        let probe = source.probe();
        let target = match &self.place {
            Place::Directory(dir) => Target::Directory(dir.clone()),
            Place::Server(server) => Target::Server { server: Arc::clone(server), kept: None },
        };
        let published = match publish(source, common.placement.placement(), target) {
            Ok(published) => published,
            Err(Failure::Source(SourceError::NoSuchDomain { .. })) => return Ok(()),
            Err(error) => return Err(error),
        };
        eprintln!(
            "domstat: publishing {name} (xen, domain {domid}) at {}",
            published.path().display()
        );
        self.shown.insert(domid, Shown { name, published, probe, warned: false });
        Ok(())
    }
}

impl Shown {
    /// Says once if something is not shown.
    fn warn(&mut self) {
        if !self.warned
            && let Some(warning) = not_shown(&self.probe)
        {
            eprintln!("domstat: {}: {warning}", self.name);
            self.warned = true;
        }
    }
}

/// Says so if there are devices for which there is no slot.
fn not_shown(probe: &XenProbe) -> Option<String> {
    let (disks, interfaces) = probe.devices_not_shown();
    let text = format!(
        "{disks} disks and {interfaces} interfaces have no slot and are not shown: start this command again"
    );
    (disks + interfaces > 0).then_some(text)
}
