//! Reserved words: they are zero, so that a later revision can give them a meaning.

use super::{Look, RuleCheck, SHAPE_AND_SECTIONS, finding};
use crate::Outcome;
use domstat_layout::RecordKind;
use domstat_layout::Rule;
use domstat_layout::descriptor::GROUP_RSVD;
use domstat_layout::header::{DOM_HEADER_LEN, RECORD_HEADER_LEN, dom, record};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I11, source: "design mail", requires: SHAPE_AND_SECTIONS, check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for at in look.current.records() {
        let reserved = match at.kind {
            RecordKind::Dom => unused(look.current.header.revision),
            _ => (record::RESERVED..RECORD_HEADER_LEN).step_by(4).collect(),
        };
        let of_groups = at.known_groups().iter().filter(|g| g.end() <= at.size);
        let of_groups = of_groups.map(|g| (g.offset + GROUP_RSVD, format!("{}.rsvd", g.name)));
        let words = reserved.into_iter().map(|offset| (offset, "reserved".to_owned()));
        for (offset, name) in words.chain(of_groups) {
            let found = look.current.u32(at.base + offset);
            if found != 0 {
                let what = format!("{}.{name}", at.name());
                findings.push(finding(RULE.rule, at.base + offset, what, 0, format!("{found:#x}")));
            }
        }
    }
    findings.into()
}

/// The words of the dom header that a producer of this revision has no use for.
fn unused(revision: u32) -> Vec<usize> {
    let used = match revision {
        0 | 1 => 0..0,
        2 | 3 => dom::BLK_OFFS..dom::NET_OFFS,
        _ => dom::RESERVED..dom::UNUSED,
    };
    (dom::RESERVED..DOM_HEADER_LEN).step_by(4).filter(|at| !used.contains(at)).collect()
}
