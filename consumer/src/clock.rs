//! Clocks of regions.

use domstat_layout::{Clock, Ns};
use rustix::time::{ClockId, clock_gettime};

/// Now on `clock`; `None` for a clock that this host cannot read.
///
/// On Linux the clock is read in user space (vDSO), without a system call.
#[must_use]
pub fn now(clock: Clock) -> Option<Ns> {
    let id = match clock {
        Clock::Monotonic => ClockId::Monotonic,
        Clock::Boottime => ClockId::Boottime,
        Clock::XenSystemTime | Clock::Unknown => return None,
    };
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok()?;
    Some(Ns(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}
