//! The schema: what every record, group and field of a region is, in the region itself, so that a
//! consumer can show by name what it was never compiled for.
//!
//! ```text
//! 0          32
//! +----------+-------------+------------+------------+---------+
//! | header   | records[..] | groups[..] | fields[..] | strings |
//! +----------+-------------+------------+------------+---------+
//! ```
//!
//! The header says how many entries each table has and how long one is, so that later revisions
//! can make entries longer; a reader steps by that length. Names are offsets into the strings,
//! each UTF-8 and terminated by a zero byte. A schema may be as short as its table of records: without
//! any strings, kinds are named as the reader knows them. Groups stand in the order of their records and
//! offsets, fields in the order of their groups and offsets. It is written before the region is
//! published and does not change after that.
//!
//! Unknown record kinds, field kinds and units are no error: they are shown by name and number.

use core::fmt;

use crate::descriptor::{GroupDesc, Kind};
use crate::header::{MAX_DEVICES, MAX_VCPUS};
use crate::record::RecordKind;

mod fields;
mod parse;

pub use fields::{FieldKind, FieldShape, FieldUnit, Scaled};
pub use parse::SchemaError;

/// Length of the schema's header.
pub const HEADER_LEN: usize = 32;
/// No reader looks at a longer schema.
pub const MAX_LEN: usize = 1 << 20;
/// Longest record that a schema may describe, and so longest group: far more than any kernel
/// describes. No producer makes a longer one.
pub const MAX_RECORD_LEN: usize = 1 << 20;
/// Most records of a kind that a schema may describe: as many as a header may.
pub const MAX_RECORDS: u32 = if MAX_VCPUS > MAX_DEVICES { MAX_VCPUS } else { MAX_DEVICES };
/// Most kinds of record that a schema may describe: five times as many as there are.
pub const MAX_KINDS: usize = 64;
/// Most records of all kinds together: as many as a region may have of the kinds that there are.
/// Ten of them are arrays; of the others there is one record each.
pub const MAX_ALL_RECORDS: u64 = 10 * MAX_RECORDS as u64 + 3;
/// First number of the record kinds, field kinds and units that are never given out: whoever uses one
/// names it in the schema.
pub const FIRST_PRIVATE: u32 = crate::header::FIRST_PRIVATE_KIND;
/// Longest name in bytes, without its terminator.
pub const MAX_NAME_LEN: usize = 255;
/// Most named values of a state.
pub const MAX_STATES: u32 = 64;

/// Word offsets of the schema's header, all u32.
pub mod head {
    /// [`crate::header::SCHEMA_MAGIC`].
    pub const MAGIC: usize = 0;
    /// Entries in the table of records; a reader finds their length behind it.
    pub const NR_RECORDS: usize = 4;
    /// Length of one of them.
    pub const RECORD_LEN: usize = 8;
    /// Entries in the table of groups.
    pub const NR_GROUPS: usize = 12;
    /// Length of one of them.
    pub const GROUP_LEN: usize = 16;
    /// Entries in the table of fields.
    pub const NR_FIELDS: usize = 20;
    /// Length of one of them.
    pub const FIELD_LEN: usize = 24;
    /// Bytes of strings.
    pub const STRINGS_LEN: usize = 28;
}

/// Word offsets of an entry of the table of records, all u32.
pub mod record {
    /// Number of the kind ([`crate::RecordKind::number`]).
    pub const KIND: usize = 0;
    /// Its name.
    pub const NAME: usize = 4;
    /// Start of the first record, from the region start.
    pub const OFFS: usize = 8;
    /// Length of each.
    pub const SIZE: usize = 12;
    /// Distance between them.
    pub const STRIDE: usize = 16;
    /// How many there are.
    pub const NR: usize = 20;
    /// Offset of `stats_active` in the record.
    pub const ACTIVE: usize = 24;
    /// Length of the record's header.
    pub const HEADER: usize = 28;
    /// Length of an entry as this build writes it.
    pub const LEN: usize = 32;
}

/// Word offsets of an entry of the table of groups, all u32.
pub mod group {
    /// Number of the kind of record that it lies in.
    pub const RECORD: usize = 0;
    /// Its bit in `stats_active`.
    pub const BIT: usize = 4;
    /// Start in the record.
    pub const OFFSET: usize = 8;
    /// Length with header.
    pub const SIZE: usize = 12;
    /// Its name.
    pub const NAME: usize = 16;
    /// Index of its first field.
    pub const FIRST_FIELD: usize = 20;
    /// How many fields it has.
    pub const NR_FIELDS: usize = 24;
    /// The revision that added it; 0 for a group that was described at run time.
    pub const SINCE: usize = 28;
    /// The bit of the group that this is a second copy of, plus 1; 0 if it is none.
    pub const TWIN_OF: usize = 32;
    /// Reserved, zero.
    pub const RESERVED: usize = 36;
    /// Length of an entry as this build writes it.
    pub const LEN: usize = 40;
}

/// Word offsets of an entry of the table of fields, u32 unless stated otherwise.
pub mod field {
    /// Its name.
    pub const NAME: usize = 0;
    /// Start in the record.
    pub const OFFSET: usize = 4;
    /// Length in bytes.
    pub const WIDTH: usize = 8;
    /// Number of its kind ([`super::FieldKind`]).
    pub const KIND: usize = 12;
    /// Number of its unit ([`super::FieldUnit`]).
    pub const UNIT: usize = 16;
    /// i32: the value counts `base` to this power of the unit.
    pub const EXPONENT: usize = 20;
    /// 10 or 2.
    pub const BASE: usize = 24;
    /// Buckets of a histogram, or named values of a state; else 0.
    pub const NR: usize = 28;
    /// u64: width of a linear histogram's bucket; else 0.
    pub const BUCKET_SIZE: usize = 32;
    /// Name of a state's value 0; the others follow it. Else 0.
    pub const STATES: usize = 40;
    /// Reserved, zero.
    pub const RESERVED: usize = 44;
    /// Length of an entry as this build writes it.
    pub const LEN: usize = 48;
}

/// A schema whose every entry was checked.
///
/// Holding one proves: every name is UTF-8 and terminated; groups lie in a record of the schema
/// and fields in their group; no two groups of a record and no two fields of a group overlap;
/// bases are 10 or 2, and histograms as long as their buckets say; no record or group is longer than
/// [`MAX_RECORD_LEN`]; there are at most [`MAX_KINDS`] kinds, [`MAX_RECORDS`] records of a kind and
/// [`MAX_ALL_RECORDS`] records; and no two records overlap, so that a pass over all of them is over each
/// byte once. It does not prove that records lie inside the region: that takes its mapped length
/// ([`SchemaRecord::fits`]).
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    records: Table<'a>,
    groups: Table<'a>,
    fields: Table<'a>,
    strings: &'a [u8],
}

impl fmt::Debug for Schema<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.groups()).finish()
    }
}

/// Entries of equal length.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    stride: usize,
    /// Start in the schema, to say where something is wrong.
    start: usize,
}

impl<'a> Table<'a> {
    fn entries(self) -> impl Iterator<Item = Entry<'a>> + Clone {
        let start = self.start;
        // The stride was checked not to be 0; `max` keeps that out of the proof.
        let stride = self.stride.max(1);
        let chunks = self.bytes.chunks_exact(stride).enumerate();
        chunks.map(move |(i, bytes)| Entry { bytes, at: start + i * stride })
    }
}

/// One entry, and where it starts in the schema.
#[derive(Clone, Copy)]
struct Entry<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Entry<'_> {
    /// The u32 at `offset`; entries are at least as long as this build's.
    fn u32(&self, offset: usize) -> u32 {
        u32_at(self.bytes, offset).unwrap_or(0)
    }

    fn usize(&self, offset: usize) -> usize {
        self.u32(offset) as usize
    }

    fn u64(&self, offset: usize) -> u64 {
        let bytes = self.bytes.get(offset..offset + 8).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// A kind of record: where its records lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaRecord<'a> {
    /// Number of the kind.
    pub kind: u32,
    /// Its name.
    pub name: &'a str,
    /// Start of the first.
    pub offs: usize,
    /// Length of each.
    pub size: usize,
    /// Distance between them.
    pub stride: usize,
    /// How many there are.
    pub nr: u32,
    /// Offset of `stats_active` in each.
    pub active: usize,
    /// Length of each one's header.
    pub header: usize,
}

impl SchemaRecord<'_> {
    /// Whether every record lies inside a region of this length.
    #[must_use]
    pub fn fits(&self, mapped_len: usize) -> bool {
        let last = (self.nr as usize).checked_sub(1).and_then(|n| n.checked_mul(self.stride));
        let end = last.and_then(|last| self.offs.checked_add(last)?.checked_add(self.size));
        end.is_some_and(|end| end <= mapped_len)
    }

    /// Whether a record of this kind and one of `other` share a byte.
    ///
    /// Two arrays may lie in each other's gaps if they have the same stride, as vCPUs and their arch
    /// slots do, or if one is a single record; others are taken for overlapping if their ranges are.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        // No wrap: all are 32 bits wide, and there are fewer than 2^32 records.
        let range = |r: &Self| {
            let last = u64::from(r.nr.saturating_sub(1)) * r.stride as u64;
            (r.offs as u64, r.offs as u64 + last + r.size as u64)
        };
        let ((begin, end), (other_begin, other_end)) = (range(self), range(other));
        if begin >= other_end || other_begin >= end {
            return false;
        }
        let stride = match (self.nr, other.nr) {
            (1, 1) => return true,
            (1, _) => other.stride,
            (_, 1) => self.stride,
            _ if self.stride == other.stride => self.stride,
            _ => return true,
        } as u64;
        if stride == 0 {
            return true;
        }
        // Where the others' records begin in this one's stride.
        let (base, at) = (begin % stride, other_begin % stride);
        let at = (at + stride - base) % stride;
        at < self.size as u64 || at + other.size as u64 > stride
    }

    /// Start of record `index`, if there is one.
    #[must_use]
    pub fn offset(&self, index: u32) -> Option<usize> {
        if index >= self.nr {
            return None;
        }
        self.offs.checked_add((index as usize).checked_mul(self.stride)?)
    }
}

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaGroup<'a> {
    /// Number of the kind of record that it lies in.
    pub record: u32,
    /// Its bit in `stats_active`.
    pub bit: u32,
    /// Start in the record.
    pub offset: usize,
    /// Length with header.
    pub size: usize,
    /// Its name.
    pub name: &'a str,
    /// The revision that added it; 0 for a group that was described at run time.
    pub since: u32,
    /// The bit of the group that it is a second copy of.
    pub twin_of: Option<u32>,
    first_field: usize,
    nr_fields: usize,
    /// The descriptor table's, of a group that the schema does not describe.
    registered: Option<&'static GroupDesc>,
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaField<'a> {
    /// Its name.
    pub name: &'a str,
    /// Start in the record.
    pub offset: usize,
    /// Length in bytes; a multiple of 8.
    pub width: usize,
    /// What its values are.
    pub shape: FieldShape,
    states: &'a [u8],
    /// Names of states of a field that the schema does not describe.
    registered: &'static [&'static str],
}

impl SchemaGroup<'static> {
    /// A group of the descriptor table, as a schema of this build describes it.
    #[must_use]
    pub fn registered(desc: &'static GroupDesc) -> Self {
        Self {
            record: desc.record.number(),
            bit: desc.bit,
            offset: desc.offset,
            size: desc.size,
            name: desc.name,
            since: desc.since,
            twin_of: desc.twin_of.map(|first| first.bit),
            first_field: 0,
            nr_fields: 0,
            registered: Some(desc),
        }
    }
}

impl<'a> SchemaField<'a> {
    /// The name of a state's value, if it has one.
    #[must_use]
    pub fn state(&self, value: u64) -> Option<&'a str> {
        self.states().nth(usize::try_from(value).ok()?)
    }

    /// Names of a state's values, from 0 on.
    pub fn states(&self) -> impl Iterator<Item = &'a str> {
        let nr = if self.shape.kind == FieldKind::STATE { self.shape.nr as usize } else { 0 };
        let described = self.states.split(|b| *b == 0);
        let described = described.filter_map(|name| core::str::from_utf8(name).ok());
        let nr_described = if self.registered.is_empty() { nr } else { 0 };
        described.take(nr_described).chain(self.registered.iter().copied())
    }
}

impl<'a> Schema<'a> {
    /// The kinds of record, in order of their numbers.
    pub fn records(&self) -> impl Iterator<Item = SchemaRecord<'a>> {
        let schema = *self;
        self.records.entries().map(move |e| schema.record(e))
    }

    /// Every group, in order of records and offsets.
    pub fn groups(&self) -> impl Iterator<Item = SchemaGroup<'a>> {
        let schema = *self;
        self.groups.entries().map(move |e| schema.group(e))
    }

    /// The groups of a record: those that the schema describes, or, if it is only a table of records,
    /// those that are registered for its kind and lie in records of its length.
    pub fn groups_of(&self, record: &SchemaRecord<'a>) -> impl Iterator<Item = SchemaGroup<'a>> {
        let (kind, size) = (record.kind, record.size);
        let is_table = self.groups.entries().next().is_none();
        let known = RecordKind::from_number(kind).filter(|_| is_table);
        let registered = known.map_or(&[][..], |kind| crate::latest::REV.groups(kind));
        let described = self.groups().filter(move |group| group.record == kind);
        let registered = registered.iter().filter(move |desc| desc.end() <= size);
        described.chain(registered.map(|desc| SchemaGroup::registered(desc)))
    }

    /// The fields of a group of this schema, or of a registered one, in order.
    pub fn fields(&self, group: &SchemaGroup<'a>) -> impl Iterator<Item = SchemaField<'a>> {
        let schema = *self;
        let (first, nr) = (group.first_field, group.nr_fields);
        let described = self.fields.entries().skip(first).take(nr).map(move |e| schema.field(e));
        let registered = group.registered.map_or(&[][..], |desc| desc.fields);
        described.chain(registered.iter().map(|field| SchemaField {
            name: field.name,
            offset: field.offset,
            width: field.width,
            shape: FieldShape::of(field),
            states: &[],
            registered: match field.kind {
                Kind::State(names) => names,
                _ => &[],
            },
        }))
    }

    fn record(&self, e: Entry<'a>) -> SchemaRecord<'a> {
        let name = match self.strings {
            [] => RecordKind::from_number(e.u32(record::KIND)).map(RecordKind::name),
            _ => self.name(e.u32(record::NAME)),
        };
        SchemaRecord {
            kind: e.u32(record::KIND),
            name: name.unwrap_or(""),
            offs: e.usize(record::OFFS),
            size: e.usize(record::SIZE),
            stride: e.usize(record::STRIDE),
            nr: e.u32(record::NR),
            active: e.usize(record::ACTIVE),
            header: e.usize(record::HEADER),
        }
    }

    fn group(&self, e: Entry<'a>) -> SchemaGroup<'a> {
        SchemaGroup {
            record: e.u32(group::RECORD),
            bit: e.u32(group::BIT),
            offset: e.usize(group::OFFSET),
            size: e.usize(group::SIZE),
            name: self.name(e.u32(group::NAME)).unwrap_or(""),
            since: e.u32(group::SINCE),
            twin_of: e.u32(group::TWIN_OF).checked_sub(1),
            first_field: e.usize(group::FIRST_FIELD),
            nr_fields: e.usize(group::NR_FIELDS),
            registered: None,
        }
    }

    fn field(&self, e: Entry<'a>) -> SchemaField<'a> {
        SchemaField {
            name: self.name(e.u32(field::NAME)).unwrap_or(""),
            offset: e.usize(field::OFFSET),
            width: e.usize(field::WIDTH),
            shape: FieldShape {
                kind: FieldKind(e.u32(field::KIND)),
                unit: FieldUnit(e.u32(field::UNIT)),
                base: e.u32(field::BASE),
                exponent: e.u32(field::EXPONENT).cast_signed(),
                nr: e.u32(field::NR),
                bucket_size: e.u64(field::BUCKET_SIZE),
            },
            states: self.strings.get(e.usize(field::STATES)..).unwrap_or(&[]),
            registered: &[],
        }
    }

    /// The name at `offset` of the strings, if one ends there in time and is UTF-8.
    fn name(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().take(MAX_NAME_LEN + 1).position(|b| *b == 0)?;
        core::str::from_utf8(rest.get(..end)?).ok()
    }
}

/// A group that is to be described at run time: in an arch slot.
#[derive(Clone, Copy, Debug)]
pub struct GroupSpec<'a> {
    /// Its name: 1 to [`MAX_NAME_LEN`] bytes.
    pub name: &'a str,
    /// Its fields, in order.
    pub fields: &'a [FieldSpec<'a>],
}

/// A field of such a group.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec<'a> {
    /// Its name: 1 to [`MAX_NAME_LEN`] bytes.
    pub name: &'a str,
    /// What its values are: a number, a histogram of `shape.nr` buckets, or a text that takes
    /// `shape.nr` words with its terminator.
    pub shape: FieldShape,
}

impl FieldSpec<'_> {
    /// 64-bit words that the field takes.
    #[must_use]
    pub const fn words(&self) -> u32 {
        match self.shape.kind {
            FieldKind::TEXT if self.shape.nr > 0 => self.shape.nr,
            kind if kind.is_histogram() => self.shape.nr,
            _ => 1,
        }
    }
}
