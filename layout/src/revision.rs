//! The revisions as values, for code that chooses one at run time: producers that write as an
//! older build would, checkers, generators.
//!
//! # Adding revision N
//!
//! 1. `rN.rs` in the shape of the last one: only the new groups, at the end of their record and
//!    with the next bit; re-export the older ones; list all groups of each record that grew.
//! 2. Declare the module, point [`crate::latest`] at it, and list it in [`REVISIONS`].
//! 3. `ci/generated.sh --fix` writes the tables, the C header and the golden regions,
//!    `ci/frozen.sh --add` freezes them.
//! 4. The peers of the cross-revision matrix get to know the new groups by name: `abi/c/fields.h`,
//!    `abi/c/producer.c` and `tests/src/peer.rs`. Until they do, the matrix fails.

use crate::descriptor::{GroupDesc, Revision};
use crate::{r1, r2, r3, r4};

/// Revision 1 as a value; its module has none, because it was frozen before there were several.
const R1: &Revision = &Revision {
    number: r1::REVISION,
    dom: r1::DOM_GROUPS,
    vcpu: r1::VCPU_GROUPS,
    blk: &[],
    net: &[],
    arch_and_schema: false,
};

/// Every revision, oldest first.
pub const REVISIONS: &[&Revision] = &[R1, r2::REV, r3::REV, r4::REV];

impl Revision {
    /// The revision with this number, if this build knows it.
    #[must_use]
    pub fn of(number: u32) -> Option<&'static Self> {
        REVISIONS.iter().copied().find(|r| r.number == number)
    }
}

/// The second copy of a group: its row in the table of the newest revision, if that has one.
#[must_use]
#[allow(clippy::indexing_slicing, reason = "the list is not empty, and checked so")]
pub const fn twin_of(first: &GroupDesc) -> Option<&'static GroupDesc> {
    const NEWEST: &Revision = REVISIONS[REVISIONS.len() - 1];
    first.twin_in(NEWEST.groups(first.record))
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
    fn sizes_are_the_modules_own() {
        use RecordKind::{Blk, Dom, Net, Vcpu};
        let sizes = |n: u32| {
            let revision = Revision::of(n).unwrap();
            [Dom, Vcpu, Blk, Net].map(|kind| revision.size(kind))
        };
        assert_eq!(sizes(1), [r1::DOM_SIZE, r1::VCPU_SIZE, 0, 0]);
        assert_eq!(sizes(2), [r2::DOM_SIZE, r2::VCPU_SIZE, r2::BLK_SIZE, 0]);
        assert_eq!(sizes(3), [r3::DOM_SIZE, r3::VCPU_SIZE, r3::BLK_SIZE, 0]);
        assert_eq!(sizes(4), [r4::DOM_SIZE, r4::VCPU_SIZE, r4::BLK_SIZE, r4::NET_SIZE]);
        assert_eq!(Revision::of(9), None);
    }
}
