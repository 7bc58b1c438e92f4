//! A domain has at least one vCPU, and no more than any hypervisor offers: a negative number that was stored as unsigned is caught here.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::MAX_VCPUS;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I07",
    title: "0 < nr_vcpus <= 65536",
    source: "corrupt files of other formats",
    requires: &["I01"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let found = look.current.header.nr_vcpus;
    if (1..=MAX_VCPUS).contains(&found) {
        return Outcome::Pass;
    }
    let expected = format!("1 to {MAX_VCPUS}");
    Outcome::Fail(vec![finding("I07", dom::NR_VCPUS, "nr_vcpus", expected, found)])
}
