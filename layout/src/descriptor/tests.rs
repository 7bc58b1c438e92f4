//! Twins, from declaration to use.
#![allow(unsafe_code, reason = "shared memory made of a local")]
#![allow(dead_code, unreachable_pub, reason = "declared to be looked at in the table")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use core::cell::Cell;
use core::ptr::NonNull;

use super::*;
use crate::twins::{Second, TwinCopy};
use crate::value::Word;
use crate::{ReadTwins, TwinSpans, WriteMem, WriteTwins};

groups! {
    /// A group with a twin.
    vcpu 0 at 32 len 32 since 1 Hot "hot" {
        /// One field.
        16 a_ns: Word, Kind::Cumulative, Unit::Ns;
        /// Another.
        24 b_ns: Word, Kind::Cumulative, Unit::Ns;
    }
    /// A group without one.
    vcpu 1 at 64 len 32 since 1 Cold "cold" {
        /// One field.
        16 c: Word, Kind::Instant, Unit::None;
        /// Another.
        24 d: Word, Kind::Instant, Unit::None;
    }
}
twins! {
    /// The second copy of `Hot`, added later.
    vcpu 2 at 96 len 32 since 2 HotTwin "hot_twin" of Hot;
}
const GROUPS: &[&GroupDesc; 3] = &[Hot::DESC, Cold::DESC, HotTwin::DESC];
const _: () = assert_appended(GROUPS, crate::header::RECORD_HEADER_LEN);

#[test]
fn the_table_says_which_group_has_a_twin() {
    assert_eq!(Hot::DESC.twin_in(GROUPS), Some(HotTwin::DESC));
    assert_eq!(Cold::DESC.twin_in(GROUPS), None);
    assert_eq!(HotTwin::DESC.twin_in(GROUPS), None);
    // A build that knows the first revision only.
    assert_eq!(Hot::DESC.twin_in(&GROUPS[..2]), None);
}

#[test]
fn twins_are_found_by_their_rows_and_either_is_read() {
    let mut record = [0u64; 16];
    let base = NonNull::from(&mut record).cast::<u8>();
    // SAFETY: 128 bytes of a local that is only reached through `mem` while that lives.
    let mem: WriteMem<'_> = unsafe { WriteMem::new(base, 128) };
    let spans = TwinSpans { first: Hot::DESC.span(), second: Some(HotTwin::DESC.span()) };
    let mut writer: WriteTwins<'_> = mem.twins(spans).unwrap();
    let mem_to_read = mem.as_read();
    let reader: ReadTwins<'_> = mem_to_read.twins(spans).unwrap();
    assert_eq!((spans.mask_in(128), spans.mask_in(127)), (0b101, 0b1));
    let active = Cell::new([true; 2]);
    let guarded = |copy| match copy {
        TwinCopy::First => active.get()[0].then_some(()),
        TwinCopy::Second => active.get()[1].then_some(()),
    };
    let read = || {
        let mut words = [0; 2];
        let word = reader.try_read_word(1, guarded).map(|found| found.map(|(word, ())| word));
        let found = reader.try_read(&mut words, guarded);
        let found = found.map(|found| found.map(|(_, updated_ns, ())| (updated_ns, words)));
        assert_eq!(found.map(|found| found.map(|(_, [_, word])| word)), word, "one word, or all");
        found
    };
    writer.write(5, &[1, 2]);
    assert_eq!(read(), Ok(Some((5, [1, 2]))));
    writer.write_word(5, 0, 7);
    assert_eq!(read(), Ok(Some((5, [7, 2]))));
    writer.change(6, [1, 0], |words| words.map(|word| word + 1));
    assert_eq!(read(), Ok(Some((6, [8, 3]))));
    writer.change(7, [1, 2], |words| words.map(|word| word + 1));
    assert_eq!(read(), Ok(Some((6, [8, 3]))), "there is no third word");
    writer.change(5, [0, 1], |_| [7, 2]);
    // A writer that died in the first copy, then one that died in the second.
    writer.first.suspend();
    assert_eq!(read(), Ok(Some((5, [7, 2]))));
    active.set([true, false]);
    assert!(read().is_err(), "a twin that is not active is not read");
    active.set([false, false]);
    assert_eq!(read(), Ok(None), "not active is not busy");
    active.set([true; 2]);
    writer.first.write(6, &[3, 4]);
    writer.second.get().unwrap().suspend();
    assert_eq!(read(), Ok(Some((6, [3, 4]))));
    writer.suspend();
    assert!(read().is_err());
    // A record that ends before the twin: the group is as one without.
    let mut short: WriteTwins<'_> = mem.sub(0, 96).unwrap().twins(spans).unwrap();
    assert!(short.second.get().is_none());
    short.write(7, &[5, 6]);
    assert_eq!(read(), Ok(Some((7, [5, 6]))));
    assert!(mem.sub(0, 32).unwrap().twins(spans).is_none(), "a record that ends before the group");
}
