//! The headers of the dom record and of array records: magic numbers, word offsets, and a copy of
//! the dom header that can be validated.

use crate::descriptor::RecordKind;
use crate::mem::ReadMem;

/// `DOM` and the incompatible ABI version 1, as bytes in memory.
pub const DOM_MAGIC: u32 = u32::from_le_bytes(*b"DOM\x01");
/// `VCP` and the incompatible ABI version 1, as bytes in memory.
pub const VCPU_MAGIC: u32 = u32::from_le_bytes(*b"VCP\x01");

/// `BLK` and the incompatible ABI version 1, as bytes in memory (revision 2).
pub const BLK_MAGIC: u32 = u32::from_le_bytes(*b"BLK\x01");
/// `NET` and the incompatible ABI version 1, as bytes in memory (revision 4).
pub const NET_MAGIC: u32 = u32::from_le_bytes(*b"NET\x01");
/// `ARC` and the incompatible ABI version 1, as bytes in memory: an arch slot (revision 4).
pub const ARCH_MAGIC: u32 = u32::from_le_bytes(*b"ARC\x01");
/// `SCH` and the incompatible ABI version 1, as bytes in memory: a schema (revision 4).
pub const SCHEMA_MAGIC: u32 = u32::from_le_bytes(*b"SCH\x01");

/// Length of the dom record's header; groups follow.
pub const DOM_HEADER_LEN: usize = 128;
/// Length of an array record's header; groups follow.
pub const RECORD_HEADER_LEN: usize = 32;

/// Most vCPUs that a region may describe (rule I07); far above what any hypervisor offers today.
pub const MAX_VCPUS: u32 = 65_536;
/// Most devices of one kind that a region may describe (rule I07).
pub const MAX_DEVICES: u32 = 65_536;

/// Longest region in bytes: four times what [`MAX_VCPUS`] on pages of 4096 bytes need. Consumers do
/// not map a longer one.
pub const MAX_REGION_LEN: usize = 1 << 30;

/// Word offsets of the dom record's header.
pub mod dom {
    /// u32: [`super::DOM_MAGIC`]; stored last, with release ordering.
    pub const MAGIC: usize = 0;
    /// u32: length of the dom record as the producer was built.
    pub const DOM_SIZE: usize = 4;
    /// u32: start of the vcpu array.
    pub const VCPU_OFFS: usize = 8;
    /// u32: length of a vcpu record as the producer was built.
    pub const VCPU_SIZE: usize = 12;
    /// u32: distance between vcpu records.
    pub const VCPU_STRIDE: usize = 16;
    /// u32: records in the vcpu array.
    pub const NR_VCPUS: usize = 20;
    /// u64: one bit per group of the dom record that is produced.
    pub const STATS_ACTIVE: usize = 24;
    /// u32: alignment of `vcpu_offs` and `vcpu_stride`.
    pub const ALIGN: usize = 32;
    /// u32: [`crate::State`].
    pub const STATE: usize = 36;
    /// u64: differs whenever the region is created anew.
    pub const INCARNATION: usize = 40;
    /// u32: bumped on discrete events; a futex.
    pub const NOTIFY: usize = 48;
    /// u32: the producer's revision.
    pub const REVISION: usize = 52;
    /// u32: [`crate::Clock`].
    pub const CLOCK: usize = 56;
    /// Reserved words of revision 1 start here and end with the header.
    pub const RESERVED: usize = 60;
    /// u32: start of the domain's arch slot (revision 4); 0 as every word from here on: absent.
    pub const ARCH_DOM_OFFS: usize = 60;
    /// u32: length of the domain's arch slot.
    pub const ARCH_DOM_SIZE: usize = 64;
    /// u32: start of each vCPU's arch slot, from the start of its vcpu record (revision 4).
    pub const ARCH_VCPU_OFFS: usize = 68;
    /// u32: length of a vCPU's arch slot.
    pub const ARCH_VCPU_SIZE: usize = 72;
    /// u32: start of the schema (revision 4).
    pub const SCHEMA_OFFS: usize = 76;
    /// u32: length of the schema.
    pub const SCHEMA_SIZE: usize = 80;
    /// u32: start of the blk array (revision 2).
    pub const BLK_OFFS: usize = 84;
    /// u32: length of a blk record as the producer was built.
    pub const BLK_SIZE: usize = 88;
    /// u32: distance between blk records.
    pub const BLK_STRIDE: usize = 92;
    /// u32: records in the blk array.
    pub const NR_BLKS: usize = 96;
    /// u32: start of the net array (revision 4).
    pub const NET_OFFS: usize = 100;
    /// u32: length of a net record as the producer was built.
    pub const NET_SIZE: usize = 104;
    /// u32: distance between net records.
    pub const NET_STRIDE: usize = 108;
    /// u32: records in the net array.
    pub const NR_NETS: usize = 112;
    /// Words that no revision has put to use start here and end with the header.
    pub const UNUSED: usize = 116;
}

/// Word offsets of an array record's header.
pub mod record {
    /// u32: the record kind's magic.
    pub const MAGIC: usize = 0;
    /// u32: position of the record in its array.
    pub const INDEX: usize = 4;
    /// u64: one bit per group of this record that is produced.
    pub const STATS_ACTIVE: usize = 8;
    /// u32: bumped whenever the slot is given to something else.
    pub const GENERATION: usize = 16;
    /// Reserved words start here and end with the header.
    pub const RESERVED: usize = 20;
}

/// Life of a region, as its `state` word says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not published yet.
    Initializing = 0,
    /// Being written.
    Live = 1,
    /// The domain is gone; nothing changes any more.
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
    pub vcpu_offs: u32,
    pub vcpu_size: u32,
    pub vcpu_stride: u32,
    pub nr_vcpus: u32,
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

/// Where the words of an array lie in the header, and what they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayPlace {
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
}

/// Where the words of a section lie in the header, and what they are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionPlace {
    /// What the section is, in a word.
    pub name: &'static str,
    /// Offset of the section's start.
    pub offs: (usize, &'static str),
    /// Offset of the section's length.
    pub size: (usize, &'static str),
}

/// The vcpu array's place in the header.
pub const VCPU_PLACE: ArrayPlace = ArrayPlace {
    kind: RecordKind::Vcpu,
    offs: (dom::VCPU_OFFS, "vcpu_offs"),
    size: (dom::VCPU_SIZE, "vcpu_size"),
    stride: (dom::VCPU_STRIDE, "vcpu_stride"),
    nr: (dom::NR_VCPUS, "nr_vcpus"),
};
/// The blk array's place in the header.
pub const BLK_PLACE: ArrayPlace = ArrayPlace {
    kind: RecordKind::Blk,
    offs: (dom::BLK_OFFS, "blk_offs"),
    size: (dom::BLK_SIZE, "blk_size"),
    stride: (dom::BLK_STRIDE, "blk_stride"),
    nr: (dom::NR_BLKS, "nr_blks"),
};
/// The net array's place in the header.
pub const NET_PLACE: ArrayPlace = ArrayPlace {
    kind: RecordKind::Net,
    offs: (dom::NET_OFFS, "net_offs"),
    size: (dom::NET_SIZE, "net_size"),
    stride: (dom::NET_STRIDE, "net_stride"),
    nr: (dom::NR_NETS, "nr_nets"),
};
/// The domain's arch slot's place in the header.
pub const ARCH_DOM_PLACE: SectionPlace = SectionPlace {
    name: "the domain's arch slot",
    offs: (dom::ARCH_DOM_OFFS, "arch_dom_offs"),
    size: (dom::ARCH_DOM_SIZE, "arch_dom_size"),
};
/// The vCPUs' arch slots' place in the header.
pub const ARCH_VCPU_PLACE: SectionPlace = SectionPlace {
    name: "a vCPU's arch slot",
    offs: (dom::ARCH_VCPU_OFFS, "arch_vcpu_offs"),
    size: (dom::ARCH_VCPU_SIZE, "arch_vcpu_size"),
};
/// The schema's place in the header.
pub const SCHEMA_PLACE: SectionPlace = SectionPlace {
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
            vcpu_offs: mem.load_u32(dom::VCPU_OFFS)?,
            vcpu_size: mem.load_u32(dom::VCPU_SIZE)?,
            vcpu_stride: mem.load_u32(dom::VCPU_STRIDE)?,
            nr_vcpus: mem.load_u32(dom::NR_VCPUS)?,
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

    /// The words of the vcpu array, as those of any other.
    #[must_use]
    pub const fn vcpu(&self) -> ArrayWords {
        ArrayWords {
            offs: self.vcpu_offs,
            size: self.vcpu_size,
            stride: self.vcpu_stride,
            nr: self.nr_vcpus,
        }
    }

    /// The arrays that the header speaks of, with the places of their words. The vcpu array is
    /// always one of them.
    pub fn arrays(&self) -> impl Iterator<Item = (ArrayPlace, ArrayWords)> {
        let all = [(VCPU_PLACE, self.vcpu()), (BLK_PLACE, self.blk), (NET_PLACE, self.net)];
        all.into_iter().filter(|(p, words)| p.kind == RecordKind::Vcpu || !words.is_absent())
    }

    /// The sections that the header speaks of, with the places of their words.
    pub fn sections(&self) -> impl Iterator<Item = (SectionPlace, SectionWords)> {
        let all = [
            (ARCH_DOM_PLACE, self.arch_dom),
            (ARCH_VCPU_PLACE, self.arch_vcpu),
            (SCHEMA_PLACE, self.schema),
        ];
        all.into_iter().filter(|(_, words)| !words.is_absent())
    }
}
