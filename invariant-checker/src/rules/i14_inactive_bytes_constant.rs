//! Bytes of inactive groups: nothing is written that `stats_active` does not announce.

use super::{Look, RuleCheck, compare_looks, finding};
use crate::{GroupLook, Outcome};
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I14, source: "design mail", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    compare_looks(look, |pair, findings| {
        // A slot that was given to something else, and a group whose seq moved on, may have been
        // active in between.
        let base = pair.now.base();
        let reactivated = pair.previous.u32(base) != pair.current.u32(base);
        let inactive = matches!(pair.now.look, GroupLook::Inactive { .. });
        if !inactive || reactivated || pair.before.look != pair.now.look {
            return;
        }
        if let Some((at, was, is)) = pair.changed_word() {
            let expected = format!("{was:#x}, as before");
            findings.push(finding(RULE.rule, at, pair.now.name(), expected, format!("{is:#x}")));
        }
    })
}
