//! First write of active groups: a bit is set only after there is something to read.

use super::{Look, Rule, finding};
use crate::Outcome;

pub(super) const RULE: Rule = Rule {
    id: "I21",
    title: "every active group was published before the region became visible",
    source: "xen-devel review",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        // seq wraps to 0 after 2^31 updates; updated_ns is not 0 then.
        if group.whole().is_some_and(|whole| whole.seq == 0 && whole.updated_ns == 0) {
            let what = format!("{}.seq", group.name());
            findings.push(finding("I21", group.base(), what, "an even number above 0", 0));
        }
    }
    findings.into()
}
