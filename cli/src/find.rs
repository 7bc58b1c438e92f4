//! Where regions are.

use std::path::{Path, PathBuf};

use std::sync::Arc;

use domstat_consumer::{AttachError, Attachment, Connection, Mapped, REGION_SUFFIX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Failure;

/// Where domains are looked for: at a daemon's socket if one was named, else in a directory.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) dir: Option<&'a Path>,
    pub(crate) socket: Option<&'a Path>,
}

/// A domain that is published.
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The path of its region, or of the socket at which it is served.
    pub(crate) place: PathBuf,
    pub(crate) attachment: Result<Attachment, AttachError>,
}

impl Places<'_> {
    /// Every domain that is published there, in order of their names.
    pub(crate) fn all(&self) -> Result<Vec<Entry>, Failure> {
        let Some(socket) = self.socket else {
            let found = domstat_consumer::find(&directory(self.dir)?)?.into_iter();
            return Ok(found
                .map(|f| {
                    let attachment = f.region.and_then(|_| Attachment::open(&f.path));
                    Entry { name: f.name, place: f.path, attachment }
                })
                .collect());
        };
        let connection = Arc::new(Connection::connect(socket)?);
        let offered = connection.list()?.into_iter();
        Ok(offered
            .map(|offered| {
                let attachment = Attachment::on(&connection, &offered.name);
                Entry { name: offered.name, place: socket.to_owned(), attachment }
            })
            .collect())
    }

    /// Where that is, for messages.
    pub(crate) fn describe(&self) -> Result<String, Failure> {
        match self.socket {
            Some(socket) => Ok(format!("at {}", socket.display())),
            None => Ok(format!("in {}", directory(self.dir)?.display())),
        }
    }
}

/// The directory in which regions are found: the one asked for (`--dir`, `$DOMSTAT_DIR`), else
/// the default of this user.
pub(crate) fn directory(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = asked {
        return Ok(dir.to_owned());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/domstat"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => Ok(PathBuf::from(dir).join("domstat")),
        _ => Err(Failure::NoDirectory),
    }
}

/// The region that the user means: a path if there is a `/` in it or such a file lies here, else
/// the name of a domain.
pub(crate) fn region_path(domain: &str, asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = Path::new(domain);
    if domain.contains('/') || path.is_file() {
        return Ok(path.to_owned());
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
pub(crate) fn map(domain: &str, path: &Path) -> Result<Mapped, AttachError> {
    match xen_domid(domain) {
        Some(domid) => Mapped::xen(Path::new("/dev/xen"), domid),
        None => Mapped::open(path),
    }
}
