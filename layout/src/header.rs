//! The dom record's header: a copy of its words that can be validated, and what they say.
//!
//! The offsets of header words come from the private module `record` and are public here: those
//! of the dom record in [`dom`], those of array records in [`record`](mod@record).

use crate::mem::ReadMem;
use crate::record::RecordKind;

pub use crate::record::{
    ARCH_MAGIC, BLK_HIST_MAGIC, BLK_MAGIC, BLK_QUEUE_MAGIC, DOM_HEADER_LEN, DOM_MAGIC,
    FIRST_PRIVATE_KIND, HOST_KIND, LABELS_MAGIC, NET_MAGIC, NET_QUEUE_MAGIC, RECORD_HEADER_LEN,
    SCHEMA_MAGIC, VCPU_HIST_MAGIC, VCPU_MAGIC, array as record, dom,
};

/// Most vCPUs that a region may describe (rule I07); far above what any hypervisor offers today.
pub const MAX_VCPUS: u32 = 65_536;
/// Most devices of one kind that a region may describe (rule I07).
pub const MAX_DEVICES: u32 = 65_536;

/// Longest region in bytes: four times what [`MAX_VCPUS`] on pages of 4096 bytes need. Consumers do
/// not map a longer one.
pub const MAX_REGION_LEN: usize = 1 << 30;

/// Life of a region, as its `state` word says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not published yet.
    Initializing = 0,
    /// Being written.
    Live = 1,
    /// The domain has ended; nothing changes any more.
    Retired = 2,
}

impl State {
    /// The state with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Initializing),
            1 => Some(Self::Live),
            2 => Some(Self::Retired),
            _ => None,
        }
    }

    /// `initializing`, `live` or `retired`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Live => "live",
            Self::Retired => "retired",
        }
    }
}

/// What the region's points in time count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The producer does not say.
    Unknown = 0,
    /// Linux `CLOCK_MONOTONIC`.
    Monotonic = 1,
    /// Linux `CLOCK_BOOTTIME`.
    Boottime = 2,
    /// Xen system time.
    XenSystemTime = 3,
}

impl Clock {
    /// The clock with this number; a number that this build does not know is [`Clock::Unknown`].
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Monotonic,
            2 => Self::Boottime,
            3 => Self::XenSystemTime,
            _ => Self::Unknown,
        }
    }

    /// `monotonic`, `boottime`, `xen` or `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Monotonic => "monotonic",
            Self::Boottime => "boottime",
            Self::XenSystemTime => "xen",
        }
    }
}

/// The dom header's words, copied once. Holding one proves nothing about them: they are what the
/// other side alleges. [`crate::Geometry::validate`] turns a copy into something usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the word of the same name in `dom`")]
pub struct DomHeader {
    pub magic: u32,
    pub dom_size: u32,
    pub vcpu: ArrayWords,
    pub align: u32,
    pub incarnation: u64,
    pub revision: u32,
    pub clock: u32,
    pub arch_dom: SectionWords,
    pub arch_vcpu: SectionWords,
    pub schema: SectionWords,
    pub blk: ArrayWords,
    pub net: ArrayWords,
}

/// The two header words of a section; both are 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the word of that name in `dom`")]
pub struct SectionWords {
    pub offs: u32,
    pub size: u32,
}

/// The four header words of an array; all are 0 if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the word of that name in `dom`")]
pub struct ArrayWords {
    pub offs: u32,
    pub size: u32,
    pub stride: u32,
    pub nr: u32,
}

impl SectionWords {
    /// Whether the header says nothing of such a section.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.offs == 0 && self.size == 0
    }

    fn load(mem: ReadMem<'_>, at: usize) -> Option<Self> {
        Some(Self { offs: mem.load_u32(at)?, size: mem.load_u32(at + 4)? })
    }
}

impl ArrayWords {
    /// There is no such array.
    pub const ABSENT: Self = Self { offs: 0, size: 0, stride: 0, nr: 0 };

    /// Whether the header says nothing of such an array.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.offs == 0 && self.size == 0 && self.stride == 0 && self.nr == 0
    }

    fn load(mem: ReadMem<'_>, at: usize) -> Option<Self> {
        Some(Self {
            offs: mem.load_u32(at)?,
            size: mem.load_u32(at + 4)?,
            stride: mem.load_u32(at + 8)?,
            nr: mem.load_u32(at + 12)?,
        })
    }
}

/// Offsets and names of an array's words in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayWordOffsets {
    /// The kind of the array's records.
    pub kind: RecordKind,
    /// Offset of the array's start.
    pub offs: (usize, &'static str),
    /// Offset of the length of a record.
    pub size: (usize, &'static str),
    /// Offset of the distance between records.
    pub stride: (usize, &'static str),
    /// Offset of the number of records.
    pub nr: (usize, &'static str),
    /// Most records that an array of this kind may have (rule I07).
    pub max: u32,
}

/// Offsets and names of a section's words in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionWordOffsets {
    /// What the section is, in a word.
    pub name: &'static str,
    /// Offset of the section's start.
    pub offs: (usize, &'static str),
    /// Offset of the section's length.
    pub size: (usize, &'static str),
}

/// The vcpu array's words in the header.
pub const VCPU_WORDS: ArrayWordOffsets = ArrayWordOffsets {
    kind: RecordKind::Vcpu,
    offs: (dom::VCPU_OFFS, "vcpu_offs"),
    size: (dom::VCPU_SIZE, "vcpu_size"),
    stride: (dom::VCPU_STRIDE, "vcpu_stride"),
    nr: (dom::NR_VCPUS, "nr_vcpus"),
    max: MAX_VCPUS,
};
/// The blk array's words in the header.
pub const BLK_WORDS: ArrayWordOffsets = ArrayWordOffsets {
    kind: RecordKind::Blk,
    offs: (dom::BLK_OFFS, "blk_offs"),
    size: (dom::BLK_SIZE, "blk_size"),
    stride: (dom::BLK_STRIDE, "blk_stride"),
    nr: (dom::NR_BLKS, "nr_blks"),
    max: MAX_DEVICES,
};
/// The net array's words in the header.
pub const NET_WORDS: ArrayWordOffsets = ArrayWordOffsets {
    kind: RecordKind::Net,
    offs: (dom::NET_OFFS, "net_offs"),
    size: (dom::NET_SIZE, "net_size"),
    stride: (dom::NET_STRIDE, "net_stride"),
    nr: (dom::NR_NETS, "nr_nets"),
    max: MAX_DEVICES,
};
/// The domain's arch slot's words in the header.
pub const ARCH_DOM_WORDS: SectionWordOffsets = SectionWordOffsets {
    name: "the domain's arch slot",
    offs: (dom::ARCH_DOM_OFFS, "arch_dom_offs"),
    size: (dom::ARCH_DOM_SIZE, "arch_dom_size"),
};
/// The vCPUs' arch slots' words in the header.
pub const ARCH_VCPU_WORDS: SectionWordOffsets = SectionWordOffsets {
    name: "a vCPU's arch slot",
    offs: (dom::ARCH_VCPU_OFFS, "arch_vcpu_offs"),
    size: (dom::ARCH_VCPU_SIZE, "arch_vcpu_size"),
};
/// The schema's words in the header.
pub const SCHEMA_WORDS: SectionWordOffsets = SectionWordOffsets {
    name: "the schema",
    offs: (dom::SCHEMA_OFFS, "schema_offs"),
    size: (dom::SCHEMA_SIZE, "schema_size"),
};

impl DomHeader {
    /// Copies the header out of shared memory; `None` if `mem` is shorter than a header.
    #[must_use]
    pub fn load(mem: ReadMem<'_>) -> Option<Self> {
        let mem = mem.sub(0, DOM_HEADER_LEN)?;
        let magic = mem.load_published(dom::MAGIC)?;
        Some(Self {
            magic,
            dom_size: mem.load_u32(dom::DOM_SIZE)?,
            vcpu: ArrayWords::load(mem, dom::VCPU_OFFS)?,
            align: mem.load_u32(dom::ALIGN)?,
            incarnation: mem.load_u64(dom::INCARNATION)?,
            revision: mem.load_u32(dom::REVISION)?,
            clock: mem.load_u32(dom::CLOCK)?,
            arch_dom: SectionWords::load(mem, dom::ARCH_DOM_OFFS)?,
            arch_vcpu: SectionWords::load(mem, dom::ARCH_VCPU_OFFS)?,
            schema: SectionWords::load(mem, dom::SCHEMA_OFFS)?,
            blk: ArrayWords::load(mem, dom::BLK_OFFS)?,
            net: ArrayWords::load(mem, dom::NET_OFFS)?,
        })
    }

    /// The arrays that the header speaks of, with the offsets of their words. The vcpu array is
    /// always one of them.
    pub fn arrays(&self) -> impl Iterator<Item = (ArrayWordOffsets, ArrayWords)> {
        let all = [(VCPU_WORDS, self.vcpu), (BLK_WORDS, self.blk), (NET_WORDS, self.net)];
        all.into_iter().filter(|(p, words)| p.kind == RecordKind::Vcpu || !words.is_absent())
    }

    /// The sections that the header speaks of, with the offsets of their words.
    pub fn sections(&self) -> impl Iterator<Item = (SectionWordOffsets, SectionWords)> {
        let all = [
            (ARCH_DOM_WORDS, self.arch_dom),
            (ARCH_VCPU_WORDS, self.arch_vcpu),
            (SCHEMA_WORDS, self.schema),
        ];
        all.into_iter().filter(|(_, words)| !words.is_absent())
    }
}
