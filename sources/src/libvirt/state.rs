//! libvirt's state of a domain and its reason, as the group `status` has them.

use crate::status::{Reason, State};

/// State and reason, by the numbers of virDomainState and of its reasons.
pub(super) const fn status(state: u64, reason: u64) -> (State, Reason) {
    match (state, reason) {
        (1 | 2, 2 | 6 | 10) => (State::Running, Reason::Migration),
        (1 | 2, 3 | 7) => (State::Running, Reason::Saved),
        (1 | 2, 4) => (State::Running, Reason::Snapshot),
        (1 | 2, 5) => (State::Running, Reason::User),
        (1 | 2, 8) => (State::Running, Reason::Guest),
        (1 | 2, 1) => (State::Running, Reason::Started),
        (1 | 2, _) => (State::Running, Reason::Unknown),
        (3, 1) => (State::Paused, Reason::User),
        (3, 2 | 12 | 13) => (State::Migrating, Reason::Migration),
        (3, 3) => (State::Paused, Reason::Saved),
        (3, 5) => (State::IoError, Reason::IoError),
        (3, 6) => (State::Paused, Reason::Watchdog),
        (3, 7 | 9) => (State::Paused, Reason::Snapshot),
        (3, 10) => (State::Crashed, Reason::Panic),
        (3, 11) => (State::Paused, Reason::Started),
        (3, 8) => (State::Shutdown, Reason::Unknown),
        (3, _) => (State::Paused, Reason::Unknown),
        (4, 1) => (State::Shutdown, Reason::User),
        (4 | 5, _) => (State::Shutdown, Reason::Unknown),
        (6, 1) => (State::Crashed, Reason::Panic),
        (6, _) => (State::Crashed, Reason::Unknown),
        (7, _) => (State::Suspended, Reason::Guest),
        _ => (State::Unknown, Reason::Unknown),
    }
}

/// Whether vCPUs run in it.
pub(super) const fn runs(state: State) -> bool {
    matches!(state, State::Running | State::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libvirts_numbers_are_states() {
        for (state, reason, expected) in [
            (1, 1, (State::Running, Reason::Started)),
            (1, 5, (State::Running, Reason::User)),
            (3, 1, (State::Paused, Reason::User)),
            (3, 5, (State::IoError, Reason::IoError)),
            (3, 10, (State::Crashed, Reason::Panic)),
            (3, 99, (State::Paused, Reason::Unknown)),
            (7, 0, (State::Suspended, Reason::Guest)),
            (0, 0, (State::Unknown, Reason::Unknown)),
            (9, 1, (State::Unknown, Reason::Unknown)),
        ] {
            assert_eq!(status(state, reason), expected, "{state}/{reason}");
        }
    }
}
