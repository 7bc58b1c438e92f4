//! Number of records: a domain has at least one vCPU, and no more than any hypervisor offers. A
//! negative number that was stored as unsigned fails here.

use super::{Look, RuleCheck, finding};
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
    for (place, words) in look.current.header.arrays() {
        let most = if place.kind == RecordKind::Vcpu { MAX_VCPUS } else { MAX_DEVICES };
        if !(1..=most).contains(&words.nr) {
            let expected = format!("1 to {most}");
            findings.push(finding(RULE.rule, place.nr.0, place.nr.1, expected, words.nr));
        }
    }
    findings.into()
}
