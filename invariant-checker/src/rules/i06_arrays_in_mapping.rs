//! End of each array and section: the last record with its gap lies inside the mapping, computed
//! without wrap.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use crate::capture::BeyondHeader;
use domstat_layout::Rule;
use domstat_layout::header::ARCH_VCPU_WORDS;
use domstat_layout::schema::record;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I06, source: "design mail", requires: &[Rule::I01, Rule::I07], check };

fn check(look: &Look<'_>) -> Outcome {
    let header = &look.current.header;
    let mapped = look.current.mapped_len as u64;
    let mut findings = Vec::new();
    for (place, words) in header.arrays() {
        // No wrap: each factor is below 2^32.
        let end = u64::from(words.offs) + u64::from(words.nr) * u64::from(words.stride);
        if end > mapped {
            let what = format!("{} + {} * {}", place.offs.1, place.nr.1, place.stride.1);
            let expected = format!("at most {mapped}");
            findings.push(finding(RULE.rule, place.offs.0, what, expected, end));
        }
    }
    for &BeyondHeader { kind, words, at } in &look.current.beyond_header {
        // Its last record may lie in the gap of another array's.
        let last = u64::from(words.nr.saturating_sub(1)) * u64::from(words.stride);
        let end = u64::from(words.offs) + last + u64::from(words.size);
        if end > mapped {
            let what = format!("schema: end of {}", kind.name());
            let expected = format!("at most {mapped}");
            findings.push(finding(RULE.rule, at + record::OFFS, what, expected, end));
        }
    }
    // Where the vCPUs' arch slots end is another rule's (I23).
    for (place, words) in header.sections().filter(|(place, _)| *place != ARCH_VCPU_WORDS) {
        let end = u64::from(words.offs) + u64::from(words.size);
        if end > mapped {
            let what = format!("{} + {}", place.offs.1, place.size.1);
            let expected = format!("at most {mapped}");
            findings.push(finding(RULE.rule, place.offs.0, what, expected, end));
        }
    }
    findings.into()
}
