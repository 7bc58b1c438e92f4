//! The layout of RFC v3: whatever the bytes say, nothing outside the mapping is read.

use std::ptr::NonNull;

use domstat_layout::rfc_v3::{Geometry, HEADER_LEN, Header, INACTIVE, MAGIC, Running, recognized};
use domstat_layout::{Busy, ReadMem};
use proptest::prelude::*;

const GOOD: Header = Header { magic: MAGIC, offset: 128, size: 16, stride: 128 };

/// The `len` first bytes of `words` as shared memory.
#[allow(unsafe_code)]
fn mem(words: &mut [u64], len: usize) -> ReadMem<'_> {
    assert!(len <= words.len() * 8);
    // SAFETY: the bytes are readable, aligned, and borrowed for as long as the result lives, so
    // that nothing else reaches them.
    unsafe { ReadMem::new(NonNull::from(words).cast(), len) }
}

/// The words of a header.
fn words(h: Header) -> [u64; 2] {
    let pair = |a: u32, b: u32| (u64::from(a) | u64::from(b) << 32).to_le();
    [pair(h.magic, h.offset), pair(h.size, h.stride)]
}

#[test]
fn what_a_record_says() {
    let mut region = vec![0u64; 512];
    region[..2].copy_from_slice(&words(GOOD));
    let mut put = |index: usize, seq: u64, ns: u64| {
        region[16 + 16 * index] = seq.to_le();
        region[16 + 16 * index + 1] = ns.to_le();
    };
    put(0, 4, 1_500);
    put(1, 2, 0);
    put(2, 2, INACTIVE | 7);
    put(4, 0, 9);
    put(5, 3, 9);
    let mem = mem(&mut region, 4096);
    assert!(recognized(mem));
    let geometry = Geometry::validate(&Header::load(mem).unwrap(), mem.len()).unwrap();
    let running = |index| geometry.try_read(mem, index).unwrap().unwrap().running();
    assert_eq!(running(0), Running::Ns(1_500));
    assert_eq!(running(1), Running::Ns(0), "written, and zero");
    assert_eq!(running(2), Running::InactiveOrOverflowed);
    assert_eq!(running(3), Running::NeverWritten);
    assert_eq!(running(4), Running::Ns(9), "seq wraps around at 2^32");
    assert_eq!(geometry.try_read(mem, 5), Some(Err(Busy { seq: 3 })));
    assert_eq!(geometry.try_read(mem, 31), None);
    // A geometry that was validated against a longer mapping reads nothing outside this one.
    assert_eq!(geometry.try_read(mem.sub(0, 264).unwrap(), 1), None);
}

#[test]
fn records_that_end_before_the_counter_do_not_have_it() {
    let mut region = vec![u64::MAX; 64];
    region[..2].copy_from_slice(&words(Header { size: 8, ..GOOD }));
    let mem = mem(&mut region, 512);
    let geometry = Geometry::validate(&Header::load(mem).unwrap(), mem.len()).unwrap();
    assert_eq!(geometry.try_read(mem, 0).unwrap().unwrap().running(), Running::Unknown);
}

proptest! {
    /// Whatever the header says, what is accepted lies inside the mapping, and is read without a
    /// panic.
    #[test]
    fn accepted_means_inside(
        magic in prop_oneof![4 => Just(MAGIC), 1 => any::<u32>()],
        shape in prop::array::uniform3(prop_oneof![3 => 0u32..600, 1 => any::<u32>()]),
        aligned in prop::bool::weighted(0.8),
        len in 0usize..=2048,
        fill in any::<u64>(),
    ) {
        let [offset, size, stride] = shape.map(|w| if aligned { w & !7 } else { w });
        let mut bytes: Vec<u64> = vec![fill; 256];
        bytes[..2].copy_from_slice(&words(Header { magic, offset, size, stride }));
        let mem = mem(&mut bytes, len);
        let Some(header) = Header::load(mem) else {
            prop_assert!(len < HEADER_LEN);
            return Ok(());
        };
        if let Ok(g) = Geometry::validate(&header, len) {
            prop_assert!(g.offset() >= HEADER_LEN && g.stride() >= g.size() && g.nr_records() > 0);
            for index in 0..g.nr_records() {
                let at = g.record_offset(index).unwrap();
                prop_assert!(at + g.size() <= len && at.is_multiple_of(8));
                prop_assert!(g.try_read(mem, index).is_some());
            }
            let next = g.offset() + g.nr_records() as usize * g.stride();
            prop_assert!(next + g.size() > len, "no record that fits is left out");
            prop_assert_eq!(g.try_read(mem, g.nr_records()), None);
        }
    }

    /// Any bytes at all.
    #[test]
    fn any_bytes(mut bytes in prop::collection::vec(any::<u64>(), 2..64), marked in any::<bool>()) {
        if marked {
            bytes[0] = (bytes[0] & !0xffff_ffff) | u64::from(MAGIC);
        }
        let len = bytes.len() * 8;
        let mem = mem(&mut bytes, len);
        let header = Header::load(mem).unwrap();
        if let Ok(g) = Geometry::validate(&header, len) {
            prop_assert!(g.record_offset(g.nr_records() - 1).unwrap() + g.size() <= len);
        }
    }
}
