//! Alignment: the producer states it and keeps to it, so no reader infers it from an architecture.

use super::{AllegedArray, Look, RuleCheck, alleged_arrays, finding};
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
    // What lies on the frame of another record is as free there as an arch slot is.
    let arrays = alleged_arrays(look.current);
    let on_frame = |array: &AllegedArray| {
        let w = array.words;
        let behind_dom = w.nr == 1 && w.offs >= h.dom_size && w.offs < h.vcpu.offs;
        let of_base = arrays.iter().filter(|a| Some(a.kind) == array.kind.base()).any(|base| {
            let base = base.words;
            base.stride == w.stride && w.offs >= base.offs && w.offs - base.offs < base.stride
        });
        array.beyond_header && (behind_dom || of_base)
    };
    let words = arrays.iter().filter(|array| !on_frame(array)).flat_map(|array| {
        let w = array.words;
        [(array.offs.clone(), w.offs), (array.stride.clone(), w.stride)]
    });
    let odd = words.filter(|(_, found)| !found.is_multiple_of(h.align));
    let expected = format!("a multiple of {}", h.align);
    odd.map(|((offset, what), found)| finding(RULE.rule, offset, what, expected.as_str(), found))
        .collect::<Vec<_>>()
        .into()
}
