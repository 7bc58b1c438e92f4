//! Magic and index of array records: each starts with its kind's magic and states its position.

use super::{Look, Rule, SHAPE_AND_SECTIONS, finding};
use crate::Outcome;
use domstat_layout::RecordKind;
use domstat_layout::header::record;

pub(super) const RULE: Rule = Rule {
    id: "I02",
    title: "every record of an array and every arch slot carries its magic and its index",
    source: "design mail",
    requires: SHAPE_AND_SECTIONS,
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for at in look.current.records() {
        if at.kind == RecordKind::Dom {
            continue;
        }
        let mut word = |offset: usize, name: &str, expected: u32, hex: bool| {
            let found = look.current.u32(at.base + offset);
            if found != expected {
                let show = |n: u32| if hex { format!("{n:#010x}") } else { n.to_string() };
                let what = format!("{}.{name}", at.name());
                findings.push(finding("I02", at.base + offset, what, show(expected), show(found)));
            }
        };
        word(record::MAGIC, "magic", at.kind.magic(), true);
        word(record::INDEX, "index", at.index, false);
    }
    findings.into()
}
