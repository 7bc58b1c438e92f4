//! Gaps: a producer writes nothing outside its records.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::{RecordKind, Rule, Schema};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I15, source: "design mail", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let capture = look.current;
    let Some(g) = capture.geometry else { return Outcome::Pass };
    let records = capture.records();
    let mut parts: Vec<(usize, usize, String)> =
        records.iter().map(|at| (at.base, at.base + at.size, at.name())).collect();
    parts.push((g.schema().offs, g.schema().end(), "the schema".to_owned()));
    // Kinds that this checker does not know lie where the schema says; what is in them it cannot judge.
    let schema = capture.schema();
    let schema = schema.as_ref().and_then(|bytes| Schema::parse(bytes).ok());
    let described = schema.iter().flat_map(|schema| schema.records());
    for record in described.filter(|record| {
        RecordKind::from_number(record.kind).is_none() && record.fits(capture.mapped_len)
    }) {
        let starts = (0..record.nr).filter_map(|index| record.offset(index));
        parts.extend(starts.map(|at| (at, at + record.size, record.name.to_owned())));
    }
    // The gap after the last part belongs to the array of the last record.
    parts.push((g.end(), g.end(), String::new()));
    parts.sort();
    let mut findings = Vec::new();
    let (mut end, mut after) = (0, String::new());
    for (start, part_end, name) in parts {
        let mut gap = (end..start).step_by(8);
        if let Some(offset) = gap.find(|offset| capture.u64(*offset) != 0) {
            let found = format!("{:#x}", capture.u64(offset));
            findings.push(finding(RULE.rule, offset, format!("gap after {after}"), 0, found));
        }
        if part_end > end {
            (end, after) = (part_end, name);
        }
    }
    // A revision later than ours may have put something behind the arrays.
    if look.current.header.revision <= domstat_layout::latest::REVISION
        && let Some(geometry) = look.current.geometry
    {
        let tail = (geometry.end()..look.current.len()).step_by(8);
        if let Some(offset) = tail.clone().find(|offset| look.current.u64(*offset) != 0) {
            let found = format!("{:#x}", look.current.u64(offset));
            findings.push(finding(RULE.rule, offset, "after the last record", 0, found));
        }
    }
    findings.into()
}
