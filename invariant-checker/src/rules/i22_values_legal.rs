//! Legal values: a field with named values holds one of them, text ends inside its bounds, and the
//! schema is legal and agrees with the header.

use std::ffi::CStr;

use super::{Look, RuleCheck, finding};
use crate::{Finding, Outcome};
use domstat_layout::Rule;
use domstat_layout::descriptor::Kind;
use domstat_layout::header::dom;
use domstat_layout::latest::REVISION;
use domstat_layout::{RecordKind, Schema, SchemaError, Stat, State, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I22, source: "KVM binary statistics", requires: &[Rule::I13], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    let state = look.current.u32(dom::STATE);
    if State::from_number(state).is_none() {
        findings.push(finding(RULE.rule, dom::STATE, "state", "0 to 2", state));
    }
    let clock = look.current.header.clock;
    if clock > 3 {
        findings.push(finding(RULE.rule, dom::CLOCK, "clock", "0 to 3", clock));
    }
    schema(look, &mut findings);
    for group in &look.current.groups {
        let Some(whole) = group.whole() else { continue };
        for field in group.desc.fields {
            let Some(words) = whole.words(group.desc, field) else { continue };
            let at = group.record.base + field.offset;
            let what = format!("{}.{}", group.name(), field.name);
            match (field.kind, words) {
                (Kind::State(names), [raw]) => {
                    let found = Word::from_raw(raw.to_le()).get();
                    let in_range = match found {
                        Stat::Value(v) => v < names.len() as u64,
                        Stat::NotProduced => true,
                        Stat::Saturated | Stat::GroupInactive => false,
                    };
                    if !in_range {
                        let expected = format!("0 to {}", names.len() - 1);
                        findings.push(finding(RULE.rule, at, what, expected, found));
                    }
                }
                (Kind::Text, _) => {
                    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                    let produced = bytes.iter().any(|byte| *byte != 0xff);
                    let text = CStr::from_bytes_until_nul(&bytes).ok();
                    if produced && text.is_none_or(|text| text.to_str().is_err()) {
                        let expected = "UTF-8 with a zero byte at its end";
                        let found = if bytes.contains(&0) { "not UTF-8" } else { "no zero byte" };
                        findings.push(finding(RULE.rule, at, what, expected, found));
                    }
                }
                _ => {}
            }
        }
    }
    findings.into()
}

/// Adds the faults of the region's schema, if it has one.
fn schema(look: &Look<'_>, findings: &mut Vec<Finding>) {
    let (Some(bytes), Some(g)) = (look.current.schema(), look.current.geometry) else { return };
    let start = g.schema().offs;
    let schema = match Schema::parse(&bytes) {
        Ok(schema) => schema,
        Err(SchemaError { what, offset, expected, found }) => {
            let what = format!("schema: {what}");
            return findings.push(finding(RULE.rule, start + offset, what, expected, found));
        }
    };
    for record in schema.records() {
        let Some(kind) = RecordKind::from_number(record.kind) else { continue };
        let array = g.array(kind);
        for (word, found, expected) in [
            ("place of stats_active", record.active, kind.active_offset()),
            ("length of the header", record.header, kind.header_len()),
        ] {
            if found != expected {
                let what = format!("schema: {word} of {}", record.name);
                findings.push(finding(RULE.rule, start, what, expected, found));
            }
        }
        if array.nr == 0 && RecordKind::OPTIONAL.contains(&kind) {
            // Another rule says why it cannot be used.
            continue;
        }
        let alleged = (record.offs, record.size, record.stride, record.nr);
        let actual = (array.offs, array.size, array.stride, array.nr);
        if alleged != actual {
            let what = format!("schema: place of {}", record.name);
            findings.push(finding(
                RULE.rule,
                start,
                what,
                format!("{actual:?}"),
                format!("{alleged:?}"),
            ));
        }
    }
    if look.current.header.revision > REVISION {
        return;
    }
    for group in schema.groups() {
        for field in schema.fields(&group).filter(|field| !field.shape.is_known()) {
            let what = format!("schema: {}.{}", group.name, field.name);
            let found = format!("{} and {}", field.shape.kind.0, field.shape.unit.0);
            findings.push(finding(RULE.rule, start, what, "a known kind and unit", found));
        }
    }
}
