//! Patience of reads with a writer in mid-update.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::Busy;

/// How long a read waits for a writer that is in mid-update: first by spinning, then, so that a
/// writer on the same CPU can go on, by yielding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Attempts made by spinning, without a system call.
    pub spins: u32,
    /// Time spent yielding after that.
    pub yielding: Duration,
}

impl Default for Patience {
    /// 64 attempts by spinning, then 20 ms: long enough for a writer that lost its CPU.
    fn default() -> Self {
        Self { spins: 64, yielding: Duration::from_millis(20) }
    }
}

/// A [`Patience`] that is set while others read.
#[derive(Debug)]
pub(crate) struct SharedPatience {
    spins: AtomicU32,
    yielding_ns: AtomicU64,
}

impl SharedPatience {
    pub(crate) fn new(patience: Patience) -> Self {
        let shared = Self { spins: AtomicU32::new(0), yielding_ns: AtomicU64::new(0) };
        shared.set(patience);
        shared
    }

    // ORDERING: relaxed, here and in `get`: the numbers guard no other memory, and one of an earlier
    // patience next to one of a later is a patience as well.
    pub(crate) fn set(&self, Patience { spins, yielding }: Patience) {
        let ns = u64::try_from(yielding.as_nanos()).unwrap_or(u64::MAX);
        self.spins.store(spins, Ordering::Relaxed);
        self.yielding_ns.store(ns, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Patience {
        let yielding = Duration::from_nanos(self.yielding_ns.load(Ordering::Relaxed));
        Patience { spins: self.spins.load(Ordering::Relaxed), yielding }
    }
}

/// The deadline of one read or one snapshot; the clock is first looked at when spinning was in
/// vain.
pub(crate) struct Waiting {
    patience: Patience,
    since: Option<Instant>,
    /// Reads that were tried again, of all that waited.
    retries: u64,
}

impl Waiting {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { patience, since: None, retries: 0 }
    }

    /// How often a read was tried again.
    pub(crate) const fn retries(&self) -> u64 {
        self.retries
    }

    /// Calls `attempt`, which was busy once already, until it is not or patience is at its end.
    pub(crate) fn retry<T, E>(
        &mut self,
        mut busy: Busy,
        mut attempt: impl FnMut() -> Result<T, Busy>,
        stalled: impl FnOnce(Busy, u32, Duration) -> E,
    ) -> Result<T, E> {
        if let Some(waited) = self.since.map(|since| since.elapsed())
            && waited >= self.patience.yielding
        {
            // Others were waited for until patience was at its end.
            return Err(stalled(busy, 0, waited));
        }
        let backoff = Backoff::new();
        let mut retries = 0;
        loop {
            if retries < self.patience.spins {
                backoff.spin();
            } else {
                let since = *self.since.get_or_insert_with(Instant::now);
                let waited = since.elapsed();
                if waited >= self.patience.yielding {
                    return Err(stalled(busy, retries, waited));
                }
                std::thread::yield_now();
            }
            retries = retries.saturating_add(1);
            self.retries = self.retries.saturating_add(1);
            match attempt() {
                Ok(value) => return Ok(value),
                Err(b) => busy = b,
            }
        }
    }
}
