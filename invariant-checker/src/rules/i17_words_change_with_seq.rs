//! Guarded words: a reader that sees the same even seq twice can rely on what it read between.

use super::{Look, RuleCheck, compare_looks, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::descriptor::{GROUP_HEADER_LEN, GROUP_UPDATED_NS};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I17, source: "xen-devel review", requires: &[Rule::I13], check };

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
            findings.push(finding(RULE.rule, pair.now.base() + at, what, expected, is));
        }
    })
}
