//! Guarded words: a reader that sees the same even seq twice can rely on what it read between.

use super::{Look, Rule, compare_looks, finding};
use crate::Outcome;
use domstat_layout::descriptor::{GROUP_HEADER_LEN, GROUP_UPDATED_NS};

pub(super) const RULE: Rule = Rule {
    id: "I17",
    title: "guarded words change only together with seq",
    source: "xen-devel review",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    compare_looks(look, |pair, findings| {
        let Some((before, now)) = pair.whole().filter(|(before, now)| before.seq == now.seq) else {
            return;
        };
        let fields = before.fields.iter().zip(&now.fields).enumerate();
        let fields = fields.map(|(i, (was, is))| (GROUP_HEADER_LEN + 8 * i, was, is));
        let mut words =
            std::iter::once((GROUP_UPDATED_NS, &before.updated_ns, &now.updated_ns)).chain(fields);
        if let Some((at, was, is)) = words.find(|(_, was, is)| was != is) {
            let what = format!("{} at seq {}", pair.now.name(), now.seq);
            let expected = format!("{was}, as before");
            findings.push(finding("I17", pair.now.base() + at, what, expected, is));
        }
    })
}
