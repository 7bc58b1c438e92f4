//! Twins, from declaration to use.
#![allow(unsafe_code, reason = "shared memory made of a local")]
#![allow(dead_code, unreachable_pub, reason = "declared to be looked at in the table")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use core::ptr::NonNull;

use super::*;
use crate::value::Word;
use crate::{ReadTwins, WriteMem, WriteTwins};

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
    /// The second copy of `Hot`, added later.
    vcpu 2 at 96 len 32 since 2 HotTwin "hot_twin" twin of Hot {
        /// As in the first copy.
        16 a_ns: Word, Kind::Cumulative, Unit::Ns;
        /// As in the first copy.
        24 b_ns: Word, Kind::Cumulative, Unit::Ns;
    }
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
    let mut writer = WriteTwins::of(mem, Hot::DESC, HotTwin::DESC).unwrap();
    let reader: ReadTwins<'_> = ReadTwins::of(mem.as_read(), Hot::DESC, HotTwin::DESC).unwrap();
    let read = || {
        let mut words = [0; 2];
        reader.try_read(&mut words, || ()).map(|(_, updated_ns, ())| (updated_ns, words))
    };
    writer.write(5, &[1, 2]);
    assert_eq!(read().unwrap(), (5, [1, 2]));
    // A writer that died in the first copy, then one that died in the second.
    writer.first.suspend();
    assert_eq!(read().unwrap(), (5, [1, 2]));
    writer.first.write(6, &[3, 4]);
    writer.second.suspend();
    assert_eq!(read().unwrap(), (6, [3, 4]));
    writer.first.suspend();
    assert!(read().is_err());
    // A record that ends before the twin.
    let short = mem.sub(0, 96).unwrap();
    assert!(WriteTwins::of(short, Hot::DESC, HotTwin::DESC).is_none());
}
