//! Sampler of one domain.

use std::io;
use std::time::{Duration, Instant};

use domstat_layout::latest::{Cpu, Memory, RunState, Runstate, Sched};
use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};

use super::arch::{self, Slow};
use super::devices::{Disk, Slots, Vif};
use super::domctl::{DomainInfo, VcpuInfo};
use super::hypervisor::Hypervisor;
use super::xenstore::Xenstore;
use super::{Shared, pages_to_bytes};
use crate::host::{check_name, now};
use crate::libvirt_state;
use crate::status::{DomainStatus, Reason, State};
use crate::{Progress, Running, SourceError};

/// How often xenstored and the scheduler are asked: names, targets and weights change rarely.
const SLOW: Duration = Duration::from_secs(1);

/// The name that xenstored has for a domain.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// As it was when it was asked last, if it can be published.
    pub(super) name: Option<String>,
    /// Whether another one ends what is published under this one.
    pub(super) follow: bool,
}

impl Naming {
    pub(super) fn of(xenstore: &Xenstore, domid: u16) -> Self {
        Self { name: asked(xenstore, domid), follow: true }
    }

    /// Whether the domain has another name now. That none can be learned changes nothing.
    fn has_changed(&self, xenstore: &Xenstore, domid: u16) -> bool {
        self.follow && asked(xenstore, domid).is_some_and(|name| self.name.as_ref() != Some(&name))
    }
}

/// The name, if xenstored answers and it can be published.
fn asked(xenstore: &Xenstore, domid: u16) -> Option<String> {
    let name = xenstore.name(domid).ok().flatten();
    name.filter(|name| check_name(name).is_ok())
}

/// What is sampled, and where it goes.
pub(super) struct Sampler<H, D, V, B, N> {
    pub(super) hypervisor: H,
    pub(super) domid: u16,
    pub(super) handle: [u8; 16],
    pub(super) shared: Shared,
    pub(super) naming: Naming,
    /// What was asked last of xenstored and the scheduler, and when.
    pub(super) slow: Option<(Instant, Slow)>,
    pub(super) status: Option<DomainStatus>,
    pub(super) interval: Duration,
    pub(super) dom: D,
    pub(super) cpu_time: u64,
    pub(super) vcpus: Vec<Vcpu<V>>,
    pub(super) blks: Slots<B, Disk>,
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
        let (slow, renamed) = self.slow();
        self.write_dom(&info, &slow, now(Clock::Monotonic));
        if !self.write_vcpus(&info).map_err(|e| failed("the vCPUs", e))? {
            return Ok(self.end());
        }
        let clock = || now(Clock::Monotonic);
        let backends = &self.shared.backends;
        self.blks.sample(backends, &clock).map_err(|e| failed("the disks", e))?;
        self.nets.sample(backends, &clock).map_err(|e| failed("the interfaces", e))?;
        if renamed {
            self.ended = true;
            return Ok(Progress::Renamed);
        }
        if self.blks.outgrown() || self.nets.outgrown() {
            self.ended = true;
            return Ok(Progress::Outgrown);
        }
        Ok(Progress::Continue)
    }

    /// What is asked rarely, and whether the domain has another name.
    fn slow(&mut self) -> (Slow, bool) {
        if let Some((at, slow)) = self.slow
            && at.elapsed() < SLOW
        {
            return (slow, false);
        }
        let (xenstore, domid) = (&self.shared.xenstore, self.domid);
        let first = self.slow.is_none();
        let slow = Slow {
            // Who may list domains may not ask this everywhere (XSM): it is absent then.
            scheduling: self.hypervisor.scheduling(domid).ok().flatten(),
            target_bytes: xenstore.target(domid).ok().flatten(),
        };
        let renamed = !first && self.naming.has_changed(xenstore, domid);
        self.slow = Some((Instant::now(), slow));
        (slow, renamed)
    }

    fn write_status(&mut self, state: State, reason: Reason, now: Ns) {
        let status = self.status.get_or_insert(DomainStatus::new(state, reason, None));
        status.see(state, reason, None, now);
        self.dom.write(&status.group(), now);
    }

    fn write_dom(&mut self, info: &DomainInfo, slow: &Slow, now: Ns) {
        let (state, reason) = info.state();
        self.write_status(state, reason, now);
        self.dom.write_arch(1, &arch::dom_words(info, slow), now);
        // Xen's word for no limit.
        let limit = Some(info.max_pages).filter(|&pages| pages < u64::from(u32::MAX));
        let memory = Memory {
            current_bytes: pages_to_bytes(info.tot_pages),
            maximum_bytes: limit.map_or(Word::NOT_PRODUCED, pages_to_bytes),
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
            // The last that a reader of what was published finds.
            self.write_status(State::Dying, Reason::Unknown, now(Clock::Monotonic));
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
        self.sink.write_arch(0, &arch::vcpu_words(info), now);
    }

    fn withdraw(&mut self) {
        if std::mem::take(&mut self.active) {
            self.sink.deactivate::<Runstate>();
            self.sink.deactivate::<Sched>();
            // A described group cannot be switched off.
            self.sink.write_arch(0, &arch::NO_VCPU, now(Clock::Monotonic));
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
