//! What the source asks of Xen, and Xen itself as it is asked through privcmd.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::domctl::{Calls, DOMCTL_VERSIONS, DomainInfo, SYSCTL_VERSIONS, VcpuInfo};
use super::privcmd::{MOST_DOMAINS, Privcmd};
use crate::SourceError;

/// Versions among which the one that Xen accepts is looked for, to name it.
const VERSIONS: RangeInclusive<u32> = 0x0a..=0x40;

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

    /// What the domain's scheduler gives it; `None` if that has no weights.
    ///
    /// # Errors
    /// What the host says.
    fn scheduling(&mut self, domid: u16) -> io::Result<Option<Scheduling>>;

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

/// Schedulers that have weights and caps: XEN_SCHEDULER_CREDIT2 and XEN_SCHEDULER_CREDIT.
const WEIGHING: [u32; 2] = [6, 5];

/// What a domain may have of its CPUs beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// XEN_SCHEDULER_CREDIT2 (6) or XEN_SCHEDULER_CREDIT (5) of public/domctl.h.
    pub id: u32,
    /// Its share relative to others'; 256 by default.
    pub weight: u16,
    /// The most that it gets, in percent of one CPU; 0 is no cap.
    pub cap: u16,
}

/// The interface versions that a Xen accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions {
    sysctl: u32,
    domctl: u32,
}

/// The Xen that this host runs on.
#[derive(Debug)]
pub struct Xen {
    privcmd: Privcmd,
    versions: Versions,
}

impl Xen {
    /// Opens privcmd under `dev` (/dev/xen) and finds the interface versions that this Xen accepts.
    ///
    /// # Errors
    /// [`SourceError`] that says why not: no Xen, no permission, not the control domain, versions
    /// that this program does not know.
    pub fn open(dev: &Path) -> Result<Self, SourceError> {
        let mut privcmd = Privcmd::open(dev).map_err(|source| cannot_open(dev, source))?;
        if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return Err(SourceError::Unavailable {
                what: "Xen on this architecture".to_owned(),
                hint: "the records of domains are known for x86-64 and Arm",
            });
        }
        let versions = Versions::find(&mut privcmd)?;
        Ok(Self { privcmd, versions })
    }
}

impl Versions {
    /// Finds each by asking for something that always is there.
    fn find(calls: &mut impl Calls) -> Result<Self, SourceError> {
        let sysctl = accepted(SYSCTL_VERSIONS, &mut |version| sysctl_accepts(calls, version))?;
        let domctl = accepted(DOMCTL_VERSIONS, &mut |version| domctl_accepts(calls, version))?;
        match (sysctl, domctl) {
            (Some(sysctl), Some(domctl)) => Ok(Self { sysctl, domctl }),
            _ => Err(other_versions(calls)),
        }
    }
}

fn sysctl_accepts(calls: &mut impl Calls, version: u32) -> io::Result<bool> {
    is_accepted(calls.domain_infos(version, 0, 1).map(|_| ()))
}

/// The first vCPU of dom0.
fn domctl_accepts(calls: &mut impl Calls, version: u32) -> io::Result<bool> {
    is_accepted(calls.vcpu_info(version, 0, 0).map(|_| ()))
}

/// Xen answers EACCES, and nothing else does so, to a version that is not its own.
fn is_accepted(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        // The version is right, and the domain is not there.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(true),
        result => result.map(|()| true),
    }
}

/// The version that is accepted, the newest first.
fn accepted(
    versions: RangeInclusive<u32>,
    accepts: &mut impl FnMut(u32) -> io::Result<bool>,
) -> Result<Option<u32>, SourceError> {
    for version in versions.rev() {
        match accepts(version) {
            Ok(true) => return Ok(Some(version)),
            Ok(false) => {}
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                return Err(SourceError::NotPermitted {
                    action: "list the domains of this host".to_owned(),
                    hint: "run in the control domain (dom0)",
                });
            }
            Err(source) => {
                let action = "list the domains of this host".to_owned();
                return Err(SourceError::Os { action, source });
            }
        }
    }
    Ok(None)
}

impl Hypervisor for Xen {
    fn domains(&mut self, first: u16, most: usize) -> io::Result<Vec<DomainInfo>> {
        self.privcmd.domain_infos(self.versions.sysctl, first, most)
    }

    fn vcpu(&mut self, domid: u16, vcpu: u32) -> io::Result<Option<VcpuInfo>> {
        match self.privcmd.vcpu_info(self.versions.domctl, domid, vcpu) {
            Ok(info) => Ok(Some(info)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn scheduling(&mut self, domid: u16) -> io::Result<Option<Scheduling>> {
        scheduling(&mut self.privcmd, self.versions.domctl, domid)
    }
}

/// Asks for the domain's weight as each of the schedulers that have one: only the one that serves it
/// answers.
fn scheduling(calls: &mut impl Calls, domctl: u32, domid: u16) -> io::Result<Option<Scheduling>> {
    for id in WEIGHING {
        match calls.scheduling(domctl, domid, id) {
            Ok(op) => return Ok(Some(Scheduling { id, weight: op.weight, cap: op.cap })),
            Err(error) => match error.raw_os_error() {
                // Another scheduler's domain; one that has ended; not for this caller.
                Some(libc::EINVAL) => {}
                Some(libc::ESRCH | libc::EPERM | libc::ENOSYS | libc::EOPNOTSUPP) => {
                    return Ok(None);
                }
                _ => return Err(error),
            },
        }
    }
    Ok(None)
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

/// Says which versions this Xen accepts, and which this program does.
fn other_versions(calls: &mut impl Calls) -> SourceError {
    let found = |accepts: &mut dyn FnMut(u32) -> io::Result<bool>| {
        let found = VERSIONS.into_iter().find(|&version| matches!(accepts(version), Ok(true)));
        found.map_or_else(|| "an unknown version".to_owned(), |version| format!("{version:#x}"))
    };
    let sysctl = found(&mut |version| sysctl_accepts(calls, version));
    let domctl = found(&mut |version| domctl_accepts(calls, version));
    let xen = calls.xen_version().unwrap_or(0);
    SourceError::Unavailable {
        what: format!(
            "a known interface of Xen (this Xen {}.{} accepts sysctl {sysctl} and domctl {domctl}; \
             this program speaks sysctl {} and domctl {})",
            xen >> 16,
            xen & 0xffff,
            Span(SYSCTL_VERSIONS),
            Span(DOMCTL_VERSIONS),
        ),
        hint: "this program knows Xen 4.13 to 4.22; use a build for the Xen that is running",
    }
}

/// A range of versions, for people.
struct Span(RangeInclusive<u32>);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} to {:#x}", self.0.start(), self.0.end())
    }
}

#[cfg(test)]
mod tests;
