//! The layout of RFC v3: every record that there is lies inside, and is read in time; what cannot be
//! attached is refused for a reason that the invariant checker knows, too.

use std::fs::File;
use std::time::Duration;

use domstat_consumer::AttachError;
use domstat_consumer::legacy::LegacyRegion;
use domstat_invariant_checker::{Options, rfc_v3};
use domstat_layout::rfc_v3::GeometryError;

use crate::IMPATIENT;
use crate::live::{Input, mapped};

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let Some(input) = Input::parse(data) else { return };
    let file = input.while_it_changes(|file| {
        if let Ok(region) = attach(file) {
            let _ = everything(&region);
        }
    });
    if mapped(&file).is_some() {
        judge(&file);
    }
}

fn attach(file: &File) -> Result<LegacyRegion, Option<AttachError>> {
    let region = mapped(file).ok_or(None)?.attach_rfc_v3()?;
    Ok(region.with_patience(IMPATIENT))
}

fn everything(region: &LegacyRegion) -> Vec<String> {
    let g = region.geometry();
    let len = region.mem().len();
    let last = g.offset() as u128 + u128::from(g.nr_records() - 1) * g.stride() as u128;
    assert!(last + g.size() as u128 <= len as u128, "{g:?}");
    assert!(region.vcpu(g.nr_records()).is_none());
    let some = (0..g.nr_records().min(100)).chain(g.nr_records().checked_sub(1));
    let read = |index| match region.vcpu(index).expect("a record of the region") {
        Ok(record) => format!("{record:?} {:?}", record.running()),
        Err(_) => "stalled".to_owned(),
    };
    some.map(read).collect()
}

/// In peace, two reads say the same, and the checker agrees with what was refused.
fn judge(file: &File) {
    let options = Options { seq_deadline: Duration::ZERO, ..Options::default() };
    let alleged = mapped(file).expect("as before");
    let report = rfc_v3::check(alleged.mem(), &options);
    match attach(file) {
        Ok(region) => {
            assert_eq!(everything(&region), everything(&attach(file).expect("as before")));
            let report = report.expect("a region that can be attached can be judged");
            for rule in ["R01", "R02", "R04", "R05", "R06"] {
                let rule = report.rules.iter().find(|r| r.id == rule).expect("a rule");
                assert!(!rule.failed(), "attached, and yet: {report}");
            }
        }
        Err(Some(AttachError::Legacy { source, .. })) => match source {
            GeometryError::TooShort { .. } => assert!(report.is_err()),
            GeometryError::Word { rule, .. } => {
                let report = report.expect("a header can be judged");
                let found = report.rules.iter().find(|r| r.id == rule).expect("a rule");
                assert_ne!(found.outcome, "pass", "{source}\n{report}");
            }
            // A magic of 0 is a region that is not published.
            _ => assert!(report.is_err() || !report.is_ok_and(|report| report.passed())),
        },
        Err(other) => panic!("{other:?}"),
    }
}
