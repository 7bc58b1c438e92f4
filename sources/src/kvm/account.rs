//! Runstate times of a vCPU, accounted by the thread that runs it.

use domstat_layout::latest::{RunState, Runstate};
use domstat_layout::{Ns, Word};

/// Runstate times of one vCPU, which its own thread keeps as the state changes.
///
/// Time since the last entry belongs to the state that was in force. Of that, what the host's
/// scheduler has meanwhile accounted as the thread's wait for a CPU (steal) goes to `runnable`
/// instead: the thread cannot see when it was not running. A wait larger than the time there is
/// to share out waits for the next entry, so the four times always sum to the time since the
/// beginning and never decrease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    state: RunState,
    entered: Ns,
    as_of: Ns,
    times: [u64; 4],
    /// The thread's wait that is accounted for, in nanoseconds; `None` before the thread ran.
    waited: Option<u64>,
}

impl Account {
    /// A vCPU that begins at `began`, offline until its thread runs.
    pub(super) const fn new(began: Ns) -> Self {
        let state = RunState::Offline;
        Self { state, entered: began, as_of: began, times: [0; 4], waited: None }
    }

    /// The vCPU is in `state` from `now` on. `waited_ns` is the thread's wait for a CPU since it
    /// was created (schedstat's second number) if the host has it; the first number is where
    /// counting starts. Entering the state that is in force brings the times up to date.
    pub(super) fn enter(&mut self, state: RunState, now: Ns, waited_ns: Option<u64>) {
        let now = now.max(self.as_of);
        let elapsed = now.since(self.as_of);
        self.as_of = now;
        let mut stolen = 0;
        if let Some(total) = waited_ns {
            let known = *self.waited.get_or_insert(total);
            // Who is offline waits for nothing.
            stolen = match self.state {
                RunState::Offline => 0,
                _ => total.saturating_sub(known).min(elapsed),
            };
            self.waited = Some(known.saturating_add(stolen));
        }
        self.credit(RunState::Runnable, stolen);
        self.credit(self.state, elapsed.saturating_sub(stolen));
        if state != self.state {
            self.state = state;
            self.entered = now;
        }
    }

    fn credit(&mut self, state: RunState, ns: u64) {
        if let Some(time) = self.times.get_mut(state as usize) {
            *time = time.saturating_add(ns);
        }
    }

    /// Time that it wanted a CPU and had none, in nanoseconds.
    pub(super) const fn runnable_ns(&self) -> u64 {
        let [_, runnable, _, _] = self.times;
        runnable
    }

    /// When the times were last brought up to date.
    pub(super) const fn as_of(&self) -> Ns {
        self.as_of
    }

    /// What to publish as of [`as_of`](Self::as_of).
    pub(super) fn runstate(&self) -> Runstate {
        let [running, runnable, blocked, offline] = self.times.map(Word::new);
        Runstate {
            state: self.state.into(),
            state_entry_ns: self.entered.0.into(),
            running_ns: running,
            runnable_ns: runnable,
            blocked_ns: blocked,
            offline_ns: offline,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steal_is_taken_from_the_state_it_happened_in() {
        let mut account = Account::new(Ns(100));
        account.enter(RunState::Running, Ns(110), Some(7));
        account.enter(RunState::Running, Ns(150), Some(12));
        assert_eq!(account.times, [35, 5, 0, 10]);
        account.enter(RunState::Blocked, Ns(160), Some(12));
        account.enter(RunState::Runnable, Ns(200), Some(20));
        assert_eq!(account.times, [45, 13, 32, 10], "it waited when its timer had fired");
        assert_eq!(account.runstate().state_entry_ns.value(), Some(200));
    }

    #[test]
    fn steal_that_does_not_fit_is_made_up_for_later() {
        let mut account = Account::new(Ns(0));
        account.enter(RunState::Running, Ns(0), Some(0));
        account.enter(RunState::Running, Ns(10), Some(30));
        assert_eq!(account.times, [0, 10, 0, 0]);
        account.enter(RunState::Running, Ns(50), Some(30));
        assert_eq!(account.times, [20, 30, 0, 0]);
    }

    proptest! {
        #[test]
        fn times_sum_to_the_age_and_never_decrease(
            began in 0..1_000u64,
            steps in prop::collection::vec((0..4u64, 0..1_000u64, any::<Option<u64>>()), 1..60),
        ) {
            let mut account = Account::new(Ns(began));
            let mut now = began;
            for (state, step, waited) in steps {
                now += step;
                let before = account.times;
                account.enter(RunState::from_number(state).unwrap(), Ns(now), waited);
                prop_assert_eq!(account.runstate().total_ns(), Some(now - began));
                prop_assert!(before.iter().zip(account.times).all(|(was, is)| is >= *was));
            }
        }
    }
}
