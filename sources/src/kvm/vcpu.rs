//! The thread that runs one vCPU and publishes its runstate as it changes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domstat_layout::latest::VcpuState;
use domstat_layout::sink::VcpuSink;
use domstat_layout::{Clock, Ns};
use kvm_ioctls::VcpuExit;
use vmm_sys_util::signal::unblock_signal;

use super::ArchStats;
use super::account::Account;
use super::probe::VcpuShared;
use super::sys::{Vcpu, os};
use crate::host::{now, thread_cpu_ns, thread_id};

/// A vCPU whose state does not change is brought up to date when this much has passed, in
/// nanoseconds.
pub(super) const REFRESH_NS: u64 = 10_000_000;

/// Everything that a vCPU's thread owns.
pub(super) struct VcpuThread<V> {
    pub(super) vcpu: Vcpu,
    pub(super) sink: V,
    pub(super) shared: Arc<VcpuShared>,
    pub(super) account: Account,
    pub(super) arch: ArchStats,
    /// How long its timer lets it halt.
    pub(super) halt: Duration,
    pub(super) signal: libc::c_int,
}

/// Why KVM_RUN returned, as far as this VMM cares.
enum Exit {
    Io,
    Halt,
    Interrupted,
}

impl<V: VcpuSink> VcpuThread<V> {
    /// Runs the vCPU until it is to stop.
    ///
    /// # Errors
    /// What stopped it otherwise. In either case the vCPU is offline afterwards.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.shared.tid.store(thread_id(), Ordering::Relaxed);
        let schedstat = File::open("/proc/thread-self/schedstat").ok();
        let result = self.run_until_stopped(schedstat.as_ref());
        self.enter(VcpuState::Offline, schedstat.as_ref());
        self.shared.in_guest.store(false, Ordering::Relaxed);
        result
    }

    fn run_until_stopped(&mut self, schedstat: Option<&File>) -> io::Result<()> {
        // A signal mask is inherited; with this signal blocked nothing could bring the vCPU out.
        unblock_signal(self.signal).map_err(|error| io::Error::other(error.to_string()))?;
        self.enter_guest(schedstat);
        while !self.shared.stopping() {
            match self.run_once()? {
                Exit::Io => VcpuShared::count(&self.shared.io_exits),
                Exit::Interrupted => VcpuShared::count(&self.shared.intr_exits),
                Exit::Halt => {
                    VcpuShared::count(&self.shared.hlt_exits);
                    self.shared.in_guest.store(false, Ordering::Relaxed);
                    self.enter(VcpuState::Blocked, schedstat);
                    self.shared.wait(self.halt);
                    self.enter(VcpuState::Runnable, schedstat);
                    self.enter_guest(schedstat);
                }
            }
            if now(Clock::Monotonic).since(self.account.as_of()) >= REFRESH_NS {
                self.enter(VcpuState::Running, schedstat);
            }
        }
        Ok(())
    }

    fn run_once(&mut self) -> io::Result<Exit> {
        match self.vcpu.run() {
            // Nothing listens on any port; a read finds all bits set, as on a bus.
            Ok(VcpuExit::IoOut(..)) => Ok(Exit::Io),
            Ok(VcpuExit::IoIn(_, data)) => {
                data.fill(0xff);
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

    fn enter_guest(&mut self, schedstat: Option<&File>) {
        self.shared.in_guest.store(true, Ordering::Relaxed);
        self.enter(VcpuState::Running, schedstat);
    }

    /// Publishes the state that the vCPU is in from now on.
    fn enter(&mut self, state: VcpuState, schedstat: Option<&File>) {
        let waited = schedstat.and_then(waited_ns);
        let now: Ns = now(Clock::Monotonic);
        self.account.enter(state, now, waited);
        let cpu_ns = thread_cpu_ns();
        self.sink.write(&self.account.runstate(), self.account.as_of());
        self.shared.cpu_ns.store(cpu_ns, Ordering::Relaxed);
        let sink = &mut self.sink;
        self.arch.write(self.shared.stats.as_ref(), now, |words, now| {
            sink.write_arch(0, words, now);
        });
    }
}

/// How long the thread has waited for a CPU so far, in nanoseconds: the second number of its
/// schedstat file.
fn waited_ns(schedstat: &File) -> Option<u64> {
    // Three numbers of at most 20 digits.
    let mut buffer = [0; 64];
    let len = schedstat.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(buffer.get(..len)?).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}
