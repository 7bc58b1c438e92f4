//! Corrupt regions: one for each rule, which trips it and only it, and a good one.
//!
//! A fixture is data: the bytes of a region, what a misbehaving writer does to them between two
//! looks, and the one finding that must result.

use domstat_layout::header::{RECORD_HEADER_LEN, dom, record};
use domstat_layout::r1::{DOM_SIZE, Identity, Memory, REVISION, Runstate, VCPU_SIZE};
use domstat_layout::{Clock, DOM_MAGIC, Group, GroupDesc, Name, Ns, State, VCPU_MAGIC};

use crate::{Books, Finding, ThreadTime};

mod corrupt;
mod revision4;
mod revision5;

pub use corrupt::{Corrupt, corrupt};
pub use revision4::{good_of, good_of_revision_4};
pub use revision5::good_of_revision_5;

/// A region that breaks one rule.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// A file name for it: the rule, and what is wrong.
    pub name: &'static str,
    /// Its bytes at first.
    pub bytes: Vec<u8>,
    /// What is written between the first look and the second.
    pub then: Vec<Patch>,
    /// Where the bytes lie.
    pub place: Place,
    /// The books of the vCPUs' threads at each look; empty if none are known.
    pub books: Vec<Books>,
    /// The one finding that must result.
    pub finding: Finding,
}

/// Bytes written at a place.
pub type Patch = (usize, Vec<u8>);

/// Where a fixture's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a plain file.
    File,
    /// In a memfd that was not sealed.
    UnsealedMemfd,
    /// In frames, of which the second and the third are the same memory.
    SharedFrames,
}

impl Fixture {
    /// Whether a single look at a plain file is enough to find what is wrong.
    #[must_use]
    pub fn is_static_file(&self) -> bool {
        self.then.is_empty() && self.place == Place::File
    }
}

const VCPU_OFFS: usize = 448;
const STRIDE: usize = 128;
/// When everything was written: one millisecond after the clock began.
const NOW: u64 = 1_000_000;

/// Bytes that can be written word by word.
struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.0.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    /// A group that was written once, with these fields.
    fn group(&mut self, base: usize, desc: &GroupDesc, fields: &[u64]) {
        let at = base + desc.offset;
        self.u32(at, 2);
        self.u64(at + 8, NOW);
        for (i, field) in fields.iter().enumerate() {
            self.u64(at + 16 + 8 * i, *field);
        }
    }
}

/// A region of revision 1 without a fault: two vCPUs, packed, one page. Its revision is the oldest
/// on purpose: rules must hold for producers of every age.
#[must_use]
pub fn good() -> Vec<u8> {
    let mut b = Bytes(vec![0; 4096]);
    b.u32(dom::MAGIC, DOM_MAGIC);
    let word = |n: usize| u32::try_from(n).unwrap_or(0);
    b.u32(dom::DOM_SIZE, word(DOM_SIZE));
    b.u32(dom::VCPU_OFFS, word(VCPU_OFFS));
    b.u32(dom::VCPU_SIZE, word(VCPU_SIZE));
    b.u32(dom::VCPU_STRIDE, word(STRIDE));
    b.u32(dom::NR_VCPUS, 2);
    b.u64(dom::STATS_ACTIVE, 3);
    b.u32(dom::ALIGN, 64);
    b.u32(dom::STATE, State::Live as u32);
    b.u64(dom::INCARNATION, 77);
    b.u32(dom::REVISION, REVISION);
    b.u32(dom::CLOCK, Clock::Monotonic as u32);
    b.group(0, Identity::DESC, &[5, 6, 7]);
    b.put(name_offset(), &Name::new("fixture").0);
    b.u64(Identity::created_ns.offset(), 0);
    b.group(0, Memory::DESC, &[1024, 2048, 512, u64::MAX, u64::MAX, u64::MAX, 10, 11, 12, 13]);
    for (index, at) in [(0, VCPU_OFFS), (1, VCPU_OFFS + STRIDE)] {
        b.u32(at + record::MAGIC, VCPU_MAGIC);
        b.u32(at + record::INDEX, index);
        b.u64(at + record::STATS_ACTIVE, 1);
        b.group(at, Runstate::DESC, &[2, NOW / 2, NOW / 4, NOW / 4, NOW / 2, 0]);
    }
    b.0
}

/// Start of vCPU 1's record.
const VCPU1: usize = VCPU_OFFS + STRIDE;

/// A fixture whose bytes are the good ones with some words changed.
fn fixture(
    name: &'static str,
    change: impl FnOnce(&mut Bytes),
    rule: &'static str,
    offset: usize,
    what: &str,
    expected: &str,
    found: &str,
) -> Fixture {
    let mut bytes = Bytes(good());
    change(&mut bytes);
    let finding = Finding {
        rule,
        offset: offset as u64,
        what: what.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    Fixture {
        name,
        bytes: bytes.0,
        then: Vec::new(),
        place: Place::File,
        books: Vec::new(),
        finding,
    }
}

/// Every fixture, in order of the rules.
#[must_use]
pub fn all() -> Vec<Fixture> {
    let mut all = header_fixtures();
    all.extend(record_fixtures());
    all.extend(writer_fixtures());
    all.extend(revision4::all());
    all.extend(revision5::all());
    all.sort_by_key(|f| f.finding.rule);
    all
}

/// Headers with impossible words.
fn header_fixtures() -> Vec<Fixture> {
    vec![
        fixture(
            "i01-unknown-magic",
            |b| b.u32(dom::MAGIC, 0x024d_4f44),
            "I01",
            dom::MAGIC,
            "magic",
            "0x014d4f44",
            "0x024d4f44",
        ),
        fixture(
            "i03-dom-record-larger-than-the-mapping",
            |b| b.u32(dom::DOM_SIZE, 8192),
            "I03",
            dom::DOM_SIZE,
            "dom_size",
            "128 to 4096",
            "8192",
        ),
        fixture(
            "i04-vcpu-array-starts-inside-the-dom-record",
            |b| b.u32(dom::VCPU_OFFS, 384),
            "I04",
            dom::VCPU_OFFS,
            "vcpu_offs",
            "at least 400",
            "384",
        ),
        fixture(
            "i05-stride-smaller-than-the-record",
            |b| b.u32(dom::VCPU_STRIDE, 64),
            "I05",
            dom::VCPU_STRIDE,
            "vcpu_stride",
            "at least 96",
            "64",
        ),
        fixture(
            "i06-array-wraps-past-the-mapping",
            |b| b.u32(dom::VCPU_STRIDE, 0xffff_ffc0),
            "I06",
            dom::VCPU_OFFS,
            "vcpu_offs + nr_vcpus * vcpu_stride",
            "at most 4096",
            "8589934912",
        ),
        fixture(
            "i07-a-negative-number-of-vcpus",
            |b| b.u32(dom::NR_VCPUS, u32::MAX),
            "I07",
            dom::NR_VCPUS,
            "nr_vcpus",
            "1 to 65536",
            "4294967295",
        ),
        fixture(
            "i08-size-not-a-multiple-of-8",
            |b| b.u32(dom::DOM_SIZE, 404),
            "I08",
            dom::DOM_SIZE,
            "dom_size",
            "a multiple of 8",
            "404",
        ),
        fixture(
            "i09-alignment-not-a-power-of-two",
            |b| b.u32(dom::ALIGN, 48),
            "I09",
            dom::ALIGN,
            "align",
            "a power of two",
            "48",
        ),
        fixture(
            "i11-reserved-word-of-the-header",
            |b| b.u32(dom::UNUSED + 4, 1),
            "I11",
            dom::UNUSED + 4,
            "dom.reserved",
            "0",
            "0x1",
        ),
        fixture(
            "i12-bit-that-revision-1-does-not-define",
            |b| b.u64(VCPU1 + record::STATS_ACTIVE, 1 | 1 << 9),
            "I12",
            VCPU1 + record::STATS_ACTIVE,
            "vcpu[1].stats_active",
            "no bit outside 0x1",
            "0x201",
        ),
    ]
}

/// Records with impossible contents.
fn record_fixtures() -> Vec<Fixture> {
    vec![
        fixture(
            "i02-record-with-the-index-of-another",
            |b| b.u32(VCPU1 + record::INDEX, 0),
            "I02",
            VCPU1 + record::INDEX,
            "vcpu[1].index",
            "1",
            "0",
        ),
        Fixture {
            place: Place::SharedFrames,
            ..fixture(
                "i10-two-records-in-one-frame",
                |_| {},
                "I10",
                VCPU1,
                "frame 2",
                "memory of its own",
                "the memory of frame 1",
            )
        },
        fixture(
            "i13-active-group-past-the-end-of-the-record",
            |b| b.u32(dom::DOM_SIZE, 392),
            "I13",
            Memory::DESC.offset,
            "dom.memory",
            "to end at byte 392 of its record or before",
            "400",
        ),
        fixture(
            "i15-byte-in-a-gap",
            |b| b.put(VCPU1 + VCPU_SIZE + 9, &[0x5a]),
            "I15",
            VCPU1 + VCPU_SIZE + 8,
            "gap after vcpu[1]",
            "0",
            "0x5a00",
        ),
        fixture(
            "i16-writer-died-in-mid-update",
            |b| b.u32(VCPU1 + RECORD_HEADER_LEN, 7),
            "I16",
            VCPU1 + RECORD_HEADER_LEN,
            "vcpu[1].runstate.seq",
            "even within 100ms",
            "7 all the time",
        ),
        fixture(
            "i21-active-group-never-published",
            |b| b.put(Memory::DESC.offset, &[0; 96]),
            "I21",
            Memory::DESC.offset,
            "dom.memory.seq",
            "an even number above 0",
            "0",
        ),
        fixture(
            "i22-runstate-out-of-range",
            |b| b.u64(VCPU1 + Runstate::state.offset(), 4),
            "I22",
            VCPU1 + Runstate::state.offset(),
            "vcpu[1].runstate.state",
            "0 to 3",
            "4",
        ),
        fixture(
            "i22-name-without-an-end",
            |b| b.put(name_offset(), &[b'x'; 128]),
            "I22",
            name_offset(),
            "dom.identity.name",
            "UTF-8 with a zero byte at its end",
            "no zero byte",
        ),
        Fixture {
            place: Place::UnsealedMemfd,
            ..fixture(
                "i24-memfd-without-seals",
                |_| {},
                "I24",
                0,
                "seals of the memfd",
                "SealFlags(SHRINK | FUTURE_WRITE)",
                "SealFlags(0x0)",
            )
        },
    ]
}

/// Good regions whose writer then breaks a rule.
fn writer_fixtures() -> Vec<Fixture> {
    let word = |value: u64| value.to_le_bytes().to_vec();
    let seq = |value: u32| value.to_le_bytes().to_vec();
    vec![
        Fixture {
            then: vec![(Memory::rss_bytes.offset(), word(99))],
            ..fixture(
                "i14-inactive-group-written",
                |b| {
                    b.u64(dom::STATS_ACTIVE, 1);
                    b.u32(Memory::DESC.offset, 3);
                },
                "I14",
                Memory::rss_bytes.offset(),
                "dom.memory",
                "0x200, as before",
                "0x63",
            )
        },
        Fixture {
            then: vec![(Memory::rss_bytes.offset(), word(99))],
            ..fixture(
                "i17-field-written-without-seq",
                |_| {},
                "I17",
                Memory::rss_bytes.offset(),
                "dom.memory at seq 2",
                "512, as before",
                "99",
            )
        },
        Fixture {
            then: vec![(dom::INCARNATION, word(78))],
            ..fixture(
                "i18-header-word-changed",
                |_| {},
                "I18",
                dom::INCARNATION,
                "incarnation",
                "77, as before",
                "78",
            )
        },
        Fixture {
            then: vec![(Memory::DESC.offset, seq(4)), (Memory::minor_faults.offset(), word(12))],
            ..fixture(
                "i19-counter-went-back",
                |_| {},
                "I19",
                Memory::minor_faults.offset(),
                "dom.memory.minor_faults",
                "at least 13, as before",
                "12",
            )
        },
        Fixture {
            then: vec![
                (VCPU1 + Runstate::DESC.offset, seq(4)),
                (VCPU1 + Runstate::DESC.offset + 8, word(NOW + 50_000_000)),
            ],
            ..fixture(
                "i20-time-that-no-state-got",
                |_| {},
                "I20",
                VCPU1 + Runstate::running_ns.offset(),
                "vcpu[1].runstate",
                "times that sum to 51000000 ns, the clock having moved 50000000 ns",
                "1000000 ns",
            )
        },
        Fixture {
            then: vec![
                (VCPU1 + Runstate::DESC.offset, seq(4)),
                (VCPU1 + Runstate::DESC.offset + 8, word(NOW + 50_000_000)),
                (VCPU1 + Runstate::running_ns.offset(), word(NOW / 4 + 50_000_000)),
            ],
            // The one thread ran for 10 of the 50 ms.
            books: [(NOW, 5), (NOW + 50_000_000, 10_000_005)]
                .map(|(at, running_ns)| Books {
                    from: Ns(at),
                    to: Ns(at),
                    threads: vec![ThreadTime { tid: 7, running_ns }],
                })
                .to_vec(),
            ..fixture(
                "i26-vcpu-that-runs-longer-than-its-thread",
                |_| {},
                "I26",
                VCPU1 + Runstate::running_ns.offset(),
                "vcpu[1].runstate.running_ns",
                "at most the 10 ms that a thread ran in 50 ms",
                "50 ms more than at first",
            )
        },
    ]
}

/// Where the domain's name lies in the dom record.
fn name_offset() -> usize {
    Identity::DESC.fields.iter().find(|field| field.name == "name").map_or(0, |field| field.offset)
}
