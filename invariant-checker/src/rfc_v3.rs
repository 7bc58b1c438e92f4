//! Rules for a region in the vCPU-only layout of RFC v3 ([`domstat_layout::rfc_v3`]), with the
//! same three outcomes and the same report as for a region of this project's layout.

use std::time::Instant;

use domstat_layout::ReadMem;
use domstat_layout::rfc_v3::HEADER_LEN;

use crate::report::{Outcome, Report, RuleReport};
use crate::{NotAttachable, Options};

mod capture;
pub mod fixtures;
mod rules;

use capture::Capture;
pub use rules::RULES;

/// A rule of the layout of RFC v3.
pub struct Rule {
    /// Its name, for example `R04`.
    pub id: &'static str,
    /// The rule in a few words.
    pub title: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The rules that it requires, earlier in [`RULES`].
    pub requires: &'static [&'static str],
    check: fn(&Look<'_>) -> Outcome,
}

/// Input of a rule: the region at this look and, while watching, at the one before.
struct Look<'a> {
    options: &'a Options,
    previous: Option<&'a Capture>,
    current: &'a Capture,
}

/// Takes one look at a region and judges it. Rules about change over time are not checkable.
///
/// # Errors
/// [`NotAttachable`] if there is nothing to judge.
pub fn check(mem: ReadMem<'_>, options: &Options) -> Result<Report, NotAttachable> {
    watch_steps(mem, options, |_| false)
}

/// Looks at a region again and again: `step` is called after each look with the number of looks
/// taken so far, and ends the watch by returning false. Memory does not grow with time.
///
/// # Errors
/// [`NotAttachable`] if there is nothing to judge.
pub fn watch_steps(
    mem: ReadMem<'_>,
    options: &Options,
    mut step: impl FnMut(u64) -> bool,
) -> Result<Report, NotAttachable> {
    let too_short = NotAttachable::ShorterThan { len: mem.len(), header: HEADER_LEN };
    let start = Instant::now();
    let mut reports: Vec<RuleReport> =
        RULES.iter().map(|r| RuleReport::new(r.id, r.title, r.source)).collect();
    let take = || Capture::take(mem, options.seq_deadline).ok_or(too_short);
    let mut previous: Option<Capture> = None;
    let mut looks = 0;
    loop {
        let current = take()?;
        if looks == 0 && current.header.magic == 0 {
            return Err(NotAttachable::NotPublished);
        }
        judge(&Look { options, previous: previous.as_ref(), current: &current }, &mut reports);
        looks += 1;
        previous = Some(current);
        if !step(looks) {
            return Ok(Report::new(reports, looks, start.elapsed()));
        }
    }
}

/// Applies every rule to one look, in order. A rule that requires another is not checkable where
/// that one does not hold.
fn judge(look: &Look<'_>, reports: &mut [RuleReport]) {
    let mut broken = Vec::new();
    for (rule, report) in RULES.iter().zip(reports) {
        let outcome = match rule.requires.iter().find(|id| broken.contains(*id)) {
            Some(id) => Outcome::NotCheckable(format!("requires {id}, which did not pass")),
            None => (rule.check)(look),
        };
        if matches!(outcome, Outcome::Fail(_)) {
            broken.push(rule.id);
        }
        report.add(outcome);
    }
}
