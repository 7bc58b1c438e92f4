//! Only state, notify and stats_active change; a region that is created anew is another mapping.

use super::{Look, Rule, SHAPE, finding, no_watch};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I18",
    title: "header words are constant within an incarnation",
    source: "xen-devel review",
    requires: SHAPE,
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let u32s = [
        (dom::MAGIC, "magic"),
        (dom::DOM_SIZE, "dom_size"),
        (dom::VCPU_OFFS, "vcpu_offs"),
        (dom::VCPU_SIZE, "vcpu_size"),
        (dom::VCPU_STRIDE, "vcpu_stride"),
        (dom::NR_VCPUS, "nr_vcpus"),
        (dom::ALIGN, "align"),
        (dom::REVISION, "revision"),
        (dom::CLOCK, "clock"),
    ];
    let words = u32s
        .into_iter()
        .map(|(at, name)| (at, name, previous.u32(at).into(), look.current.u32(at).into()))
        .chain([(
            dom::INCARNATION,
            "incarnation",
            previous.u64(dom::INCARNATION),
            look.current.u64(dom::INCARNATION),
        )]);
    words
        .filter(|(_, _, was, is): &(usize, &str, u64, u64)| was != is)
        .map(|(at, name, was, is)| finding("I18", at, name, format!("{was}, as before"), is))
        .collect::<Vec<_>>()
        .into()
}
