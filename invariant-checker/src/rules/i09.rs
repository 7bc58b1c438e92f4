//! The producer states its alignment, keeps to it, and nobody infers it from an architecture.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I09",
    title: "align is a power of two; vcpu_offs and vcpu_stride are multiples of it",
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
    let words = [
        (dom::VCPU_OFFS, "vcpu_offs", h.vcpu_offs),
        (dom::VCPU_STRIDE, "vcpu_stride", h.vcpu_stride),
    ];
    let odd = words.into_iter().filter(|(_, _, found)| !found.is_multiple_of(h.align));
    let expected = format!("a multiple of {}", h.align);
    odd.map(|(offset, what, found)| finding("I09", offset, what, expected.as_str(), found))
        .collect::<Vec<_>>()
        .into()
}
