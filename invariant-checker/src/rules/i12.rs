//! A producer sets no bit that its own revision does not define. Bits of a newer producer that this checker does not know are no error.

use super::{Look, Rule, SHAPE, finding};
use crate::Outcome;
use domstat_layout::latest::REVISION;

pub(super) const RULE: Rule = Rule {
    id: "I12",
    title: "no bit of stats_active is set that the producer's revision does not define",
    source: "design mail",
    requires: SHAPE,
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let revision = look.current.header.revision;
    if revision > REVISION {
        return Outcome::NotCheckable(format!(
            "the producer's revision {revision} is newer than this checker's {REVISION}"
        ));
    }
    let mut findings = Vec::new();
    for at in look.current.records() {
        let defined = at.known_groups().iter().filter(|g| g.since <= revision);
        let defined = defined.fold(0, |bits, g| bits | g.mask());
        let found = look.current.active(&at);
        if found & !defined != 0 {
            let offset = at.base + at.kind.active_offset();
            let what = format!("{}.stats_active", at.name());
            let expected = format!("no bit outside {defined:#x}");
            findings.push(finding("I12", offset, what, expected, format!("{found:#x}")));
        }
    }
    findings.into()
}
