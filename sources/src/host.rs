//! What every source asks of the host: clocks, numbers of threads, names.

use std::time::Duration;

use domstat_layout::directory::{NAME_RULE, is_name};
use domstat_layout::{Clock, Ns};
use rustix::time::{ClockId, Timespec};

use crate::SourceError;

/// The time on `clock`, from clock_gettime(2).
pub(crate) fn now(clock: Clock) -> Ns {
    let id = match clock {
        Clock::Monotonic => ClockId::Monotonic,
        _ => ClockId::Boottime,
    };
    Ns(nanoseconds(rustix::time::clock_gettime(id)))
}

/// CPU time of the calling thread in nanoseconds (CLOCK_THREAD_CPUTIME_ID).
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(rustix::time::clock_gettime(ClockId::ThreadCPUTime))
}

/// The calling thread's id, as in /proc/PID/task.
pub(crate) fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Refuses a name under which no domain may be published.
pub(crate) fn check_name(name: &str) -> Result<(), SourceError> {
    if is_name(name) {
        return Ok(());
    }
    Err(SourceError::BadParameter {
        parameter: "name",
        found: format!("{name:?}"),
        expected: NAME_RULE.to_owned(),
    })
}

/// These clocks do not count below zero.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Refuses an interval of zero.
pub(crate) fn check_interval(interval: Duration) -> Result<Duration, SourceError> {
    if interval.is_zero() {
        return Err(SourceError::BadParameter {
            parameter: "interval",
            found: "0".to_owned(),
            expected: "more than zero".to_owned(),
        });
    }
    Ok(interval)
}

/// Refuses a number of vCPU sinks that is not `nr_vcpus`.
pub(crate) fn check_sinks(nr_vcpus: u32, sinks: usize) -> Result<(), SourceError> {
    if usize::try_from(nr_vcpus) == Ok(sinks) {
        return Ok(());
    }
    Err(SourceError::BadParameter {
        parameter: "number of vCPU sinks",
        found: sinks.to_string(),
        expected: nr_vcpus.to_string(),
    })
}
