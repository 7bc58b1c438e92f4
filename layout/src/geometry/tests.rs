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
