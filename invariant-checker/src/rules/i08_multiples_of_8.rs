//! Natural alignment of every 64-bit word of a record.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::dom;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I08, source: "KVM binary statistics", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    let mut words = vec![((dom::DOM_SIZE, "dom_size"), h.dom_size)];
    for (p, w) in h.arrays() {
        words.extend([(p.offs, w.offs), (p.size, w.size), (p.stride, w.stride)]);
    }
    for (p, w) in h.sections() {
        words.extend([(p.offs, w.offs), (p.size, w.size)]);
    }
    let odd = words.into_iter().filter(|(_, found)| !found.is_multiple_of(8));
    odd.map(|((offset, what), found)| finding(RULE.rule, offset, what, "a multiple of 8", found))
        .collect::<Vec<_>>()
        .into()
}
