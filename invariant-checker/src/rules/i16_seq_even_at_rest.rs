//! Sequence numbers at rest: a writer that stays in mid-update was stopped or killed there.

use super::{Look, Rule, finding};
use crate::{GroupLook, Outcome};

pub(super) const RULE: Rule = Rule {
    id: "I16",
    title: "seq is even at rest, and odd no longer than the deadline",
    source: "pvclock",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        if let GroupLook::Stalled { seq, .. } = group.look {
            let expected = format!("even within {:?}", look.options.seq_deadline);
            let what = format!("{}.seq", group.name());
            findings.push(finding(
                "I16",
                group.base(),
                what,
                expected,
                format!("{seq} all the time"),
            ));
        }
    }
    findings.into()
}
