//! Probe of a micro-VM that runs, to cross-check what it publishes.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::books::Totals;
use super::disk::{BLOCK_BYTES, NR_QUEUES, Queue};
use super::stats_fd::{KvmStat, StatsFd};

/// Looks at a micro-VM from outside of what it publishes. It stays valid while the VM runs.
#[derive(Clone)]
pub struct KvmProbe {
    pub(super) vcpus: Arc<[Arc<VcpuShared>]>,
    pub(super) queues: Arc<[Queue; NR_QUEUES]>,
}

/// What the VMM counted for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Requests that were accepted.
    pub submitted: u64,
    /// Requests that have ended.
    pub completed: u64,
    /// Reads that succeeded.
    pub reads: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
}

/// What the VMM counted for one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuCounts {
    /// The id of the thread that runs it; 0 before it runs.
    pub tid: i32,
    /// Exits from KVM_RUN for port I/O.
    pub io_exits: u64,
    /// Exits from KVM_RUN because it halted.
    pub hlt_exits: u64,
    /// Exits from KVM_RUN because of a signal.
    pub intr_exits: u64,
    /// CPU time of its thread in nanoseconds (CLOCK_THREAD_CPUTIME_ID), read right after the time
    /// that the last published runstate is as of.
    pub cpu_ns: u64,
}

/// What a vCPU's thread shares with others.
#[derive(Debug, Default)]
pub(super) struct VcpuShared {
    pub(super) tid: AtomicI32,
    pub(super) io_exits: AtomicU64,
    pub(super) hlt_exits: AtomicU64,
    pub(super) intr_exits: AtomicU64,
    pub(super) cpu_ns: AtomicU64,
    /// Whether the thread is in KVM_RUN or about to be, so that a signal brings it out.
    pub(super) in_guest: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) stats: Option<StatsFd>,
    waking: Mutex<Waking>,
    wake: Condvar,
}

/// What wakes a vCPU that has halted.
#[derive(Debug, Default)]
struct Waking {
    kicked: bool,
    /// A request has ended that was not acknowledged.
    ended: bool,
    /// Requests to the disk that have not ended.
    in_flight: u32,
    /// The last block that was read.
    read: Option<Block>,
}

/// A block of the disk.
type Block = Box<[u8; BLOCK_BYTES]>;

// ORDERING: everything in here is Relaxed. The counters are lone numbers that only one thread
// changes; `stop` and `in_guest` are looked at again and again until they are seen, and what must
// happen after a thread has ended is ordered by joining it.
impl VcpuShared {
    pub(super) fn new(stats: Option<StatsFd>) -> Self {
        Self { stats, ..Self::default() }
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn request_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.kick();
    }

    /// Wakes the vCPU if it has halted, or else when it halts next.
    pub(super) fn kick(&self) {
        self.lock().kicked = true;
        self.wake.notify_all();
    }

    /// A request to the disk begins, if no more than `most` are in flight then.
    pub(super) fn begin_request(&self, most: u32) -> bool {
        let mut waking = self.lock();
        let begins = waking.in_flight < most;
        waking.in_flight = waking.in_flight.saturating_add(u32::from(begins));
        begins
    }

    /// A request has ended, and has read this block; wakes the vCPU if it has halted.
    pub(super) fn end_request(&self, read: Option<Block>) {
        let mut waking = self.lock();
        waking.in_flight = waking.in_flight.saturating_sub(1);
        waking.ended = true;
        if read.is_some() {
            waking.read = read;
        }
        drop(waking);
        self.wake.notify_all();
    }

    /// How many requests are in flight, and the block that was read last; what has ended until now
    /// wakes no more.
    pub(super) fn acknowledge(&self) -> (u32, Option<Block>) {
        let mut waking = self.lock();
        waking.ended = false;
        (waking.in_flight, waking.read.take())
    }

    /// Waits until the vCPU is kicked or a request has ended, but no longer than `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let deadline = Instant::now().checked_add(timeout);
        let mut waking = self.lock();
        while !waking.kicked && !waking.ended && !self.stopping() {
            let left = deadline.map_or(timeout, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            waking = self.wake.wait_timeout(waking, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        waking.kicked = false;
    }

    fn lock(&self) -> MutexGuard<'_, Waking> {
        self.waking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KvmProbe {
    /// What the VMM counted for vCPU `index`; `None` if there is no such vCPU.
    #[must_use]
    pub fn counts(&self, index: u32) -> Option<VcpuCounts> {
        let vcpu = self.vcpu(index)?;
        Some(VcpuCounts {
            tid: vcpu.tid.load(Ordering::Relaxed),
            io_exits: vcpu.io_exits.load(Ordering::Relaxed),
            hlt_exits: vcpu.hlt_exits.load(Ordering::Relaxed),
            intr_exits: vcpu.intr_exits.load(Ordering::Relaxed),
            cpu_ns: vcpu.cpu_ns.load(Ordering::Relaxed),
        })
    }

    /// What KVM itself counted for vCPU `index`, from its statistics file descriptor; `None` if
    /// there is no such vCPU or this kernel has no such descriptor.
    ///
    /// # Errors
    /// What the host says.
    pub fn kvm_stats(&self, index: u32) -> io::Result<Option<Vec<KvmStat>>> {
        self.vcpu(index).and_then(|vcpu| vcpu.stats.as_ref()).map(StatsFd::read).transpose()
    }

    /// What the VMM counted for the requests of queue `index` of the disk; `None` if there is no
    /// such queue.
    #[must_use]
    pub fn disk_counts(&self, index: usize) -> Option<DiskCounts> {
        let Totals { io, times, queue, .. } = self.queues.get(index)?.totals();
        Some(DiskCounts {
            submitted: queue.submitted.value()?,
            completed: queue.completed.value()?,
            reads: io.rd_req.value()?,
            writes: io.wr_req.value()?,
            flushes: times.flush_req.value()?,
        })
    }

    /// Wakes vCPU `index` as a device would: at once if it has halted, or else when it halts next.
    pub fn kick(&self, index: u32) {
        if let Some(vcpu) = self.vcpu(index) {
            vcpu.kick();
        }
    }

    fn vcpu(&self, index: u32) -> Option<&VcpuShared> {
        self.vcpus.get(usize::try_from(index).ok()?).map(Arc::as_ref)
    }
}
