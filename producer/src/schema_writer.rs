//! Encoder of a region's schema.

use domstat_layout::descriptor::Kind;
use domstat_layout::header::SCHEMA_MAGIC;
use domstat_layout::schema::{self, FieldShape, field, group, head, record};
use domstat_layout::{Geometry, GroupDesc, RecordKind, Revision};

use crate::arch::ArchLayout;

/// What a schema describes.
pub(crate) struct Described<'a> {
    pub(crate) revision: &'static Revision,
    pub(crate) arch_dom: &'a ArchLayout,
    pub(crate) arch_vcpu: &'a ArchLayout,
    pub(crate) arch_blk: &'a ArchLayout,
    pub(crate) arch_net: &'a ArchLayout,
    /// Whether groups and strings are left out.
    pub(crate) records_only: bool,
}

/// The tables as they are filled.
#[derive(Default)]
struct Tables {
    records: Vec<u8>,
    groups: Vec<u8>,
    fields: Vec<u8>,
    strings: Vec<u8>,
    nr_fields: u32,
}

fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Tables {
    /// Adds a string, or finds it if it is there.
    fn string(&mut self, text: &str) -> u32 {
        let mut wanted = text.as_bytes().to_vec();
        wanted.push(0);
        // Found only at the start of a string, so that names of states follow one another.
        let mut at = 0;
        for part in self.strings.split_inclusive(|b| *b == 0) {
            if part == wanted {
                return word(at);
            }
            at += part.len();
        }
        self.strings.extend(wanted);
        word(at)
    }

    fn strings(&mut self, texts: &[&str]) -> u32 {
        let at = word(self.strings.len());
        for text in texts {
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
        }
        at
    }

    fn group(&mut self, kind: RecordKind, g: &Group<'_>) {
        let name = self.string(g.name);
        let words = [
            (group::RECORD, kind.number()),
            (group::BIT, g.bit),
            (group::OFFSET, word(g.offset)),
            (group::SIZE, word(g.size)),
            (group::NAME, name),
            (group::FIRST_FIELD, self.nr_fields),
            (group::NR_FIELDS, g.nr_fields),
            (group::SINCE, g.since),
            (group::TWIN_OF, g.twin_of.map_or(0, |bit| bit + 1)),
        ];
        self.groups.extend(entry(group::LEN, &words));
    }

    fn field(&mut self, name: &str, offset: usize, width: usize, shape: &FieldShape, states: u32) {
        let name = self.string(name);
        let low = shape.bucket_size & u64::from(u32::MAX);
        let words = [
            (field::NAME, name),
            (field::OFFSET, word(offset)),
            (field::WIDTH, word(width)),
            (field::KIND, shape.kind.0),
            (field::UNIT, shape.unit.0),
            (field::EXPONENT, shape.exponent.cast_unsigned()),
            (field::BASE, shape.base),
            (field::NR, shape.nr),
            (field::BUCKET_SIZE, u32::try_from(low).unwrap_or(0)),
            (field::BUCKET_SIZE + 4, u32::try_from(shape.bucket_size >> 32).unwrap_or(0)),
            (field::STATES, states),
        ];
        self.fields.extend(entry(field::LEN, &words));
        self.nr_fields += 1;
    }

    fn table_group(&mut self, desc: &GroupDesc) {
        let g = Group {
            name: desc.name,
            bit: desc.bit,
            offset: desc.offset,
            size: desc.size,
            nr_fields: word(desc.fields.len()),
            since: desc.since,
            twin_of: desc.twin_of.map(|first| first.bit),
        };
        self.group(desc.record, &g);
        for f in desc.fields {
            let states = match f.kind {
                Kind::State(names) => self.strings(names),
                _ => 0,
            };
            self.field(f.name, f.offset, f.width, &FieldShape::of(f), states);
        }
    }

    fn arch_groups(&mut self, kind: RecordKind, layout: &ArchLayout) {
        for (bit, arch) in (0..).zip(&layout.groups) {
            let g = Group {
                name: &arch.name,
                bit,
                offset: arch.at.span.offset,
                size: arch.at.span.size,
                nr_fields: word(arch.fields.len()),
                since: 0,
                twin_of: None,
            };
            self.group(kind, &g);
            for f in &arch.fields {
                self.field(&f.name, f.offset, f.width, &f.shape, 0);
            }
        }
    }
}

/// A group of whichever origin.
struct Group<'a> {
    name: &'a str,
    bit: u32,
    offset: usize,
    size: usize,
    nr_fields: u32,
    since: u32,
    twin_of: Option<u32>,
}

/// An entry of `len` bytes with these words; the others are 0.
fn entry(len: usize, words: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, word) in words {
        if let Some(to) = bytes.get_mut(*at..*at + 4) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    bytes
}

/// The schema of a region of this shape. Its length does not depend on where things lie.
pub(crate) fn encode(described: &Described<'_>, geometry: &Geometry) -> Vec<u8> {
    let mut tables = Tables::default();
    let mut nr_records = 0;
    for kind in RecordKind::ALL {
        let array = geometry.array(kind);
        if array.nr == 0 {
            continue;
        }
        nr_records += 1;
        let name = if described.records_only { 0 } else { tables.string(kind.name()) };
        let words = [
            (record::KIND, kind.number()),
            (record::NAME, name),
            (record::OFFS, word(array.offs)),
            (record::SIZE, word(array.size)),
            (record::STRIDE, word(array.stride)),
            (record::NR, array.nr),
            (record::ACTIVE, word(kind.active_offset())),
            (record::HEADER, word(kind.header_len())),
        ];
        tables.records.extend(entry(record::LEN, &words));
        match kind {
            _ if described.records_only => {}
            RecordKind::ArchDom => tables.arch_groups(kind, described.arch_dom),
            RecordKind::ArchVcpu => tables.arch_groups(kind, described.arch_vcpu),
            RecordKind::ArchBlk => tables.arch_groups(kind, described.arch_blk),
            RecordKind::ArchNet => tables.arch_groups(kind, described.arch_net),
            _ => described.revision.groups(kind).iter().for_each(|g| tables.table_group(g)),
        }
    }
    tables.strings.resize(tables.strings.len().next_multiple_of(8), 0);
    let words = [
        (head::MAGIC, SCHEMA_MAGIC),
        (head::NR_RECORDS, nr_records),
        (head::RECORD_LEN, word(record::LEN)),
        (head::NR_GROUPS, word(tables.groups.len() / group::LEN)),
        (head::GROUP_LEN, word(group::LEN)),
        (head::NR_FIELDS, tables.nr_fields),
        (head::FIELD_LEN, word(field::LEN)),
        (head::STRINGS_LEN, word(tables.strings.len())),
    ];
    let mut bytes = entry(schema::HEADER_LEN, &words);
    for part in [tables.records, tables.groups, tables.fields, tables.strings] {
        bytes.extend(part);
    }
    bytes
}
