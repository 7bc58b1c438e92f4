//! Monotonic counters, peaks and buckets: within an incarnation and a generation, they only grow.

use super::{Look, RuleCheck, compare_looks, finding};
use crate::{Outcome, WholeGroup};
use domstat_layout::Rule;
use domstat_layout::{Stat, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I19, source: "OpenMetrics", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    compare_looks(look, |pair, findings| {
        let same_tenant =
            |(before, now): &(&WholeGroup, &WholeGroup)| before.generation == now.generation;
        let Some((before, now)) = pair.whole().filter(same_tenant) else { return };
        let desc = pair.now.desc;
        let counters = desc.fields.iter().filter(|f| f.kind.never_decreases());
        let words = counters.flat_map(|field| (0..field.width / 8).map(move |i| (field, i)));
        for (field, i) in words {
            let word = |group: &WholeGroup| {
                let word = group.words(desc, field)?.get(i)?.to_le();
                Some(Word::from_raw(word).get())
            };
            let (Some(was), Some(is)) = (word(before), word(now)) else { continue };
            let broken = match (was, is) {
                (Stat::Value(was), Stat::Value(is)) => is < was,
                (Stat::Saturated, Stat::Value(_)) => true,
                _ => false,
            };
            if broken {
                let at = pair.now.record.base + field.offset + i * 8;
                let bucket = if field.width > 8 { format!("[{i}]") } else { String::new() };
                let what = format!("{}.{}{bucket}", pair.now.name(), field.name);
                findings.push(finding(
                    RULE.rule,
                    at,
                    what,
                    format!("at least {was}, as before"),
                    is,
                ));
            }
        }
    })
}
