//! Start of the vcpu array: it lies after the dom record.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I04",
    title: "vcpu_offs >= dom_size",
    source: "design mail",
    requires: &["I03"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let header = &look.current.header;
    if header.vcpu.offs >= header.dom_size {
        return Outcome::Pass;
    }
    let expected = format!("at least {}", header.dom_size);
    Outcome::Fail(vec![finding("I04", dom::VCPU_OFFS, "vcpu_offs", expected, header.vcpu.offs)])
}
