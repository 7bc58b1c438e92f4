//! Labels: lines of `key=value`, keys of a-z, 0-9, `_` and `.`, and no key twice.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_layout::labels::LabelText;
use domstat_layout::r5::Labels;
use domstat_layout::{Group, Rule};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I29, source: "OpenMetrics", requires: &[Rule::I22], check };

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for group in look.current.groups.iter().filter(|group| group.desc == Labels::DESC) {
        let Some(whole) = group.whole() else { continue };
        let bytes: Vec<u8> = whole.fields.iter().flat_map(|w| w.to_le_bytes()).collect();
        let Ok(text) = bytes.try_into().map(LabelText) else { continue };
        if let Err(error) = text.labels() {
            let what = format!("{}.text", group.name());
            let offset = group.base() + domstat_layout::descriptor::GROUP_HEADER_LEN;
            let expected = "lines of key=value, no key twice";
            findings.push(finding(RULE.rule, offset, what, expected, error));
        }
    }
    findings.into()
}
