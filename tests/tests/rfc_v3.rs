//! The layout of RFC v3: whatever the bytes say, nothing outside the mapping is read.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domstat_consumer::Patience;
use domstat_consumer::legacy::LegacyRegion;
use domstat_layout::rfc_v3::{Geometry, HEADER_LEN, Header, INACTIVE, MAGIC, Running, recognized};
use domstat_layout::{Busy, ReadMem, WriteMem};
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

/// Memory that a writer and a reader share, with a header in it.
#[allow(unsafe_code)]
fn shared(words: &[AtomicU64]) -> (WriteMem<'_>, LegacyRegion) {
    let base = NonNull::from(words).cast();
    // SAFETY: the words are atomics, aligned, and borrowed for as long as the writer's view lives.
    let writer = unsafe { WriteMem::new(base, size_of_val(words)) };
    for (at, word) in [(4, GOOD.offset), (8, GOOD.size), (12, GOOD.stride), (0, MAGIC)] {
        writer.store_u32(at, word).unwrap();
    }
    // SAFETY: the callers drop the region before the words.
    (writer, unsafe { LegacyRegion::from_pages(base, size_of_val(words)) }.unwrap())
}

fn page() -> Vec<AtomicU64> {
    (0..512).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn the_time_belongs_to_the_seq_that_it_is_read_with() {
    let words = page();
    let (writer, region) = shared(&words);
    // The word of a group that holds when it was written is the record's running time.
    let mut record = writer.group(GOOD.offset as usize, 16).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writes = 0;
            while !done.load(Ordering::Relaxed) {
                writes += 1;
                record.write(writes * 2 * 1_000, &[]);
                // Readers are bounded, not fair: a writer that never pauses may starve them.
                (0..200).for_each(|_| std::hint::spin_loop());
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        let until = Instant::now() + Duration::from_secs(20);
        while seen.len() < 1_000 && Instant::now() < until {
            let Ok(read) = region.vcpu(0).unwrap() else { continue };
            let expected = Some(u64::from(read.seq) * 1_000);
            if read.word != expected {
                done.store(true, Ordering::Relaxed);
                panic!("torn: {read:?}");
            }
            seen.insert(read.seq);
        }
        done.store(true, Ordering::Relaxed);
        assert!(seen.len() >= 1_000, "{} writes were seen", seen.len());
    });
}

#[test]
fn a_dead_writer_of_every_record_is_waited_for_once() {
    let words = page();
    let (writer, region) = shared(&words);
    for index in 0..31 {
        writer.group(128 + 128 * index, 16).unwrap().suspend();
    }
    let patience = Patience { spins: 10, yielding: Duration::from_millis(100) };
    let region = region.with_patience(patience);
    let start = Instant::now();
    let stalled: Vec<_> =
        region.vcpus().map(|record| *record.unwrap_err().stalled().unwrap()).collect();
    assert_eq!(stalled.len(), 31);
    assert!(stalled.iter().zip(0..).all(|(s, i)| s.index == Some(i) && s.seq == 1), "{stalled:?}");
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    assert!(region.vcpu(31).is_none());
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
