//! List of the revisions, for code that chooses one at run time: producers that write as an older
//! build would, checkers, generators.
//!
//! CONTRIBUTING.md has the recipe for one more.

use crate::descriptor::{GroupDesc, Revision};
use crate::record::TwinSpans;
use crate::{r1, r2, r3, r4, r5};

/// Every revision, oldest first.
pub const REVISIONS: &[&Revision] = &[r1::REV, r2::REV, r3::REV, r4::REV, r5::REV];

impl Revision {
    /// The revision with this number, if this build knows it.
    #[must_use]
    pub fn of(number: u32) -> Option<&'static Self> {
        REVISIONS.iter().copied().find(|r| r.number == number)
    }
}

/// The newest revision of the list.
#[allow(clippy::indexing_slicing, reason = "evaluated when the crate is compiled")]
pub(crate) const NEWEST: &Revision = REVISIONS[REVISIONS.len() - 1];

/// The second copy of a group: its row in the table of the newest revision, if it has one.
#[must_use]
pub const fn twin_of(first: &GroupDesc) -> Option<&'static GroupDesc> {
    first.twin_in(NEWEST.groups(first.record))
}

/// Where a group and its second copy, if it has one, lie in their record.
#[must_use]
pub const fn spans(first: &GroupDesc) -> TwinSpans {
    let second = match twin_of(first) {
        Some(twin) => Some(twin.span()),
        None => None,
    };
    TwinSpans { first: first.span(), second }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RecordKind;

    #[test]
    fn a_later_revision_only_appends() {
        for (before, after) in REVISIONS.iter().zip(&REVISIONS[1..]) {
            assert_eq!(before.number + 1, after.number);
            for kind in RecordKind::ALL {
                let (before, after_groups) = (before.groups(kind), after.groups(kind));
                assert!(after_groups.starts_with(before), "{}", kind.name());
                let new = &after_groups[before.len()..];
                assert!(new.iter().all(|g| g.since == after.number));
            }
        }
    }

    #[test]
    fn revisions_are_numbered_from_1_and_found_by_number() {
        for (revision, number) in REVISIONS.iter().zip(1..) {
            assert_eq!(Revision::of(number), Some(*revision));
        }
        let next = u32::try_from(REVISIONS.len()).unwrap() + 1;
        assert_eq!((Revision::of(0), Revision::of(next)), (None, None));
    }

    #[test]
    fn a_twin_has_the_fields_of_its_first_copy() {
        let twins = REVISIONS.iter().flat_map(|r| r.all_groups()).filter(|g| g.twin_of.is_some());
        let mut nr = 0;
        for twin in twins {
            let first = twin.twin_of.unwrap();
            assert_eq!(twin_of(first), Some(twin));
            for (a, b) in first.fields.iter().zip(twin.fields) {
                let apart = twin.offset - first.offset;
                let moved =
                    crate::descriptor::FieldDesc { offset: a.offset + apart, doc: b.doc, ..*a };
                assert_eq!(moved, *b, "{}", twin.name);
            }
            nr += 1;
        }
        assert!(nr >= 3, "revision 4 has three");
    }
}
