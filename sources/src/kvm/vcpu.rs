//! The thread that runs one vCPU and publishes its runstate, and its waits, as they change.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domstat_layout::latest::RunState;
use domstat_layout::sink::VcpuSink;
use domstat_layout::{Clock, Ns};
use kvm_ioctls::VcpuExit;
use vmm_sys_util::signal::unblock_signal;

use super::account::Account;
use super::disk::Ports;
use super::published::Published;
use super::shared::VcpuShared;
use super::sys::{Vcpu, os};
use crate::host::{now, thread_cpu_ns, thread_id};
use crate::thread_group;

/// A vCPU whose state does not change is brought up to date when this much has passed, in
/// nanoseconds.
pub(super) const REFRESH_NS: u64 = 10_000_000;

/// A vCPU and what its thread needs to run it.
pub(super) struct Guest {
    pub(super) vcpu: Vcpu,
    pub(super) shared: Arc<VcpuShared>,
    pub(super) ports: Ports,
    pub(super) signal: libc::c_int,
}

/// Everything that the thread of a vCPU owns that publishes itself.
pub(super) struct VcpuThread<V> {
    pub(super) guest: Guest,
    pub(super) published: Published<V>,
    pub(super) account: Account,
    /// How long its timer lets it halt.
    pub(super) halt: Duration,
}

/// Why KVM_RUN returned, as far as this VMM cares.
enum Exit {
    Io,
    Halt,
    Interrupted,
}

impl Guest {
    /// Runs a vCPU that halts in KVM_RUN until it is to stop.
    ///
    /// # Errors
    /// What stopped it otherwise.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.shared.tid.store(thread_id(), Ordering::Relaxed);
        self.begin()?;
        self.shared.in_guest.store(true, Ordering::Relaxed);
        while !self.shared.stopping() {
            match self.run_once()? {
                Exit::Io => VcpuShared::count(&self.shared.io_exits),
                Exit::Interrupted => VcpuShared::count(&self.shared.intr_exits),
                Exit::Halt => VcpuShared::count(&self.shared.hlt_exits),
            }
        }
        self.shared.in_guest.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A signal mask is inherited; with this signal blocked nothing could bring the vCPU out.
    fn begin(&self) -> io::Result<()> {
        unblock_signal(self.signal).map_err(|error| io::Error::other(error.to_string()))
    }

    fn run_once(&mut self) -> io::Result<Exit> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                self.ports.write(port, data, &self.shared);
                Ok(Exit::Io)
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                self.ports.read(port, data, &self.shared);
                Ok(Exit::Io)
            }
            Ok(VcpuExit::Hlt) => Ok(Exit::Halt),
            Ok(VcpuExit::Intr) => Ok(Exit::Interrupted),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                Ok(Exit::Interrupted)
            }
            Ok(exit) => Err(io::Error::other(format!("unexpected exit {exit:?}"))),
            Err(error) => Err(os(error)),
        }
    }
}

impl<V: VcpuSink> VcpuThread<V> {
    /// Runs the vCPU until it is to stop.
    ///
    /// # Errors
    /// What stopped it otherwise. In either case the vCPU is offline afterwards.
    pub(super) fn run(mut self) -> io::Result<()> {
        let tid = thread_id();
        self.guest.shared.tid.store(tid, Ordering::Relaxed);
        if let Some(name) = std::thread::current().name() {
            let words = thread_group::words(tid, name);
            self.published.sink.write_arch(thread_group::INDEX, &words, now(Clock::Monotonic));
        }
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        let result = self.run_until_stopped(schedstat.as_ref());
        self.enter(RunState::Offline, schedstat.as_ref());
        let ended = self.account.as_of();
        self.published.sink.write_arch(thread_group::INDEX, &thread_group::NO_THREAD, ended);
        self.published.arch.expire();
        self.published.write_stats(ended);
        self.guest.shared.in_guest.store(false, Ordering::Relaxed);
        result
    }

    fn run_until_stopped(&mut self, schedstat: Option<&File>) -> io::Result<()> {
        self.guest.begin()?;
        self.enter_guest(schedstat);
        while !self.guest.shared.stopping() {
            match self.guest.run_once()? {
                Exit::Io => VcpuShared::count(&self.guest.shared.io_exits),
                Exit::Interrupted => VcpuShared::count(&self.guest.shared.intr_exits),
                Exit::Halt => {
                    VcpuShared::count(&self.guest.shared.hlt_exits);
                    self.guest.shared.in_guest.store(false, Ordering::Relaxed);
                    self.enter(RunState::Blocked, schedstat);
                    self.guest.shared.wait(self.halt);
                    self.enter(RunState::Runnable, schedstat);
                    self.enter_guest(schedstat);
                }
            }
            if now(Clock::Monotonic).since(self.account.as_of()) >= REFRESH_NS {
                self.enter(RunState::Running, schedstat);
            }
        }
        Ok(())
    }

    fn enter_guest(&mut self, schedstat: Option<&File>) {
        self.guest.shared.in_guest.store(true, Ordering::Relaxed);
        self.enter(RunState::Running, schedstat);
    }

    /// Publishes the state that the vCPU is in from now on.
    fn enter(&mut self, state: RunState, schedstat: Option<&File>) {
        let waited = schedstat.and_then(Schedstat::read);
        let now: Ns = now(Clock::Monotonic);
        self.account.enter(state, now, waited.map(|waited| waited.delay_ns));
        let cpu_ns = thread_cpu_ns();
        let as_of = self.account.as_of();
        self.published.write_runstate(&self.account.runstate(), as_of);
        if state == RunState::Running {
            let timeslices = waited.map(|waited| waited.timeslices);
            self.published.record_waits(self.account.runnable_ns(), timeslices, as_of);
        }
        self.guest.shared.cpu_ns.store(cpu_ns, Ordering::Relaxed);
        self.published.write_stats(now);
    }
}

/// What the host's scheduler says of a thread.
#[derive(Clone, Copy, Debug)]
struct Schedstat {
    /// How long it has waited for a CPU so far.
    delay_ns: u64,
    /// How often it was given one.
    timeslices: u64,
}

impl Schedstat {
    /// From the thread's schedstat file.
    fn read(file: &File) -> Option<Self> {
        // Three numbers of at most 20 digits.
        let mut buffer = [0; 64];
        let len = file.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(buffer.get(..len)?).ok()?;
        let mut numbers = text.split_ascii_whitespace().skip(1).map(str::parse);
        Some(Self { delay_ns: numbers.next()?.ok()?, timeslices: numbers.next()?.ok()? })
    }
}
