//! Notes to the operator about what fails for a while.

use std::collections::BTreeMap;

use crate::output::message::message;
use crate::output::printable;

/// What was last reported of each subject, so that a failure that stays is reported once.
#[derive(Default)]
pub(crate) struct Notes(BTreeMap<String, String>);

impl Notes {
    /// Reports a failure of a subject, unless it is the one that was reported last.
    pub(crate) fn failed(&mut self, subject: &str, why: &str) {
        if self.0.get(subject).is_none_or(|last| last != why) {
            message(&printable(why));
            self.0.insert(subject.to_owned(), why.to_owned());
        }
    }

    /// The subject is well: the next failure is reported again.
    pub(crate) fn well(&mut self, subject: &str) {
        self.0.remove(subject);
    }

    /// Reports these failures, and forgets those that were and are not among them.
    pub(crate) fn all(&mut self, failures: impl IntoIterator<Item = String>) {
        let now: BTreeMap<String, String> = failures.into_iter().map(|f| (f.clone(), f)).collect();
        self.0.retain(|subject, _| now.contains_key(subject));
        now.iter().for_each(|(subject, why)| self.failed(subject, why));
    }
}
