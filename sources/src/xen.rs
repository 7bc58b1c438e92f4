//! Xen domains as the control domain (dom0) sees them, without a toolstack's library.
//!
//! Domains and vCPUs are read through raw hypercalls: XEN_SYSCTL_getdomaininfolist,
//! XEN_DOMCTL_getvcpuinfo and XEN_DOMCTL_scheduler_op. Disks and interfaces are read from sysfs,
//! where Linux' xen-blkback and xen-netback keep their counters, and from the files that tapdisk
//! keeps in /dev/shm. A disk that QEMU serves (qdisk) is shown without counters, and devices of a
//! driver domain are not seen. The name and the balloon's target are xenstored's.
//!
//! * `runstate`: the state, and of the times only `running`; Xen reports the other three only to the
//!   vCPU itself. A vCPU that is unplugged is `offline` and keeps its times, as in Xen.
//! * `sched`: `time`. `cpu`: all vCPUs together; what backends do for the domain is dom0's time.
//! * `memory`: what the domain has and its limit, which dom0 need not have.
//! * `status`: running, paused, suspended, shut down or crashed, and why.
//! * blk `io`, `io_times` (the number of flushes) and `vbd`. Requests that failed are not counted
//!   by xen-blkback; `oo_req`, which libvirt shows as errors, is in `vbd`. Tapdisk counts requests
//!   that failed and the time that requests took, and neither flushes nor discards.
//! * `xen`, an arch group of the domain: its cpupool, security label and scheduling parameters. Of a
//!   vCPU: the physical CPU that it runs on or ran on last.
//! * `libvirt_state`, an arch group: the state with libvirt's numbers.
//!
//! Xen does not report when a domain was created. A domain that is rebooted is a new domain. One
//! that gets more devices than its region has slots, or another name, is published again.

use std::path::PathBuf;
use std::time::Duration;

use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, NoSink, VcpuSink};
use domstat_layout::{Clock, MAX_DEVICES, MAX_VCPUS, Word};

use crate::host::{check_interval, check_name, check_sinks};
use crate::libvirt_state;
use crate::{Description, Devices, Optional, Progress, Running, Source, SourceError};

mod arch;
mod backends;
mod counters;
mod devices;
mod devid;
mod domctl;
mod hypervisor;
mod privcmd;
mod sampler;
pub mod tapdisk;
mod xenstore;

use backends::Backends;
use devices::{Disk, Slots, Vif};
pub use devid::{devid, disk_name};
pub use domctl::{DOMCTL_VERSIONS, DomainInfo, SYSCTL_VERSIONS, VcpuInfo};
pub use hypervisor::{Hypervisor, Scheduling, Xen};
use sampler::{Naming, Sampler, Vcpu};
use xenstore::Xenstore;

/// How often a domain is sampled by default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(250);
/// Xen counts memory in pages of this length.
const PAGE_BYTES: u64 = 4096;
/// Free slots that a domain gets at least, and the step in which they are counted.
const SPARE: u32 = 4;
const STEP: u32 = 8;

/// Where the host keeps what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// /dev/xen, with `privcmd` in it.
    pub dev: PathBuf,
    /// /sys, with `bus/xen-backend` in it.
    pub sys: PathBuf,
    /// /run, with `xenstored/socket` in it.
    pub run: PathBuf,
    /// /dev/shm, with tapdisk's files in it.
    pub shm: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            dev: "/dev/xen".into(),
            sys: "/sys".into(),
            run: "/run".into(),
            shm: "/dev/shm".into(),
        }
    }
}

/// What the sources of a host's domains ask together: directories are listed once for all of them,
/// and xenstored has one connection.
#[derive(Clone, Debug)]
pub struct Shared {
    backends: Backends,
    xenstore: Xenstore,
}

impl Shared {
    /// For sources that sample every `interval`.
    #[must_use]
    pub fn new(roots: &Roots, interval: Duration) -> Self {
        // A device appears with the next sample but one at the latest.
        Self { backends: Backends::new(roots, interval / 2), xenstore: Xenstore::new(roots) }
    }
}

/// A domain of a Xen host.
///
/// `domid` and the UUID are Xen's; the name is xenstored's or, if it cannot be asked, `xen-DOMID`.
#[derive(Debug)]
pub struct XenSource<H = Xen> {
    hypervisor: H,
    shared: Shared,
    domid: u16,
    handle: [u8; 16],
    description: Description,
    naming: Naming,
    interval: Duration,
}

/// The numbers of all domains of this host, dom0's (0) among them.
///
/// # Errors
/// What the host says.
pub fn domains(xen: &mut impl Hypervisor) -> Result<Vec<u16>, SourceError> {
    let all = xen.all_domains().map_err(|source| SourceError::Os {
        action: "list the domains of this host".to_owned(),
        source,
    })?;
    Ok(all.iter().filter(|info| !info.is_dying()).map(|info| info.domain).collect())
}

impl XenSource {
    /// The domain with this number.
    ///
    /// # Errors
    /// As for [`Xen::open`], and [`SourceError::NoSuchDomain`].
    pub fn new(roots: &Roots, domid: u16) -> Result<Self, SourceError> {
        Self::with_hypervisor(Xen::open(&roots.dev)?, roots, domid)
    }

    /// The domain with this number, as one of many.
    ///
    /// # Errors
    /// As for [`XenSource::new`].
    pub fn of_many(roots: &Roots, shared: &Shared, domid: u16) -> Result<Self, SourceError> {
        Self::with_hypervisor_of_many(Xen::open(&roots.dev)?, shared, domid)
    }
}

impl<H: Hypervisor> XenSource<H> {
    /// The domain with this number on a Xen that is asked through `hypervisor`.
    ///
    /// # Errors
    /// [`SourceError::NoSuchDomain`], or what the host says.
    pub fn with_hypervisor(hypervisor: H, roots: &Roots, domid: u16) -> Result<Self, SourceError> {
        Self::with_hypervisor_of_many(hypervisor, &Shared::new(roots, Duration::ZERO), domid)
    }

    /// The same, as one of many.
    ///
    /// # Errors
    /// As for [`XenSource::with_hypervisor`].
    pub fn with_hypervisor_of_many(
        mut hypervisor: H,
        shared: &Shared,
        domid: u16,
    ) -> Result<Self, SourceError> {
        let failed = |what: &str, source| SourceError::Os {
            action: format!("read {what} of domain {domid}"),
            source,
        };
        let info = hypervisor.domain(domid).map_err(|e| failed("the state", e))?;
        let info =
            info.filter(|info| !info.is_dying()).ok_or(SourceError::NoSuchDomain { domid })?;
        let nr_vcpus = info.max_vcpu_id.checked_add(1).filter(|&nr| nr <= MAX_VCPUS);
        // A domain that is being built has none yet.
        let nr_vcpus = nr_vcpus.ok_or(SourceError::NoSuchDomain { domid })?;
        let nr_blks = devices::count::<NoSink, Disk>(&shared.backends, domid);
        let nr_nets = devices::count::<NoSink, Vif>(&shared.backends, domid);
        let naming = Naming::of(&shared.xenstore, domid);
        let description = Description {
            source: "xen",
            domid: Some(domid.into()),
            uuid: Some(info.handle),
            name: naming.name.clone().unwrap_or_else(|| format!("xen-{domid}")),
            created: None,
            nr_vcpus,
            nr_blks: slots(nr_blks.map_err(|e| failed("the disks", e))?),
            nr_nets: slots(nr_nets.map_err(|e| failed("the interfaces", e))?),
            clock: Clock::Monotonic,
            arch_dom: vec![libvirt_state::group(), arch::dom_group()],
            arch_vcpu: vec![arch::vcpu_group()],
            optional: Optional::default(),
            labels: Vec::new(),
        };
        let (handle, interval) = (info.handle, DEFAULT_INTERVAL);
        let shared = shared.clone();
        Ok(Self { hypervisor, shared, domid, handle, description, naming, interval })
    }

    /// Publishes the domain under this name, whatever xenstored calls it.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is empty, too long, or has a `/` or control characters.
    pub fn with_name(mut self, name: &str) -> Result<Self, SourceError> {
        check_name(name)?;
        name.clone_into(&mut self.description.name);
        self.naming.follow = false;
        Ok(self)
    }

    /// Publishes the domain under this name until xenstored gives it another one.
    ///
    /// # Errors
    /// As for [`XenSource::with_name`].
    pub fn with_name_until_renamed(self, name: &str) -> Result<Self, SourceError> {
        let follow = self.naming.follow;
        let mut named = self.with_name(name)?;
        named.naming.follow = follow;
        Ok(named)
    }

    /// Samples every `interval`.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is zero.
    pub fn with_interval(mut self, interval: Duration) -> Result<Self, SourceError> {
        self.interval = check_interval(interval)?;
        Ok(self)
    }
}

impl<H: Hypervisor + 'static> Source for XenSource<H> {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn start<D, V>(self, dom: D, vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
    {
        self.start_with_devices(dom, vcpus, Devices::<NoSink, NoSink, NoSink>::default())
    }

    fn start_with_devices<D, V, B, N, Q>(
        self,
        dom: D,
        vcpus: Vec<V>,
        devices: Devices<B, N, Q>,
    ) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
        B: BlkSink + 'static,
        N: NetSink + 'static,
        Q: BlkShareSink + 'static,
    {
        check_sinks(self.description.nr_vcpus, vcpus.len())?;
        let vcpu = |sink| Vcpu { sink, cpu_time: 0, active: false };
        let mut sampler = Sampler {
            hypervisor: self.hypervisor,
            domid: self.domid,
            handle: self.handle,
            shared: self.shared,
            naming: self.naming,
            slow: None,
            status: None,
            interval: self.interval,
            dom,
            cpu_time: 0,
            vcpus: vcpus.into_iter().map(vcpu).collect(),
            blks: Slots::new(self.domid, devices.blks),
            nets: Slots::new(self.domid, devices.nets),
            sampled: false,
            ended: false,
        };
        match sampler.sample()? {
            Progress::Continue | Progress::Outgrown | Progress::Renamed => Ok(Box::new(sampler)),
            Progress::Ended => Err(SourceError::NoSuchDomain { domid: self.domid }),
        }
    }
}

/// Saturates as the counters of the layout do.
fn pages_to_bytes(pages: u64) -> Word {
    pages.saturating_mul(PAGE_BYTES).into()
}

/// Room for more devices than there are now.
fn slots(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(MAX_DEVICES);
    (count + SPARE).next_multiple_of(STEP).min(MAX_DEVICES)
}
