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

use crate::descriptor::{GroupDesc, RecordKind};
use crate::{r1, r2, r3, r4};

/// What a build of one revision knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u32,
    /// Groups of the dom record, in order of their bits.
    pub dom: &'static [&'static GroupDesc],
    /// Groups of the vcpu record.
    pub vcpu: &'static [&'static GroupDesc],
    /// Groups of the blk record; none before revision 2.
    pub blk: &'static [&'static GroupDesc],
    /// Groups of the net record; none before revision 4.
    pub net: &'static [&'static GroupDesc],
    /// Whether it has arch slots and a schema.
    pub arch_and_schema: bool,
}

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

    /// Groups of a kind of record, in order of their bits; arch slots have none that a table
    /// could list.
    #[must_use]
    pub const fn groups(&self, kind: RecordKind) -> &'static [&'static GroupDesc] {
        match kind {
            RecordKind::Dom => self.dom,
            RecordKind::Vcpu => self.vcpu,
            RecordKind::Blk => self.blk,
            RecordKind::Net => self.net,
            RecordKind::ArchDom | RecordKind::ArchVcpu => &[],
        }
    }

    /// Length of a kind of record as this revision builds it; 0 for one that it does not have.
    #[must_use]
    pub const fn size(&self, kind: RecordKind) -> usize {
        match self.groups(kind).last() {
            Some(group) => group.end(),
            None => 0,
        }
    }

    /// Every group, record by record.
    pub fn all_groups(&self) -> impl Iterator<Item = &'static GroupDesc> {
        [self.dom, self.vcpu, self.blk, self.net].into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
