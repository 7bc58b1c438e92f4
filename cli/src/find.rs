//! Where regions are.

use std::path::{Path, PathBuf};

use domstat_consumer::{AttachError, Mapped, REGION_SUFFIX};

use crate::error::Failure;

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
