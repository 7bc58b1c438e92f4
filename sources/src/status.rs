//! State of a domain as its hypervisor or VMM sees it, for the group `status`.

use domstat_layout::latest::{REASON_NAMES, STATUS_NAMES, Status};
use domstat_layout::{Ns, Word};

/// The states, with the numbers of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running = 0,
    Paused = 1,
    /// By the guest.
    Suspended = 2,
    Shutdown = 3,
    Crashed = 4,
    /// It is being torn down.
    Dying = 5,
    /// It is stopped for the switch-over.
    Migrating = 6,
    IoError = 7,
    Unknown = 8,
}

/// The reasons, with the numbers of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Unknown = 0,
    Started = 1,
    User = 2,
    Guest = 3,
    Migration = 4,
    Snapshot = 5,
    Saved = 6,
    IoError = 7,
    NoSpace = 8,
    Watchdog = 9,
    Panic = 10,
    HostError = 11,
    Debug = 12,
}

/// The state that a domain is in, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DomainStatus {
    state: State,
    reason: Reason,
    since: Option<Ns>,
    device: Option<u64>,
}

impl DomainStatus {
    /// It is in this state, since when is known or not.
    pub(crate) const fn new(state: State, reason: Reason, since: Option<Ns>) -> Self {
        Self { state, reason, since, device: None }
    }

    /// It was seen in this state at `now`. If it was in another one before, it is in this one since
    /// then, as far as is known. A reason that is not known does not replace one that is.
    pub(crate) fn see(&mut self, state: State, reason: Reason, device: Option<u64>, now: Ns) {
        let same = self.state == state;
        if !same {
            (self.state, self.since, self.device) = (state, Some(now), None);
        }
        if !same || reason != Reason::Unknown {
            self.reason = reason;
        }
        self.device = device.or(self.device);
    }

    /// Hypervisor or VMM, which answered last at `since`, does not answer: what state the domain is in
    /// is not known. Readers know it by this state with this reason, which no other has.
    pub(crate) const fn unanswered(since: Ns) -> Self {
        Self::new(State::Unknown, Reason::HostError, Some(since))
    }

    /// The words for state and reason, the latter if it is known.
    pub(crate) fn words(&self) -> (&'static str, Option<&'static str>) {
        let word = |names: &[&'static str], number: usize| names.get(number).copied();
        let reason = word(REASON_NAMES, self.reason as usize);
        let state = word(STATUS_NAMES, self.state as usize).unwrap_or("unknown");
        (state, reason.filter(|_| self.reason != Reason::Unknown))
    }

    /// The group.
    pub(crate) fn group(&self) -> Status {
        let number = |number: usize| Word::from(u64::try_from(number).ok());
        Status {
            state: number(self.state as usize),
            reason: number(self.reason as usize),
            since_ns: self.since.map(|since| since.0).into(),
            device: self.device.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_group() {
        let name = |word: Word, names: &[&'static str]| {
            names[usize::try_from(word.value().unwrap()).unwrap()]
        };
        for (state, expected) in [
            (State::Running, "running"),
            (State::Paused, "paused"),
            (State::Suspended, "suspended"),
            (State::Shutdown, "shutdown"),
            (State::Crashed, "crashed"),
            (State::Dying, "dying"),
            (State::Migrating, "migrating"),
            (State::IoError, "io_error"),
            (State::Unknown, "unknown"),
        ] {
            let group = DomainStatus::new(state, Reason::Unknown, None).group();
            assert_eq!(name(group.state, STATUS_NAMES), expected);
        }
        for (reason, expected) in [
            (Reason::Unknown, "unknown"),
            (Reason::Started, "started"),
            (Reason::User, "user"),
            (Reason::Guest, "guest"),
            (Reason::Migration, "migration"),
            (Reason::Snapshot, "snapshot"),
            (Reason::Saved, "saved"),
            (Reason::IoError, "io_error"),
            (Reason::NoSpace, "no_space"),
            (Reason::Watchdog, "watchdog"),
            (Reason::Panic, "panic"),
            (Reason::HostError, "host_error"),
            (Reason::Debug, "debug"),
        ] {
            let group = DomainStatus::new(State::Paused, reason, None).group();
            assert_eq!(name(group.reason, REASON_NAMES), expected);
        }
    }

    #[test]
    fn a_state_lasts_since_it_was_first_seen() {
        let mut status = DomainStatus::new(State::Running, Reason::Started, None);
        status.see(State::Running, Reason::Unknown, None, Ns(5));
        let group = status.group();
        assert_eq!((group.reason.value(), group.since_ns.value()), (Some(1), None));
        status.see(State::IoError, Reason::NoSpace, Some(3), Ns(7));
        status.see(State::IoError, Reason::Unknown, None, Ns(9));
        let group = status.group();
        assert_eq!((group.reason.value(), group.since_ns.value()), (Some(8), Some(7)));
        assert_eq!(group.device.value(), Some(3));
        status.see(State::Running, Reason::Unknown, None, Ns(11));
        let group = status.group();
        assert_eq!((group.reason.value(), group.since_ns.value()), (Some(0), Some(11)));
        assert_eq!(group.device.value(), None, "not produced in other states");
    }
}
