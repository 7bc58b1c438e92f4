//! What the cross-crate tests share.

pub mod answers;
pub mod daemon;
pub mod faults;
pub mod golden;
pub mod peer;
#[cfg(doctest)]
mod readme;
pub mod sandbox;
pub mod skip;
pub mod unguarded;
pub mod vectors;

use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::{Group, Ns, Word};

/// Runstate number `n` of a vCPU: every field differs from every other and from the same
/// field of other numbers, and the times sum to `n * 10`.
#[must_use]
pub fn runstate(n: u64) -> Runstate {
    Runstate {
        state: Word::from(n % 4),
        state_entry_ns: Word::from(n),
        running_ns: Word::from(n),
        runnable_ns: Word::from(2 * n),
        blocked_ns: Word::from(3 * n),
        offline_ns: Word::from(4 * n),
    }
}

/// Memory number `n`: some fields produced, some not, one saturated.
#[must_use]
pub fn memory(n: u64) -> Memory {
    Memory {
        current_bytes: Word::from(n),
        rss_bytes: Word::from(0),
        minor_faults: Word::SATURATED,
        ..Memory::NOT_PRODUCED
    }
}

/// Panics unless `sample` is one of [`runstate`]'s, whole.
pub fn assert_whole(sample: &Runstate, updated: Ns) {
    let n = sample.running_ns.value().unwrap_or(u64::MAX);
    assert!(*sample == runstate(n) && updated.0 == n, "torn: {sample:?} updated {updated:?}");
}
