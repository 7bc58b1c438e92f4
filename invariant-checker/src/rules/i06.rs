//! The last vcpu record with its gap lies inside the mapping, computed without wrap.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I06",
    title: "the vcpu array ends inside the mapping",
    source: "design mail",
    requires: &["I01", "I07"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let header = &look.current.header;
    // No wrap: each factor is below 2^32.
    let array = u64::from(header.nr_vcpus) * u64::from(header.vcpu_stride);
    let end = u64::from(header.vcpu_offs) + array;
    let mapped = look.current.mapped_len as u64;
    if end <= mapped {
        return Outcome::Pass;
    }
    let what = "vcpu_offs + nr_vcpus * vcpu_stride";
    let expected = format!("at most {mapped}");
    Outcome::Fail(vec![finding("I06", dom::VCPU_OFFS, what, expected, end)])
}
