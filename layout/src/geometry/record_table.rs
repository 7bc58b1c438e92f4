//! The schema's table of records: kinds of records that a region has beyond those of its header.

use core::fmt;

use super::{Array, Expected, Geometry, Section};
use crate::header::{ArrayWords, MAX_DEVICES, RECORD_HEADER_LEN, SCHEMA_MAGIC};
use crate::mem::ReadMem;
use crate::record::RecordKind;
use crate::rule::Rule;
use crate::schema::{HEADER_LEN, MAX_KINDS, head, record};

/// A copy of the table, taken once. Holding one proves nothing about the entries: they are what the
/// other side alleges. [`Geometry::with_records`] turns them into something usable.
#[derive(Clone, Copy, Debug)]
pub struct RecordTable {
    entries: [Entry; MAX_KINDS],
    nr: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    kind: u32,
    words: ArrayWords,
    active: u32,
    header: u32,
    /// Where the entry starts in the region.
    at: usize,
}

/// Why the kinds of records beyond the header cannot be used. Those of the header can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordTableError {
    /// A word of the schema's header, or the order of the entries, is wrong.
    Table {
        /// Name of the word.
        field: &'static str,
        /// Where it lies in the region.
        offset: usize,
        /// What would have been right.
        expected: Expected,
        /// What it is.
        found: u64,
    },
    /// A word of an entry is out of its bounds.
    Record {
        /// The rule of the ABI that it breaks.
        rule: Rule,
        /// The kind of the entry.
        kind: RecordKind,
        /// Name of the word.
        field: &'static str,
        /// Where it lies in the region.
        offset: usize,
        /// What would have been right.
        expected: Expected,
        /// What it is.
        found: u64,
    },
}

impl fmt::Display for RecordTableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { field, offset, expected, found } => {
                write!(f, "schema: {field} at byte {offset} is {found}, expected {expected}")
            }
            Self::Record { rule, kind, field, offset, expected, found } => write!(
                f,
                "schema: {field} of {} records at byte {offset} is {found}, expected {expected} (rule {rule})",
                kind.name()
            ),
        }
    }
}

impl core::error::Error for RecordTableError {}

type Result<T> = core::result::Result<T, RecordTableError>;

impl RecordTable {
    /// Copies the table of the schema at `schema`, which a geometry found: its header and at most
    /// [`MAX_KINDS`] entries. Nothing else of the schema is looked at.
    ///
    /// # Errors
    /// [`RecordTableError::Table`] if it is not a table that lies inside the schema.
    pub fn load(mem: ReadMem<'_>, schema: Section) -> Result<Self> {
        let word = |at: usize| mem.load_u32(schema.offs + at).unwrap_or(0);
        let ensure = |holds: bool, field, at: usize, expected, found: u32| {
            let (offset, found) = (schema.offs + at, found.into());
            if holds {
                Ok(())
            } else {
                Err(RecordTableError::Table { field, offset, expected, found })
            }
        };
        let magic = word(head::MAGIC);
        let expected = Expected::Exactly(SCHEMA_MAGIC as u64);
        ensure(magic == SCHEMA_MAGIC, "magic", head::MAGIC, expected, magic)?;
        let (nr, len) = (word(head::NR_RECORDS), word(head::RECORD_LEN));
        let ok = len as usize >= record::LEN && len.is_multiple_of(8);
        let expected = Expected::AtLeast(record::LEN as u64);
        ensure(ok, "length of an entry", head::RECORD_LEN, expected, len)?;
        // No wrap: one is 32 bits wide, the other small.
        let room = schema.size.saturating_sub(HEADER_LEN) / len.max(1) as usize;
        let most = room.min(MAX_KINDS);
        let expected = Expected::AtMost(most as u64);
        ensure(nr as usize <= most, "number of records", head::NR_RECORDS, expected, nr)?;
        let mut table = Self { entries: [Entry::default(); MAX_KINDS], nr: nr as usize };
        let mut before = 0;
        for (i, entry) in table.entries.iter_mut().take(nr as usize).enumerate() {
            let start = HEADER_LEN + i * len as usize;
            let word = |at: usize| word(start + at);
            *entry = Entry {
                kind: word(record::KIND),
                words: ArrayWords {
                    offs: word(record::OFFS),
                    size: word(record::SIZE),
                    stride: word(record::STRIDE),
                    nr: word(record::NR),
                },
                active: word(record::ACTIVE),
                header: word(record::HEADER),
                at: schema.offs + start,
            };
            let expected = Expected::AtLeast(before + 1);
            let ok = u64::from(entry.kind) > before;
            ensure(ok, "kind of record", start + record::KIND, expected, entry.kind)?;
            before = entry.kind.into();
        }
        Ok(table)
    }

    /// The table of a region that is being planned.
    #[must_use]
    pub fn of(kinds: impl IntoIterator<Item = (RecordKind, ArrayWords)>) -> Self {
        let mut table = Self { entries: [Entry::default(); MAX_KINDS], nr: 0 };
        for ((kind, words), entry) in kinds.into_iter().zip(&mut table.entries) {
            *entry = Entry {
                kind: kind.number(),
                words,
                active: u32::try_from(kind.active_offset()).unwrap_or(0),
                header: u32::try_from(kind.header_len()).unwrap_or(0),
                at: 0,
            };
            table.nr += 1;
        }
        table
    }

    /// The kinds beyond the header that this build knows, with their words as alleged.
    fn beyond_header(&self) -> impl Iterator<Item = (RecordKind, &Entry)> {
        self.entries.iter().take(self.nr).filter_map(|entry| {
            let kind = RecordKind::from_number(entry.kind)?;
            RecordKind::OPTIONAL.contains(&kind).then_some((kind, entry))
        })
    }

    /// As the public words of an entry, for tools that judge them: where each lies in the region.
    pub fn entries(&self) -> impl Iterator<Item = (RecordKind, ArrayWords, usize)> {
        self.beyond_header().map(|(kind, entry)| (kind, entry.words, entry.at))
    }
}

/// A part of the region: its records, and where it ends.
#[derive(Clone, Copy)]
struct Part {
    array: Array,
    end: usize,
}

impl Part {
    /// An array of the header, which ends with the gap of its last record.
    const fn of(array: Array) -> Self {
        Self { array, end: array.end() }
    }

    const fn section(section: Section) -> Self {
        let Section { offs, size } = section;
        Self::of(Array { offs, size, stride: size, nr: if size == 0 { 0 } else { 1 } })
    }

    /// An array that may lie in the gaps of another, so that it ends with its last record.
    const fn dense(array: Array) -> Self {
        let Array { offs, size, stride, nr } = array;
        let end = if nr == 0 { offs } else { offs + (nr as usize - 1) * stride + size };
        Self { array, end }
    }

    /// Whether no record of the one shares a byte with one of the other: their ranges are apart, or
    /// they have the same stride and count and lie in windows of it that are.
    const fn is_apart(&self, other: &Self) -> bool {
        let (a, b) = (&self.array, &other.array);
        if a.nr == 0 || b.nr == 0 || self.end <= b.offs || other.end <= a.offs {
            return true;
        }
        let (first, second) = if a.offs <= b.offs { (a, b) } else { (b, a) };
        let at = second.offs - first.offs;
        a.stride == b.stride && a.nr == b.nr && at >= first.size && at + second.size <= first.stride
    }
}

impl Geometry {
    /// The geometry with the kinds of records that the table announces beyond those of the header.
    ///
    /// Each kind that this build knows is held to the rules of the header's arrays; a kind that it
    /// does not know is skipped, and what the table says of the header's own kinds is not looked at:
    /// the header says where they are. The work is bounded by the square of the kinds.
    ///
    /// # Errors
    /// [`RecordTableError`] with the entry, the word, what was expected and what was found. The
    /// geometry without these kinds is as good as it was.
    pub fn with_records(&self, table: &RecordTable, mapped_len: usize) -> Result<Self> {
        let mut geometry = *self;
        let mut parts = [Part::section(Section::default()); 7 + RecordKind::OPTIONAL.len()];
        let header = [
            Part::section(Section { offs: 0, size: self.dom_size }),
            Part::of(self.vcpus),
            Part::of(self.blks),
            Part::of(self.nets),
            Part::section(self.arch_dom),
            Part::dense(self.array(RecordKind::ArchVcpu)),
            Part::section(self.schema),
        ];
        let mut nr = header.len();
        for (part, known) in parts.iter_mut().zip(header) {
            *part = known;
        }
        for (kind, entry) in table.beyond_header() {
            let part = Part::dense(geometry.check(kind, entry, mapped_len)?);
            let taken = parts.iter().take(nr).find(|other| !part.is_apart(other));
            if let Some(taken) = taken {
                let expected = Expected::Outside(taken.array.offs as u64, taken.end as u64);
                return Err(wrong(Rule::I10, kind, entry, OFFS, expected, entry.words.offs));
            }
            if let Some(next) = parts.get_mut(nr) {
                *next = part;
            }
            nr += 1;
            geometry.set_beyond(kind, entry.words);
            geometry.end = geometry.end.max(part.end);
        }
        Ok(geometry)
    }

    /// Checks the words of one kind, but not whether its records overlap others.
    fn check(&self, kind: RecordKind, entry: &Entry, mapped_len: usize) -> Result<Array> {
        let ArrayWords { offs, size, stride, nr } = entry.words;
        let ensure = |holds: bool, rule, word, expected, found: u32| {
            if holds { Ok(()) } else { Err(wrong(rule, kind, entry, word, expected, found)) }
        };
        for (word, found) in [(OFFS, offs), (SIZE, size), (STRIDE, stride)] {
            ensure(found.is_multiple_of(8), Rule::I08, word, Expected::MultipleOf(8), found)?;
        }
        let least = RECORD_HEADER_LEN as u64;
        ensure(u64::from(size) >= least, Rule::I05, SIZE, Expected::AtLeast(least), size)?;
        ensure(stride >= size, Rule::I05, STRIDE, Expected::AtLeast(size.into()), stride)?;
        let of_base = kind.base().map(|base| self.array(base).nr);
        let (least, most) = match (of_base, kind) {
            (Some(nr), _) => (nr.max(1), nr),
            (None, RecordKind::Labels) => (1, 1),
            (None, _) => (1, MAX_DEVICES),
        };
        let expected = match least >= most {
            true => Expected::Exactly(most.into()),
            false => Expected::Between(least.into(), most.into()),
        };
        ensure((least..=most).contains(&nr), Rule::I07, NR, expected, nr)?;
        for (word, found, expected) in [
            (ACTIVE, entry.active, kind.active_offset()),
            (HEADER, entry.header, kind.header_len()),
        ] {
            let expected_word = Expected::Exactly(expected as u64);
            ensure(found as usize == expected, Rule::I22, word, expected_word, found)?;
        }
        // No wrap: each factor is below 2^32, so the product and the sum are below 2^64.
        let end = u64::from(offs) + u64::from(nr - 1) * u64::from(stride) + u64::from(size);
        let expected = Expected::ArrayEndAtMost(mapped_len as u64);
        ensure(end <= mapped_len as u64, Rule::I06, OFFS, expected, offs)?;
        Ok(entry.words.into())
    }
}

/// Name and offset of an entry's words.
type Word = (&'static str, usize);
const OFFS: Word = ("start", record::OFFS);
const SIZE: Word = ("length", record::SIZE);
const STRIDE: Word = ("stride", record::STRIDE);
const NR: Word = ("number", record::NR);
const ACTIVE: Word = ("place of stats_active", record::ACTIVE);
const HEADER: Word = ("length of the header", record::HEADER);

fn wrong(
    rule: Rule,
    kind: RecordKind,
    entry: &Entry,
    (field, at): Word,
    expected: Expected,
    found: u32,
) -> RecordTableError {
    let (offset, found) = (entry.at + at, found.into());
    RecordTableError::Record { rule, kind, field, offset, expected, found }
}

impl From<ArrayWords> for Array {
    fn from(words: ArrayWords) -> Self {
        let ArrayWords { offs, size, stride, nr } = words;
        Self { offs: offs as usize, size: size as usize, stride: stride as usize, nr }
    }
}
