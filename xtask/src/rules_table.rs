//! Tables of the checker's rules, for `docs/checker.md`.

use domstat_invariant_checker::{RULES, rfc_v3};

const INTRO: &str = "\
<!-- Written by xtask: ci/generated.sh --fix -->
# Rules of the checker

`domstat check DOMAIN` takes one look at a region, `domstat check DOMAIN --watch SECONDS` many; the
rules about change over time need the second. A rule passes, fails or is not checkable here. A
failure names the rule, the byte offset, what was expected and what was found. Some rules require
others. Where one of those does not hold, the rule is not checkable, so that one fault is reported
once. I26 needs `--watch SECONDS --against PID`: the process whose threads run the vCPUs. Exit codes: 0 no rule failed, 1 a rule failed, 3 there is no region to judge.

| rule | what holds | from | requires |
|---|---|---|---|";

const RFC_V3: &str = "
## The layout of RFC v3

A region with the magic 0xaabbccdd, as a Xen with \"[RFC PATCH v3 0/3] Add a new acquire resource to
query vcpu statistics\" writes it, is judged by that layout's rules. It has no number of vCPUs, no
clock and no times of writes, so no rule judges those. A producer that breaks R13 counts the
stride in records, as the patches did when they were mailed: vCPU 1 is then record 16. So would
be a domain whose vCPUs 0 and 16 alone ever changed their state.

| rule | what holds | from | requires |
|---|---|---|---|";

pub(crate) fn print() {
    println!("{INTRO}");
    for rule in RULES {
        let (id, title, source) = (rule.rule.id(), rule.rule.title(), rule.source);
        let requires: Vec<&str> = rule.requires.iter().map(|rule| rule.id()).collect();
        println!("| {id} | {title} | {source} | {} |", requires.join(" "));
    }
    println!("{RFC_V3}");
    for rule in rfc_v3::RULES {
        let (id, title, source) = (rule.id, rule.title, rule.source);
        println!("| {id} | {title} | {source} | {} |", rule.requires.join(" "));
    }
}
