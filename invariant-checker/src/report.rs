//! Outcomes of rules, and the report that collects them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule, for example `I04`.
    pub rule: &'static str,
    /// Byte offset from the start of the region.
    pub offset: u64,
    /// What lies there, for example `vcpu[1].runstate.state`.
    pub what: String,
    /// What is right.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Result of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds at every look.
    Pass,
    /// It does not.
    Fail(Vec<Finding>),
    /// It could not be checked here, and why.
    NotCheckable(String),
}

impl From<Vec<Finding>> for Outcome {
    fn from(findings: Vec<Finding>) -> Self {
        if findings.is_empty() { Self::Pass } else { Self::Fail(findings) }
    }
}

/// Whether any rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No rule that could be checked is broken.
    Pass,
    /// At least one is.
    Fail,
}

/// One rule's line of a report.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// The rule, for example `I04`.
    pub id: &'static str,
    /// The rule in a few words.
    pub title: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    /// `pass`, `fail` or `not_checkable`.
    pub outcome: &'static str,
    /// Why it could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The findings, up to [`RuleReport::MAX_FINDINGS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Number of further findings, at other offsets.
    pub more_findings: u64,
    /// Offsets of all findings.
    #[serde(skip)]
    seen: BTreeSet<u64>,
}

impl RuleReport {
    /// Findings of one rule that a report lists.
    pub const MAX_FINDINGS: usize = 8;
    /// Findings at more offsets than this are no longer counted.
    const MAX_SEEN: usize = 65_536;

    pub(crate) fn new(id: &'static str, title: &'static str, source: &'static str) -> Self {
        Self {
            id,
            title,
            source,
            outcome: "not_checkable",
            reason: None,
            findings: Vec::new(),
            more_findings: 0,
            seen: BTreeSet::new(),
        }
    }

    /// Adds the outcome of one more look: a failure stays, and a pass outweighs what could not be
    /// checked.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Fail(findings) => {
                self.outcome = "fail";
                self.reason = None;
                for finding in findings {
                    // A fault that every look finds counts once.
                    if self.seen.len() >= Self::MAX_SEEN || !self.seen.insert(finding.offset) {
                        continue;
                    }
                    if self.findings.len() < Self::MAX_FINDINGS {
                        self.findings.push(finding);
                    } else {
                        self.more_findings += 1;
                    }
                }
            }
            Outcome::Pass if self.outcome == "not_checkable" => {
                self.outcome = "pass";
                self.reason = None;
            }
            Outcome::NotCheckable(reason) if self.outcome == "not_checkable" => {
                self.reason = Some(reason);
            }
            Outcome::Pass | Outcome::NotCheckable(_) => {}
        }
    }

    /// Whether the rule is broken.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.outcome == "fail"
    }
}

/// Result of all rules.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether any rule is broken.
    pub verdict: Verdict,
    /// Number of looks.
    pub looks: u64,
    /// Time from the first look to the last.
    pub seconds: f64,
    /// Each rule's outcome, in order of their numbers.
    pub rules: Vec<RuleReport>,
}

impl Report {
    pub(crate) fn new(rules: Vec<RuleReport>, looks: u64, time: Duration) -> Self {
        let failed = rules.iter().any(RuleReport::failed);
        let verdict = if failed { Verdict::Fail } else { Verdict::Pass };
        Self { verdict, looks, seconds: time.as_secs_f64(), rules }
    }

    /// Whether no rule is broken.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        self.rules.iter().filter(|r| r.outcome == outcome).count() as u64
    }
}

/// `1 look`, `2 looks`.
fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let outcome = rule.outcome.replace('_', " ");
            writeln!(f, "{}  {outcome:<13}  {}", rule.id, rule.title)?;
            if let Some(why) = &rule.reason {
                writeln!(f, "     {why}")?;
            }
            for Finding { offset, what, expected, found, .. } in &rule.findings {
                writeln!(f, "     at byte {offset}: {what}: expected {expected}, found {found}")?;
            }
            if rule.more_findings > 0 {
                writeln!(f, "     and {} more", rule.more_findings)?;
            }
        }
        let verdict = match self.verdict {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
        };
        writeln!(
            f,
            "{verdict}: {} passed, {} failed, {} not checkable; {} in {:.1} s",
            count(self.outcomes("pass"), "rule"),
            self.outcomes("fail"),
            self.outcomes("not_checkable"),
            count(self.looks, "look"),
            self.seconds,
        )
    }
}
