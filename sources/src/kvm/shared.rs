//! What a vCPU's thread shares with the threads that look at it, kick it, and serve its requests.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::stats_fd::StatsFd;

/// Bytes of a block of the disk.
pub(super) const BLOCK_BYTES: usize = 4096;
/// A block of the disk.
pub(super) type Block = Box<[u8; BLOCK_BYTES]>;

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
