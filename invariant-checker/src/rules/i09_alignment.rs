//! Alignment: the producer states it and keeps to it, so no reader infers it from an architecture.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::dom;

pub(super) const RULE: RuleCheck = RuleCheck {
    rule: Rule::I09,
    source: "xen-devel review",
    requires: &[Rule::I01, Rule::I08],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    if !h.align.is_power_of_two() {
        let found = finding(RULE.rule, dom::ALIGN, "align", "a power of two", h.align);
        return Outcome::Fail(vec![found]);
    }
    let words = h.arrays().flat_map(|(p, w)| [(p.offs, w.offs), (p.stride, w.stride)]);
    let odd = words.filter(|(_, found)| !found.is_multiple_of(h.align));
    let expected = format!("a multiple of {}", h.align);
    odd.map(|((offset, what), found)| finding(RULE.rule, offset, what, expected.as_str(), found))
        .collect::<Vec<_>>()
        .into()
}
