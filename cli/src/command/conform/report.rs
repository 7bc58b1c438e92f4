//! Report by clause, as TAP and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// Faults of one check that are listed.
const SHOWN: usize = 4;

/// How one check went.
pub(super) struct Check {
    /// A vector's path, or what was done.
    pub(super) name: String,
    /// The clauses that it is for.
    pub(super) clauses: Vec<String>,
    /// What was wrong; empty: nothing.
    pub(super) faults: Vec<String>,
    /// Why it was not made.
    pub(super) skipped: Option<&'static str>,
}

#[derive(Default)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.faults.is_empty())
    }

    /// The checks of each clause, in order of the clauses.
    fn clauses(&self) -> Vec<(&str, Vec<&Check>)> {
        let mut clauses: BTreeMap<(&str, u32), (&str, Vec<&Check>)> = BTreeMap::new();
        for check in &self.checks {
            for clause in &check.clauses {
                let (part, number) = clause.split_once('-').unwrap_or((clause, ""));
                let key = (part, number.parse().unwrap_or(0));
                clauses.entry(key).or_insert((clause, Vec::new())).1.push(check);
            }
        }
        clauses.into_values().collect()
    }

    pub(super) fn json(&self) -> Value {
        let clauses = self.clauses().into_iter().map(|(clause, checks)| {
            let made = checks.iter().filter(|check| check.skipped.is_none());
            let failed = checks.iter().filter(|check| !check.faults.is_empty());
            let failed: Vec<Value> = failed
                .map(|check| json!({ "check": check.name, "faults": check.faults }))
                .collect();
            let made = made.count();
            let outcome = match (made, failed.is_empty()) {
                (_, false) => "fail",
                (0, true) => "not checked",
                (_, true) => "pass",
            };
            json!({ "clause": clause, "outcome": outcome, "checks": made, "failed": failed })
        });
        json!({ "passed": self.passed(), "clauses": clauses.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clauses = self.clauses();
        writeln!(f, "TAP version 14\n1..{}", clauses.len())?;
        for (number, (clause, checks)) in (1..).zip(&clauses) {
            let made = checks.iter().filter(|check| check.skipped.is_none()).count();
            let failed: Vec<_> = checks.iter().filter(|check| !check.faults.is_empty()).collect();
            match (made, failed.len()) {
                (0, _) => {
                    let why = checks.iter().find_map(|check| check.skipped).unwrap_or_default();
                    writeln!(f, "ok {number} - {clause} # SKIP {why}")?;
                }
                (made, 0) => writeln!(f, "ok {number} - {clause}: {made} checks")?,
                (made, n) => {
                    writeln!(f, "not ok {number} - {clause}: {n} of {made} checks failed")?
                }
            }
            for check in failed {
                for fault in check.faults.iter().take(SHOWN) {
                    writeln!(f, "# {}: {}", check.name, fault.escape_debug())?;
                }
                if let Some(more @ 1..) = check.faults.len().checked_sub(SHOWN) {
                    writeln!(f, "# {}: and {more} more", check.name)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_for_each_clause_in_their_order() {
        let check = |name: &str, clauses: &[&str], faults: &[&str], skipped| Check {
            name: name.to_owned(),
            clauses: clauses.iter().map(|&clause| clause.to_owned()).collect(),
            faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
            skipped,
        };
        let report = Report {
            checks: vec![
                check("a", &["RD-10", "RD-9"], &[], None),
                check("b", &["RD-10"], &["torn\n"], None),
                check("c", &["SC-1"], &[], Some("not claimed")),
            ],
        };
        assert_eq!(
            report.to_string(),
            "TAP version 14\n1..3\nok 1 - RD-9: 1 checks\nnot ok 2 - RD-10: 1 of 2 checks failed\n\
             # b: torn\\n\nok 3 - SC-1 # SKIP not claimed\n"
        );
        let json = report.json();
        assert_eq!(
            (&json["passed"], &json["clauses"][1]["outcome"]),
            (&json!(false), &json!("fail"))
        );
        assert_eq!(json["clauses"][2]["outcome"], "not checked");
    }
}
