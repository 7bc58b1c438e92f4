//! Sequence numbers of inactive groups: a group whose bit was cleared is left in mid-update, so that a
//! reader that saw the bit before cannot take what is left there for a value.

use super::{Look, RuleCheck, finding};
use crate::{GroupLook, Outcome};
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I31, source: "xen-devel review", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        // 0 is that of a group that was never written.
        if let GroupLook::Inactive { seq: Some(seq), .. } = group.look
            && seq != 0
            && seq & 1 == 0
        {
            let what = format!("{}.seq", group.name());
            findings.push(finding(RULE.rule, group.base(), what, "an odd number, or 0", seq));
        }
    }
    findings.into()
}
