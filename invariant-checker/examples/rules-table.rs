//! Prints the table of rules that `docs/checker.md` holds.

use domstat_invariant_checker::RULES;

const INTRO: &str = "\
<!-- Generated from the rules by ci/generated.sh --fix -->
# What the checker proves

`domstat check DOMAIN` takes one look at a region, `domstat check DOMAIN --watch SECONDS` many; the
rules about change over time need the second. A rule passes, fails or cannot be checked here. A
failure names the rule, the byte offset, what was expected and what was found. A rule stands on
others: where one of those does not hold, it cannot be checked, so that one fault is reported as
one. Exit codes: 0 no rule is broken, 1 a rule is broken, 3 there is no region to judge.

| rule | what holds | from | stands on |
|---|---|---|---|";

fn main() {
    println!("{INTRO}");
    for rule in RULES {
        let (id, title, source) = (rule.id, rule.title, rule.source);
        println!("| {id} | {title} | {source} | {} |", rule.requires.join(" "));
    }
}
