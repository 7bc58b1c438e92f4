//! Bits of twins: a group and its second copy are active together, so that a reader may take either.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck = RuleCheck {
    rule: Rule::I32,
    source: "xen-devel review",
    requires: &[Rule::I12, Rule::I13],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for at in look.current.records() {
        let active = look.current.active(&at);
        for twin in at.known_groups().iter().filter(|twin| twin.end() <= at.size) {
            let Some(first) = twin.twin_of else { continue };
            let (has_first, has_twin) = (active & first.mask() != 0, active & twin.mask() != 0);
            if has_first != has_twin {
                let offset = at.base + at.kind.active_offset();
                let what = format!("{}.stats_active", at.name());
                let expected = format!("bits {} and {}, or neither", first.bit, twin.bit);
                findings.push(finding(RULE.rule, offset, what, expected, format!("{active:#x}")));
            }
        }
    }
    findings.into()
}
