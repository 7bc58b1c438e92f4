//! First write of active groups: a bit is set only after there is something to read.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I21, source: "xen-devel review", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        // seq wraps to 0 after 2^31 updates; updated_ns is not 0 then.
        if group.whole().is_some_and(|whole| whole.seq == 0 && whole.updated_ns == 0) {
            let what = format!("{}.seq", group.name());
            findings.push(finding(RULE.rule, group.base(), what, "an even number above 0", 0));
        }
    }
    findings.into()
}
