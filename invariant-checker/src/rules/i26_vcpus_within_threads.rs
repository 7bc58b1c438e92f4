//! Running times of vCPUs, compared with the kernel's books of the threads that run them.
//!
//! A region does not say which thread runs which vCPU. If each vCPU has a thread of its own that
//! ran at least as long as the vCPU claims, then the vCPU with the n-th longest claim claims no more
//! than the thread with the n-th longest time ran; and the reverse. So both are sorted and compared.
//! A vCPU may claim less: its thread also works for the VMM.

use super::{Look, RuleCheck, finding};
use crate::{Options, Outcome};
use domstat_layout::Rule;
use domstat_layout::latest::Runstate;

pub(super) const RULE: RuleCheck = RuleCheck {
    rule: Rule::I26,
    source: "the kernel's books of threads",
    requires: &[Rule::I13],
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let open = |why: &str| Outcome::NotCheckable(why.to_owned());
    if look.subject.books.is_none() {
        return open("the process that runs the vCPUs is not known: use --against PID");
    }
    let Some(span_ns) = look.watch.span_ns() else {
        return open("the process that runs the vCPUs cannot be looked at");
    };
    let claims = look.watch.claims();
    if claims.iter().all(|claim| claim.running_ns == 0) && look.previous.is_none() {
        return super::no_watch();
    }
    if claims.is_empty() {
        return open("no vCPU's running time was written during the watch");
    }
    let slack = u64::try_from(Options::BOOKS_SLACK.as_nanos()).unwrap_or(u64::MAX);
    let share = look.options.books_tolerance_percent;
    let slack = slack.saturating_add((span_ns / 100).saturating_mul(share));
    let times = look.watch.thread_times();
    let mut findings = Vec::new();
    for (nth, claim) in claims.iter().enumerate() {
        let ran = times.get(nth).copied().unwrap_or(0);
        if claim.running_ns > ran.saturating_add(slack) {
            let offset = claim.base + Runstate::running_ns.offset();
            let what = format!("vcpu[{}].runstate.running_ns", claim.index);
            let ms = |ns: u64| format!("{} ms", ns / 1_000_000);
            let expected = format!("at most the {} that a thread ran in {}", ms(ran), ms(span_ns));
            let found = format!("{} more than at first", ms(claim.running_ns));
            findings.push(finding(RULE.rule, offset, what, expected, found));
        }
    }
    findings.into()
}
