//! A producer writes nothing outside its records.

use super::{Look, Rule, finding};
use crate::Outcome;

pub(super) const RULE: Rule = Rule {
    id: "I15",
    title: "gap bytes are zero",
    source: "design mail",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for at in look.current.records() {
        let gap = (at.base + at.size..at.base + at.slot).step_by(8);
        if let Some(offset) = gap.clone().find(|offset| look.current.u64(*offset) != 0) {
            let found = format!("{:#x}", look.current.u64(offset));
            findings.push(finding("I15", offset, format!("gap after {}", at.name()), 0, found));
        }
    }
    // What a later revision than ours put behind the array is not known here.
    if look.current.header.revision <= domstat_layout::latest::REVISION
        && let Some(geometry) = look.current.geometry
    {
        let tail = (geometry.end()..look.current.len()).step_by(8);
        if let Some(offset) = tail.clone().find(|offset| look.current.u64(*offset) != 0) {
            let found = format!("{:#x}", look.current.u64(offset));
            findings.push(finding("I15", offset, "after the last record", 0, found));
        }
    }
    findings.into()
}
