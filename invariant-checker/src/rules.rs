//! The rules, one file each.

use crate::{Capture, Finding, GroupCopy, Options, Outcome, Subject};

mod i01;
mod i02;
mod i03;
mod i04;
mod i05;
mod i06;
mod i07;
mod i08;
mod i09;
mod i10;
mod i11;
mod i12;
mod i13;
mod i14;
mod i15;
mod i16;
mod i17;
mod i18;
mod i19;
mod i20;
mod i21;
mod i22;
mod i23;
mod i24;
mod i25;

/// A rule of the ABI.
pub struct Rule {
    /// Its name, for example `I04`.
    pub id: &'static str,
    /// The rule in a few words.
    pub title: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// The rules that it stands on: where one of them does not hold, this one cannot be checked.
    pub requires: &'static [&'static str],
    pub(crate) check: fn(&Look<'_>) -> Outcome,
}

/// What a rule judges: a region as seen now and, while watching, as seen before.
pub struct Look<'a> {
    /// Where the bytes come from.
    pub subject: &'a Subject<'a>,
    /// What to measure against.
    pub options: &'a Options,
    /// The look before this one.
    pub previous: Option<&'a Capture>,
    /// What was seen now.
    pub current: &'a Capture,
}

/// Every rule, in order of their names.
pub const RULES: &[Rule] = &[
    i01::RULE,
    i02::RULE,
    i03::RULE,
    i04::RULE,
    i05::RULE,
    i06::RULE,
    i07::RULE,
    i08::RULE,
    i09::RULE,
    i10::RULE,
    i11::RULE,
    i12::RULE,
    i13::RULE,
    i14::RULE,
    i15::RULE,
    i16::RULE,
    i17::RULE,
    i18::RULE,
    i19::RULE,
    i20::RULE,
    i21::RULE,
    i22::RULE,
    i23::RULE,
    i24::RULE,
    i25::RULE,
];

/// The rules that must hold before anything in a record can be judged.
const SHAPE: &[&str] = &["I03", "I04", "I05", "I06", "I07", "I08", "I23"];
/// As [`SHAPE`], and no record lies in another's place.
const SHAPE_AND_SECTIONS: &[&str] = &["I03", "I04", "I05", "I06", "I07", "I08", "I23", "I10"];

pub(crate) fn finding(
    rule: &'static str,
    offset: usize,
    what: impl Into<String>,
    expected: impl ToString,
    found: impl ToString,
) -> Finding {
    let (what, expected, found) = (what.into(), expected.to_string(), found.to_string());
    Finding { rule, offset: offset as u64, what, expected, found }
}

pub(crate) fn no_watch() -> Outcome {
    Outcome::NotCheckable("needs more than one look: watch the region".to_owned())
}

/// Each group as seen before and now, where both looks saw it.
fn pairs<'a>(
    previous: &'a Capture,
    current: &'a Capture,
) -> impl Iterator<Item = (&'a GroupCopy, &'a GroupCopy)> {
    // Both lists are in the order of records and groups; a look leaves a group out at times.
    let mut before = previous.groups.iter().peekable();
    current.groups.iter().filter_map(move |now| {
        let key = |g: &GroupCopy| (g.record.base, g.desc.offset);
        while before.next_if(|b| key(b) < key(now)).is_some() {}
        let before = *before.peek().filter(|b| key(b) == key(now))?;
        Some((before, now))
    })
}
