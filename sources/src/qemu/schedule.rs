//! Schedule of the questions to QEMU and /proc: intervals with jitter, so that many VMs are not
//! asked at once, and back-off for what is slow or fails.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::Options;
use super::qmp::Version;

/// Longest interval that back-off leads to.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// Longest pause before the next attempt to connect to what does not speak QMP.
const MAX_LONG_PAUSE: Duration = Duration::from_secs(300);
/// The first QEMU whose query-stats leaves the vCPUs alone.
const QUIET_STATS: Version = Version { major: 8, minor: 1 };
/// Interval of query-stats before that.
const OLD_STATS_INTERVAL: Duration = Duration::from_secs(30);

/// How often it is looked whether something was plugged, if the interval is longer: what is plugged shows
/// within a second.
const PLUG_INTERVAL: Duration = Duration::from_millis(500);

/// A question to QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// vCPUs, balloon, interfaces.
    Topology,
    /// Run state.
    Status,
    /// I/O counters and chains of images.
    Blocks,
    /// Sizes, allocation and thresholds; asks for [`Question::Blocks`], too.
    Extents,
    /// Block jobs.
    Jobs,
    /// Memory sizes and the balloon.
    Memory,
    /// The last migration.
    Migration,
    /// KVM's statistics.
    Stats,
}

impl Question {
    /// All, in the order in which they are asked if all are due.
    pub(super) const ALL: [Self; 8] = [
        Self::Topology,
        Self::Status,
        Self::Extents,
        Self::Blocks,
        Self::Jobs,
        Self::Memory,
        Self::Migration,
        Self::Stats,
    ];
}

/// When each question is due.
#[derive(Debug)]
pub(super) struct Polls {
    threads: Poll,
    /// The look whether something was plugged.
    plugs: Poll,
    /// In the order of [`Question`].
    questions: [Poll; Question::ALL.len()],
}

impl Polls {
    pub(super) fn new(options: &Options, version: Version) -> Self {
        let old = if version < QUIET_STATS { OLD_STATS_INTERVAL } else { options.interval };
        let stats = options.stats_interval.unwrap_or(old.max(options.interval));
        let slow = options.interval.saturating_mul(5);
        let usual = options.interval;
        let intervals = [slow.saturating_mul(4), slow, usual, slow, usual, slow, slow, stats];
        // Each look at the threads is one at what was plugged, too.
        let plugs = match options.interval > PLUG_INTERVAL {
            true => PLUG_INTERVAL,
            false => Duration::ZERO,
        };
        Self {
            threads: Poll::every(options.interval),
            plugs: Poll::every(plugs),
            questions: intervals.map(Poll::every),
        }
    }

    /// The poll of /proc, which needs no connection.
    pub(super) const fn threads(&mut self) -> &mut Poll {
        &mut self.threads
    }

    /// The look whether something was plugged, which needs no connection either.
    pub(super) const fn plugs(&mut self) -> &mut Poll {
        &mut self.plugs
    }

    pub(super) const fn of(&mut self, question: Question) -> &mut Poll {
        let [topology, status, blocks, extents, jobs, memory, migration, stats] =
            &mut self.questions;
        match question {
            Question::Topology => topology,
            Question::Status => status,
            Question::Blocks => blocks,
            Question::Extents => extents,
            Question::Jobs => jobs,
            Question::Memory => memory,
            Question::Migration => migration,
            Question::Stats => stats,
        }
    }

    /// When the first is due; without a connection only what /proc answers.
    pub(super) fn next(&self, connected: bool) -> Option<Instant> {
        let of_qemu = self.questions.iter().filter(|_| connected);
        of_qemu.chain([&self.threads, &self.plugs]).filter_map(Poll::due).min()
    }
}

/// One question that is asked again and again.
#[derive(Debug)]
pub(super) struct Poll {
    interval: Duration,
    /// How many times longer the interval is at present.
    factor: u32,
    /// `None`: not until it is asked for.
    due: Option<Instant>,
}

impl Poll {
    /// Due at once, then every `interval`; never if that is zero.
    pub(super) fn every(interval: Duration) -> Self {
        let due = (!interval.is_zero()).then(Instant::now);
        Self { interval, factor: 1, due }
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Makes it due at once.
    pub(super) fn hurry(&mut self) {
        self.due = Some(Instant::now());
    }

    /// It was just asked out of turn: the next time is an interval from now.
    pub(super) fn postpone(&mut self) {
        if self.due.is_some() {
            let interval = self.interval.saturating_mul(self.factor);
            self.due = Instant::now().checked_add(jittered(interval));
        }
    }

    /// Makes it due within this time, if it was not.
    pub(super) fn within(&mut self, time: Duration) {
        let soon = Instant::now().checked_add(time);
        self.due = self.due.into_iter().chain(soon).min();
    }

    /// It took this long, and succeeded or not. What takes more than a tenth of its interval, or
    /// fails, is asked for half as often, up to once a minute.
    pub(super) fn done(&mut self, took: Duration, succeeded: bool) {
        if self.interval.is_zero() {
            self.due = None;
            return;
        }
        let current = self.interval.saturating_mul(self.factor);
        if !succeeded || took.saturating_mul(10) > current {
            if current < MAX_INTERVAL {
                self.factor = self.factor.saturating_mul(2);
            }
        } else if self.factor > 1 {
            self.factor /= 2;
        }
        let longest = MAX_INTERVAL.max(self.interval);
        let interval = self.interval.saturating_mul(self.factor).min(longest);
        self.due = Instant::now().checked_add(jittered(interval));
    }
}

/// Pauses between attempts to connect: from a quarter of a second, doubling up to five; long ones
/// from a second up to five minutes.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    attempts: u32,
}

impl Retry {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    pub(crate) fn pause(&mut self) -> Duration {
        let pause = Duration::from_millis(250).saturating_mul(1 << self.attempts.min(5));
        self.attempts = self.attempts.saturating_add(1);
        jittered(pause.min(Duration::from_secs(5)))
    }

    pub(super) fn long_pause(&mut self) -> Duration {
        let pause = Duration::from_secs(1).saturating_mul(1 << (2 * self.attempts.min(5)));
        self.attempts = self.attempts.saturating_add(1);
        jittered(pause.min(MAX_LONG_PAUSE))
    }
}

/// From nine to eleven tenths of `interval`.
pub(crate) fn jittered(interval: Duration) -> Duration {
    let thousandths = RandomState::new().hash_one(0) % 201;
    interval.mul_f64(0.9 + thousandths as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_or_fails_is_asked_for_less_often_and_recovers() {
        let second = Duration::from_secs(1);
        let mut poll = Poll::every(second);
        assert!(poll.is_due(Instant::now()));
        for _ in 0..20 {
            poll.done(Duration::ZERO, false);
        }
        let far = poll.due().unwrap() - Instant::now();
        assert!(far > 50 * second && far < 70 * second, "{far:?}");
        for _ in 0..20 {
            poll.done(second / 100, true);
        }
        let near = poll.due().unwrap() - Instant::now();
        assert!(near > second / 2 && near < second * 11 / 10, "{near:?}");
        poll.done(second / 2, true);
        assert!(poll.due().unwrap() - Instant::now() > second * 3 / 2, "slow: backs off");
    }

    #[test]
    fn an_interval_of_zero_is_never() {
        let mut poll = Poll::every(Duration::ZERO);
        assert_eq!(poll.due(), None);
        poll.hurry();
        poll.done(Duration::ZERO, true);
        assert_eq!(poll.due(), None);
    }

    #[test]
    fn attempts_become_rare_and_stay_bounded() {
        let mut retry = Retry::default();
        let first = retry.pause();
        let last = (0..100).map(|_| retry.pause()).max().unwrap();
        assert!(first < Duration::from_millis(300) && last <= Duration::from_millis(5500));
        assert!(last > Duration::from_secs(4));
        let mut retry = Retry::default();
        assert!(retry.long_pause() < Duration::from_millis(1200));
        let last = (0..100).map(|_| retry.long_pause()).max().unwrap();
        assert!(last > Duration::from_secs(250) && last <= Duration::from_secs(330));
    }
}
