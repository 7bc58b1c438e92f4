//! Magic and index of array records: each starts with its kind's magic and states its position.

use super::{Look, RuleCheck, SHAPE_AND_SECTIONS, finding};
use crate::Outcome;
use domstat_layout::RecordKind;
use domstat_layout::Rule;
use domstat_layout::header::record;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I02, source: "design mail", requires: SHAPE_AND_SECTIONS, check };

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
                findings.push(finding(
                    RULE.rule,
                    at.base + offset,
                    what,
                    show(expected),
                    show(found),
                ));
            }
        };
        word(record::MAGIC, "magic", at.kind.magic(), true);
        word(record::INDEX, "index", at.index, false);
    }
    findings.into()
}
