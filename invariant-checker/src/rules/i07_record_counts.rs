//! Number of records: a domain has at least one vCPU, and no more than any hypervisor offers. A
//! negative number that was stored as unsigned fails here.

use super::{AllegedArray, Look, RuleCheck, alleged_arrays, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::{MAX_DEVICES, MAX_VCPUS, RecordKind};

pub(super) const RULE: RuleCheck = RuleCheck {
    rule: Rule::I07,
    source: "corrupt files of other formats",
    requires: &[Rule::I01],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    let arrays = alleged_arrays(look.current);
    let nr_of = |kind| arrays.iter().find(|array| array.kind == kind).map_or(0, |a| a.words.nr);
    for AllegedArray { kind, words, nr, .. } in &arrays {
        let (range, expected) = match (kind, kind.base()) {
            // As many as there are of what they belong to.
            (_, Some(base)) => (nr_of(base)..=nr_of(base), nr_of(base).to_string()),
            (RecordKind::Vcpu, _) => (1..=MAX_VCPUS, format!("1 to {MAX_VCPUS}")),
            (RecordKind::Labels, _) => (1..=1, "1".to_owned()),
            _ => (1..=MAX_DEVICES, format!("1 to {MAX_DEVICES}")),
        };
        if words.nr == 0 || !range.contains(&words.nr) {
            findings.push(finding(RULE.rule, nr.0, nr.1.as_str(), expected, words.nr));
        }
    }
    findings.into()
}
