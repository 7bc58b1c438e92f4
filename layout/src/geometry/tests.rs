//! Headers that are accepted and headers that are not.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn good() -> DomHeader {
    DomHeader {
        magic: DOM_MAGIC,
        dom_size: 400,
        vcpu: ArrayWords { offs: 448, size: 96, stride: 128, nr: 4 },
        align: 64,
        incarnation: 1,
        revision: 1,
        clock: 1,
        ..DomHeader::default()
    }
}

fn rule(header: DomHeader, len: usize) -> Option<Rule> {
    match Geometry::validate(&header, len) {
        Err(GeometryError::Word { rule, .. }) => Some(rule),
        _ => None,
    }
}

#[test]
fn the_text_of_an_error_names_word_place_bounds_and_rule() {
    let mut header = good();
    header.vcpu.stride = 88;
    assert_eq!(
        Geometry::validate(&header, 4096).unwrap_err().to_string(),
        "header word vcpu_stride at byte 16 is 88, expected at least 96 (rule I05)"
    );
}

#[test]
fn bounds_are_exact() {
    let vcpu = |change: fn(&mut ArrayWords)| {
        let mut header = good();
        change(&mut header.vcpu);
        rule(header, 4096)
    };
    assert!(Geometry::validate(&good(), 448 + 4 * 128).is_ok());
    assert_eq!(rule(good(), 448 + 4 * 128 - 1), Some(Rule::I06));
    assert_eq!(rule(DomHeader { dom_size: 120, ..good() }, 4096), Some(Rule::I03));
    assert_eq!(rule(DomHeader { dom_size: 4104, ..good() }, 4096), Some(Rule::I03));
    assert_eq!(vcpu(|w| w.offs = 392), Some(Rule::I04));
    assert_eq!(vcpu(|w| w.size = 24), Some(Rule::I05));
    assert_eq!(vcpu(|w| w.stride = 88), Some(Rule::I05));
    assert_eq!(vcpu(|w| w.nr = 0), Some(Rule::I07));
    assert_eq!(vcpu(|w| w.nr = u32::MAX), Some(Rule::I07));
    assert_eq!(vcpu(|w| w.offs = 452), Some(Rule::I08));
    let swapped = DomHeader { magic: DOM_MAGIC.swap_bytes(), ..good() };
    assert_eq!(Geometry::validate(&swapped, 4096), Err(GeometryError::WrongEndian));
    let unpublished = DomHeader { magic: 0, ..good() };
    assert_eq!(Geometry::validate(&unpublished, 4096), Err(GeometryError::NotReady));
    assert!(matches!(Geometry::validate(&good(), 127), Err(GeometryError::TooShort { .. })));
}

proptest! {
    /// Whatever the header says, an accepted geometry stays inside the mapping.
    #[test]
    fn accepted_means_inside(
        words in prop::array::uniform5(prop_oneof![0u32..10_000, any::<u32>()]),
        len in 0usize..200_000,
    ) {
        let [dom_size, offs, size, stride, nr] = words.map(|w| w & !7);
        let vcpu = ArrayWords { offs, size, stride, nr: nr >> 3 };
        let header = DomHeader { dom_size, vcpu, ..good() };
        if let Ok(g) = Geometry::validate(&header, len) {
            prop_assert!(g.dom_size() >= DOM_HEADER_LEN && g.dom_size() <= g.vcpu_offs());
            let last = g.vcpu_offset(g.nr_vcpus() - 1).unwrap();
            prop_assert!(last + g.vcpu_size() <= g.end() && g.end() <= len);
            prop_assert!(last.is_multiple_of(8));
            prop_assert_eq!(g.vcpu_offset(g.nr_vcpus()), None);
        }
    }
}

/// A header of revision 4 with every part.
fn whole() -> DomHeader {
    DomHeader {
        arch_dom: SectionWords { offs: 400, size: 48 },
        arch_vcpu: SectionWords { offs: 96, size: 32 },
        blk: ArrayWords { offs: 1024, size: 240, stride: 256, nr: 2 },
        net: ArrayWords { offs: 1536, size: 256, stride: 256, nr: 1 },
        schema: SectionWords { offs: 1792, size: 104 },
        ..good()
    }
}

#[test]
fn every_part_is_held_to_its_bounds() {
    let g = Geometry::validate(&whole(), 1896).unwrap();
    assert_eq!(g.end(), 1896);
    assert_eq!(g.array(RecordKind::Blk).offset(1), Some(1280));
    assert_eq!(g.array(RecordKind::ArchVcpu).offset(3), Some(448 + 3 * 128 + 96));
    assert_eq!(g.array(RecordKind::ArchDom).nr, 1);
    assert_eq!(rule(whole(), 1895), Some(Rule::I06));
    let blk = |change: fn(&mut ArrayWords)| {
        let mut header = whole();
        change(&mut header.blk);
        rule(header, 4096)
    };
    assert_eq!(blk(|w| w.size = 24), Some(Rule::I05));
    assert_eq!(blk(|w| w.stride = 232), Some(Rule::I05));
    assert_eq!(blk(|w| w.nr = 0), Some(Rule::I07));
    assert_eq!(blk(|w| w.nr = u32::MAX), Some(Rule::I07));
    assert_eq!(blk(|w| w.offs = 1028), Some(Rule::I08));
    assert_eq!(blk(|w| w.offs = !7), Some(Rule::I06));
    assert_eq!(blk(|w| w.offs = 952), Some(Rule::I10), "the last 8 bytes of the vcpu array");
    assert_eq!(blk(|w| w.offs = 0), Some(Rule::I10), "the dom record");
    let arch =
        |offs, size| rule(DomHeader { arch_vcpu: SectionWords { offs, size }, ..whole() }, 4096);
    assert_eq!(arch(88, 32), Some(Rule::I23), "inside the vcpu record");
    assert_eq!(arch(96, 40), Some(Rule::I23), "past the stride");
    assert_eq!(arch(96, 24), Some(Rule::I23), "no room for its header");
    assert_eq!(arch(!7, !7), Some(Rule::I23));
    let dom = |offs| rule(DomHeader { arch_dom: SectionWords { offs, size: 48 }, ..whole() }, 4096);
    assert_eq!((dom(400), dom(408), dom(392)), (None, Some(Rule::I10), Some(Rule::I10)));
    let short = SectionWords { offs: 1792, size: 24 };
    assert_eq!(rule(DomHeader { schema: short, ..whole() }, 4096), Some(Rule::I23));
}

proptest! {
    /// Whatever the later words say, what is accepted lies inside and apart.
    #[test]
    fn accepted_parts_lie_inside_and_apart(
        words in prop::array::uniform14(prop_oneof![0u32..300, 300u32..4000, any::<u32>()]),
        len in 1000usize..8000,
    ) {
        let w = words.map(|w| w & !7);
        let section = |i: usize| SectionWords { offs: w[i], size: w[i + 1] };
        let array = |i: usize| ArrayWords {
            offs: w[i], size: w[i + 1], stride: w[i + 2], nr: w[i + 3] >> 3,
        };
        let header = DomHeader {
            arch_dom: section(0), arch_vcpu: section(2), schema: section(4),
            blk: array(6), net: array(10), ..good()
        };
        if let Ok(g) = Geometry::validate(&header, len) {
            let mut taken: Vec<(usize, usize)> = RecordKind::ALL
                .into_iter()
                .map(|kind| g.array(kind))
                .flat_map(|a| (0..a.nr).map(move |i| (a.offset(i).unwrap(), a.size)))
                .map(|(start, size)| (start, start + size))
                .chain([(g.schema().offs, g.schema().end())])
                .filter(|(start, end)| start < end)
                .collect();
            taken.sort_unstable();
            prop_assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{taken:?}");
            prop_assert!(taken.iter().all(|(_, end)| *end <= g.end() && g.end() <= len));
        }
    }
}

/// A region with every part of its header, and a kind of each sort beyond it.
fn kinds() -> Vec<(RecordKind, ArrayWords)> {
    let words = |offs, size, stride, nr| ArrayWords { offs, size, stride, nr };
    std::vec![
        (RecordKind::BlkQueue, words(2048, 64, 64, 3)),
        // In the second half of the blk array's gaps there is room for 16 bytes only.
        (RecordKind::BlkHist, words(2304, 96, 128, 2)),
        (RecordKind::Labels, words(2560, 1072, 1072, 1)),
    ]
}

fn with(kinds: &[(RecordKind, ArrayWords)], len: usize) -> Result<Geometry, RecordTableError> {
    let g = Geometry::validate(&whole(), 8192).unwrap();
    g.with_records(&RecordTable::of(kinds.iter().copied()), len)
}

#[test]
fn kinds_beyond_the_header_are_held_to_its_rules() {
    let g = with(&kinds(), 3632).unwrap();
    assert_eq!((g.end(), g.array(RecordKind::BlkQueue).offset(2)), (3632, Some(2176)));
    assert_eq!((g.array(RecordKind::Labels).nr, g.array(RecordKind::NetQueue).nr), (1, 0));
    let broken = |at: usize, change: fn(&mut ArrayWords)| {
        let mut kinds = kinds();
        change(&mut kinds[at].1);
        match with(&kinds, 3632) {
            Ok(_) => None,
            Err(RecordTableError::Record { rule, kind, .. }) => {
                assert_eq!(kind, kinds[at].0);
                Some(rule)
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(broken(0, |w| w.size = 24), Some(Rule::I05));
    assert_eq!(broken(0, |w| w.stride = 56), Some(Rule::I05));
    assert_eq!(broken(0, |w| w.nr = 0), Some(Rule::I07));
    assert_eq!(broken(0, |w| w.nr = 65_537), Some(Rule::I07));
    assert_eq!(broken(1, |w| w.nr = 1), Some(Rule::I07), "as many as there are devices");
    assert_eq!(broken(2, |w| w.nr = 2), Some(Rule::I07));
    assert_eq!(broken(0, |w| w.offs = 2052), Some(Rule::I08));
    assert_eq!(broken(0, |w| w.offs = !7), Some(Rule::I06));
    assert_eq!(broken(2, |w| w.offs = 2568), Some(Rule::I06), "8 bytes past the end");
    assert_eq!(broken(0, |w| w.offs = 1888), Some(Rule::I10), "the schema");
    assert_eq!(broken(1, |w| w.offs = 2176), Some(Rule::I10), "an earlier kind");
    let text = {
        let mut kinds = kinds();
        kinds[1].1.stride = 64;
        with(&kinds, 3632).unwrap_err().to_string()
    };
    let expected =
        "schema: stride of blk_hist records at byte 16 is 64, expected at least 96 (rule I05)";
    assert_eq!(text, expected);
    let nets = [(RecordKind::ArchNet, ArrayWords { offs: 2048, size: 32, stride: 64, nr: 2 })];
    assert!(with(&nets, 8192).is_err(), "there is one interface");
}

#[test]
fn a_kind_may_lie_in_the_frames_of_another() {
    // The stride of a vCPU is 128: 96 bytes of record, 32 of arch slot. Without the slot there is room.
    let header = DomHeader { arch_vcpu: SectionWords::default(), ..whole() };
    let g = Geometry::validate(&header, 4096).unwrap();
    let hist = |offs, size, stride, nr| {
        let words = ArrayWords { offs, size, stride, nr };
        g.with_records(&RecordTable::of([(RecordKind::VcpuHist, words)]), 4096).is_ok()
    };
    assert!(hist(448 + 96, 32, 128, 4));
    assert!(!hist(448 + 88, 32, 128, 4), "inside the record");
    assert!(!hist(448 + 96, 40, 128, 4), "past the stride");
    assert!(!hist(448 + 96, 32, 256, 4), "another stride");
    assert!(!hist(448 + 128 + 96, 32, 128, 4), "the frames of the next ones");
    let taken = Geometry::validate(&whole(), 4096).unwrap();
    let words = ArrayWords { offs: 448 + 96, size: 32, stride: 128, nr: 4 };
    let table = RecordTable::of([(RecordKind::VcpuHist, words)]);
    assert!(taken.with_records(&table, 4096).is_err(), "the arch slot is there");
}

#[test]
fn a_table_is_copied_once_and_in_bounds() {
    use crate::schema::{head, record};
    let mut bytes = [0u64; 64];
    /// The table of a schema of `size` bytes in memory of 512.
    fn load(bytes: &[u64; 64], size: usize) -> Result<RecordTable, RecordTableError> {
        let base = core::ptr::NonNull::from(bytes).cast::<u8>();
        #[allow(unsafe_code, reason = "shared memory made of a local")]
        // SAFETY: 512 bytes of a local that nothing writes while it is borrowed.
        let mem = unsafe { crate::ReadMem::new(base, 512) };
        RecordTable::load(mem, Section { offs: 0, size })
    }
    let error = |bytes: &[u64; 64], size| match load(bytes, size) {
        Ok(table) => panic!("{} entries", table.entries().count()),
        Err(RecordTableError::Table { offset, .. }) => offset,
        Err(other) => panic!("{other}"),
    };
    assert_eq!(error(&bytes, 512), head::MAGIC);
    bytes[0] = u64::from(crate::header::SCHEMA_MAGIC) | 65 << 32;
    assert_eq!(error(&bytes, 512), head::RECORD_LEN);
    bytes[1] = record::LEN as u64;
    assert_eq!(error(&bytes, 1 << 20), head::NR_RECORDS, "65 kinds");
    bytes[0] = u64::from(crate::header::SCHEMA_MAGIC) | 3 << 32;
    assert_eq!(error(&bytes, 32 + 64), head::NR_RECORDS, "room for two");
    assert_eq!(error(&bytes, 32 + 96), 32, "kind 0");
    // A later entry may be longer; unknown kinds and those of the header are skipped.
    bytes[1] = 40;
    for (i, kind) in [3, 7, 200].into_iter().enumerate() {
        bytes[4 + i * 5] = kind;
        bytes[4 + i * 5 + 1] = 1000 + i as u64;
    }
    let table = load(&bytes, 512).unwrap();
    let found: Vec<_> = table.entries().map(|(kind, words, at)| (kind, words.offs, at)).collect();
    assert_eq!(found, [(RecordKind::BlkQueue, 1001, 32 + 40)]);
    bytes[4 + 10] = 7;
    assert_eq!(error(&bytes, 512), 32 + 80, "the same kind twice");
}

proptest! {
    /// Whatever the table says, what is accepted lies inside and apart.
    #[test]
    fn accepted_kinds_lie_inside_and_apart(
        words in prop::collection::vec(
            prop::array::uniform4(prop_oneof![0u32..300, 300u32..4000, any::<u32>()]), 7
        ),
        // A window of the blk array's stride, and as many records as there are devices.
        windows in prop::collection::vec((0u32..40, 0u32..8, any::<bool>()), 7),
        len in 1896usize..8000,
    ) {
        let header = DomHeader { blk: ArrayWords { offs: 1024, size: 64, stride: 256, nr: 2 }, ..whole() };
        let base = Geometry::validate(&header, 1896.max(len)).unwrap();
        let kinds = RecordKind::OPTIONAL.into_iter().zip(words.iter().zip(windows));
        let mut accepted = base;
        let mut table = Vec::new();
        for (kind, ([offs, size, stride, nr], (at, eights, window))) in kinds {
            let words = match window {
                true => ArrayWords { offs: 1024 + at * 8, size: 32 + eights * 8, stride: 256, nr: 2 },
                false => ArrayWords { offs: offs & !7, size: size & !7, stride: stride & !7, nr: nr >> 3 },
            };
            table.push((kind, words));
            match base.with_records(&RecordTable::of(table.clone()), len) {
                Ok(g) => accepted = g,
                Err(_) => { table.pop(); }
            }
        }
        let mut taken: Vec<(usize, usize)> = RecordKind::ALL
            .into_iter()
            .map(|kind| accepted.array(kind))
            .flat_map(|a| (0..a.nr).map(move |i| (a.offset(i).unwrap(), a.size)))
            .map(|(start, size)| (start, start + size))
            .chain([(accepted.schema().offs, accepted.schema().end())])
            .filter(|(start, end)| start < end)
            .collect();
        taken.sort_unstable();
        prop_assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{taken:?}");
        prop_assert!(taken.iter().all(|(_, end)| *end <= accepted.end()) && accepted.end() <= len);
    }
}
