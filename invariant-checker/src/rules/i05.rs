//! A vcpu record holds at least its header, and the next one starts after it.

use super::{Look, Rule, finding};
use crate::Outcome;
use domstat_layout::header::{RECORD_HEADER_LEN, dom};

pub(super) const RULE: Rule = Rule {
    id: "I05",
    title: "vcpu_stride >= vcpu_size >= record header",
    source: "design mail",
    requires: &["I01"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let header = &look.current.header;
    let mut findings = Vec::new();
    if (header.vcpu_size as usize) < RECORD_HEADER_LEN {
        let expected = format!("at least {RECORD_HEADER_LEN}");
        findings.push(finding("I05", dom::VCPU_SIZE, "vcpu_size", expected, header.vcpu_size));
    }
    if header.vcpu_stride < header.vcpu_size {
        let expected = format!("at least {}", header.vcpu_size);
        findings.push(finding(
            "I05",
            dom::VCPU_STRIDE,
            "vcpu_stride",
            expected,
            header.vcpu_stride,
        ));
    }
    findings.into()
}
