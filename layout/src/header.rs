//! The headers of the dom record and of array records: magic numbers, word offsets, and a copy of
//! the dom header that can be validated.

use crate::mem::ReadMem;

/// `DOM` and the incompatible ABI version 1, as bytes in memory.
pub const DOM_MAGIC: u32 = u32::from_le_bytes(*b"DOM\x01");
/// `VCP` and the incompatible ABI version 1, as bytes in memory.
pub const VCPU_MAGIC: u32 = u32::from_le_bytes(*b"VCP\x01");

/// Length of the dom record's header; groups follow.
pub const DOM_HEADER_LEN: usize = 128;
/// Length of an array record's header; groups follow.
pub const RECORD_HEADER_LEN: usize = 32;

/// Most vCPUs that a region may describe (rule I07); far above what any hypervisor offers today.
pub const MAX_VCPUS: u32 = 65_536;

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
    /// Reserved words start here and end with the header.
    pub const RESERVED: usize = 60;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

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
        })
    }
}
