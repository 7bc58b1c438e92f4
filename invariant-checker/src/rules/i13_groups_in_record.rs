//! End of active groups: it counts, width included, against the size that the producer states.

use super::{Look, Rule, SHAPE_AND_SECTIONS, finding};
use crate::{GroupLook, Outcome};

pub(super) const RULE: Rule = Rule {
    id: "I13",
    title: "an active group ends inside the producer's record",
    source: "xen-devel review",
    requires: SHAPE_AND_SECTIONS,
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let outside = look.current.groups.iter().filter(|g| g.look == GroupLook::Outside);
    outside
        .map(|g| {
            let expected = format!("to end at byte {} of its record or before", g.record.size);
            finding("I13", g.base(), g.name(), expected, g.desc.end())
        })
        .collect::<Vec<_>>()
        .into()
}
