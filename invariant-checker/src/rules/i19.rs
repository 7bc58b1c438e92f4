//! Within an incarnation and a generation, what is counted only grows.

use super::{Look, Rule, finding, no_watch, pairs};
use crate::{GroupLook, Outcome};
use domstat_layout::descriptor::{GROUP_HEADER_LEN, Kind};
use domstat_layout::{Stat, Word};

pub(super) const RULE: Rule = Rule {
    id: "I19",
    title: "cumulative counters do not decrease; saturation is sticky",
    source: "OpenMetrics",
    requires: &["I13"],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for (before, now) in pairs(previous, look.current) {
        let (
            GroupLook::Whole { generation: g0, fields: f0, .. },
            GroupLook::Whole { generation: g1, fields: f1, .. },
        ) = (&before.look, &now.look)
        else {
            continue;
        };
        if g0 != g1 {
            continue;
        }
        for field in now.desc.fields.iter().filter(|f| f.kind == Kind::Cumulative) {
            let index = (field.offset - now.desc.offset - GROUP_HEADER_LEN) / 8;
            let (Some(was), Some(is)) = (f0.get(index), f1.get(index)) else { continue };
            let stat = |raw: &u64| Word::from_raw(raw.to_le()).get();
            let broken = match (stat(was), stat(is)) {
                (Stat::Value(was), Stat::Value(is)) => is < was,
                (Stat::Saturated, Stat::Value(_)) => true,
                _ => false,
            };
            if broken {
                let at = now.record.base + field.offset;
                let what = format!("{}.{}", now.name(), field.name);
                let expected = format!("at least {}, as before", stat(was));
                findings.push(finding("I19", at, what, expected, stat(is)));
            }
        }
    }
    findings.into()
}
