//! Constant header words: only `state`, `notify` and `stats_active` change. A region that is created
//! again is another mapping.

use super::{Look, RuleCheck, SHAPE, finding, no_watch};
use crate::Outcome;
use domstat_layout::header::{
    ARCH_DOM_WORDS, ARCH_VCPU_WORDS, BLK_WORDS, NET_WORDS, SCHEMA_WORDS, VCPU_WORDS, dom,
};
use domstat_layout::{RecordKind, Rule};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I18, source: "xen-devel review", requires: SHAPE, check };

fn check(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut u32s = vec![
        (dom::MAGIC, "magic"),
        (dom::DOM_SIZE, "dom_size"),
        (dom::ALIGN, "align"),
        (dom::REVISION, "revision"),
        (dom::CLOCK, "clock"),
    ];
    for p in [VCPU_WORDS, BLK_WORDS, NET_WORDS] {
        u32s.extend([p.offs, p.size, p.stride, p.nr]);
    }
    for p in [ARCH_DOM_WORDS, ARCH_VCPU_WORDS, SCHEMA_WORDS] {
        u32s.extend([p.offs, p.size]);
    }
    let word = |at| (previous.u32(at).into(), look.current.u32(at).into());
    let incarnation = (previous.u64(dom::INCARNATION), look.current.u64(dom::INCARNATION));
    let words = u32s.into_iter().map(|(at, name)| (at, name, word(at)));
    let mut findings: Vec<_> = words
        .chain([(dom::INCARNATION, "incarnation", incarnation)])
        .filter(|(_, _, (was, is)): &(usize, &str, (u64, u64))| was != is)
        .map(|(at, name, (was, is))| finding(RULE.rule, at, name, format!("{was}, as before"), is))
        .collect();
    // The schema is written once, as the header is.
    if let Some(g) = look.current.geometry {
        let section = g.schema();
        let words = (section.offs..section.end()).step_by(8);
        let changed = words.clone().find(|at| previous.u64(*at) != look.current.u64(*at));
        if let Some(at) = changed {
            let (was, is) = (previous.u64(at), look.current.u64(at));
            let (was, is) = (format!("{was:#x}, as before"), format!("{is:#x}"));
            findings.push(finding(RULE.rule, at, "the schema", was, is));
        }
    }
    // So are the labels.
    let labels = look.current.records().into_iter().find(|at| at.kind == RecordKind::Labels);
    if let Some(at) = labels {
        let mut words = (at.base..at.base + at.size).step_by(8);
        if let Some(at) = words.find(|at| previous.u64(*at) != look.current.u64(*at)) {
            let (was, is) = (previous.u64(at), look.current.u64(at));
            let (was, is) = (format!("{was:#x}, as before"), format!("{is:#x}"));
            findings.push(finding(RULE.rule, at, "the labels", was, is));
        }
    }
    findings.into()
}
