//! From alleged bytes to a schema that can be relied on.

use core::fmt;

use super::{
    Entry, FieldKind, HEADER_LEN, MAX_ALL_RECORDS, MAX_KINDS, MAX_LEN, MAX_RECORD_LEN, MAX_RECORDS,
    MAX_STATES, Schema, SchemaField, SchemaGroup, SchemaRecord, Table, field, group, head, record,
    u32_at,
};
use crate::descriptor::GROUP_HEADER_LEN;
use crate::header::SCHEMA_MAGIC;

/// Why bytes are no schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// What is wrong.
    pub what: &'static str,
    /// Where it lies, from the start of the schema.
    pub offset: usize,
    /// What would have been right.
    pub expected: &'static str,
    /// What was found.
    pub found: u64,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, offset, expected, found } = self;
        write!(f, "schema: {what} at byte {offset} is {found}, expected {expected}")
    }
}

impl core::error::Error for SchemaError {}

type Result<T> = core::result::Result<T, SchemaError>;

fn ensure(
    holds: bool,
    what: &'static str,
    offset: usize,
    expected: &'static str,
    found: impl TryInto<u64>,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(SchemaError { what, offset, expected, found: found.try_into().unwrap_or(u64::MAX) })
}

impl<'a> Schema<'a> {
    /// Checks every entry; takes no memory, and time in proportion to the bytes.
    ///
    /// # Errors
    /// [`SchemaError`] for the first entry that is not legal.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let fits = (HEADER_LEN..=MAX_LEN).contains(&bytes.len());
        ensure(fits, "length", 0, "32 to 1048576", bytes.len())?;
        let word = |at| u32_at(bytes, at).unwrap_or(0);
        let magic = word(head::MAGIC);
        ensure(magic == SCHEMA_MAGIC, "magic", head::MAGIC, "\"SCH\" and 1", magic)?;
        let mut start = HEADER_LEN;
        let mut table = |what, nr_at, len_at, least: usize| {
            let (nr, stride) = (word(nr_at) as usize, word(len_at) as usize);
            // A schema may be as short as its table of records.
            let ok = stride >= least && stride.is_multiple_of(8) || nr == 0 && least != record::LEN;
            ensure(ok, "length of an entry", len_at, "this build's or more, by 8", stride)?;
            let end = nr.checked_mul(stride).and_then(|len| start.checked_add(len));
            let part = end.and_then(|end| bytes.get(start..end));
            let Some(part) = part else {
                return Err(SchemaError {
                    what,
                    offset: nr_at,
                    expected: "fewer",
                    found: nr as u64,
                });
            };
            let table = Table { bytes: part, stride, start };
            start += part.len();
            Ok(table)
        };
        let records = table("number of records", head::NR_RECORDS, head::RECORD_LEN, record::LEN)?;
        let groups = table("number of groups", head::NR_GROUPS, head::GROUP_LEN, group::LEN)?;
        let fields = table("number of fields", head::NR_FIELDS, head::FIELD_LEN, field::LEN)?;
        let len = word(head::STRINGS_LEN) as usize;
        let strings = start.checked_add(len).and_then(|end| bytes.get(start..end));
        let Some(strings) = strings else {
            let (what, offset) = ("length of the strings", head::STRINGS_LEN);
            return Err(SchemaError { what, offset, expected: "less", found: len as u64 });
        };
        let schema = Self { records, groups, fields, strings };
        schema.check_records()?;
        schema.check_groups()?;
        Ok(schema)
    }

    fn check_name(&self, e: Entry<'_>, at: usize) -> Result<()> {
        let found = e.u32(at);
        let named = self.name(found).is_some_and(|name| !name.is_empty());
        ensure(named, "name", e.at + at, "1 to 255 bytes of UTF-8 with an end", found)
    }

    /// Checks the name of a record: without any strings, a kind is named as this build knows it.
    fn check_record_name(&self, e: Entry<'_>) -> Result<()> {
        if self.strings.is_empty() && !self.record(e).name.is_empty() {
            return Ok(());
        }
        self.check_name(e, record::NAME)
    }

    fn check_records(&self) -> Result<()> {
        let (mut kind, mut all) = (0, 0u64);
        let nr_kinds = self.records.entries().count();
        ensure(nr_kinds <= MAX_KINDS, "number of kinds", head::NR_RECORDS, "64 at most", nr_kinds)?;
        for (i, e) in self.records.entries().enumerate() {
            let r = self.record(e);
            self.check_record_name(e)?;
            let ordered = r.kind > kind;
            ensure(ordered, "kind of record", e.at + record::KIND, "more than before", r.kind)?;
            kind = r.kind;
            let eights = [r.offs, r.size, r.stride, r.active, r.header];
            let aligned = eights.iter().all(|n| n.is_multiple_of(8));
            ensure(aligned, "place of records", e.at, "multiples of 8", r.offs)?;
            let (at, found) = (e.at + record::SIZE, r.size);
            ensure(r.header <= r.size, "length of records", at, "a header's at least", found)?;
            ensure(r.size <= MAX_RECORD_LEN, "length of records", at, "1048576 at most", found)?;
            let (at, found) = (e.at + record::ACTIVE, r.active);
            ensure(r.active + 8 <= r.header, "stats_active", at, "inside the header", found)?;
            let (at, found) = (e.at + record::STRIDE, r.stride);
            ensure(r.nr <= 1 || r.stride >= r.size, "stride", at, "a record's length", found)?;
            let ok = (1..=MAX_RECORDS).contains(&r.nr);
            ensure(ok, "number of records", e.at + record::NR, "1 to 65536", r.nr)?;
            all += u64::from(r.nr);
            let (what, expected) = ("number of all records", "655363 at most");
            ensure(all <= MAX_ALL_RECORDS, what, e.at + record::NR, expected, all)?;
            let overlaps = self.records().take(i).any(|before| before.overlaps(&r));
            let (what, expected) = ("place of records", "apart from other kinds'");
            ensure(!overlaps, what, e.at + record::OFFS, expected, r.offs)?;
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        let mut fields = self.fields.entries();
        let mut nr_fields = 0;
        let mut before: Option<SchemaGroup<'_>> = None;
        let mut records = self.records();
        let mut record: Option<SchemaRecord<'_>> = None;
        for e in self.groups.entries() {
            let g = self.group(e);
            self.check_name(e, group::NAME)?;
            while record.is_none_or(|r| r.kind < g.record) {
                let next = records.next();
                ensure(
                    next.is_some(),
                    "record",
                    e.at,
                    "a kind that is listed, in order",
                    g.record,
                )?;
                record = next;
            }
            let listed = record.filter(|r| r.kind == g.record);
            let (what, expected) = ("record", "a kind that is listed, in order");
            let Some(r) = listed else {
                return Err(SchemaError { what, offset: e.at, expected, found: g.record.into() });
            };
            let before_end = before.filter(|b| b.record == g.record).map(|b| (b.end(), b.bit));
            let (least, bit) = before_end.map_or((r.header, None), |(end, bit)| (end, Some(bit)));
            let (at, found) = (e.at + group::OFFSET, g.offset);
            let ok = g.offset >= least && g.offset.is_multiple_of(8);
            ensure(ok, "start of a group", at, "after the one before it, by 8", found)?;
            let (at, found) = (e.at + group::BIT, g.bit);
            let ok = g.bit < 64 && bit.is_none_or(|bit| g.bit > bit);
            ensure(ok, "bit", at, "more than the one before it, below 64", found)?;
            let (at, found) = (e.at + group::SIZE, g.size);
            let ok = g.size > GROUP_HEADER_LEN && g.size.is_multiple_of(8) && g.end() <= r.size;
            ensure(ok, "length of a group", at, "a field at least, inside the record", found)?;
            let ok = g.twin_of.is_none_or(|bit| bit < g.bit);
            ensure(ok, "twin", e.at + group::TWIN_OF, "an earlier group", g.bit)?;
            let ok = g.first_field == nr_fields && g.nr_fields > 0;
            let (at, found) = (e.at + group::FIRST_FIELD, g.first_field);
            ensure(ok, "fields of a group", at, "those that follow the last one's", found)?;
            let mut end = g.offset + GROUP_HEADER_LEN;
            for _ in 0..g.nr_fields {
                let Some(e) = fields.next() else {
                    return ensure(false, "fields of a group", at, "fields that there are", found);
                };
                end = self.check_field(e, &g, end)?;
                nr_fields += 1;
            }
            before = Some(g);
        }
        Ok(())
    }

    /// Checks a field that must not start before `least`; returns its end.
    fn check_field(&self, e: Entry<'a>, g: &SchemaGroup<'_>, least: usize) -> Result<usize> {
        let SchemaField { offset, width, shape, .. } = self.field(e);
        self.check_name(e, field::NAME)?;
        let ok = offset >= least && offset.is_multiple_of(8);
        ensure(ok, "start of a field", e.at + field::OFFSET, "after the one before it", offset)?;
        // No wrap: both were 32 bits wide.
        let end = offset + width;
        let ok = width > 0 && width.is_multiple_of(8) && end <= g.end();
        ensure(ok, "width of a field", e.at + field::WIDTH, "a word or more, in its group", width)?;
        let ok = matches!(shape.base, 2 | 10);
        ensure(ok, "base", e.at + field::BASE, "2 or 10", shape.base)?;
        let ok = (-64..=64).contains(&shape.exponent);
        let found = shape.exponent.unsigned_abs();
        ensure(ok, "exponent", e.at + field::EXPONENT, "-64 to 64", found)?;
        let at = e.at + field::NR;
        if shape.kind.is_histogram() {
            let ok = width == shape.nr as usize * 8;
            ensure(ok, "buckets", at, "as many as the width holds", shape.nr)?;
            let linear = shape.kind == FieldKind::LINEAR_HISTOGRAM;
            let ok = !linear || shape.bucket_size > 0;
            ensure(ok, "width of a bucket", e.at + field::BUCKET_SIZE, "more than 0", 0u32)?;
        } else if shape.kind == FieldKind::STATE {
            ensure((1..=MAX_STATES).contains(&shape.nr), "states", at, "1 to 64", shape.nr)?;
            self.check_states(e, shape.nr)?;
        }
        Ok(end)
    }

    fn check_states(&self, e: Entry<'_>, nr: u32) -> Result<()> {
        let mut at = e.u32(field::STATES);
        for _ in 0..nr {
            let name = self.name(at).filter(|name| !name.is_empty());
            let (offset, found) = (e.at + field::STATES, at);
            ensure(name.is_some(), "names of states", offset, "as many as stated", found)?;
            // Names are at most 255 bytes long, and lie inside the strings.
            let len = name.map_or(0, str::len);
            at = at.saturating_add(u32::try_from(len + 1).unwrap_or(u32::MAX));
        }
        Ok(())
    }
}

impl SchemaGroup<'_> {
    /// First byte after the group, from the start of its record.
    #[must_use]
    pub const fn end(&self) -> usize {
        // No wrap: both were 32 bits wide.
        self.offset + self.size
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A schema of these kinds of record, by their places: offs, size, stride, nr.
    fn schema(kinds: &[[u32; 4]]) -> Vec<u8> {
        let nr = u32::try_from(kinds.len()).unwrap();
        let (record_len, group_len, field_len) = (32, 40, 48);
        let mut words = [SCHEMA_MAGIC, nr, record_len, 0, group_len, 0, field_len, 8].to_vec();
        for (kind, [offs, size, stride, nr]) in (1..).zip(kinds) {
            words.extend([kind, 0, *offs, *size, *stride, *nr, 0, 16]);
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(*b"name\0\0\0\0");
        bytes
    }

    fn wrong(kinds: &[[u32; 4]]) -> Option<&'static str> {
        Schema::parse(&schema(kinds)).err().map(|error| error.what)
    }

    #[test]
    fn a_schema_has_no_more_kinds_and_records_than_a_pass_over_them_can_take() {
        let apart = |nr: u32| (0..nr).map(|i| [i * 64, 32, 32, 1]).collect::<Vec<_>>();
        assert_eq!(wrong(&apart(64)), None);
        assert_eq!(wrong(&apart(65)), Some("number of kinds"));
        let many = |nr: u32| (0..nr).map(|i| [i << 22, 32, 32, 65_536]).collect::<Vec<_>>();
        assert_eq!(wrong(&many(10)), None);
        assert_eq!(wrong(&many(11)), Some("number of all records"));
    }

    #[test]
    fn a_schema_may_be_as_short_as_its_table_of_records() {
        let mut bytes = schema(&[[0, 64, 64, 1], [64, 32, 32, 2]]);
        bytes.truncate(bytes.len() - 8);
        for at in [head::GROUP_LEN, head::FIELD_LEN, head::STRINGS_LEN] {
            bytes[at..at + 4].fill(0);
        }
        let parsed = Schema::parse(&bytes).unwrap();
        let names: Vec<_> = parsed.records().map(|record| record.name).collect();
        assert_eq!((names, parsed.groups().count()), (std::vec!["dom", "vcpu"], 0));
        // What this build does not know it cannot name.
        bytes[HEADER_LEN + record::LEN] = 200;
        assert_eq!(Schema::parse(&bytes).unwrap_err().what, "name");
        // Entries that there are have a length.
        bytes[HEADER_LEN + record::LEN] = 2;
        bytes[head::NR_GROUPS] = 1;
        assert_eq!(Schema::parse(&bytes).unwrap_err().what, "length of an entry");
    }

    #[test]
    fn records_of_two_kinds_do_not_overlap() {
        let overlap = Some("place of records");
        // One kind in the gaps of the other, as arch slots are in those of vCPUs.
        assert_eq!(wrong(&[[64, 32, 96, 10], [96, 64, 96, 10]]), None);
        assert_eq!(wrong(&[[96, 64, 96, 10], [64, 32, 96, 10]]), None);
        assert_eq!(wrong(&[[64, 32, 96, 10], [88, 64, 96, 10]]), overlap);
        assert_eq!(wrong(&[[64, 32, 96, 10], [96, 72, 96, 10]]), overlap);
        // A single record in a gap, or not.
        assert_eq!(wrong(&[[64, 32, 96, 10], [96 + 96, 64, 64, 1]]), None);
        assert_eq!(wrong(&[[64, 32, 96, 10], [96 + 88, 64, 64, 1]]), overlap);
        assert_eq!(wrong(&[[96 + 96, 64, 64, 1], [64, 32, 96, 10]]), None);
        // The same place, and other strides.
        assert_eq!(wrong(&[[64, 32, 32, 10], [64, 32, 32, 10]]), overlap);
        assert_eq!(wrong(&[[64, 32, 96, 10], [96, 32, 64, 3]]), overlap);
        assert_eq!(wrong(&[[64, 32, 96, 2], [192, 32, 64, 3]]), None, "one after the other");
        // A kind of one record may have a stride of 0.
        assert_eq!(wrong(&[[0, 64, 0, 1], [32, 32, 0, 1]]), overlap);
    }
}
