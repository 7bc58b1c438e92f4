//! Distributions: the largest value lies in the highest bucket that is not 0, and the sum within what
//! the buckets allow.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::Rule;
use domstat_layout::descriptor::Kind;
use domstat_layout::{Stat, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I27, source: "histograms of KVM", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in &look.current.groups {
        let [sum, max, buckets] = group.desc.fields else { continue };
        if buckets.kind != Kind::LogHistogram {
            continue;
        }
        let Some(whole) = group.whole() else { continue };
        let words = |field| whole.words(group.desc, field).unwrap_or_default();
        let stat = |field| words(field).first().map(|raw| Word::from_raw(raw.to_le()).get());
        let counts: Option<Vec<u64>> =
            words(buckets).iter().map(|raw| Word::from_raw(raw.to_le()).value()).collect();
        let Some(counts) = counts else { continue };
        let last = counts.len().saturating_sub(1);
        // Bucket i has values of i bits: from 2^(i-1) to 2^i - 1. The last has no end.
        let (mut least, mut most, mut highest) = (0u128, Some(0u128), None);
        for (bits, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let low = if bits == 0 { 0 } else { 1u128 << (bits - 1) };
            least += u128::from(*count) * low;
            let high = (bits < last).then(|| (1u128 << bits) - 1);
            most = most.zip(high).map(|(most, high)| most + u128::from(*count) * high);
            highest = Some(bits);
        }
        let at = |offset: usize| group.record.base + offset;
        if let Some(Stat::Value(value)) = stat(max) {
            let bits = (u64::BITS - value.leading_zeros()) as usize;
            let what = format!("{}.{}", group.name(), max.name);
            match highest {
                Some(highest) if bits.min(last) == highest => {}
                None if value == 0 => {}
                Some(bits) => {
                    let expected = format!("a value of bucket {bits}, the highest that is not 0");
                    findings.push(finding(RULE.rule, at(max.offset), what, expected, value));
                }
                None => findings.push(finding(RULE.rule, at(max.offset), what, 0, value)),
            }
        }
        if let Some(Stat::Value(value)) = stat(sum) {
            let value = u128::from(value);
            if value < least || most.is_some_and(|most| value > most) {
                let most = most.map_or_else(|| "any".to_owned(), |most| most.to_string());
                let what = format!("{}.{}", group.name(), sum.name);
                let expected = format!("{least} to {most}, by the buckets");
                findings.push(finding(RULE.rule, at(sum.offset), what, expected, value));
            }
        }
    }
    findings.into()
}
