//! Magic of the dom record: this is a region, of an ABI that this build understands.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::DOM_MAGIC;
use domstat_layout::Rule;
use domstat_layout::header::dom;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I01, source: "design mail", requires: &[], check };

fn check(look: &Look<'_>) -> Outcome {
    let found = look.current.header.magic;
    if found == DOM_MAGIC {
        return Outcome::Pass;
    }
    let (expected, found) = (format!("{DOM_MAGIC:#010x}"), format!("{found:#010x}"));
    Outcome::Fail(vec![finding(RULE.rule, dom::MAGIC, "magic", expected, found)])
}
