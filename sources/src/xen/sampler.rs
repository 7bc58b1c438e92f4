//! Sampler of one domain.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use domstat_layout::latest::{Cpu, Memory, RunState, Runstate, Sched};
use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};

use super::PAGE_BYTES;
use super::devices::{Slots, Vbd, Vif};
use super::domctl::{DomainInfo, VcpuInfo};
use super::hypervisor::Hypervisor;
use crate::host::now;
use crate::libvirt_state;
use crate::{Progress, Running, SourceError};

/// What is sampled, and where it goes.
pub(super) struct Sampler<H, D, V, B, N> {
    pub(super) hypervisor: H,
    pub(super) domid: u16,
    pub(super) handle: [u8; 16],
    /// /sys/bus/xen-backend/devices.
    pub(super) backends: PathBuf,
    pub(super) interval: Duration,
    pub(super) dom: D,
    pub(super) cpu_time: u64,
    pub(super) vcpus: Vec<Vcpu<V>>,
    pub(super) blks: Slots<B, Vbd>,
    pub(super) nets: Slots<N, Vif>,
    /// Whether anything was published.
    pub(super) sampled: bool,
    pub(super) ended: bool,
}

/// A vCPU's sink and the largest value that its counter had: Xen adds what has passed since the last
/// change by the clock of whichever CPU is asked, and these differ by nanoseconds.
pub(super) struct Vcpu<V> {
    pub(super) sink: V,
    pub(super) cpu_time: u64,
    pub(super) active: bool,
}

impl<H, D, V, B, N> Sampler<H, D, V, B, N>
where
    H: Hypervisor,
    D: DomSink,
    V: VcpuSink,
    B: BlkSink,
    N: NetSink,
{
    pub(super) fn sample(&mut self) -> Result<Progress, SourceError> {
        let domid = self.domid;
        let failed = |what: &str, source| SourceError::Os {
            action: format!("read {what} of domain {domid}"),
            source,
        };
        let info = self.hypervisor.domain(domid).map_err(|e| failed("the state", e))?;
        // The number may have been given to another meanwhile.
        let Some(info) = info.filter(|info| !info.is_dying() && info.handle == self.handle) else {
            return Ok(self.end());
        };
        self.sampled = true;
        self.write_dom(&info, now(Clock::Monotonic));
        if !self.write_vcpus(&info).map_err(|e| failed("the vCPUs", e))? {
            return Ok(self.end());
        }
        let clock = || now(Clock::Monotonic);
        self.blks.sample(&self.backends, &clock).map_err(|e| failed("the disks", e))?;
        self.nets.sample(&self.backends, &clock).map_err(|e| failed("the interfaces", e))?;
        if self.blks.outgrown() || self.nets.outgrown() {
            self.ended = true;
            return Ok(Progress::Outgrown);
        }
        Ok(Progress::Continue)
    }

    fn write_dom(&mut self, info: &DomainInfo, now: Ns) {
        let bytes = |pages: u64| Word::from(pages.checked_mul(PAGE_BYTES));
        // Xen's word for no limit.
        let limit = Some(info.max_pages).filter(|&pages| pages < u64::from(u32::MAX));
        let memory = Memory {
            current_bytes: bytes(info.tot_pages),
            maximum_bytes: limit.map_or(Word::NOT_PRODUCED, bytes),
            ..Memory::NOT_PRODUCED
        };
        self.dom.write(&memory, now);
        self.cpu_time = self.cpu_time.max(info.cpu_time);
        // No reason is known beyond the state itself.
        self.dom.write_arch(0, &libvirt_state::words(info.libvirt_state(), 0), now);
        let time = Word::from(self.cpu_time);
        self.dom.write(&Cpu { time_ns: time, vcpus_ns: time, ..Cpu::NOT_PRODUCED }, now);
    }

    /// False if the domain has ended.
    fn write_vcpus(&mut self, domain: &DomainInfo) -> io::Result<bool> {
        let mut some = false;
        for (index, vcpu) in (0u32..).zip(&mut self.vcpus) {
            let info = self.hypervisor.vcpu(self.domid, index)?;
            some |= info.is_some();
            match info {
                Some(info) => vcpu.write(domain, &info, now(Clock::Monotonic)),
                None => vcpu.withdraw(),
            }
        }
        Ok(some)
    }

    fn end(&mut self) -> Progress {
        self.ended = true;
        self.vcpus.iter_mut().for_each(Vcpu::withdraw);
        self.blks.end();
        self.nets.end();
        if self.sampled {
            self.dom.deactivate::<Memory>();
            self.dom.deactivate::<Cpu>();
        }
        Progress::Ended
    }
}

impl<V: VcpuSink> Vcpu<V> {
    fn write(&mut self, domain: &DomainInfo, info: &VcpuInfo, now: Ns) {
        self.active = true;
        self.cpu_time = self.cpu_time.max(info.cpu_time);
        let time = Word::from(self.cpu_time);
        let state = state(domain, info).into();
        self.sink.write(&Runstate { state, running_ns: time, ..Runstate::NOT_PRODUCED }, now);
        self.sink.write(&Sched { time_ns: time, ..Sched::NOT_PRODUCED }, now);
    }

    fn withdraw(&mut self) {
        if std::mem::take(&mut self.active) {
            self.sink.deactivate::<Runstate>();
            self.sink.deactivate::<Sched>();
        }
    }
}

/// The runstate, as Xen's scheduler would choose it from the same flags.
const fn state(domain: &DomainInfo, info: &VcpuInfo) -> RunState {
    if info.running != 0 {
        RunState::Running
    } else if info.online == 0 {
        RunState::Offline
    } else if info.blocked != 0 {
        RunState::Blocked
    } else if domain.is_paused() || domain.is_shut_down() {
        RunState::Offline
    } else {
        RunState::Runnable
    }
}

impl<H, D, V, B, N> Running for Sampler<H, D, V, B, N>
where
    H: Hypervisor,
    D: DomSink,
    V: VcpuSink,
    B: BlkSink,
    N: NetSink,
{
    fn interval(&self) -> Duration {
        self.interval
    }

    fn tick(&mut self) -> Result<Progress, SourceError> {
        if self.ended {
            return Ok(Progress::Ended);
        }
        let result = self.sample();
        self.ended |= result.as_ref().is_err_and(|error| !error.is_transient());
        result
    }

    fn stop(self: Box<Self>) {}
}
