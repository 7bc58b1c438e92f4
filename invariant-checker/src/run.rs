//! The run of all rules over one or more looks.

use std::time::{Duration, Instant};

use domstat_layout::header::DOM_HEADER_LEN;

use crate::report::{Outcome, Report, RuleReport};
use crate::rules::{Look, RULES, Rule};
use crate::{Capture, Subject};

/// Limits that the rules measure against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a group may stay in mid-update (I16).
    pub seq_deadline: Duration,
    /// How far runstate times may be off (I20), in addition to a thousandth of the time that passed.
    pub clock_tolerance: Duration,
}

impl Default for Options {
    /// 100 ms and 1 ms.
    fn default() -> Self {
        Self { seq_deadline: Duration::from_millis(100), clock_tolerance: Duration::from_millis(1) }
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
        RULES.iter().map(|r| RuleReport::new(r.id, r.title, r.source)).collect();
    let take = || Capture::take(subject, options.seq_deadline);
    let first = take()?;
    if first.header.magic == 0 {
        return Err(NotAttachable::NotPublished);
    }
    judge(&Look { subject, options, previous: None, current: &first }, &mut rules);
    let mut looks = 1;
    let mut previous = first;
    while step(looks) {
        let current = take()?;
        looks += 1;
        let look = Look { subject, options, previous: Some(&previous), current: &current };
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
fn outcome(rule: &Rule, look: &Look<'_>, known: &mut Vec<(&'static str, Outcome)>) -> Outcome {
    if let Some((_, outcome)) = known.iter().find(|(id, _)| *id == rule.id) {
        return outcome.clone();
    }
    let mut unmet = None;
    for id in rule.requires {
        let required = RULES.iter().find(|r| r.id == *id);
        if required.is_some_and(|r| outcome(r, look, known) != Outcome::Pass) {
            unmet = Some(*id);
            break;
        }
    }
    let outcome = match unmet {
        Some(id) => Outcome::NotCheckable(format!("requires {id}, which does not hold")),
        None => (rule.check)(look),
    };
    known.push((rule.id, outcome.clone()));
    outcome
}
