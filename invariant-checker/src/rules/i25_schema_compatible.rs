//! Places and meanings across revisions: the region's schema is compared with the descriptor table.
//! Every group of the producer's revision lies where the table puts it, and later ones lie behind.

use super::{Look, RuleCheck, finding};
use crate::Outcome;
use domstat_abi::{Abi, compare};
use domstat_layout::Rule;
use domstat_layout::Schema;
use domstat_layout::header::dom;
use domstat_layout::latest::REVISION;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I25, source: "design mail", requires: &[Rule::I22, Rule::I23], check };

fn check(look: &Look<'_>) -> Outcome {
    let Some(bytes) = look.current.schema() else {
        return Outcome::NotCheckable("the region does not describe itself".to_owned());
    };
    let Ok(schema) = Schema::parse(&bytes) else {
        return Outcome::NotCheckable("the schema is not legal".to_owned());
    };
    let revision = look.current.header.revision;
    let alleged = Abi::of_schema(&schema, revision);
    let Some(mut known) = Abi::of_revision(revision.min(REVISION)) else {
        return Outcome::NotCheckable(format!("revision {revision} is not known"));
    };
    // A region need not have every array; the schema does not list those that are absent.
    // Nor need it list the groups of those that there are.
    let is_described = |name: &str| alleged.record(name).is_some_and(|r| !r.groups.is_empty());
    known.records.retain(|record| is_described(&record.name));
    if known.records.is_empty() {
        return Outcome::NotCheckable("the schema lists no groups".to_owned());
    }
    let found = compare(&known, &alleged);
    let start = look.current.geometry.map_or(dom::SCHEMA_OFFS, |g| g.schema().offs);
    let mut findings = Vec::new();
    for change in found.breaking() {
        let what = format!("schema: {}", change.what);
        findings.push(finding(
            RULE.rule,
            start,
            what,
            "as the descriptor table has it",
            &change.how,
        ));
    }
    findings.into()
}
