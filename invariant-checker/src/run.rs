//! The run of all rules over one or more looks.

use std::time::{Duration, Instant};

use domstat_layout::Rule;
use domstat_layout::header::DOM_HEADER_LEN;

use crate::books::Watch;
use crate::report::{Outcome, Report, RuleReport};
use crate::rules::{Look, RULES, RuleCheck};
use crate::{Capture, Subject};

/// Limits that the rules measure against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a group may stay in mid-update (I16).
    pub seq_deadline: Duration,
    /// How far runstate times may be off (I20), in addition to a thousandth of the time that passed.
    pub clock_tolerance: Duration,
    /// How much longer than its thread a vCPU may claim to have run (I26), in percent of the time
    /// that passed; in addition to [`Options::BOOKS_SLACK`].
    pub books_tolerance_percent: u64,
}

impl Options {
    /// Time by which the kernel's books of a running thread can be late. It brings them up to date
    /// at ticks: every 10 ms at a frequency of 100 Hz, and the producer's books are late by as much.
    /// On CPUs without ticks (`nohz_full`) it is a second: watch for 20 seconds or longer there.
    pub const BOOKS_SLACK: Duration = Duration::from_millis(20);
    /// Running time after which some other time is above 0 (I33). Its first wake-up alone makes a
    /// thread wait for microseconds; 10 s are a hundred times the longest time slice.
    pub const SOME_WAIT: Duration = Duration::from_secs(10);
}

impl Default for Options {
    /// 100 ms, 1 ms and 5 percent.
    fn default() -> Self {
        Self {
            seq_deadline: Duration::from_millis(100),
            clock_tolerance: Duration::from_millis(1),
            books_tolerance_percent: 5,
        }
    }
}

/// Reason why a region cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAttachable {
    /// Fewer bytes than a header.
    #[error("the region has {len} bytes, fewer than the {DOM_HEADER_LEN} of a header")]
    TooShort {
        /// Bytes of the region.
        len: usize,
    },
    /// Fewer bytes than a header of another layout.
    #[error("the region has {len} bytes, fewer than the {header} of a header")]
    ShorterThan {
        /// Bytes of the region.
        len: usize,
        /// Bytes of the header.
        header: usize,
    },
    /// More bytes than are copied at one look.
    #[error("the header alleges {len} bytes; the checker reads at most {most}")]
    TooLarge {
        /// Bytes up to the end of the last record.
        len: usize,
        /// Most bytes that the checker reads.
        most: usize,
    },
    /// The producer has not published the region.
    #[error("the region is not published yet (magic is 0): try again when its producer is up")]
    NotPublished,
}

/// Takes one look at a region and judges it. Rules about change over time are not checkable.
///
/// # Errors
/// [`NotAttachable`] if there is nothing to judge.
pub fn check(subject: &Subject<'_>, options: &Options) -> Result<Report, NotAttachable> {
    watch_steps(subject, options, |_| false)
}

/// Looks at a region again and again: `step` is called after each look with the number of looks
/// taken so far, and ends the watch by returning false. Memory does not grow with time.
///
/// # Errors
/// [`NotAttachable`] if there is nothing to judge.
pub fn watch_steps(
    subject: &Subject<'_>,
    options: &Options,
    mut step: impl FnMut(u64) -> bool,
) -> Result<Report, NotAttachable> {
    let start = Instant::now();
    let mut rules: Vec<RuleReport> =
        RULES.iter().map(|r| RuleReport::new(r.rule.id(), r.rule.title(), r.source)).collect();
    let take = || Capture::take(subject, options.seq_deadline);
    let first = take()?;
    if first.header.magic == 0 {
        return Err(NotAttachable::NotPublished);
    }
    let mut watch = Watch::default();
    watch.observe(&first);
    let look = Look { subject, options, watch: &watch, previous: None, current: &first };
    judge(&look, &mut rules);
    let mut looks = 1;
    let mut previous = first;
    while step(looks) {
        let current = take()?;
        looks += 1;
        watch.observe(&current);
        let previous_look = Some(&previous);
        let look =
            Look { subject, options, watch: &watch, previous: previous_look, current: &current };
        judge(&look, &mut rules);
        previous = current;
    }
    Ok(Report::new(rules, looks, start.elapsed()))
}

/// Applies every rule to one look. A rule that requires another is not checkable where that one
/// does not hold, so that one fault is reported as one.
fn judge(look: &Look<'_>, reports: &mut [RuleReport]) {
    let mut known = Vec::with_capacity(RULES.len());
    for (rule, report) in RULES.iter().zip(reports) {
        report.add(outcome(rule, look, &mut known));
    }
}

/// A rule's outcome, after that of every rule it requires; `known` holds those found so far.
fn outcome(check: &RuleCheck, look: &Look<'_>, known: &mut Vec<(Rule, Outcome)>) -> Outcome {
    if let Some((_, outcome)) = known.iter().find(|(rule, _)| *rule == check.rule) {
        return outcome.clone();
    }
    let mut unmet = None;
    for rule in check.requires {
        let required = RULES.iter().find(|r| r.rule == *rule);
        if required.is_some_and(|r| outcome(r, look, known) != Outcome::Pass) {
            unmet = Some(rule.id());
            break;
        }
    }
    let outcome = match unmet {
        Some(id) => Outcome::NotCheckable(format!("requires {id}, which did not pass")),
        None => (check.check)(look),
    };
    known.push((check.rule, outcome.clone()));
    outcome
}
