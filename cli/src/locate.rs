//! Lookup of domains: in a directory or at a socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use domstat_consumer::fleet::{Fleet, Member, Owner, find_daemon};
use domstat_consumer::handover::Connection;
use domstat_consumer::region::MappedFile;
use domstat_consumer::{AttachError, Attachment};
use domstat_layout::directory::{self, REGION_SUFFIX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Failure;

/// How long the daemons of a directory are waited for, together, that may serve the domain in question.
const ANSWER: Duration = Duration::from_secs(1);
/// Time for the daemon at a named socket to answer: a service manager may start it only now.
const START: Duration = Duration::from_secs(5);
/// Pause between two looks for such an answer.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a list of all domains waits for daemons that do not hand over their regions, and for
/// processes that are still to be looked into.
const LIST: Duration = Duration::from_secs(3);

/// Most parts of a domain that are shown.
const MAX_PARTS: usize = 64;
/// Whether it was said that a scan does not see all.
static WARNED: Once = Once::new();

/// Most processes that are named where a domain is not one.
const MAX_NAMED: usize = 10;

/// Where domains are looked for: at a daemon's socket if one was named, else in a directory, by
/// their entries and at the sockets that are there.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) dir: Option<&'a Path>,
    pub(crate) socket: Option<&'a Path>,
    /// Also in the descriptors of all processes.
    pub(crate) scan: bool,
}

/// Where one domain is.
pub(crate) enum Located {
    /// A region's path, or what [`region_path`] makes of `xen:DOMID`.
    At(PathBuf),
    /// A daemon serves it.
    Served(Arc<Connection>),
}

/// A domain that is published.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The path of its region, or of the socket at which it is served.
    pub(crate) place: PathBuf,
    pub(crate) attachment: Result<Attachment, AttachError>,
    /// Its producer, if it was found there.
    pub(crate) owner: Option<Owner>,
}

impl Places<'_> {
    /// Every domain that is published there, in order of their names.
    pub(crate) fn all(&self) -> Result<Vec<Entry>, Failure> {
        Ok(self.looked_at()?.into_iter().map(entry).collect())
    }

    /// As [`Places::all`], and the entries of names that a daemon serves by now.
    pub(crate) fn all_and_behind(&self) -> Result<Vec<Entry>, Failure> {
        let mut fleet = self.looked_at()?;
        let behind = fleet.take_behind();
        Ok(fleet.into_iter().chain(behind).map(entry).collect())
    }

    fn looked_at(&self) -> Result<Fleet, Failure> {
        let mut fleet = self.fleet()?;
        let began = Instant::now();
        while let Err(error) = fleet.refresh() {
            let starts = self.socket.is_some() && matches!(error, AttachError::TimedOut { .. });
            if !starts || began.elapsed() > START {
                return Err(error.into());
            }
            std::thread::sleep(AGAIN);
        }
        // One refresh attaches to as much as it has time for.
        let is_partial =
            |fleet: &Fleet| !fleet.is_scanned() || fleet.iter().any(|(_, member)| is_late(member));
        while began.elapsed() < LIST && is_partial(&fleet) {
            std::thread::sleep(AGAIN);
            fleet.refresh()?;
        }
        Ok(fleet)
    }

    /// Every domain that is published there, to be looked at again and again.
    pub(crate) fn fleet(&self) -> Result<Fleet, Failure> {
        let fleet = match self.socket {
            Some(socket) => Fleet::at_socket(socket),
            None => Fleet::new(&directory(self.dir)?),
        };
        if !self.scan {
            return Ok(fleet);
        }
        if !rustix::process::geteuid().is_root() {
            let once =
                || eprintln!("domstat: --scan finds this user's processes only: run as root");
            WARNED.call_once(once);
        }
        Ok(fleet.scan_processes())
    }

    /// What the user means by `domain`: the region at a path if there is a `/` in it, `xen:DOMID`,
    /// else the domain that has an entry or that a daemon serves: of these one that is up, as
    /// [`Fleet`] has it.
    pub(crate) fn locate(&self, domain: &str) -> Result<Located, Failure> {
        if let Some(socket) = self.socket {
            return Ok(Located::Served(Arc::new(Connection::connect(socket)?)));
        }
        let path = region_path(domain, self.dir)?;
        let is_name = !domain.contains('/') && xen_domid(domain).is_none();
        if is_name && path.symlink_metadata().is_err() {
            let daemon = find_daemon(&directory(self.dir)?, domain, ANSWER)?;
            if let Some(connection) = daemon {
                return Ok(Located::Served(Arc::new(connection)));
            }
            if self.scan
                && let Some(path) = self.scanned(domain)?
            {
                return Ok(Located::At(path));
            }
        } else if is_name
            && !is_up(&path)
            && let Ok(Some(connection)) = find_daemon(&directory(self.dir)?, domain, ANSWER)
        {
            let connection = Arc::new(connection);
            let served = Attachment::from_connection(&connection, domain);
            if served.is_ok_and(|served| served.liveness().is_up()) {
                return Ok(Located::Served(connection));
            }
        }
        Ok(Located::At(path))
    }

    /// The descriptor of the process that writes the domain: `NAME@PID`, or `NAME` if only one process says
    /// that it is this domain.
    fn scanned(&self, domain: &str) -> Result<Option<PathBuf>, Failure> {
        let fleet = self.looked_at()?;
        let found: Vec<_> = fleet
            .iter()
            .filter(|(_, member)| member.owner().is_some())
            .filter(|(key, _)| {
                *key == domain || key.rsplit_once('@').is_some_and(|(name, _)| name == domain)
            })
            .collect();
        match found.as_slice() {
            [] => Ok(None),
            [(_, member)] => Ok(Some(member.path().to_owned())),
            several => {
                let named = several.iter().take(MAX_NAMED);
                let owners = named.map(|(key, member)| {
                    let uid = member.owner().map(|owner| owner.uid.to_string());
                    format!("{key} (user {})", uid.unwrap_or_default())
                });
                let owners = owners.collect::<Vec<_>>().join(", ");
                Err(Failure::Ambiguous { domain: domain.to_owned(), owners })
            }
        }
    }

    /// The regions that other programs publish of `domain`, as a device process does, in order of their
    /// names: those with an entry `DOMAIN.PART` in the directory.
    pub(crate) fn parts(&self, domain: &str) -> Result<Vec<(String, PathBuf)>, Failure> {
        if self.socket.is_some() || domain.contains('/') || xen_domid(domain).is_some() {
            return Ok(Vec::new());
        }
        let prefix = format!("{domain}.");
        let Ok(listed) = std::fs::read_dir(directory(self.dir)?) else { return Ok(Vec::new()) };
        let part = |entry: std::fs::DirEntry| {
            let (file, path) = (entry.file_name(), entry.path());
            let Some(directory::Entry::Region(name)) = directory::Entry::of(file.to_str()?) else {
                return None;
            };
            name.starts_with(&prefix).then(|| (name.to_owned(), path))
        };
        let mut parts: Vec<_> = listed.flatten().filter_map(part).collect();
        parts.sort();
        parts.truncate(MAX_PARTS);
        Ok(parts)
    }

    /// Where that is, for messages.
    pub(crate) fn describe(&self) -> Result<String, Failure> {
        match self.socket {
            Some(socket) => Ok(format!("at {}", socket.display())),
            None => Ok(format!("in {}", directory(self.dir)?.display())),
        }
    }
}

/// Whether the producer of the region at `path` lives, as far as that can be known.
fn is_up(path: &Path) -> bool {
    let Ok(mapped) = MappedFile::open(path) else { return false };
    mapped.is_rfc_v3() || Attachment::from_mapped(mapped).is_ok_and(|it| it.liveness().is_up())
}

fn entry((name, member): (String, Member)) -> Entry {
    let (place, owner) = (member.path().to_owned(), member.owner());
    Entry { name, place, attachment: member.into_attachment(), owner }
}

/// Whether its daemon did not hand it over in time.
fn is_late(member: &Member) -> bool {
    matches!(member.attachment(), Err(AttachError::TimedOut { .. }))
}

/// The directory in which regions are found: the one asked for (`--dir`, `$DOMSTAT_DIR`), else
/// the default of this user.
pub(crate) fn directory(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = asked {
        return Ok(dir.to_owned());
    }
    domstat_producer::default_dir().ok_or(Failure::NoDirectory)
}

/// The region that the user means: a path if there is a `/` in it, else the name of a domain. A file
/// of that name in the working directory, where anyone may have put it, is not meant.
pub(crate) fn region_path(domain: &str, asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if domain.contains('/') {
        return Ok(PathBuf::from(domain));
    }
    Ok(directory(asked)?.join(format!("{domain}{REGION_SUFFIX}")))
}

/// As many descriptors as are allowed: each attached domain takes one, as does each client served.
pub(crate) fn raise_limit_of_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The number of the domain in `xen:DOMID`, whose statistics the hypervisor writes itself.
pub(crate) fn xen_domid(domain: &str) -> Option<u16> {
    domain.strip_prefix("xen:")?.parse().ok()
}

/// Maps the region that the user means; `path` is what [`region_path`] made of it.
pub(crate) fn map(domain: &str, path: &Path) -> Result<MappedFile, AttachError> {
    match xen_domid(domain) {
        Some(domid) => MappedFile::xen(Path::new("/dev/xen"), domid),
        None => MappedFile::open(path),
    }
}
