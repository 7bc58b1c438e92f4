//! Sum of the four runstate times: they leave no time out and count none twice.

use super::{Look, RuleCheck, finding, pairs};
use crate::{Capture, GroupCopy, Options, Outcome};
use domstat_layout::Rule;
use domstat_layout::latest::{Identity, Runstate};
use domstat_layout::{Clock, Group, Word};

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I20, source: "Xen's vcpu.h", requires: &[Rule::I13, Rule::I22], check };

fn check(look: &Look<'_>) -> Outcome {
    if Clock::from_number(look.current.header.clock) == Clock::Unknown {
        let why = "the region does not state its clock, so times cannot be held against it";
        return Outcome::NotCheckable(why.to_owned());
    }
    let times: Vec<Times> = look.current.groups.iter().filter_map(Times::of).collect();
    if times.is_empty() {
        let why = "no vCPU is online with all four of its times produced";
        return Outcome::NotCheckable(why.to_owned());
    }
    let mut findings = Vec::new();
    let created = created(look.current);
    let mut add = |times: &Times, expected: String, found: String| {
        let offset = times.base + Runstate::running_ns.offset();
        findings.push(finding(RULE.rule, offset, times.name.as_str(), expected, found));
    };
    for t in &times {
        let slack = tolerance(look.options, t.updated);
        let (sum, age) = (t.sum, t.updated.saturating_sub(created.unwrap_or(0)));
        if sum > age.saturating_add(slack) {
            add(t, format!("times that sum to at most {age} ns"), format!("{sum} ns"));
        } else if t.entry.is_some_and(|entry| entry > t.updated) {
            let found = format!("{:?}", t.entry.unwrap_or(0));
            add(t, format!("state_entry_ns of at most {}", t.updated), found);
        } else if let Some(now) = look.current.now.filter(|_| look.subject.has_writer)
            && t.updated > now.0.saturating_add(slack)
        {
            add(t, format!("updated_ns of at most {} (now)", now.0), t.updated.to_string());
        }
    }
    for pair in look.previous.into_iter().flat_map(|p| pairs(p, look.current)) {
        let (Some(before), Some(now)) = (Times::of(pair.before), Times::of(pair.now)) else {
            continue;
        };
        if before.generation != now.generation {
            continue;
        }
        let passed = now.updated.saturating_sub(before.updated);
        let (expected, slack) =
            (before.sum.saturating_add(passed), tolerance(look.options, passed));
        if now.sum.abs_diff(expected) > slack {
            let text =
                format!("times that sum to {expected} ns, the clock having moved {passed} ns");
            add(&now, text, format!("{} ns", now.sum));
        }
    }
    findings.into()
}

/// A fixed slack, and a thousandth of the time that passed.
fn tolerance(options: &Options, passed: u64) -> u64 {
    let fixed = u64::try_from(options.clock_tolerance.as_nanos()).unwrap_or(u64::MAX);
    fixed.saturating_add(passed / 1000)
}

/// When the domain was created, if it says so.
fn created(capture: &Capture) -> Option<u64> {
    let identity = capture.groups.iter().find(|g| g.desc == Identity::DESC)?;
    Word::from_raw(identity.whole()?.fields.last()?.to_le()).value()
}

/// A vCPU's times, as of one write.
struct Times {
    name: String,
    base: usize,
    generation: u32,
    updated: u64,
    entry: Option<u64>,
    sum: u64,
}

impl Times {
    fn of(group: &GroupCopy) -> Option<Self> {
        if group.desc != Runstate::DESC {
            return None;
        }
        let whole = group.whole()?;
        let [_state, entry, times @ ..] = whole.fields.as_slice() else { return None };
        let value = |raw: &u64| Word::from_raw(raw.to_le()).value();
        let sum = times.iter().try_fold(0u64, |sum, raw| sum.checked_add(value(raw)?))?;
        Some(Self {
            name: group.name(),
            base: group.record.base,
            generation: whole.generation,
            updated: whole.updated_ns,
            entry: value(entry),
            sum,
        })
    }
}
