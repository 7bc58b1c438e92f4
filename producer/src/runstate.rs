//! Keeps a vCPU's runstate times while its state changes.

use domstat_layout::latest::{Runstate, VcpuState};
use domstat_layout::{Ns, Word};

/// A vCPU's runstate, followed from one state change to the next, as a scheduler does it: the
/// time since the last change goes to the state that is left.
///
/// ```
/// use domstat_layout::Ns;
/// use domstat_layout::latest::VcpuState;
/// use domstat_producer::RunstateTracker;
///
/// let mut tracker = RunstateTracker::new(VcpuState::Offline, Ns(100));
/// tracker.enter(VcpuState::Running, Ns(150));
/// let runstate = tracker.enter(VcpuState::Blocked, Ns(400));
/// assert_eq!(runstate.running_ns.value(), Some(250));
/// assert_eq!(runstate.total_ns(), Some(300));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RunstateTracker {
    runstate: Runstate,
    state: VcpuState,
    as_of: Ns,
}

impl RunstateTracker {
    /// The vCPU begins now, in `state`.
    #[must_use]
    pub const fn new(state: VcpuState, now: Ns) -> Self {
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

    /// The vCPU enters `state` now; entering the state it is in brings the times up to date.
    pub fn enter(&mut self, state: VcpuState, now: Ns) -> &Runstate {
        let time = self.runstate.time_in_mut(self.state);
        *time = Word::from(time.value().map(|t| t.saturating_add(now.since(self.as_of))));
        self.as_of = self.as_of.max(now);
        if state != self.state {
            self.state = state;
            self.runstate.state = state.into();
            self.runstate.state_entry_ns = self.as_of.0.into();
        }
        &self.runstate
    }

    /// The runstate as of the last change.
    #[must_use]
    pub const fn runstate(&self) -> &Runstate {
        &self.runstate
    }
}
