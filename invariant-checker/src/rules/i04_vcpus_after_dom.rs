//! Start of the vcpu array: it lies after the dom record.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::dom;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I04, source: "design mail", requires: &[Rule::I03], check };

fn check(look: &Look<'_>) -> Outcome {
    let header = &look.current.header;
    if header.vcpu.offs >= header.dom_size {
        return Outcome::Pass;
    }
    let expected = format!("at least {}", header.dom_size);
    Outcome::Fail(vec![finding(RULE.rule, dom::VCPU_OFFS, "vcpu_offs", expected, header.vcpu.offs)])
}
