//! Estimator of runstate times from the scheduler's counters of a thread.

use crate::latest::{RunState, Runstate};
use crate::value::{Ns, Word};

/// How far `running` may run ahead of the kernel's counters, in nanoseconds: the longest scheduler
/// tick (10 ms at HZ=100) and some slack. A thread whose counters stood still for longer than this
/// and that wants a CPU has none.
pub const RUN_AHEAD_NS: u64 = 12_000_000;

/// How far `runnable` may run ahead of the kernel's counters while these move, in nanoseconds.
pub const WAIT_AHEAD_NS: u64 = 100_000_000;

/// What a thread does, from the state letter of /proc/PID/task/TID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// `R`: it is on a CPU or wants one.
    Wants,
    /// `S`, `D`, `I` and everything else: it waits for an event.
    Waits,
    /// `T`, `t`: it was stopped by a signal or by a debugger.
    Stopped,
}

impl Activity {
    /// From the state letter.
    #[must_use]
    pub const fn from_letter(letter: char) -> Self {
        match letter {
            'R' => Self::Wants,
            'T' | 't' => Self::Stopped,
            _ => Self::Waits,
        }
    }
}

/// What the kernel has accounted to a thread, from /proc/PID/task/TID/schedstat, and what the
/// thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Time on a CPU in nanoseconds; while the thread runs it moves once per tick.
    pub run_ns: u64,
    /// Time on a run queue in nanoseconds; moves when the thread is given a CPU.
    pub wait_ns: u64,
    /// How often the thread was given a CPU.
    pub timeslices: u64,
    /// What the thread does.
    pub activity: Activity,
}

/// One thread's runstate times.
///
/// The kernel's counters lag behind: `run` by up to a tick while the thread runs, `wait` by the
/// whole of the wait until it ends. "Elapsed - run - wait" would therefore go backwards. Instead,
/// each sample shares out exactly the time that passed since the sample before: first to what the
/// kernel has accounted beyond what was published, and the rest by what the thread does now. Time
/// that was credited ahead of the counters is worked off as they catch up, and what they accounted
/// beyond the time that there was to share out waits for the next sample.
///
/// So the four times sum exactly to the time since the thread began and never decrease, whatever
/// the kernel says. Their errors, of single samples and not growing: `running` is within
/// [`RUN_AHEAD_NS`] of the counters; `runnable` gets a long wait when it is noticed, and of a thread
/// that was seen wanting a CPU twice in a row up to [`WAIT_AHEAD_NS`] that was in truth blocked;
/// what a thread waited before it was first seen to want a CPU may stand in `blocked` until the
/// next sample that has idle time.
///
/// ```
/// use domstat_layout::Ns;
/// use domstat_layout::runstate_estimator::{Activity, RunstateEstimator, Reading};
///
/// let slept = Reading { run_ns: 100, wait_ns: 0, timeslices: 1, activity: Activity::Waits };
/// let mut estimator = RunstateEstimator::new(Ns(1_000), slept, Ns(2_000));
/// estimator.advance(Reading { run_ns: 150, wait_ns: 20, timeslices: 2, ..slept }, Ns(3_000));
/// let runstate = estimator.runstate();
/// assert_eq!(runstate.running_ns.value(), Some(150));
/// assert_eq!(runstate.total_ns(), Some(2_000));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RunstateEstimator {
    began: Ns,
    as_of: Ns,
    moved_at: Ns,
    last: Reading,
    running: u64,
    runnable: u64,
    blocked: u64,
    offline: u64,
}

impl RunstateEstimator {
    /// The first sample of a thread that began at `began`: what the kernel has accounted so far, and
    /// the rest as blocked.
    #[must_use]
    pub fn new(began: Ns, reading: Reading, now: Ns) -> Self {
        let began = began.min(now);
        let age = now.since(began);
        // The kernel rounds the start down, so the counters fit; if not, the next samples make up.
        let runnable = reading.wait_ns.min(age);
        let running = reading.run_ns.min(age.saturating_sub(runnable));
        let blocked = age.saturating_sub(runnable).saturating_sub(running);
        Self {
            began,
            as_of: now,
            moved_at: now,
            last: reading,
            running,
            runnable,
            blocked,
            offline: 0,
        }
    }

    /// When the thread began: what the times sum up from.
    #[must_use]
    pub const fn began(&self) -> Ns {
        self.began
    }

    /// Takes a later sample. A `now` before the last one counts as the last one.
    pub fn advance(&mut self, reading: Reading, now: Ns) {
        let now = now.max(self.as_of);
        let elapsed = now.since(self.as_of);
        let before = self.last;
        let moved = (reading.run_ns, reading.wait_ns, reading.timeslices)
            != (before.run_ns, before.wait_ns, before.timeslices);
        if moved || before.activity != Activity::Wants {
            self.moved_at = now;
        }
        self.as_of = now;
        self.last = reading;

        let mut rest = elapsed;
        let waited = reading.wait_ns.saturating_sub(self.runnable).min(rest);
        self.runnable = self.runnable.saturating_add(waited);
        rest = rest.saturating_sub(waited);
        let ran = reading.run_ns.saturating_sub(self.running).min(rest);
        self.running = self.running.saturating_add(ran);
        rest = rest.saturating_sub(ran);

        match reading.activity {
            Activity::Waits => self.blocked = self.blocked.saturating_add(rest),
            Activity::Stopped => self.offline = self.offline.saturating_add(rest),
            Activity::Wants if self.stands_still() => {
                self.runnable = self.runnable.saturating_add(rest);
            }
            Activity::Wants => {
                let ran = ahead(self.running, reading.run_ns, RUN_AHEAD_NS).min(rest);
                self.running = self.running.saturating_add(ran);
                rest = rest.saturating_sub(ran);
                if before.activity == Activity::Wants {
                    let waits = ahead(self.runnable, reading.wait_ns, WAIT_AHEAD_NS).min(rest);
                    self.runnable = self.runnable.saturating_add(waits);
                    rest = rest.saturating_sub(waits);
                }
                self.blocked = self.blocked.saturating_add(rest);
            }
        }
    }

    /// Whether the thread wants a CPU and the kernel has accounted nothing for longer than a tick.
    const fn stands_still(&self) -> bool {
        self.as_of.since(self.moved_at) > RUN_AHEAD_NS
    }

    /// The thread's state as of the last sample.
    #[must_use]
    pub const fn state(&self) -> RunState {
        match self.last.activity {
            Activity::Wants if self.stands_still() => RunState::Runnable,
            Activity::Wants => RunState::Running,
            Activity::Waits => RunState::Blocked,
            Activity::Stopped => RunState::Offline,
        }
    }

    /// What to publish, as of the last sample. When the state was entered is not produced:
    /// sampling does not see it.
    #[must_use]
    pub fn runstate(&self) -> Runstate {
        Runstate {
            state: self.state().into(),
            state_entry_ns: Word::NOT_PRODUCED,
            running_ns: self.running.into(),
            runnable_ns: self.runnable.into(),
            blocked_ns: self.blocked.into(),
            offline_ns: self.offline.into(),
        }
    }
}

/// How much more may be credited ahead of what is accounted.
const fn ahead(published: u64, accounted: u64, most: u64) -> u64 {
    accounted.saturating_add(most).saturating_sub(published)
}

#[cfg(test)]
mod tests;
