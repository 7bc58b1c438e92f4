//! Interrupt controller of a micro-VM in the kernel, and what is published of its vCPUs then.
//!
//! A vCPU that halts stays in KVM_RUN until its local timer wakes it, so its thread sees neither halts nor
//! waits. One thread samples the kernel's books of all of them, as of any other thread.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domstat_layout::latest::RunState;
use domstat_layout::runstate_estimator::{Activity, Reading, RunstateEstimator};
use domstat_layout::sink::VcpuSink;
use domstat_layout::{Clock, Ns};
use kvm_bindings::{CpuId, KVM_MP_STATE_RUNNABLE, kvm_lapic_state, kvm_mp_state};
use kvm_ioctls::VcpuFd;
use procfs::process::{Process, Task};

use super::published::Published;
use super::sys::os;
use crate::host::now;
use crate::thread_group;

/// Time between two looks at the books.
pub(super) const SAMPLING: Duration = Duration::from_millis(50);

/// Interrupt of a vCPU's timer.
const TIMER_VECTOR: u8 = 0x20;
/// Bytes of an entry of the interrupt table, which begins at address 0.
const TABLE_ENTRY_LEN: usize = 4;
/// Guest-physical address of its handler, above the program; its code segment is 0.
const HANDLER_AT: u16 = 0x1800;
/// Ends the interrupt, by the register of the local interrupt controller, where GS begins.
const HANDLER: &[u8] = &[
    0x65, 0x66, 0xc7, 0x06, 0xb0, 0x00, 0, 0, 0, 0,    // mov dword gs:[0xb0], 0
    0xcf, //                                           iret
];
/// RFLAGS of a vCPU that takes interrupts: the bit that is always set, and IF.
pub(super) const RFLAGS: u64 = 0x202;

/// Where every vCPU finds its local interrupt controller.
const LOCAL_APIC: u64 = 0xfee0_0000;
/// Registers of it: spurious-interrupt vector, timer, its initial count, its divider.
const SPURIOUS: usize = 0xf0;
const TIMER: usize = 0x320;
const TIMER_COUNT: usize = 0x380;
const TIMER_DIVIDER: usize = 0x3e0;
/// Switched on; spurious interrupts have the last vector.
const SWITCHED_ON: u32 = 0x1ff;
const PERIODIC: u32 = 1 << 17;
/// The timer counts at the bus's frequency, which is 1 GHz in KVM.
const DIVIDE_BY_1: u32 = 0b1011;

/// Puts the timer's handler into guest memory.
pub(super) fn write_handler(memory: &mut [u8]) {
    let [low, high] = HANDLER_AT.to_le_bytes();
    copy(memory, usize::from(TIMER_VECTOR) * TABLE_ENTRY_LEN, &[low, high, 0, 0]);
    copy(memory, usize::from(HANDLER_AT), HANDLER);
}

fn copy(memory: &mut [u8], at: usize, from: &[u8]) {
    for (to, from) in memory.iter_mut().skip(at).zip(from) {
        *to = *from;
    }
}

/// Has a vCPU run from the start, as the first one does, woken every `period`; one that has none is not woken.
/// Without `cpuid` KVM takes no timer to be periodic.
pub(super) fn prepare_vcpu(vcpu: &VcpuFd, cpuid: &CpuId, period: Duration) -> io::Result<()> {
    vcpu.set_cpuid2(cpuid).map_err(os)?;
    let mut sregs = vcpu.get_sregs().map_err(os)?;
    sregs.gs.base = LOCAL_APIC;
    vcpu.set_sregs(&sregs).map_err(os)?;
    if let Some(count) = u32::try_from(period.as_nanos()).ok().filter(|count| *count > 0) {
        let mut apic = vcpu.get_lapic().map_err(os)?;
        set(&mut apic, SPURIOUS, SWITCHED_ON);
        set(&mut apic, TIMER, PERIODIC | u32::from(TIMER_VECTOR));
        set(&mut apic, TIMER_DIVIDER, DIVIDE_BY_1);
        set(&mut apic, TIMER_COUNT, count);
        vcpu.set_lapic(&apic).map_err(os)?;
    }
    vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE }).map_err(os)
}

fn set(apic: &mut kvm_lapic_state, at: usize, value: u32) {
    for (to, from) in apic.regs.iter_mut().skip(at).zip(value.to_le_bytes()) {
        *to = from.cast_signed();
    }
}

/// The vCPUs of a VM, which one thread samples.
pub(super) struct Sampler<V> {
    pub(super) vcpus: Vec<SampledVcpu<V>>,
    pub(super) process: Option<Process>,
}

/// What is published of one vCPU.
pub(super) struct SampledVcpu<V> {
    published: Published<V>,
    task: Option<Task>,
    last: Reading,
    estimator: RunstateEstimator,
}

/// A thread that does not run yet.
const NO_THREAD: Reading =
    Reading { run_ns: 0, wait_ns: 0, timeslices: 0, activity: Activity::Stopped };

/// A sampler of threads, whatever it publishes.
pub(super) trait Sample: Send {
    /// Publishes what the threads did.
    fn sample(&mut self);
    /// Publishes that they have ended.
    fn end(&mut self);
}

impl<V: VcpuSink> Sample for Sampler<V> {
    fn sample(&mut self) {
        for vcpu in &mut self.vcpus {
            vcpu.sample(self.process.as_ref());
        }
    }

    fn end(&mut self) {
        self.vcpus.iter_mut().for_each(SampledVcpu::end);
    }
}

impl<V: VcpuSink> SampledVcpu<V> {
    /// A vCPU that was created at `created`, offline until its thread runs.
    pub(super) fn new(published: Published<V>, created: Ns) -> Self {
        let estimator = RunstateEstimator::new(created, NO_THREAD, created);
        let mut vcpu = Self { published, task: None, last: NO_THREAD, estimator };
        vcpu.write();
        vcpu
    }

    fn sample(&mut self, process: Option<&Process>) {
        if self.task.is_none() {
            let tid = self.published.shared.tid.load(Ordering::Relaxed);
            self.task = process.filter(|_| tid != 0).and_then(|p| p.task_from_tid(tid).ok());
            if let Some(stat) = self.task.as_ref().and_then(|task| task.stat().ok()) {
                let words = thread_group::words(tid, &stat.comm);
                self.published.sink.write_arch(thread_group::INDEX, &words, now(Clock::Monotonic));
            }
        }
        let Some(reading) = self.task.as_ref().and_then(read) else { return };
        self.last = reading;
        self.write();
        self.published.shared.cpu_ns.store(reading.run_ns, Ordering::Relaxed);
    }

    /// What `last` says, as of now.
    fn write(&mut self) {
        let now: Ns = now(Clock::Monotonic);
        self.estimator.advance(self.last, now);
        let runstate = self.estimator.runstate();
        self.published.write_runstate(&runstate, now);
        let runnable_ns = runstate.runnable_ns.value().unwrap_or(0);
        self.published.record_waits(runnable_ns, Some(self.last.timeslices), now);
        self.published.write_stats(now);
    }

    /// Its thread has ended.
    fn end(&mut self) {
        self.last.activity = Activity::Stopped;
        self.published.arch.expire();
        self.write();
        let now = now(Clock::Monotonic);
        self.published.sink.write_arch(thread_group::INDEX, &thread_group::NO_THREAD, now);
        debug_assert_eq!(self.estimator.state(), RunState::Offline);
    }
}

fn read(task: &Task) -> Option<Reading> {
    let (schedstat, stat) = (task.schedstat().ok()?, task.stat().ok()?);
    Some(Reading {
        run_ns: schedstat.sum_exec_runtime,
        wait_ns: schedstat.run_delay,
        timeslices: schedstat.pcount,
        activity: Activity::from_letter(stat.state),
    })
}
