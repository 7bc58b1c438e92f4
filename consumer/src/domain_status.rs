//! Status of a domain in words.

use domstat_layout::Word;
use domstat_layout::latest::{REASON_NAMES, STATUS_NAMES, Status};

/// The word for a domain whose hypervisor or VMM does not answer.
pub const HUNG: &str = "hung";

/// Whether hypervisor or VMM does not answer: a source says then that the state is unknown because of an
/// error of the host, which no other state has for a reason. `since_ns` is when it last answered.
#[must_use]
pub fn is_unanswered(status: &Status) -> bool {
    named(STATUS_NAMES, status.state) == Some("unknown")
        && named(REASON_NAMES, status.reason) == Some("host_error")
}

/// The word for the state; [`HUNG`] if hypervisor or VMM does not answer.
#[must_use]
pub fn state(status: &Status) -> Option<&'static str> {
    if is_unanswered(status) { Some(HUNG) } else { named(STATUS_NAMES, status.state) }
}

/// The word for the reason, if it is known and says more than the state.
#[must_use]
pub fn reason(status: &Status) -> Option<&'static str> {
    let reason = named(REASON_NAMES, status.reason);
    reason.filter(|reason| *reason != "unknown" && !is_unanswered(status))
}

fn named(names: &'static [&'static str], word: Word) -> Option<&'static str> {
    names.get(usize::try_from(word.value()?).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use domstat_layout::Group;

    use super::*;

    #[test]
    fn a_state_has_one_word() {
        let status = |state, reason| Status {
            state: Word::new(state),
            reason: Word::new(reason),
            ..Status::NOT_PRODUCED
        };
        let words = |status: &Status| (state(status), reason(status));
        assert_eq!(words(&status(0, 1)), (Some("running"), Some("started")));
        assert_eq!(words(&status(7, 8)), (Some("io_error"), Some("no_space")));
        assert_eq!(words(&status(8, 0)), (Some("unknown"), None));
        assert_eq!(words(&status(8, 11)), (Some(HUNG), None));
        assert_eq!(words(&status(1, 11)), (Some("paused"), Some("host_error")));
        assert_eq!(words(&status(99, 99)), (None, None));
        assert_eq!(words(&Status::NOT_PRODUCED), (None, None));
    }
}
