//! Length and stride of array records: a record holds at least its header, and the next one starts
//! after it.

use super::{Look, RuleCheck, alleged_arrays, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::header::RECORD_HEADER_LEN;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I05, source: "design mail", requires: &[Rule::I01], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for super::AllegedArray { words, size, stride, .. } in alleged_arrays(look.current) {
        if (words.size as usize) < RECORD_HEADER_LEN {
            let expected = format!("at least {RECORD_HEADER_LEN}");
            findings.push(finding(RULE.rule, size.0, size.1, expected, words.size));
        }
        if words.stride < words.size {
            let expected = format!("at least {}", words.size);
            findings.push(finding(RULE.rule, stride.0, stride.1, expected, words.stride));
        }
    }
    findings.into()
}
