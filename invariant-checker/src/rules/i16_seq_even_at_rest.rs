//! Sequence numbers at rest: a writer that stays in mid-update was stopped or killed there.

use super::{Look, RuleCheck, finding};
use crate::{GroupLook, Outcome};
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I16, source: "pvclock", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        if let GroupLook::Stalled { seq, .. } = group.look {
            let expected = format!("even within {:?}", look.options.seq_deadline);
            let what = format!("{}.seq", group.name());
            findings.push(finding(
                RULE.rule,
                group.base(),
                what,
                expected,
                format!("{seq} all the time"),
            ));
        }
    }
    findings.into()
}
