//! The descriptor table: what every group and field is, where it lies, and the macro that
//! declares a group once and derives everything else from that declaration.

use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which record a group lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// The one record that starts the region.
    Dom,
    /// A record of the vCPU array.
    Vcpu,
    /// A record of the array of block devices (revision 2).
    Blk,
    /// A record of the array of network interfaces (revision 4).
    Net,
    /// The domain's arch slot: groups that are described at run time (revision 4).
    ArchDom,
    /// A vCPU's arch slot, which lies in the stride of its record (revision 4).
    ArchVcpu,
}

impl RecordKind {
    /// Every kind that this build knows.
    pub const ALL: [Self; 6] =
        [Self::Dom, Self::Vcpu, Self::Blk, Self::Net, Self::ArchDom, Self::ArchVcpu];

    /// The kind's number in a schema.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Dom => 1,
            Self::Vcpu => 2,
            Self::Blk => 3,
            Self::Net => 4,
            Self::ArchDom => 5,
            Self::ArchVcpu => 6,
        }
    }

    /// The kind with this number in a schema, if this build knows it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Dom),
            2 => Some(Self::Vcpu),
            3 => Some(Self::Blk),
            4 => Some(Self::Net),
            5 => Some(Self::ArchDom),
            6 => Some(Self::ArchVcpu),
            _ => None,
        }
    }

    /// What a record of this kind starts with.
    #[must_use]
    pub const fn magic(self) -> u32 {
        match self {
            Self::Dom => crate::header::DOM_MAGIC,
            Self::Vcpu => crate::header::VCPU_MAGIC,
            Self::Blk => crate::header::BLK_MAGIC,
            Self::Net => crate::header::NET_MAGIC,
            Self::ArchDom | Self::ArchVcpu => crate::header::ARCH_MAGIC,
        }
    }

    /// Bytes before the first group.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Dom => crate::header::DOM_HEADER_LEN,
            _ => crate::header::RECORD_HEADER_LEN,
        }
    }

    /// Offset of the record's `stats_active` word.
    #[must_use]
    pub const fn active_offset(self) -> usize {
        match self {
            Self::Dom => crate::header::dom::STATS_ACTIVE,
            _ => crate::header::record::STATS_ACTIVE,
        }
    }

    /// Offset of the record's `generation` word; the dom record has none.
    #[must_use]
    pub const fn generation_offset(self) -> Option<usize> {
        match self {
            Self::Dom => None,
            _ => Some(crate::header::record::GENERATION),
        }
    }

    /// Whether the header's eight bytes at `offset` are one u64; else they are two u32.
    #[must_use]
    pub(crate) const fn is_u64(self, offset: usize) -> bool {
        match self {
            Self::Dom => {
                matches!(offset, crate::header::dom::STATS_ACTIVE | crate::header::dom::INCARNATION)
            }
            _ => offset == crate::header::record::STATS_ACTIVE,
        }
    }

    /// `dom`, `vcpu`, `blk`, `net`, `arch_dom` or `arch_vcpu`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dom => "dom",
            Self::Vcpu => "vcpu",
            Self::Blk => "blk",
            Self::Net => "net",
            Self::ArchDom => "arch_dom",
            Self::ArchVcpu => "arch_vcpu",
        }
    }
}

/// How a field's values behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases within an incarnation and generation.
    Cumulative,
    /// May go up and down.
    Instant,
    /// One of the named values, in order from 0.
    State(&'static [&'static str]),
    /// Identifies something; constant within an incarnation.
    Id,
    /// Text terminated by a zero byte.
    Text,
}

impl Kind {
    /// One word for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Instant => "instant",
            Self::State(_) => "state",
            Self::Id => "id",
            Self::Text => "text",
        }
    }
}

/// What a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number, or no number at all.
    None,
    /// Nanoseconds, on the region's clock where it is a point in time.
    Ns,
    /// Bytes.
    Bytes,
    /// How often something happened.
    Events,
}

impl Unit {
    /// One word for tables; `-` for [`Unit::None`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Ns => "ns",
            Self::Bytes => "bytes",
            Self::Events => "events",
        }
    }
}

/// Bytes of a group before its first field: `seq`, a reserved word, `updated_ns`.
pub const GROUP_HEADER_LEN: usize = 16;
/// Where `rsvd` lies in a group.
pub const GROUP_RSVD: usize = 4;
/// Where `updated_ns` lies in a group.
pub const GROUP_UPDATED_NS: usize = 8;
/// Groups start at multiples of this, so that their fields can be copied with 16-byte loads.
pub const GROUP_ALIGN: usize = 16;

/// One field of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDesc {
    /// Its name, with the unit in it.
    pub name: &'static str,
    /// Where it lies, from the start of its record.
    pub offset: usize,
    /// Its length in bytes; a multiple of 8.
    pub width: usize,
    /// How it behaves over time.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// What it means and what it corresponds to.
    pub doc: &'static str,
}

/// One stat group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDesc {
    /// Its name in tables and output.
    pub name: &'static str,
    /// The record it lies in.
    pub record: RecordKind,
    /// Its bit in the record's `stats_active`.
    pub bit: u32,
    /// Where it starts, from the start of its record; a multiple of [`GROUP_ALIGN`].
    pub offset: usize,
    /// Its length with header; a multiple of [`GROUP_ALIGN`].
    pub size: usize,
    /// The revision that added it.
    pub since: u32,
    /// The earlier group of the same record that this one is a second copy of, if it is one: its
    /// twin. Both have the same fields; the writer writes the earlier one first.
    pub twin_of: Option<&'static Self>,
    /// What it is, who writes it and when it changes.
    pub doc: &'static str,
    /// Its fields, in order.
    pub fields: &'static [FieldDesc],
}

impl GroupDesc {
    /// First byte after the group, from the start of its record.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset + self.size
    }

    /// The group's bit as a mask.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        1 << self.bit
    }

    /// The group's twin among its record's groups, if it has one.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn twin_in(&self, groups: &[&'static Self]) -> Option<&'static Self> {
        let mut i = 0;
        while i < groups.len() {
            if let Some(first) = groups[i].twin_of
                && first.bit == self.bit
            {
                return Some(groups[i]);
            }
            i += 1;
        }
        None
    }

    /// 64-bit words of the group's fields, without its header.
    #[must_use]
    pub const fn payload_words(&self) -> usize {
        (self.size - GROUP_HEADER_LEN) / 8
    }
}

/// A stat group as a type: the fields as they lie in memory, without the group's header.
///
/// Implemented by the table of each revision ([`crate::r1`]) and by nothing else.
pub trait Group: FromBytes + IntoBytes + Immutable + KnownLayout + Copy + Send + 'static {
    /// The group's row in the descriptor table.
    const DESC: &'static GroupDesc;
    /// Every field not produced: the value to start from when only some are.
    const NOT_PRODUCED: Self;
    /// The group's second copy, if the latest revision has one.
    const TWIN: Option<&'static GroupDesc> =
        Self::DESC.twin_in(crate::latest::REV.groups(Self::DESC.record));
}

/// A group of the dom record.
pub trait DomGroup: Group {}
/// A group of the vcpu record.
pub trait VcpuGroup: Group {}
/// A group of the blk record.
pub trait BlkGroup: Group {}
/// A group of the net record.
pub trait NetGroup: Group {}

/// One 64-bit field of group `G`, for reading or updating it alone.
pub struct Field<G> {
    offset: usize,
    group: PhantomData<fn() -> G>,
}

impl<G> Clone for Field<G> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<G> Copy for Field<G> {}

impl<G> Field<G> {
    pub(crate) const fn at(offset: usize) -> Self {
        Self { offset, group: PhantomData }
    }

    /// Where the field lies, from the start of its record.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.offset
    }
}

mod declare;
pub(crate) use declare::{assert_appended, groups};

#[cfg(test)]
mod tests;
