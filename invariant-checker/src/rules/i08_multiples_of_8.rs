//! Natural alignment of every 64-bit word of a record.

use super::{Look, RuleCheck, alleged_arrays, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::dom;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I08, source: "KVM binary statistics", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    let mut words = vec![((dom::DOM_SIZE, "dom_size".to_owned()), h.dom_size)];
    for array in alleged_arrays(look.current) {
        let w = array.words;
        words.extend([(array.offs, w.offs), (array.size, w.size), (array.stride, w.stride)]);
    }
    for (p, w) in h.sections() {
        let named = |(at, name): (usize, &str)| (at, name.to_owned());
        words.extend([(named(p.offs), w.offs), (named(p.size), w.size)]);
    }
    let odd = words.into_iter().filter(|(_, found)| !found.is_multiple_of(8));
    odd.map(|((offset, what), found)| finding(RULE.rule, offset, what, "a multiple of 8", found))
        .collect::<Vec<_>>()
        .into()
}
