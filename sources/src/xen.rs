//! Xen domains as the control domain (dom0) sees them, without a toolstack's library.
//!
//! Domains and vCPUs are read through raw hypercalls: XEN_SYSCTL_getdomaininfolist and
//! XEN_DOMCTL_getvcpuinfo. Disks and interfaces are read from sysfs, where Linux' xen-blkback and
//! xen-netback keep their counters, so devices that another backend serves (qdisk, a driver
//! domain) are not seen. The name is xenstored's.
//!
//! * `runstate`: the state, and of the times only `running`; Xen reports the other three only to the
//!   vCPU itself. A vCPU that is unplugged is `offline` and keeps its times, as in Xen.
//! * `sched`: `time`. `cpu`: all vCPUs together; what backends do for the domain is dom0's time.
//! * `memory`: what the domain has and its limit, which dom0 need not have.
//! * blk `io`, `io_times` (the number of flushes) and `vbd`. Requests that failed are not counted
//!   by xen-blkback; `oo_req`, which libvirt shows as errors, is in `vbd`.
//!
//! * `libvirt_state`, an arch group: running, paused, shut down or crashed, with libvirt's numbers.
//!
//! Xen does not report when a domain was created. A domain that is rebooted is a new domain. One
//! that gets more devices than its region has slots is published again with more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, NoSink, VcpuSink};
use domstat_layout::{Clock, MAX_DEVICES, MAX_VCPUS};

use crate::host::{check_interval, check_name, check_sinks};
use crate::libvirt_state;
use crate::{Description, Devices, Optional, Progress, Running, Source, SourceError};

mod counters;
mod devices;
mod devid;
mod domctl;
mod hypervisor;
mod privcmd;
mod sampler;
mod xenstore;

use devices::{Slots, Vbd, Vif};
pub use devid::{devid, disk_name};
pub use domctl::{DOMCTL_VERSIONS, DomainInfo, SYSCTL_VERSIONS, VcpuInfo};
pub use hypervisor::{Hypervisor, Xen};
use sampler::{Sampler, Vcpu};

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
}

impl Default for Roots {
    fn default() -> Self {
        Self { dev: "/dev/xen".into(), sys: "/sys".into(), run: "/run".into() }
    }
}

impl Roots {
    fn backends(&self) -> PathBuf {
        self.sys.join("bus/xen-backend/devices")
    }
}

/// A domain of a Xen host.
///
/// `domid` and the UUID are Xen's; the name is xenstored's or, if it cannot be asked, `xen-DOMID`.
#[derive(Debug)]
pub struct XenSource<H = Xen> {
    hypervisor: H,
    backends: PathBuf,
    domid: u16,
    handle: [u8; 16],
    description: Description,
    interval: Duration,
}

/// The numbers of all domains of this host, dom0's (0) among them.
///
/// # Errors
/// As for [`Xen::open`].
pub fn domains(roots: &Roots) -> Result<Vec<u16>, SourceError> {
    let mut xen = Xen::open(&roots.dev)?;
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
}

impl<H: Hypervisor> XenSource<H> {
    /// The domain with this number on a Xen that is asked through `hypervisor`.
    ///
    /// # Errors
    /// [`SourceError::NoSuchDomain`], or what the host says.
    pub fn with_hypervisor(
        mut hypervisor: H,
        roots: &Roots,
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
        let backends = roots.backends();
        let nr_blks = devices::count::<NoSink, Vbd>(&backends, domid);
        let nr_nets = devices::count::<NoSink, Vif>(&backends, domid);
        let description = Description {
            source: "xen",
            domid: Some(domid.into()),
            uuid: Some(info.handle),
            name: name(&roots.run, domid),
            created: None,
            nr_vcpus,
            nr_blks: slots(nr_blks.map_err(|e| failed("the disks", e))?),
            nr_nets: slots(nr_nets.map_err(|e| failed("the interfaces", e))?),
            clock: Clock::Monotonic,
            arch_dom: vec![libvirt_state::group()],
            arch_vcpu: Vec::new(),
            optional: Optional::default(),
            labels: Vec::new(),
        };
        let (handle, interval) = (info.handle, DEFAULT_INTERVAL);
        Ok(Self { hypervisor, backends, domid, handle, description, interval })
    }

    /// Publishes the domain under this name.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is empty, too long, or has a `/` or control characters.
    pub fn with_name(mut self, name: &str) -> Result<Self, SourceError> {
        check_name(name)?;
        name.clone_into(&mut self.description.name);
        Ok(self)
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
            backends: self.backends,
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
            Progress::Continue | Progress::Outgrown => Ok(Box::new(sampler)),
            Progress::Ended => Err(SourceError::NoSuchDomain { domid: self.domid }),
        }
    }
}

/// Room for more devices than there are now.
fn slots(count: usize) -> u32 {
    let count = u32::try_from(count).unwrap_or(u32::MAX).min(MAX_DEVICES);
    (count + SPARE).next_multiple_of(STEP).min(MAX_DEVICES)
}

/// What xenstored calls the domain, if it answers and the name can be published.
fn name(run: &Path, domid: u16) -> String {
    let asked = xenstore::domain_name(&run.join("xenstored/socket"), domid).ok().flatten();
    asked.filter(|name| check_name(name).is_ok()).unwrap_or_else(|| format!("xen-{domid}"))
}
