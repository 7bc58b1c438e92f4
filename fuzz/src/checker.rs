//! The invariant checker: whatever it looks at, and however that changes, there is a report.

use std::time::Duration;

use domstat_invariant_checker::{Options, RULES, Report, Subject, rfc_v3, watch_steps};

use crate::live::{Input, mapped};

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let Some(input) = Input::parse(data) else { return };
    let options = Options { seq_deadline: Duration::from_micros(50), ..Options::default() };
    input.while_it_changes(|file| {
        let Some(alleged) = mapped(file) else { return };
        let subject = Subject::new(alleged.mem()).with_file(alleged.file());
        if let Ok(report) = watch_steps(&subject, &options, |looks| looks < 3) {
            assert_report(&report, RULES.len());
        }
        if let Ok(report) = rfc_v3::watch_steps(alleged.mem(), &options, |looks| looks < 3) {
            assert_report(&report, rfc_v3::RULES.len());
        }
    });
}

fn assert_report(report: &Report, nr_rules: usize) {
    assert_eq!(report.rules.len(), nr_rules);
    assert_eq!(report.passed(), !report.rules.iter().any(|rule| rule.failed()));
    for rule in &report.rules {
        assert_eq!(rule.failed(), !rule.findings.is_empty(), "{report}");
        // Finitely many are kept, the others are counted.
        assert!(rule.findings.len() <= 1000, "{}", rule.findings.len());
    }
}
