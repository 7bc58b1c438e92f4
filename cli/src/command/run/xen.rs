//! `domstat run xen`: the domains of a Xen host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use domstat_producer::systemd;
use domstat_sources::SourceError;
use domstat_sources::xen::{Roots, Shared, Xen, XenSource, domains};

use super::{Common, serve};
use crate::error::Failure;
use crate::locate::{self, Places};
use crate::publish::{Domains, Host, Place};
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
    /// Where tapdisk's files are
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    shm: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let (dev, sys) = (args.dev.clone(), args.sys.clone());
    let roots = Roots { dev, sys, run: args.run.clone(), shm: args.shm.clone() };
    let interval = Duration::from_millis(args.common.interval);
    if let Some(domid) = args.domid {
        let make = || {
            let source = XenSource::new(&roots, domid)?.with_interval(interval)?;
            match &args.common.name {
                Some(name) => source.with_name(name),
                None => Ok(source),
            }
        };
        return serve(make, &args.common, places, &|| None);
    }
    if args.common.name.is_some() || args.common.file.is_some() {
        return Err(Failure::OneDomainOnly);
    }
    // A host that is not Xen is refused before anything else.
    let xen = Xen::open(&roots.dev)?;
    let shared = Shared::new(&roots, interval);
    let mut xen = XenDomains { xen, roots, shared, interval };
    xen.list()?;
    let form = args.common.form()?;
    let place = match super::server_at(places.socket, &args.common.at, super::Serves::Many)? {
        Some((server, _)) => Place::Server(Arc::new(server)),
        None => Place::Directory(locate::directory(places.dir)?),
    };
    systemd::ready()
        .map_err(|source| Failure::Os { action: "notify the service manager", source })?;
    let stop = Stop::on_signals()?;
    Host::new(xen, place, form, interval).serve(&stop, args.common.until());
    Ok(ExitCode::SUCCESS)
}

/// Every domain of this Xen host.
struct XenDomains {
    xen: Xen,
    roots: Roots,
    shared: Shared,
    interval: Duration,
}

impl Domains for XenDomains {
    type Key = u16;
    type Source = XenSource;

    fn list(&mut self) -> Result<Vec<u16>, SourceError> {
        domains(&mut self.xen)
    }

    fn source(&mut self, domid: u16) -> Result<Option<XenSource>, SourceError> {
        match XenSource::of_many(&self.roots, &self.shared, domid) {
            Ok(source) => source.with_interval(self.interval).map(Some),
            // It ended meanwhile, or is still being built.
            Err(SourceError::NoSuchDomain { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn named(source: XenSource, name: &str) -> Result<XenSource, SourceError> {
        source.with_name_until_renamed(name)
    }
}
