//! Header validation: whatever the header says, a region that can be attached lies inside its
//! mapping, and whatever cannot be attached is refused for a reason that the invariant checker
//! knows, too.

use std::fs::File;

use domstat_consumer::{AttachError, Region};
use domstat_invariant_checker::{Options, Subject, check};
use domstat_layout::{DomHeader, Geometry, GeometryError, RecordKind, RecordTableError};

use crate::live::{Input, mapped};

/// The target.
///
/// # Panics
/// When something does not hold.
pub fn target(data: &[u8]) {
    let Some(input) = Input::parse(data) else { return };
    let file = input.while_it_changes(|file| {
        if let Some(Ok(region)) = mapped(file).map(domstat_consumer::region::MappedFile::attach) {
            assert_inside(&region.geometry(), region.mem().len());
            // What was validated is a copy: it still is what it was.
            let again = Geometry::validate(region.header(), region.mem().len());
            assert_same_header(again.expect("validated once"), region.geometry());
        }
    });
    judge(&file);
}

/// In peace, consumer, layout and checker say the same.
fn judge(file: &File) {
    let Some(alleged) = mapped(file) else { return };
    let len = alleged.mem().len();
    let header = DomHeader::load(alleged.mem());
    let validated = header.map(|header| Geometry::validate(&header, len));
    let options = Options { seq_deadline: std::time::Duration::ZERO, ..Options::default() };
    let report = check(&Subject::new(alleged.mem()), &options);
    match Region::from_fd(file.try_clone().expect("a descriptor")) {
        Ok(region) => {
            assert_inside(&region.geometry(), len);
            let again = validated.expect("a header").expect("attached");
            assert_same_header(again, region.geometry());
            let report = report.expect("a region that can be attached can be judged");
            if let Err(error) = region.beyond_header() {
                assert!(!report.passed(), "{error}, and yet: {report}");
                if let RecordTableError::Record { rule, .. } = error {
                    let found = report.rules.iter().find(|r| r.id == rule.id()).expect("a rule");
                    assert_ne!(found.outcome, "pass", "{error}\n{report}");
                }
                return;
            }
            for rule in ["I01", "I03", "I04", "I05", "I06", "I07", "I08", "I10", "I23"] {
                let rule = report.rules.iter().find(|r| r.id == rule).expect("a rule");
                // Frames that are the same memory, which I10 speaks of, are not known here.
                assert!(!rule.failed(), "attached, and yet: {report}");
            }
        }
        Err(AttachError::Geometry { source, .. }) => {
            assert!(!source.to_string().is_empty());
            match source {
                GeometryError::TooShort { .. } | GeometryError::NotReady => {
                    assert!(report.is_err())
                }
                GeometryError::Word { rule, .. } => {
                    let report = report.expect("a header can be judged");
                    let found = report.rules.iter().find(|r| r.id == rule.id()).expect("a rule");
                    assert_ne!(found.outcome, "pass", "{source}\n{report}");
                    assert!(!report.passed(), "{source}\n{report}");
                }
                _ => assert!(!report.expect("a header can be judged").passed()),
            }
        }
        Err(error) => panic!("{error}"),
    }
}

/// Both have the same parts of the header; one of them has kinds beyond it.
fn assert_same_header(header: Geometry, whole: Geometry) {
    let beyond = RecordKind::OPTIONAL;
    for kind in RecordKind::ALL.into_iter().filter(|kind| !beyond.contains(kind)) {
        assert_eq!(header.array(kind), whole.array(kind));
    }
    assert_eq!(header.schema(), whole.schema());
    assert!(header.end() <= whole.end());
}

/// Every part lies inside the mapping, and no two share a byte: computed in a way that cannot wrap.
fn assert_inside(geometry: &Geometry, mapped_len: usize) {
    let mut parts = vec![(geometry.schema().offs as u128, geometry.schema().end() as u128)];
    for kind in RecordKind::ALL {
        let array = geometry.array(kind);
        for index in 0..array.nr {
            let start = array.offs as u128 + u128::from(index) * array.stride as u128;
            assert_eq!(array.offset(index).map(|at| at as u128), Some(start));
            parts.push((start, start + array.size as u128));
            assert!(start.is_multiple_of(8), "{geometry:?}");
        }
        assert_eq!(array.offset(array.nr), None);
    }
    parts.retain(|(start, end)| start != end);
    parts.sort_unstable();
    assert!(parts.is_sorted_by(|a, b| a.1 <= b.0), "overlap: {geometry:?}");
    assert!(parts.iter().all(|(_, end)| *end <= mapped_len as u128), "outside: {geometry:?}");
    assert!(geometry.end() <= mapped_len);
}
