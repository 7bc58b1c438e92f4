//! Runstate times that nobody measured: a producer that only sees its threads enter and leave
//! `KVM_RUN` writes 0 for waiting and blocked time, and all time as running.
//!
//! No thread is given a CPU at once each time for as long as [`Options::SOME_WAIT`], so times of exactly
//! 0 next to so much running time are claims without a measurement. The sums of such a producer are
//! right, and no other rule finds it without the kernel's books (I26).

use std::time::Duration;

use super::{Look, RuleCheck, finding};
use crate::{Options, Outcome};
use domstat_layout::latest::Runstate;
use domstat_layout::{Group, Rule, Word};

pub(super) const RULE: RuleCheck = RuleCheck {
    rule: Rule::I33,
    source: "a VMM with its interrupt controller in the kernel",
    requires: &[Rule::I13, Rule::I20],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    let mut is_any_old = false;
    for group in look.current.groups.iter().filter(|g| g.desc == Runstate::DESC) {
        let Some(whole) = group.whole() else { continue };
        let [_state, _entry, running, others @ ..] = whole.fields.as_slice() else { continue };
        let value = |raw: &u64| Word::from_raw(raw.to_le()).value();
        let Some(running) = value(running).map(Duration::from_nanos) else { continue };
        is_any_old |= running >= Options::SOME_WAIT;
        if running >= Options::SOME_WAIT && others.iter().all(|raw| value(raw) == Some(0)) {
            let offset = group.record.base + Runstate::runnable_ns.offset();
            let what = format!("vcpu[{}].runstate.runnable_ns", group.record.index);
            let expected =
                format!("not produced, or above 0 after {} s of running", running.as_secs());
            findings.push(finding(RULE.rule, offset, what, expected, "0, and blocked_ns too"));
        }
    }
    if !is_any_old {
        let why = format!("no vCPU ran for {} s yet", Options::SOME_WAIT.as_secs());
        return Outcome::NotCheckable(why);
    }
    findings.into()
}
