//! Length of the dom record: it holds at least its header and lies inside the mapping.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::{DOM_HEADER_LEN, dom};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I03, source: "design mail", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let (found, mapped) = (look.current.header.dom_size, look.current.mapped_len);
    if (DOM_HEADER_LEN..=mapped).contains(&(found as usize)) {
        return Outcome::Pass;
    }
    let expected = format!("{DOM_HEADER_LEN} to {mapped}");
    Outcome::Fail(vec![finding(RULE.rule, dom::DOM_SIZE, "dom_size", expected, found)])
}
