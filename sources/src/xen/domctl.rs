//! Xen's structures for the operations that the source uses (public/domctl.h, public/sysctl.h).
//!
//! They are the same from Xen 4.13 on, whose interface versions are those below, but for the end of
//! a domain's record. Xen refuses an operation of any other version before it looks at the rest of
//! it, and numbers domctl and sysctl separately.
//!
//! | Xen | sysctl | domctl | bytes of a domain's record, x86 | Arm |
//! |---|---|---|---|---|
//! | 4.13 | 0x12 | 0x12 | 104 | 112 |
//! | 4.14 | 0x13 | 0x12 | 104 | 112 |
//! | 4.15 | 0x13 | 0x13 | 104 | 112 |
//! | 4.16 | 0x14 | 0x14 | 112 | 120 |
//! | 4.17 | 0x15 | 0x15 | 112 | 120 |
//! | 4.18 | 0x15 | 0x16 | 112 | 120 |
//! | 4.19, 4.20 | 0x15 | 0x17 | 112 | 120 |
//! | 4.21 | 0x16 | 0x17 | 112 | 120 |
//! | 4.22 | 0x16 | 0x18 | 112 | 120 |

use std::io;
use std::ops::RangeInclusive;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::status::{Reason, State};

/// Versions of sysctl whose structures are these.
pub const SYSCTL_VERSIONS: RangeInclusive<u32> = 0x12..=0x16;
/// Versions of domctl whose structures are these.
pub const DOMCTL_VERSIONS: RangeInclusive<u32> = 0x12..=0x18;
/// The first version of sysctl whose record of a domain has `gpaddr_bits`.
const GPADDR_SINCE: u32 = 0x14;
/// What a record of an earlier version lacks: `gpaddr_bits` and its padding.
const GPADDR_LEN: usize = 8;

const SYSCTL_GETDOMAININFOLIST: u32 = 6;
const DOMCTL_GETVCPUINFO: u32 = 14;
const DOMCTL_SCHEDULER_OP: u32 = 16;
/// XEN_DOMCTL_SCHEDOP_getinfo.
const SCHEDOP_GETINFO: u32 = 1;

/// The hypercalls, each of an interface version.
pub(super) trait Calls {
    /// XEN_SYSCTL_getdomaininfolist.
    fn domain_infos(
        &mut self,
        version: u32,
        first: u16,
        most: usize,
    ) -> io::Result<Vec<DomainInfo>>;

    /// XEN_DOMCTL_getvcpuinfo.
    fn vcpu_info(&mut self, version: u32, domid: u16, vcpu: u32) -> io::Result<VcpuInfo>;

    /// XEN_DOMCTL_SCHEDOP_getinfo of a domain that this scheduler serves.
    fn scheduling(&mut self, version: u32, domid: u16, id: u32) -> io::Result<SchedulerOp>;

    /// XENVER_version: the major in the upper 16 bits.
    fn xen_version(&mut self) -> io::Result<u32>;
}

/// `struct xen_domctl_getdomaininfo`: what Xen says of a domain.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are Xen's")]
pub struct DomainInfo {
    pub domain: u16,
    pad1: u16,
    pub flags: u32,
    pub tot_pages: u64,
    pub max_pages: u64,
    pub outstanding_pages: u64,
    pub shr_pages: u64,
    pub paged_pages: u64,
    pub shared_info_frame: u64,
    /// Nanoseconds that its vCPUs ran, in sum.
    pub cpu_time: u64,
    pub nr_online_vcpus: u32,
    pub max_vcpu_id: u32,
    pub ssidref: u32,
    /// The domain's UUID.
    pub handle: [u8; 16],
    pub cpupool: u32,
    pub gpaddr_bits: u8,
    pad2: [u8; 7],
    arch_config: ArchConfig,
}

/// `struct xen_arch_domainconfig`: flags of the emulation on x86, the interrupt controller and
/// clock on Arm, with what pads the record to 8 bytes there.
#[cfg(not(target_arch = "aarch64"))]
type ArchConfig = [u32; 2];
#[cfg(target_arch = "aarch64")]
type ArchConfig = [u32; 4];

/// Bytes of a domain's record in a version of sysctl.
pub(super) const fn domain_info_len(sysctl: u32) -> usize {
    if sysctl < GPADDR_SINCE {
        size_of::<DomainInfo>() - GPADDR_LEN
    } else {
        size_of::<DomainInfo>()
    }
}

/// Why a domain shut down: XEN_DOMINF_shutdownshift of its flags, SHUTDOWN_* of public/sched.h.
const SHUTDOWN_SHIFT: u32 = 16;
const SHUTDOWN_SUSPEND: u32 = 2;
const SHUTDOWN_CRASH: u32 = 3;
const SHUTDOWN_WATCHDOG: u32 = 4;

impl DomainInfo {
    /// A record of a version of sysctl, at the beginning of `bytes`.
    pub(super) fn from_record(sysctl: u32, bytes: &[u8]) -> Option<Self> {
        let record = bytes.get(..domain_info_len(sysctl))?;
        if record.len() == size_of::<Self>() {
            return Self::read_from_bytes(record).ok();
        }
        // `gpaddr_bits` stays 0, and so does `arch_config`, which lies elsewhere and which nobody reads.
        let mut info = Self::new_zeroed();
        let common = std::mem::offset_of!(Self, gpaddr_bits);
        let (to, from) = (info.as_mut_bytes().get_mut(..common)?, record.get(..common)?);
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        Some(info)
    }

    /// XEN_DOMINF_dying: it is being taken down.
    #[must_use]
    pub const fn is_dying(&self) -> bool {
        self.flags & 1 << 0 != 0
    }

    /// XEN_DOMINF_shutdown: its kernel has shut down or crashed, and it is still there.
    #[must_use]
    pub const fn is_shut_down(&self) -> bool {
        self.flags & 1 << 2 != 0
    }

    /// libvirt's number (virDomainState) for how the domain stands.
    #[must_use]
    pub const fn libvirt_state(&self) -> u64 {
        const RUNNING: u64 = 1;
        const PAUSED: u64 = 3;
        const SHUTDOWN: u64 = 4;
        const CRASHED: u64 = 6;
        if self.is_shut_down() {
            return match self.shutdown_code() {
                SHUTDOWN_CRASH | SHUTDOWN_WATCHDOG => CRASHED,
                // To be saved or migrated.
                SHUTDOWN_SUSPEND => PAUSED,
                _ => SHUTDOWN,
            };
        }
        if self.is_dying() {
            SHUTDOWN
        } else if self.is_paused() {
            PAUSED
        } else {
            RUNNING
        }
    }

    /// The state, for the group `status`.
    pub(crate) const fn state(&self) -> (State, Reason) {
        if self.is_dying() {
            return (State::Dying, Reason::Unknown);
        }
        if self.is_shut_down() {
            return match self.shutdown_code() {
                SHUTDOWN_CRASH => (State::Crashed, Reason::Panic),
                SHUTDOWN_WATCHDOG => (State::Crashed, Reason::Watchdog),
                // To be saved or migrated: the toolstack asked its kernel for it.
                SHUTDOWN_SUSPEND => (State::Suspended, Reason::User),
                _ => (State::Shutdown, Reason::Guest),
            };
        }
        if self.is_paused() {
            (State::Paused, Reason::User)
        } else {
            (State::Running, Reason::Unknown)
        }
    }

    /// Why it has shut down (SHUTDOWN_* of public/sched.h): 0 poweroff, 1 reboot, 2 suspend,
    /// 3 crash, 4 watchdog, 5 soft reset.
    #[must_use]
    pub const fn shutdown_code(&self) -> u32 {
        self.flags >> SHUTDOWN_SHIFT & 0xff
    }

    /// XEN_DOMINF_paused: paused by the toolstack.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.flags & 1 << 3 != 0
    }
}

/// `struct xen_domctl_getvcpuinfo`: what Xen says of a vCPU.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are Xen's")]
pub struct VcpuInfo {
    pub vcpu: u32,
    pub online: u8,
    pub blocked: u8,
    pub running: u8,
    pad: u8,
    /// Nanoseconds that it ran.
    pub cpu_time: u64,
    pub cpu: u32,
    pad2: u32,
}

/// `struct xen_domctl_scheduler_op` with what XEN_DOMCTL_SCHEDOP_getinfo answers: the same for the
/// credit schedulers (`struct xen_domctl_sched_credit` and `..._credit2`), something else for others.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SchedulerOp {
    sched_id: u32,
    cmd: u32,
    pub(super) weight: u16,
    pub(super) cap: u16,
    rest: [u8; 12],
}

/// `struct xen_domctl` with one operation.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Domctl {
    cmd: u32,
    interface_version: u32,
    domain: u16,
    pad: [u16; 3],
    pub(super) info: VcpuInfo,
    rest: [u8; 104],
}

impl Domctl {
    /// XEN_DOMCTL_SCHEDOP_getinfo.
    pub(super) fn getinfo(interface_version: u32, domain: u16, sched_id: u32) -> Self {
        let op = SchedulerOp { sched_id, cmd: SCHEDOP_GETINFO, weight: 0, cap: 0, rest: [0; 12] };
        let info = zerocopy::transmute!(op);
        Self {
            cmd: DOMCTL_SCHEDULER_OP,
            interface_version,
            domain,
            pad: [0; 3],
            info,
            rest: [0; 104],
        }
    }

    /// Its answer.
    pub(super) fn scheduler_op(&self) -> SchedulerOp {
        zerocopy::transmute!(self.info)
    }

    pub(super) const fn getvcpuinfo(interface_version: u32, domain: u16, vcpu: u32) -> Self {
        let info = VcpuInfo {
            vcpu,
            online: 0,
            blocked: 0,
            running: 0,
            pad: 0,
            cpu_time: 0,
            cpu: 0,
            pad2: 0,
        };
        let cmd = DOMCTL_GETVCPUINFO;
        Self { cmd, interface_version, domain, pad: [0; 3], info, rest: [0; 104] }
    }
}

/// `struct xen_sysctl_getdomaininfolist`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct DomainInfoList {
    first_domain: u16,
    pad: u16,
    max_domains: u32,
    buffer: u64,
    num_domains: u32,
    pad2: u32,
}

impl DomainInfoList {
    pub(super) const fn new(first_domain: u16, max_domains: u32, buffer: u64) -> Self {
        Self { first_domain, pad: 0, max_domains, buffer, num_domains: 0, pad2: 0 }
    }

    pub(super) const fn found(&self) -> u32 {
        self.num_domains
    }
}

/// `struct xen_sysctl` with the one operation that is used.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Sysctl {
    cmd: u32,
    interface_version: u32,
    pub(super) list: DomainInfoList,
    rest: [u8; 104],
}

impl Sysctl {
    pub(super) const fn new(interface_version: u32, list: DomainInfoList) -> Self {
        Self { cmd: SYSCTL_GETDOMAININFOLIST, interface_version, list, rest: [0; 104] }
    }
}

const _: () = {
    let domain_info = if cfg!(target_arch = "aarch64") { 120 } else { 112 };
    assert!(size_of::<DomainInfo>() == domain_info);
    assert!(size_of::<VcpuInfo>() == 24);
    // As long as the first of the operations, so that both lie in the same place.
    assert!(size_of::<SchedulerOp>() == 24);
    assert!(size_of::<Domctl>() == 144);
    assert!(size_of::<Sysctl>() == 136);
};
