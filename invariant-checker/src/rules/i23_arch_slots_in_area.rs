//! Areas of arch slots: the domain's and the schema hold at least their headers, and a vCPU's lies
//! behind its record and inside its stride.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::{ARCH_DOM_WORDS, ARCH_VCPU_WORDS, RECORD_HEADER_LEN};
use domstat_layout::schema;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I23, source: "design mail", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    let mut findings = Vec::new();
    for (place, words) in h.sections() {
        let arch = place == ARCH_DOM_WORDS || place == ARCH_VCPU_WORDS;
        let least = if arch { RECORD_HEADER_LEN } else { schema::HEADER_LEN };
        if (words.size as usize) < least {
            let expected = format!("at least {least}");
            findings.push(finding(RULE.rule, place.size.0, place.size.1, expected, words.size));
        }
        if place != ARCH_VCPU_WORDS {
            continue;
        }
        if words.offs < h.vcpu.size {
            let expected = format!("at least {}", h.vcpu.size);
            findings.push(finding(RULE.rule, place.offs.0, place.offs.1, expected, words.offs));
        }
        let end = u64::from(words.offs) + u64::from(words.size);
        if end > u64::from(h.vcpu.stride) {
            let what = format!("{} + {}", place.offs.1, place.size.1);
            let expected = format!("at most {}", h.vcpu.stride);
            findings.push(finding(RULE.rule, place.size.0, what, expected, end));
        }
    }
    findings.into()
}
