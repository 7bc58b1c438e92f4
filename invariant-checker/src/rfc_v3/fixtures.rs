//! Corrupt regions in the layout of RFC v3: one for each rule, which trips it and only it.

use domstat_layout::rfc_v3::{INACTIVE, MAGIC, header, record};

use crate::Finding;
use crate::fixtures::{Fixture, Patch, Place};

const OFFSET: usize = 128;
const STRIDE: usize = 128;

/// Start of vCPU `index`'s record.
const fn vcpu(index: usize) -> usize {
    OFFSET + index * STRIDE
}

fn put(bytes: &mut [u8], at: usize, word: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at + word.len()) {
        to.copy_from_slice(word);
    }
}

fn u32_at(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

fn write(bytes: &mut [u8], index: usize, seq: u32, running: u64) {
    u32_at(bytes, vcpu(index) + record::SEQ, seq);
    put(bytes, vcpu(index) + record::RUNNING_NS, &running.to_le_bytes());
}

/// A region without a fault: one page, three vCPUs of which the second has no running time.
#[must_use]
pub fn good() -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    u32_at(&mut bytes, header::MAGIC, MAGIC);
    u32_at(&mut bytes, header::OFFSET, 128);
    u32_at(&mut bytes, header::SIZE, 16);
    u32_at(&mut bytes, header::STRIDE, 128);
    write(&mut bytes, 0, 4, 1_000);
    write(&mut bytes, 1, 2, INACTIVE);
    write(&mut bytes, 2, 6, 500);
    bytes
}

/// The good bytes with some words changed, and the finding: byte, what lies there, expected, found.
fn fixture(
    name: &'static str,
    rule: &'static str,
    change: impl FnOnce(&mut [u8]),
    (offset, what, expected, found): (u64, &str, &str, &str),
) -> Fixture {
    let mut bytes = good();
    change(&mut bytes);
    let finding = Finding {
        rule,
        offset,
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    Fixture { name, bytes, then: Vec::new(), place: Place::File, books: Vec::new(), finding }
}

/// A fixture whose good bytes change between two looks.
fn then(
    name: &'static str,
    rule: &'static str,
    patches: Vec<Patch>,
    found: (u64, &str, &str, &str),
) -> Fixture {
    Fixture { then: patches, ..fixture(name, rule, |_| {}, found) }
}

/// Every fixture, in order of the rules.
#[must_use]
pub fn all() -> Vec<Fixture> {
    let word = |at: usize, value: u32| move |b: &mut [u8]| u32_at(b, at, value);
    vec![
        fixture(
            "r01-big-endian",
            "R01",
            word(header::MAGIC, MAGIC.swap_bytes()),
            (0, "magic", "0xaabbccdd", "0xddccbbaa"),
        ),
        fixture(
            "r02-record-in-the-header",
            "R02",
            word(header::OFFSET, 8),
            (4, "offset", "at least 16", "8"),
        ),
        fixture(
            "r03-record-without-a-counter",
            "R03",
            word(header::SIZE, 8),
            (8, "size", "at least 16", "8"),
        ),
        fixture(
            "r04-records-overlap",
            "R04",
            word(header::STRIDE, 8),
            (12, "stride", "at least 16", "8"),
        ),
        fixture(
            "r05-record-across-the-end",
            "R05",
            word(header::OFFSET, 4088),
            (4, "offset", "a record that ends at byte 4096 or before", "4088"),
        ),
        fixture(
            "r06-stride-misaligned",
            "R06",
            word(header::STRIDE, 132),
            (12, "stride", "a multiple of 8", "132"),
        ),
        fixture(
            "r07-pad-set",
            "R07",
            word(vcpu(1) + record::PAD, 3),
            (260, "vcpu[1].pad", "0", "3"),
        ),
        fixture(
            "r08-written-past-the-record",
            "R08",
            word(vcpu(2) + 24, 0xff),
            (408, "gap after vcpu[2]", "0", "0xff"),
        ),
        fixture(
            "r09-writer-died-in-mid-update",
            "R09",
            word(vcpu(2) + record::SEQ, 7),
            (384, "vcpu[2].seq", "even within 100ms", "7 all the time"),
        ),
        then(
            "r10-written-without-seq",
            "R10",
            vec![(vcpu(0) + record::RUNNING_NS, 1_001u64.to_le_bytes().to_vec())],
            (136, "vcpu[0].running_ns at seq 4", "1000, as before", "1001"),
        ),
        then(
            "r11-running-time-went-back",
            "R11",
            vec![
                (vcpu(0) + record::SEQ, 6u32.to_le_bytes().to_vec()),
                (vcpu(0) + record::RUNNING_NS, 999u64.to_le_bytes().to_vec()),
            ],
            (136, "vcpu[0].running_ns", "at least 1000, as before", "999"),
        ),
        then(
            "r12-header-changed",
            "R12",
            vec![(header::SIZE, 24u32.to_le_bytes().to_vec())],
            (8, "size", "16, as before", "24"),
        ),
        fixture(
            "r13-stride-scaled-by-the-size",
            "R13",
            |bytes| {
                write(bytes, 1, 0, 0);
                write(bytes, 2, 0, 0);
                write(bytes, 16, 2, 500);
            },
            (
                2176,
                "vcpu[16].seq",
                "vcpu[1] at byte 256",
                "zeros up to here: vcpu[1] with its stride scaled by the size",
            ),
        ),
    ]
}
