//! Bits of `stats_active`: a producer sets none that its own revision does not define. Bits of a
//! newer producer that this checker does not know are not an error.

use super::{Look, RuleCheck, SHAPE_AND_SECTIONS, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::latest::REVISION;
use domstat_layout::{RecordKind, Schema};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I12, source: "design mail", requires: SHAPE_AND_SECTIONS, check };

fn check(look: &Look<'_>) -> Outcome {
    let revision = look.current.header.revision;
    if revision > REVISION {
        return Outcome::NotCheckable(format!(
            "the producer's revision {revision} is newer than this checker's {REVISION}"
        ));
    }
    let schema = look.current.schema();
    let mut findings = Vec::new();
    for at in look.current.records() {
        let defined = at.known_groups().iter().filter(|g| g.since <= revision);
        let mut defined = defined.fold(0, |bits, g| bits | g.mask());
        if at.kind.is_arch() {
            // What an arch slot holds only the region's own schema says.
            let Some(described) = described(&schema, at.kind) else { continue };
            defined = described;
        }
        let found = look.current.active(&at);
        if found & !defined != 0 {
            let offset = at.base + at.kind.active_offset();
            let what = format!("{}.stats_active", at.name());
            let expected = format!("no bit outside {defined:#x}");
            findings.push(finding(RULE.rule, offset, what, expected, format!("{found:#x}")));
        }
    }
    findings.into()
}

/// The bits that the schema gives to groups of a kind of record; `None` without a schema, and with one
/// that lists no groups.
fn described(schema: &Option<Vec<u8>>, kind: RecordKind) -> Option<u64> {
    let schema = Schema::parse(schema.as_ref()?).ok()?;
    schema.groups().next()?;
    let groups = schema.groups().filter(|g| g.record == kind.number());
    Some(groups.fold(0, |bits, g| bits | 1u64.checked_shl(g.bit).unwrap_or(0)))
}
