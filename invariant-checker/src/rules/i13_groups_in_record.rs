//! End of active groups: it counts, width included, against the size that the producer states.

use super::{Look, RuleCheck, SHAPE_AND_SECTIONS, finding};
use crate::{GroupLook, Outcome};
use domstat_layout::Rule;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I13, source: "xen-devel review", requires: SHAPE_AND_SECTIONS, check };

fn check(look: &Look<'_>) -> Outcome {
    let outside = look.current.groups.iter().filter(|g| g.look == GroupLook::Outside);
    outside
        .map(|g| {
            let expected = format!("to end at byte {} of its record or before", g.record.size);
            finding(RULE.rule, g.base(), g.name(), expected, g.desc.end())
        })
        .collect::<Vec<_>>()
        .into()
}
