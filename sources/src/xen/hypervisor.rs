//! What the source asks of Xen, and Xen itself as it is asked through privcmd.

use std::io;
use std::path::Path;

use super::domctl::{DomainInfo, INTERFACE_VERSION, VcpuInfo};
use super::privcmd::{MOST_DOMAINS, Privcmd};
use crate::SourceError;

/// Versions to look at for one that Xen accepts, to name it.
const VERSIONS: std::ops::RangeInclusive<u32> = 0x0a..=0x40;

/// What is asked of Xen: one operation each, answered with what is there now.
pub trait Hypervisor: Send {
    /// Domains from number `first` on, in order, as many as one answer holds.
    ///
    /// # Errors
    /// What the host says.
    fn domains(&mut self, first: u16, most: usize) -> io::Result<Vec<DomainInfo>>;

    /// A vCPU of a domain; `None` if one of them does not exist.
    ///
    /// # Errors
    /// What the host says.
    fn vcpu(&mut self, domid: u16, vcpu: u32) -> io::Result<Option<VcpuInfo>>;

    /// The domain with this number.
    ///
    /// # Errors
    /// What the host says.
    fn domain(&mut self, domid: u16) -> io::Result<Option<DomainInfo>> {
        Ok(self.domains(domid, 1)?.into_iter().find(|info| info.domain == domid))
    }

    /// All domains.
    ///
    /// # Errors
    /// What the host says.
    fn all_domains(&mut self) -> io::Result<Vec<DomainInfo>> {
        let mut all: Vec<DomainInfo> = Vec::new();
        let mut first = 0;
        loop {
            let some = self.domains(first, MOST_DOMAINS)?;
            let Some(last) = some.last().map(|info| info.domain) else { return Ok(all) };
            all.extend(some);
            match last.checked_add(1).filter(|&next| next > first) {
                Some(next) => first = next,
                None => return Ok(all),
            }
        }
    }
}

/// The Xen that this host runs on.
#[derive(Debug)]
pub struct Xen {
    privcmd: Privcmd,
}

impl Xen {
    /// Opens privcmd under `dev` (/dev/xen) and makes sure that this Xen speaks the interface
    /// version that this program was built for.
    ///
    /// # Errors
    /// [`SourceError`] that says why not: no Xen, no permission, not the control domain, another
    /// version.
    pub fn open(dev: &Path) -> Result<Self, SourceError> {
        let mut privcmd = Privcmd::open(dev).map_err(|source| cannot_open(dev, source))?;
        match privcmd.domain_infos(INTERFACE_VERSION, 0, 1) {
            Ok(_) => Ok(Self { privcmd }),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                Err(other_version(&mut privcmd))
            }
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                Err(SourceError::NotPermitted {
                    action: "list the domains of this host".to_owned(),
                    hint: "run in the control domain (dom0)",
                })
            }
            Err(source) => {
                Err(SourceError::Os { action: "list the domains of this host".to_owned(), source })
            }
        }
    }
}

impl Hypervisor for Xen {
    fn domains(&mut self, first: u16, most: usize) -> io::Result<Vec<DomainInfo>> {
        self.privcmd.domain_infos(INTERFACE_VERSION, first, most)
    }

    fn vcpu(&mut self, domid: u16, vcpu: u32) -> io::Result<Option<VcpuInfo>> {
        match self.privcmd.vcpu_info(INTERFACE_VERSION, domid, vcpu) {
            Ok(info) => Ok(Some(info)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

fn cannot_open(dev: &Path, source: io::Error) -> SourceError {
    let what = dev.join("privcmd").display().to_string();
    match source.kind() {
        io::ErrorKind::NotFound => SourceError::Unavailable {
            what,
            hint: "run in the control domain (dom0) of a Xen host with the module xen-privcmd loaded",
        },
        io::ErrorKind::PermissionDenied => SourceError::NotPermitted {
            action: format!("open {what}"),
            hint: "run as root in the control domain (dom0)",
        },
        _ => SourceError::Os { action: format!("open {what}"), source },
    }
}

/// Says which version this Xen accepts instead: it refuses others before it looks at the rest.
fn other_version(privcmd: &mut Privcmd) -> SourceError {
    let accepted =
        VERSIONS.into_iter().find(|&version| privcmd.domain_infos(version, 0, 1).is_ok());
    let accepted =
        accepted.map_or_else(|| "an unknown version".to_owned(), |version| format!("{version:#x}"));
    let xen = privcmd.xen_version().unwrap_or(0);
    SourceError::Unavailable {
        what: format!(
            "interface version {INTERFACE_VERSION:#x} of Xen's sysctl and domctl (this Xen {}.{} accepts {accepted})",
            xen >> 16,
            xen & 0xffff,
        ),
        hint: "this program knows Xen 4.17; use a build for the Xen that is running",
    }
}
