//! A reader that sees the same even seq twice may rely on what it read between.

use super::{Look, Rule, finding, no_watch, pairs};
use crate::{GroupLook, Outcome};
use domstat_layout::descriptor::{GROUP_HEADER_LEN, GROUP_UPDATED_NS};

pub(super) const RULE: Rule = Rule {
    id: "I17",
    title: "guarded words change only together with seq",
    source: "xen-devel review",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for (before, now) in pairs(previous, look.current) {
        let (
            GroupLook::Whole { seq: s0, updated_ns: u0, fields: f0, .. },
            GroupLook::Whole { seq: s1, updated_ns: u1, fields: f1, .. },
        ) = (&before.look, &now.look)
        else {
            continue;
        };
        if s0 != s1 {
            continue;
        }
        let mut words = std::iter::once((GROUP_UPDATED_NS, u0, u1)).chain(
            f0.iter().zip(f1).enumerate().map(|(i, (a, b))| (GROUP_HEADER_LEN + 8 * i, a, b)),
        );
        if let Some((at, was, is)) = words.find(|(_, was, is)| was != is) {
            let what = format!("{} at seq {s1}", now.name());
            findings.push(finding("I17", now.base() + at, what, format!("{was}, as before"), is));
        }
    }
    findings.into()
}
