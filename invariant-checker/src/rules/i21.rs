//! A group's bit says that there is something to read: its first write came before.

use super::{Look, Rule, finding};
use crate::{GroupLook, Outcome};

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
        // seq passes 0 again after two thousand million updates; then updated_ns is not 0.
        if matches!(group.look, GroupLook::Whole { seq: 0, updated_ns: 0, .. }) {
            let what = format!("{}.seq", group.name());
            findings.push(finding("I21", group.base(), what, "an even number above 0", 0));
        }
    }
    findings.into()
}
