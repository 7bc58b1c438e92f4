//! Every 64-bit word of a record is naturally aligned.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I08",
    title: "offsets, sizes and strides are multiples of 8",
    source: "KVM binary statistics",
    requires: &["I01"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    let words = [
        (dom::DOM_SIZE, "dom_size", h.dom_size),
        (dom::VCPU_OFFS, "vcpu_offs", h.vcpu_offs),
        (dom::VCPU_SIZE, "vcpu_size", h.vcpu_size),
        (dom::VCPU_STRIDE, "vcpu_stride", h.vcpu_stride),
    ];
    let odd = words.into_iter().filter(|(_, _, found)| !found.is_multiple_of(8));
    odd.map(|(offset, what, found)| finding("I08", offset, what, "a multiple of 8", found))
        .collect::<Vec<_>>()
        .into()
}
