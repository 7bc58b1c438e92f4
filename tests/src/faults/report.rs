//! What a case of the harness reports.

use std::time::Duration;

use super::took::Took;

/// What came of one case.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its name.
    pub case: &'static str,
    /// Faults, and what they were.
    pub faults: u64,
    /// Values that were read and checked.
    pub values: u64,
    /// Values that nobody wrote.
    pub wrong: u64,
    /// Updates that were finished and disappeared.
    pub lost: u64,
    /// Reads that found the writer stalled.
    pub stalled: u64,
    /// The longest call of the library; `None` where none is timed.
    pub longest: Option<Took>,
    /// The longest time until a reader noticed what had happened; `None` where nothing is timed.
    pub noticed: Option<Duration>,
    /// What must not have happened.
    pub broken: Vec<String>,
    /// What else there is to say.
    pub note: String,
}

impl Row {
    /// A row of this name.
    #[must_use]
    pub fn new(case: &'static str) -> Self {
        Self { case, ..Self::default() }
    }

    /// Notes something that must not have happened, unless it `holds`.
    pub fn expect(&mut self, holds: bool, broken: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(broken());
        }
    }

    /// Whether all is as it must be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.broken.is_empty()
    }

    /// The table's head.
    #[must_use]
    pub fn head() -> String {
        let head = "| case | faults | values read | wrong | lost | stalled | longest call | noticed within | |";
        format!("{head}\n|---|--:|--:|--:|--:|--:|--:|--:|---|")
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { case, faults, values, wrong, lost, stalled, note, .. } = self;
        let time =
            |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{time:.1?}"));
        let longest = self.longest.map_or("-".to_owned(), |took| took.to_string());
        let noticed = time(self.noticed);
        write!(f, "| {case} | {faults} | {values} | {wrong} | {lost} | {stalled} ")?;
        write!(f, "| {longest} | {noticed} | {note} |")?;
        for broken in &self.broken {
            write!(f, "\n  BROKEN: {case}: {broken}")?;
        }
        Ok(())
    }
}
