//! Record kinds, and the words that records and groups start with: magic numbers and offsets.
//!
//! Everything else in this crate builds on these numbers; this module builds on nothing.

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident $number:literal $name:literal $magic:ident $(of $base:ident)?; )+) => {
        /// Which record a group lies in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RecordKind {
            $( $(#[doc = $doc])+ $kind, )+
        }

        impl RecordKind {
            /// Every kind that this build knows, in order of their numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$kind),+];

            /// The kind's number in a schema.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $( Self::$kind => $number, )+ }
            }

            /// The kind with this number in a schema, if this build knows it.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$kind), )+
                    _ => None,
                }
            }

            /// What a record of this kind starts with.
            #[must_use]
            pub const fn magic(self) -> u32 {
                match self { $( Self::$kind => $magic, )+ }
            }

            /// The kind's name, such as `vcpu`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$kind => $name, )+ }
            }

            /// The kind that records of this one belong to: record `i` to record `i` of it.
            #[must_use]
            pub const fn base(self) -> Option<Self> {
                match self { $( Self::$kind => kinds!(@base $($base)?), )+ }
            }

            /// What the kind is, for tables.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $( Self::$kind => concat!($($doc),+), )+ }
            }
        }
    };
    (@base) => { None };
    (@base $base:ident) => { Some(Self::$base) };
}

kinds! {
    /// The one record that starts the region.
    Dom 1 "dom" DOM_MAGIC;
    /// A record of the vCPU array.
    Vcpu 2 "vcpu" VCPU_MAGIC;
    /// A record of the array of block devices (revision 2).
    Blk 3 "blk" BLK_MAGIC;
    /// A record of the array of network interfaces (revision 4).
    Net 4 "net" NET_MAGIC;
    /// The domain's arch slot: groups that are described at run time (revision 4).
    ArchDom 5 "arch_dom" ARCH_MAGIC of Dom;
    /// A vCPU's arch slot, which lies in the stride of its record (revision 4).
    ArchVcpu 6 "arch_vcpu" ARCH_MAGIC of Vcpu;
    /// One writer's share of a block device (revision 5).
    BlkQueue 7 "blk_queue" BLK_QUEUE_MAGIC;
    /// One writer's share of a network interface (revision 5).
    NetQueue 8 "net_queue" NET_QUEUE_MAGIC;
    /// A block device's arch slot (revision 5).
    ArchBlk 9 "arch_blk" ARCH_MAGIC of Blk;
    /// A network interface's arch slot (revision 5).
    ArchNet 10 "arch_net" ARCH_MAGIC of Net;
    /// Distributions of a vCPU (revision 5).
    VcpuHist 11 "vcpu_hist" VCPU_HIST_MAGIC of Vcpu;
    /// Distributions of a block device (revision 5).
    BlkHist 12 "blk_hist" BLK_HIST_MAGIC of Blk;
    /// What the operator calls the domain by: one record (revision 5).
    Labels 13 "labels" LABELS_MAGIC;
}

/// The number of the kind that is reserved for a host's own region; no build writes it yet.
pub const HOST_KIND: u32 = 14;

/// First number of the kinds that are never given out: whoever uses one names it in the schema.
pub const FIRST_PRIVATE_KIND: u32 = 0x8000_0000;

impl RecordKind {
    /// The kinds that no header has words for: a schema's table of records alone announces them.
    pub const OPTIONAL: [Self; 7] = [
        Self::BlkQueue,
        Self::NetQueue,
        Self::ArchBlk,
        Self::ArchNet,
        Self::VcpuHist,
        Self::BlkHist,
        Self::Labels,
    ];

    /// Whether the kind's groups are described at run time, so that no table lists them.
    #[must_use]
    pub const fn is_arch(self) -> bool {
        matches!(self, Self::ArchDom | Self::ArchVcpu | Self::ArchBlk | Self::ArchNet)
    }

    /// Bytes before the first group.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Dom => DOM_HEADER_LEN,
            _ => RECORD_HEADER_LEN,
        }
    }

    /// Offset of the record's `stats_active` word.
    #[must_use]
    pub const fn active_offset(self) -> usize {
        match self {
            Self::Dom => dom::STATS_ACTIVE,
            _ => array::STATS_ACTIVE,
        }
    }

    /// Offset of the record's `generation` word; the dom record has none.
    #[must_use]
    pub const fn generation_offset(self) -> Option<usize> {
        match self {
            Self::Dom => None,
            _ => Some(array::GENERATION),
        }
    }

    /// Whether the header's eight bytes at `offset` are one u64; else they are two u32.
    #[must_use]
    pub(crate) const fn is_u64(self, offset: usize) -> bool {
        match self {
            Self::Dom => {
                matches!(offset, dom::STATS_ACTIVE | dom::INCARNATION)
            }
            _ => offset == array::STATS_ACTIVE,
        }
    }
}

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
/// `BLQ` and the incompatible ABI version 1, as bytes in memory (revision 5).
pub const BLK_QUEUE_MAGIC: u32 = u32::from_le_bytes(*b"BLQ\x01");
/// `NTQ` and the incompatible ABI version 1, as bytes in memory (revision 5).
pub const NET_QUEUE_MAGIC: u32 = u32::from_le_bytes(*b"NTQ\x01");
/// `VCH` and the incompatible ABI version 1, as bytes in memory (revision 5).
pub const VCPU_HIST_MAGIC: u32 = u32::from_le_bytes(*b"VCH\x01");
/// `BLH` and the incompatible ABI version 1, as bytes in memory (revision 5).
pub const BLK_HIST_MAGIC: u32 = u32::from_le_bytes(*b"BLH\x01");
/// `LAB` and the incompatible ABI version 1, as bytes in memory (revision 5).
pub const LABELS_MAGIC: u32 = u32::from_le_bytes(*b"LAB\x01");
/// `SCH` and the incompatible ABI version 1, as bytes in memory: a schema (revision 4).
pub const SCHEMA_MAGIC: u32 = u32::from_le_bytes(*b"SCH\x01");

/// Length of the dom record's header; groups follow.
pub const DOM_HEADER_LEN: usize = 128;
/// Length of an array record's header; groups follow.
pub const RECORD_HEADER_LEN: usize = 32;

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
pub mod array {
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

/// Bytes of a group before its first field: `seq`, a reserved word, `updated_ns`.
pub const GROUP_HEADER_LEN: usize = 16;
/// Where `rsvd` lies in a group.
pub const GROUP_RSVD: usize = 4;
/// Where `updated_ns` lies in a group.
pub const GROUP_UPDATED_NS: usize = 8;
/// Groups start at multiples of this, so that their fields can be copied with 16-byte loads.
pub const GROUP_ALIGN: usize = 16;

/// Where one copy of a group lies in its record, and its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSpan {
    /// Its start, from the start of the record.
    pub offset: usize,
    /// Its length with header.
    pub size: usize,
    /// Its bit in the record's `stats_active`, as a mask.
    pub mask: u64,
}

/// Where a group and its twin lie in their record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwinSpans {
    /// The copy that is written first.
    pub first: GroupSpan,
    /// Its twin, if it has one.
    pub second: Option<GroupSpan>,
}

impl TwinSpans {
    /// The bits of those copies that a record of `len` bytes has room for, as a mask.
    #[inline(always)]
    #[must_use]
    pub const fn mask_in(self, len: usize) -> u64 {
        match self.second {
            Some(second) if second.offset + second.size <= len => self.first.mask | second.mask,
            _ => self.first.mask,
        }
    }
}

impl From<GroupSpan> for TwinSpans {
    /// A group without a twin.
    fn from(first: GroupSpan) -> Self {
        Self { first, second: None }
    }
}
