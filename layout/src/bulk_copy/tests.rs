//! Arrays of records, in every form.
#![allow(unsafe_code, reason = "shared memory made of a local")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

use core::ptr::NonNull;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::header::record;
use crate::r1::{Runstate, VCPU_GROUPS, VCPU_SIZE};
use crate::{Group, WriteMem};

const RECORD: usize = VCPU_SIZE / 8;
const COPIED: &CopiedGroups<1> = &CopiedGroups::of(VCPU_GROUPS);
const STRIDE: usize = 128;
const NR: usize = 70;

/// An array of records, each with its index in every field, some of them not as usual.
struct Array(Vec<u64>);

impl Array {
    fn new() -> Self {
        let mut array = Self(vec![0; NR * STRIDE / 8]);
        for i in 0..NR {
            let mem = array.record(i);
            mem.store_u32(record::MAGIC, crate::VCPU_MAGIC).unwrap();
            mem.store_u32(record::INDEX, u32::try_from(i).unwrap()).unwrap();
            mem.store_u64(record::STATS_ACTIVE, 1).unwrap();
            mem.store_u32(record::GENERATION, 9).unwrap();
            let desc = Runstate::DESC;
            let mut group = mem.group(desc.offset, desc.size).unwrap();
            group.write(1, &[i as u64; 6]);
        }
        array
    }

    fn record(&mut self, i: usize) -> WriteMem<'_> {
        let base = NonNull::from(self.0.as_mut_slice()).cast::<u8>();
        // SAFETY: the words are borrowed mutably while `mem` is used.
        let mem = unsafe { WriteMem::new(base, self.0.len() * 8) };
        mem.sub(i * STRIDE, STRIDE).unwrap()
    }

    fn suspend(&mut self, i: usize) {
        let desc = Runstate::DESC;
        self.record(i).group(desc.offset, desc.size).unwrap().suspend();
    }

    /// Copies the array as if its records were `size` long; returns what was copied and which
    /// records were odd.
    fn copy(&mut self, size: usize, form: CopyWidth) -> (Vec<u64>, Vec<usize>) {
        let base = NonNull::from(self.0.as_mut_slice()).cast::<u8>();
        // SAFETY: the words are borrowed mutably, and not used otherwise, while `mem` is.
        let mem = unsafe { ReadMem::new(base, self.0.len() * 8) }.with_form(form);
        let mut odd = Vec::new();
        let mut to = vec![7; NR * RECORD];
        let array = RecordArray { kind: RecordKind::Vcpu, size, stride: STRIDE };
        mem.copy_records::<RECORD, 1>(array, COPIED, &mut to, |i, _| odd.push(i));
        (to, odd)
    }
}

#[test]
fn every_form_copies_the_bytes_that_are_there() {
    for form in CopyWidth::all() {
        let mut array = Array::new();
        let (to, odd) = array.copy(VCPU_SIZE, form);
        assert_eq!(odd, [0; 0], "{}", form.name());
        for (i, copied) in to.chunks(RECORD).enumerate() {
            let start = i * STRIDE / 8;
            assert_eq!(copied, &array.0[start..start + RECORD], "{} record {i}", form.name());
        }
    }
}

#[test]
fn a_record_in_mid_update_is_odd_and_its_neighbors_are_not() {
    for form in CopyWidth::all() {
        let mut array = Array::new();
        for i in [0, 40, NR - 1] {
            array.suspend(i);
        }
        let (to, odd) = array.copy(VCPU_SIZE, form);
        assert_eq!(odd, [0, 40, NR - 1], "{}", form.name());
        for i in (0..NR).filter(|i| !odd.contains(i)) {
            assert_eq!(to[(i + 1) * RECORD - 1], i as u64, "{}", form.name());
        }
    }
}

#[test]
fn a_group_that_is_not_active_is_not_looked_at() {
    for form in CopyWidth::all() {
        let mut array = Array::new();
        array.suspend(3);
        array.record(3).store_u64(record::STATS_ACTIVE, 0).unwrap();
        assert_eq!(array.copy(VCPU_SIZE, form).1, [0; 0], "{}", form.name());
    }
}

#[test]
fn of_shorter_records_only_what_they_have_is_copied() {
    for form in CopyWidth::all() {
        let mut array = Array::new();
        // Where a longer record would have its group there is something else.
        array.suspend(3);
        let (to, odd) = array.copy(record::GENERATION + 16, form);
        assert_eq!(odd, [0; 0], "{}", form.name());
        assert_eq!(to[RECORD..RECORD + 4], array.0[STRIDE / 8..STRIDE / 8 + 4]);
        assert_eq!(to[RECORD + 4..2 * RECORD], [7; RECORD - 4]);
    }
}

#[test]
fn records_past_the_end_are_odd() {
    for form in CopyWidth::all() {
        let mut array = Array::new();
        array.0.truncate((NR - 3) * STRIDE / 8 + RECORD);
        assert_eq!(array.copy(VCPU_SIZE, form).1, [NR - 2, NR - 1], "{}", form.name());
        array.0.pop();
        assert_eq!(array.copy(VCPU_SIZE, form).1, [NR - 3, NR - 2, NR - 1], "{}", form.name());
    }
}

/// An invented revision: a group, its twin, and a group that a later revision appended.
mod later {
    #![allow(dead_code, unreachable_pub, reason = "declared to be looked at in the table")]

    use super::CopiedGroups;
    use crate::descriptor::{Group, GroupDesc, Kind, Unit, assert_appended, groups, twins};
    use crate::record::RECORD_HEADER_LEN;
    use crate::value::Word;

    groups! {
        /// A group with a twin.
        vcpu 0 at 32 len 32 since 1 Hot "hot" {
            /// One field.
            16 a_ns: Word, Kind::Cumulative, Unit::Ns;
            /// Another.
            24 b_ns: Word, Kind::Cumulative, Unit::Ns;
        }
        /// A group that follows the twin.
        vcpu 2 at 96 len 32 since 3 Steal "steal" {
            /// One field.
            16 c_ns: Word, Kind::Cumulative, Unit::Ns;
            /// Another.
            24 d_ns: Word, Kind::Cumulative, Unit::Ns;
        }
    }
    twins! {
        /// The second copy of `Hot`.
        vcpu 1 at 64 len 32 since 2 HotTwin "hot_twin" of Hot;
    }
    pub const ALL: &[&GroupDesc; 3] = &[Hot::DESC, HotTwin::DESC, Steal::DESC];
    pub const COPIED: &CopiedGroups<{ CopiedGroups::count(ALL) }> = &CopiedGroups::of(ALL);
    const _: () = assert_appended(ALL, RECORD_HEADER_LEN);
}

#[test]
fn groups_after_twins_are_copied_and_twins_are_not() {
    const RECORD: usize = 16;
    const NR: usize = 40;
    let mut words = vec![0u64; NR * RECORD];
    let base = NonNull::from(words.as_mut_slice()).cast::<u8>();
    // SAFETY: the words are a local's that is reached through `mem` alone from here on.
    let mem = unsafe { WriteMem::new(base, NR * RECORD * 8) };
    let group = |i: usize, desc: &GroupDesc| {
        mem.sub(i * 128, 128).unwrap().group(desc.offset, desc.size).unwrap()
    };
    for i in 0..NR {
        mem.store_u64(i * 128 + record::STATS_ACTIVE, 0b111).unwrap();
        for desc in later::ALL {
            group(i, desc).write(5, &[i as u64, 1]);
        }
    }
    for form in CopyWidth::all() {
        let copy = |size| {
            let mut odd = Vec::new();
            let mut to = vec![7; NR * RECORD];
            let array = RecordArray { kind: RecordKind::Vcpu, size, stride: 128 };
            let mem = mem.as_read().with_form(form);
            mem.copy_records::<RECORD, 2>(array, later::COPIED, &mut to, |i, _| odd.push(i));
            (to, odd)
        };
        // A writer that is in the twin, which has the first copy whole, is not in the way.
        group(3, later::HotTwin::DESC).suspend();
        group(4, later::Steal::DESC).suspend();
        let (to, odd) = copy(128);
        assert_eq!(odd, [4], "{}", form.name());
        for (i, record) in to.as_chunks::<RECORD>().0.iter().enumerate().filter(|(i, _)| *i != 4) {
            let i = i as u64;
            assert_eq!(record[5..8], [5, i, 1], "{} hot of record {i}", form.name());
            assert_eq!(record[8..12], [7; 4], "{} twin of record {i}", form.name());
            assert_eq!(record[13..16], [5, i, 1], "{} steal of record {i}", form.name());
        }
        // Records of the revision before have no such group.
        let (to, odd) = copy(96);
        assert_eq!(odd, [0; 0], "{}", form.name());
        assert_eq!((&to[5..8], &to[8..16]), (&[5, 0, 1][..], &[7; 8][..]), "{}", form.name());
        group(3, later::HotTwin::DESC).write(5, &[3, 1]);
        group(4, later::Steal::DESC).write(5, &[4, 1]);
    }
}

#[test]
fn runs_of_words_leave_out_what_lies_between() {
    let runs = |groups: &[&GroupDesc]| super::runs(RecordKind::Vcpu, groups).collect::<Vec<_>>();
    assert_eq!(runs(later::ALL), std::iter::once(0..16).collect::<Vec<_>>());
    assert_eq!(runs(later::COPIED.groups()), [0..8, 12..16]);
    assert_eq!(runs(&[]), std::iter::once(0..4).collect::<Vec<_>>());
    assert!(later::COPIED.gaps && !COPIED.gaps);
    assert_eq!((later::COPIED.words(), COPIED.words()), (16, RECORD));
    let names = later::COPIED.groups().map(|group| group.name);
    assert_eq!(names, ["hot", "steal"]);
}
