//! Alignment: the producer states it and keeps to it, so no reader infers it from an architecture.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I09",
    title: "align is a power of two; starts and strides of arrays are multiples of it",
    source: "xen-devel review",
    requires: &["I01", "I08"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    if !h.align.is_power_of_two() {
        let found = finding("I09", dom::ALIGN, "align", "a power of two", h.align);
        return Outcome::Fail(vec![found]);
    }
    let words = h.arrays().flat_map(|(p, w)| [(p.offs, w.offs), (p.stride, w.stride)]);
    let odd = words.filter(|(_, found)| !found.is_multiple_of(h.align));
    let expected = format!("a multiple of {}", h.align);
    odd.map(|((offset, what), found)| finding("I09", offset, what, expected.as_str(), found))
        .collect::<Vec<_>>()
        .into()
}
