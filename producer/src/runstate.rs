//! Tracker of a vCPU's runstate times.

use domstat_layout::latest::{RunState, Runstate};
use domstat_layout::{Ns, Word};

/// A vCPU's runstate, followed from one state change to the next, as a scheduler does it: the
/// time since the last change goes to the state that is left.
///
/// ```
/// use domstat_layout::Ns;
/// use domstat_layout::latest::RunState;
/// use domstat_producer::RunstateTracker;
///
/// let mut tracker = RunstateTracker::new(RunState::Offline, Ns(100));
/// tracker.enter(RunState::Running, Ns(150));
/// let runstate = tracker.enter(RunState::Blocked, Ns(400));
/// assert_eq!(runstate.running_ns.value(), Some(250));
/// assert_eq!(runstate.total_ns(), Some(300));
/// ```
///
/// # Trackers that see only a part
///
/// A VMM that only sees its threads enter and leave `KVM_RUN` cannot tell runnable from running:
/// while the host runs something else, the thread is still inside. Nor does it see a blocked vCPU
/// if the interrupt controller is in the kernel, as in QEMU, Firecracker and Cloud Hypervisor by
/// default: a halt does not leave `KVM_RUN` then, and time inside of it is not running time. Such a
/// VMM publishes its threads' `schedstat`. A VMM whose interrupt controller is its own gets
/// `KVM_EXIT_HLT` at a halt and sees blocked, and still not runnable.
///
/// [`RunstateTracker::seeing`] names what is seen. The times of all other states are not produced,
/// and neither is the state while the vCPU is in one of them: a zero would be a claim.
///
/// ```
/// use domstat_layout::latest::RunState::{Blocked, Running};
/// use domstat_layout::{Ns, Stat};
/// use domstat_producer::RunstateTracker;
///
/// let mut tracker = RunstateTracker::new(Blocked, Ns(0)).seeing(&[Running]);
/// tracker.enter(Running, Ns(10));
/// let runstate = tracker.enter(Blocked, Ns(30));
/// assert_eq!(runstate.running_ns.value(), Some(20));
/// assert_eq!(runstate.blocked_ns.get(), Stat::NotProduced);
/// assert_eq!(runstate.state.get(), Stat::NotProduced);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RunstateTracker {
    runstate: Runstate,
    state: RunState,
    as_of: Ns,
}

const STATES: [RunState; 4] =
    [RunState::Running, RunState::Runnable, RunState::Blocked, RunState::Offline];

impl RunstateTracker {
    /// The vCPU begins now, in `state`.
    #[must_use]
    pub const fn new(state: RunState, now: Ns) -> Self {
        let zero = Word::new(0);
        let runstate = Runstate {
            state: Word::new(state as u64),
            state_entry_ns: Word::new(now.0),
            running_ns: zero,
            runnable_ns: zero,
            blocked_ns: zero,
            offline_ns: zero,
        };
        Self { runstate, state, as_of: now }
    }

    /// Only these states are seen: times of others are not produced from now on.
    #[must_use]
    pub fn seeing(mut self, states: &[RunState]) -> Self {
        for state in STATES.iter().filter(|state| !states.contains(state)) {
            *self.runstate.time_in_mut(*state) = Word::NOT_PRODUCED;
        }
        self.publish_state();
        self
    }

    /// The state, if its time is produced.
    fn publish_state(&mut self) {
        let is_seen = self.runstate.time_in_mut(self.state).value().is_some();
        let (state, entry) = (self.state.into(), self.as_of.0.into());
        let unseen = (Word::NOT_PRODUCED, Word::NOT_PRODUCED);
        let words = if is_seen { (state, entry) } else { unseen };
        (self.runstate.state, self.runstate.state_entry_ns) = words;
    }

    /// The vCPU enters `state` now; entering the state it is in brings the times up to date.
    pub fn enter(&mut self, state: RunState, now: Ns) -> &Runstate {
        let time = self.runstate.time_in_mut(self.state);
        *time = Word::from(time.value().map(|t| t.saturating_add(now.since(self.as_of))));
        self.as_of = self.as_of.max(now);
        if state != self.state {
            self.state = state;
            self.publish_state();
        }
        &self.runstate
    }

    /// The runstate as of the last change.
    #[must_use]
    pub const fn runstate(&self) -> &Runstate {
        &self.runstate
    }
}
