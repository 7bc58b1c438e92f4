//! Arbitrary histories of revisions, not only those there are: whatever is appended, builds of
//! any two revisions read what both know; and whatever else is done to a layout, the comparison
//! finds it and says why.
#![allow(unsafe_code, reason = "shared memory made of a local")]

use std::ptr::NonNull;

use domstat_abi::{Abi, Field, Group, Record, compare};
use domstat_layout::header::{SCHEMA_MAGIC, dom, record};
use domstat_layout::{DomHeader, Geometry, ReadMem, RecordKind, RecordTable, WriteMem};
use proptest::prelude::*;

/// Kinds of record; from the fourth on they are announced by a schema's table of records, in those
/// revisions that have groups of them.
const KINDS: [RecordKind; 5] = [
    RecordKind::Dom,
    RecordKind::Vcpu,
    RecordKind::Blk,
    RecordKind::BlkQueue,
    RecordKind::VcpuHist,
];
const NR_HEADER: usize = 3;
/// Length of a field that is a distribution's buckets.
const BUCKETS: usize = 320;
const NR: u32 = 3;

/// What one revision appends: for each new group its record and the widths of its fields.
type Step = Vec<(usize, Vec<usize>)>;

fn histories() -> impl Strategy<Value = Vec<Step>> {
    let widths = prop::collection::vec(
        prop_oneof![4 => Just(8usize), 1 => Just(16), 1 => Just(BUCKETS)],
        1..7,
    );
    let step = prop::collection::vec((0..KINDS.len(), widths), 1..4);
    prop::collection::vec(step, 1..6)
}

/// The layout after the first `n` steps. A record that has no group yet is its header.
fn layout(history: &[Step], n: usize) -> Abi {
    let record = |kind: &RecordKind| Record {
        name: kind.name().to_owned(),
        header_len: kind.header_len(),
        size: kind.header_len(),
        groups: Vec::new(),
    };
    let mut abi = Abi {
        revision: u32::try_from(n).unwrap(),
        records: KINDS.iter().map(record).collect(),
        ..Abi::default()
    };
    for (since, (kind, widths)) in
        history[..n].iter().enumerate().flat_map(|(i, step)| step.iter().map(move |g| (i + 1, g)))
    {
        let record = &mut abi.records[*kind];
        let offset = record.size;
        let mut end = offset + 16;
        let mut fields = Vec::new();
        for (i, width) in widths.iter().enumerate() {
            fields.push(Field {
                name: format!("f{i}"),
                offset: end,
                width: *width,
                kind: if *width == BUCKETS { "log_histogram" } else { "cumulative" }.into(),
                unit: "ns".into(),
                states: Vec::new(),
            });
            end += width;
        }
        let size = (end - offset).next_multiple_of(16);
        let bit = u32::try_from(record.groups.len()).unwrap();
        let name = format!("g{bit}");
        record.groups.push(Group {
            name,
            bit,
            offset,
            size,
            since: u32::try_from(since).unwrap(),
            twin_of: None,
            fields,
        });
        record.size = offset + size;
    }
    abi
}

fn value(kind: usize, index: u32, offset: usize) -> u64 {
    kind as u64 * 1_000_000 + u64::from(index) * 100_000 + offset as u64
}

/// A region in words, as a producer of this layout writes it: every group but those that `off`
/// names (by record and bit).
fn produce(abi: &Abi, align: usize, off: &[(usize, u32)]) -> Vec<u64> {
    let up = |n: usize| n.next_multiple_of(align);
    let [dom_size, vcpu_size, blk_size] = [0, 1, 2].map(|i| abi.records[i].size);
    let vcpu_offs = up(dom_size);
    let blk_offs = vcpu_offs + NR as usize * up(vcpu_size);
    let mut end = blk_offs + NR as usize * up(blk_size);
    let u32_of = |n: usize| u32::try_from(n).unwrap();
    let mut starts = vec![(0, 0, 1), (vcpu_offs, up(vcpu_size), NR), (blk_offs, up(blk_size), NR)];
    let mut schema = Vec::new();
    for (kind, of) in KINDS.into_iter().zip(&abi.records).skip(NR_HEADER) {
        if of.groups.is_empty() {
            starts.push((0, 0, 0));
            continue;
        }
        let (offs, stride) = (end, up(of.size));
        starts.push((offs, stride, NR));
        let [offs, size, stride] = [offs, of.size, stride].map(u32_of);
        let [active, header] = [kind.active_offset(), kind.header_len()].map(u32_of);
        schema.extend([kind.number(), 0, offs, size, stride, NR, active, header]);
        end += NR as usize * stride as usize;
    }
    let schema_offs = end;
    if !schema.is_empty() {
        let nr = u32_of(schema.len() / 8);
        schema.splice(0..0, [SCHEMA_MAGIC, nr, 32, 0, 0, 0, 0, 0]);
    }
    end += schema.len() * 4;
    let mut words = vec![0u64; end / 8];
    let base = NonNull::from(words.as_mut_slice()).cast::<u8>();
    // SAFETY: the words are only reached through `mem` while that lives.
    let mem = unsafe { WriteMem::new(base, end) };
    for (i, word) in schema.iter().enumerate() {
        mem.store_u32(schema_offs + i * 4, *word).unwrap();
    }
    if !schema.is_empty() {
        mem.store_u32(dom::SCHEMA_OFFS, u32_of(schema_offs)).unwrap();
        mem.store_u32(dom::SCHEMA_SIZE, u32_of(schema.len() * 4)).unwrap();
    }
    for (at, word) in [
        (dom::DOM_SIZE, dom_size),
        (dom::VCPU_OFFS, vcpu_offs),
        (dom::VCPU_SIZE, vcpu_size),
        (dom::VCPU_STRIDE, up(vcpu_size)),
        (dom::NR_VCPUS, NR as usize),
        (dom::ALIGN, align),
        (dom::REVISION, abi.revision as usize),
        (dom::BLK_OFFS, blk_offs),
        (dom::BLK_SIZE, blk_size),
        (dom::BLK_STRIDE, up(blk_size)),
        (dom::NR_BLKS, NR as usize),
    ] {
        mem.store_u32(at, u32_of(word)).unwrap();
    }
    for (k, (kind, (offs, stride, nr))) in KINDS.into_iter().zip(starts).enumerate() {
        for index in 0..nr {
            let at = mem.sub(offs + index as usize * stride, abi.records[k].size).unwrap();
            if kind != RecordKind::Dom {
                at.store_u32(record::MAGIC, kind.magic()).unwrap();
                at.store_u32(record::INDEX, index).unwrap();
            }
            let mut active = 0;
            for g in abi.records[k].groups.iter().filter(|g| !off.contains(&(k, g.bit))) {
                let payload: Vec<u64> = (g.offset + 16..g.end())
                    .step_by(8)
                    .map(|o| value(k, index, o).to_le())
                    .collect();
                at.group(g.offset, g.size).unwrap().write(1, &payload);
                active |= 1 << g.bit;
            }
            at.store_u64(kind.active_offset(), active).unwrap();
        }
    }
    mem.publish().unwrap();
    words
}

/// Kind of record, record, bit of the group, offset of the field, and its words if it is produced.
type Found = (usize, u32, u32, usize, Option<Vec<u64>>);

/// What a consumer of this layout reads: for each of its fields the words, or nothing.
fn consume(abi: &Abi, words: &mut [u64]) -> Vec<Found> {
    let len = words.len() * 8;
    let base = NonNull::from(words).cast::<u8>();
    // SAFETY: the words are borrowed and only reached through `mem` while that lives.
    let mem = unsafe { ReadMem::new(base, len) };
    let mut geometry = Geometry::validate(&DomHeader::load(mem).unwrap(), len).unwrap();
    if geometry.schema().size > 0 {
        let table = RecordTable::load(mem, geometry.schema()).unwrap();
        geometry = geometry.with_records(&table, len).unwrap();
    }
    let mut read = Vec::new();
    for (k, kind) in KINDS.into_iter().enumerate() {
        let array = geometry.array(kind);
        for index in 0..if kind == RecordKind::Dom { 1 } else { NR } {
            let Some(offset) = array.offset(index) else {
                // A kind that the producer does not have.
                let fields = abi.records[k]
                    .groups
                    .iter()
                    .flat_map(|g| g.fields.iter().map(move |f| (k, index, g.bit, f.offset, None)));
                read.extend(fields);
                continue;
            };
            let at = mem.sub(offset, array.size).unwrap();
            for g in &abi.records[k].groups {
                let active = at.load_u64(kind.active_offset()).unwrap() & (1 << g.bit) != 0;
                let mut payload = vec![0; (g.size - 16) / 8];
                let whole = at
                    .group(g.offset, g.size)
                    .filter(|_| active)
                    .is_some_and(|group| group.try_read(&mut payload, || ()).is_ok());
                for f in &g.fields {
                    let start = (f.offset - g.offset - 16) / 8;
                    let words =
                        payload[start..start + f.width / 8].iter().map(|w| u64::from_le(*w));
                    read.push((k, index, g.bit, f.offset, whole.then(|| words.collect())));
                }
            }
        }
    }
    read
}

/// What may not be done to a layout.
#[derive(Clone, Copy, Debug)]
enum Illegal {
    MoveField,
    RemoveField,
    RetypeField,
    ResizeField,
    ChangeUnit,
    GrowGroup,
    MoveGroup,
    RemoveGroup,
    ChangeBit,
    ReuseBit,
    ShrinkRecord,
    RemoveRecord,
}

/// Does it to a group of the layout; returns what the comparison has to say.
fn spoil(abi: &mut Abi, how: Illegal, pick: usize) -> &'static str {
    let places: Vec<(usize, usize)> = abi
        .records
        .iter()
        .enumerate()
        .flat_map(|(r, record)| (0..record.groups.len()).map(move |g| (r, g)))
        .collect();
    let (r, g) = places[pick % places.len()];
    let record = &mut abi.records[r];
    let group = &mut record.groups[g];
    let f = pick % group.fields.len();
    match how {
        Illegal::MoveField => {
            group.fields[f].offset += 8;
            "moved"
        }
        Illegal::RemoveField => {
            group.fields.remove(f);
            "removed"
        }
        Illegal::RetypeField => {
            group.fields[f].kind = "instant".into();
            "retyped"
        }
        Illegal::ResizeField => {
            group.fields[f].width += 8;
            "resized"
        }
        Illegal::ChangeUnit => {
            group.fields[f].unit = "us".into();
            "unit"
        }
        Illegal::GrowGroup => {
            let mut field = group.fields[f].clone();
            (field.name, field.offset) = ("more".into(), group.end());
            group.fields.push(field);
            "never grows"
        }
        Illegal::MoveGroup => {
            group.offset += 16;
            "moved"
        }
        Illegal::RemoveGroup => {
            record.groups.remove(g);
            "removed"
        }
        Illegal::ChangeBit => {
            group.bit = 63;
            "bit changed"
        }
        Illegal::ReuseBit => {
            let mut reused = group.clone();
            (reused.name, reused.offset) = ("new".into(), record.size);
            record.size += reused.size;
            record.groups.push(reused);
            "reuses bit"
        }
        Illegal::ShrinkRecord => {
            record.size -= 16;
            "shrunk"
        }
        Illegal::RemoveRecord => {
            abi.records.remove(r);
            "removed"
        }
    }
}

fn illegal() -> impl Strategy<Value = Illegal> {
    use Illegal::*;
    prop::sample::select(vec![
        MoveField,
        RemoveField,
        RetypeField,
        ResizeField,
        ChangeUnit,
        GrowGroup,
        MoveGroup,
        RemoveGroup,
        ChangeBit,
        ReuseBit,
        ShrinkRecord,
        RemoveRecord,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn builds_of_any_two_revisions_read_what_both_know(
        history in histories(),
        align in prop::sample::select(vec![16usize, 64, 512, 4096]),
        off in prop::collection::vec((0usize..KINDS.len(), 0u32..4), 0..3),
    ) {
        let all: Vec<Abi> = (1..=history.len()).map(|n| layout(&history, n)).collect();
        for (i, producer) in all.iter().enumerate() {
            let mut words = produce(producer, align, &off);
            for (j, consumer) in all.iter().enumerate() {
                for (k, index, bit, offset, found) in consume(consumer, &mut words) {
                    let known = producer.records[k].groups.iter().any(|g| g.bit == bit);
                    let produced = known && !off.contains(&(k, bit));
                    let field = consumer.records[k].groups[bit as usize]
                        .fields.iter().find(|f| f.offset == offset).unwrap();
                    let expected = produced.then(|| {
                        (offset..offset + field.width).step_by(8).map(|o| value(k, index, o)).collect::<Vec<_>>()
                    });
                    prop_assert_eq!(found, expected, "revision {} read by {}", i + 1, j + 1);
                }
                let found = compare(&all[i.min(j)], &all[i.max(j)]);
                prop_assert!(found.is_compatible(), "{found}");
            }
        }
    }

    #[test]
    fn what_is_not_appended_is_found_and_named(
        history in histories(),
        how in illegal(),
        pick in 0usize..1000,
        n in 0usize..6,
    ) {
        let old = layout(&history, n % history.len() + 1);
        // Beside what was legally appended since.
        let mut new = old.clone();
        let why = spoil(&mut new, how, pick);
        let found = compare(&old, &new);
        prop_assert!(!found.is_compatible(), "{how:?}");
        prop_assert!(found.breaking().any(|c| c.how.contains(why)), "{how:?}: {found}");
    }

    #[test]
    fn an_illegal_change_is_found_among_legal_ones(history in histories(), pick in 0usize..1000) {
        let old = layout(&history, 1);
        let mut new = layout(&history, history.len());
        // A field of the first revision is moved.
        let r = new.records.iter().position(|r| !r.groups.is_empty() && r.groups[0].since == 1);
        let group = &mut new.records[r.unwrap()].groups[0];
        let nr = group.fields.len();
        group.fields[pick % nr].offset += 8;
        let found = compare(&old, &new);
        prop_assert!(found.breaking().any(|c| c.how.starts_with("moved")), "{found}");
    }
}

#[test]
fn the_revisions_are_a_legal_history() {
    let all: Vec<Abi> = (1..=5).map(|n| Abi::of_revision(n).unwrap()).collect();
    for (i, old) in all.iter().enumerate() {
        for new in &all[i..] {
            let found = compare(old, new);
            assert!(found.is_compatible(), "{found}");
        }
    }
}
