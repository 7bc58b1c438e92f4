//! QEMU's word for a VM's state, as libvirt and as the group `status` have it.

use crate::status::{Reason, State};

/// What events said that QEMU's word does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// The state was left and entered again.
    pub(super) has_resumed: bool,
    /// It was entered when the VM had arrived by migration.
    pub(super) has_arrived: bool,
    /// The last error that stopped the VM.
    pub(super) io_error: Option<IoError>,
    /// The guest asked for the last shutdown.
    pub(super) guest_shuts_down: bool,
}

/// An error that stopped a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IoError {
    /// The device's name, and the node's.
    pub(super) device: String,
    pub(super) node: String,
    pub(super) no_space: bool,
}

/// The state and its reason.
pub(super) fn status(word: &str, hints: &Hints) -> (State, Reason) {
    match word {
        "running" if hints.has_arrived => (State::Running, Reason::Migration),
        "running" if hints.has_resumed => (State::Running, Reason::User),
        "running" => (State::Running, Reason::Started),
        "paused" => (State::Paused, Reason::User),
        "prelaunch" => (State::Paused, Reason::Started),
        "inmigrate" | "postmigrate" => (State::Paused, Reason::Migration),
        "finish-migrate" => (State::Migrating, Reason::Migration),
        "save-vm" => (State::Paused, Reason::Saved),
        "restore-vm" => (State::Paused, Reason::Snapshot),
        "io-error" if hints.io_error.as_ref().is_some_and(|error| error.no_space) => {
            (State::IoError, Reason::NoSpace)
        }
        "io-error" => (State::IoError, Reason::IoError),
        "watchdog" => (State::Paused, Reason::Watchdog),
        "guest-panicked" => (State::Crashed, Reason::Panic),
        "internal-error" => (State::Paused, Reason::HostError),
        "debug" => (State::Paused, Reason::Debug),
        "shutdown" if hints.guest_shuts_down => (State::Shutdown, Reason::Guest),
        "shutdown" => (State::Shutdown, Reason::Unknown),
        "suspended" => (State::Suspended, Reason::Guest),
        _ => (State::Unknown, Reason::Unknown),
    }
}

/// libvirt's virDomainState and reason.
pub(super) fn libvirt(word: &str, hints: &Hints) -> (u64, u64) {
    match word {
        "running" if hints.has_resumed => (1, 5),
        "running" => (1, 1),
        "paused" => (3, 1),
        "finish-migrate" | "postmigrate" => (3, 2),
        "save-vm" => (3, 3),
        "io-error" => (3, 5),
        "watchdog" => (3, 6),
        "guest-panicked" => (3, 10),
        "prelaunch" | "inmigrate" => (3, 11),
        "shutdown" => (4, 1),
        "suspended" => (7, 0),
        "restore-vm" | "internal-error" | "debug" | "colo" => (3, 0),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_say_what_the_word_does_not() {
        let none = Hints::default();
        let error = |no_space| IoError { device: String::new(), node: String::new(), no_space };
        let full = Hints { io_error: Some(error(true)), ..Hints::default() };
        let broken = Hints { io_error: Some(error(false)), ..Hints::default() };
        let resumed = Hints { has_resumed: true, ..Hints::default() };
        let arrived = Hints { has_arrived: true, ..resumed.clone() };
        let by_guest = Hints { guest_shuts_down: true, ..Hints::default() };
        for (word, hints, expected) in [
            ("running", &none, (State::Running, Reason::Started)),
            ("running", &resumed, (State::Running, Reason::User)),
            ("running", &arrived, (State::Running, Reason::Migration)),
            ("io-error", &none, (State::IoError, Reason::IoError)),
            ("io-error", &broken, (State::IoError, Reason::IoError)),
            ("io-error", &full, (State::IoError, Reason::NoSpace)),
            ("shutdown", &none, (State::Shutdown, Reason::Unknown)),
            ("shutdown", &by_guest, (State::Shutdown, Reason::Guest)),
            ("guest-panicked", &none, (State::Crashed, Reason::Panic)),
            ("of a later QEMU", &none, (State::Unknown, Reason::Unknown)),
        ] {
            assert_eq!(status(word, hints), expected, "{word} {hints:?}");
        }
        assert_eq!(libvirt("running", &resumed), (1, 5));
    }
}
