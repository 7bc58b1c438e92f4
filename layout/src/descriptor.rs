//! The descriptor table: what every group and field is, where it lies, and the macro that
//! declares a group once and derives everything else from that declaration.

use core::marker::PhantomData;

use crate::record::GroupSpan;
pub use crate::record::{GROUP_ALIGN, GROUP_HEADER_LEN, GROUP_RSVD, GROUP_UPDATED_NS, RecordKind};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How a field's values behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases within an incarnation and generation.
    Cumulative,
    /// May go up and down.
    Instant,
    /// The largest value so far; never decreases within an incarnation and generation.
    Peak,
    /// A row of counters: word `i` counts values whose bit length is `i`, the last all above
    /// ([`crate::histogram`]).
    LogHistogram,
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
            Self::Peak => "peak",
            Self::LogHistogram => "log_histogram",
            Self::State(_) => "state",
            Self::Id => "id",
            Self::Text => "text",
        }
    }

    /// Whether no word of such a field decreases within an incarnation and generation.
    #[must_use]
    pub const fn never_decreases(self) -> bool {
        matches!(self, Self::Cumulative | Self::Peak | Self::LogHistogram)
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

    /// Where the group lies, and its bit.
    #[must_use]
    pub const fn span(&self) -> GroupSpan {
        GroupSpan { offset: self.offset, size: self.size, mask: self.mask() }
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
}

/// A group of the dom record.
pub trait DomGroup: Group {}
/// A group of the vcpu record.
pub trait VcpuGroup: Group {}
/// A group of the blk record.
pub trait BlkGroup: Group {}
/// A group of the net record.
pub trait NetGroup: Group {}
/// A group of a vCPU's distributions.
pub trait VcpuHistGroup: Group {}
/// A group of a block device's distributions.
pub trait BlkHistGroup: Group {}
/// A group of the labels record.
pub trait LabelsGroup: Group {}
/// A group of one writer's share of a block device.
pub trait BlkQueueGroup: Group {}
/// A group of one writer's share of a network interface.
pub trait NetQueueGroup: Group {}

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

/// What a build of one revision knows.
#[derive(Debug, PartialEq, Eq)]
pub struct Revision {
    /// Its number.
    pub number: u32,
    /// The kinds of record that it has, in order of their numbers, and the groups of each in order
    /// of their bits. Arch slots have none that a table could list.
    pub records: &'static [RecordGroups],
    /// Whether it has arch slots and a schema.
    pub arch_and_schema: bool,
}

/// A kind of record, and its groups in order of their bits.
pub type RecordGroups = (RecordKind, &'static [&'static GroupDesc]);

impl Revision {
    /// Groups of a kind of record, in order of their bits; none of a kind that it does not have,
    /// and of arch slots.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn groups(&self, kind: RecordKind) -> &'static [&'static GroupDesc] {
        let mut i = 0;
        while i < self.records.len() {
            if self.records[i].0.number() == kind.number() {
                return self.records[i].1;
            }
            i += 1;
        }
        &[]
    }

    /// Whether it has records of this kind.
    #[must_use]
    pub fn has(&self, kind: RecordKind) -> bool {
        self.records.iter().any(|(known, _)| *known == kind)
    }

    /// Length of a kind of record as this revision builds it; 0 for one that it does not have,
    /// and for arch slots.
    #[must_use]
    pub const fn size(&self, kind: RecordKind) -> usize {
        match self.groups(kind).last() {
            Some(group) => group.end(),
            None => 0,
        }
    }

    /// Every group, record by record.
    pub fn all_groups(&self) -> impl Iterator<Item = &'static GroupDesc> {
        self.records.iter().flat_map(|(_, groups)| groups.iter().copied())
    }
}

mod declare;
pub(crate) use declare::{assert_appended, copied_fields, copies, groups, twins};

#[cfg(test)]
mod tests;
