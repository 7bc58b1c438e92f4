//! No two sections of a region share a byte, and no two frames of a page-granular one share memory.

use super::{Look, Rule, SHAPE, finding};
use crate::{FrameId, Outcome};
use domstat_layout::header::dom;

pub(super) const RULE: Rule = Rule {
    id: "I10",
    title: "no two sections overlap",
    source: "KVM binary statistics",
    requires: SHAPE,
    check,
};

fn check(look: &Look<'_>) -> Outcome {
    let Some(g) = look.current.geometry else {
        return Outcome::NotCheckable("the header cannot be followed".to_owned());
    };
    let sections = [
        Section { name: "the dom record", start: 0, end: g.dom_size() },
        Section { name: "the vcpu array", start: g.vcpu_offs(), end: g.end() },
    ];
    let mut findings = Vec::new();
    for (a, b) in overlaps(&sections) {
        let expected = format!("{} to start at {} or later", b.name, a.end);
        findings.push(finding("I10", dom::VCPU_OFFS, b.name, expected, b.start));
    }
    for (first, second) in same_frames(&look.subject.frames) {
        // Frame 0 is the dom record's, frame i + 1 vCPU i's.
        let index = u32::try_from(second).unwrap_or(u32::MAX).saturating_sub(1);
        let at = g.vcpu_offset(index).unwrap_or(0);
        let expected = "memory of its own";
        let found = format!("the memory of frame {first}");
        findings.push(finding("I10", at, format!("frame {second}"), expected, found));
    }
    findings.into()
}

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    name: &'static str,
    start: usize,
    end: usize,
}

/// Pairs of sections that share a byte, each in order of their starts.
fn overlaps(sections: &[Section]) -> Vec<(Section, Section)> {
    let mut sorted: Vec<Section> = sections.iter().copied().filter(|s| s.start < s.end).collect();
    sorted.sort_by_key(|s| s.start);
    let mut pairs = Vec::new();
    for (i, a) in sorted.iter().enumerate() {
        for b in sorted.iter().skip(i + 1).take_while(|b| b.start < a.end) {
            pairs.push((*a, *b));
        }
    }
    pairs
}

/// Pairs of frames that are the same memory.
fn same_frames(frames: &[FrameId]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (second, frame) in frames.iter().enumerate() {
        if let Some(first) = frames.iter().take(second).position(|f| f == frame) {
            pairs.push((first, second));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &'static str, start: usize, end: usize) -> Section {
        Section { name, start, end }
    }

    #[test]
    fn sections_that_touch_do_not_overlap_and_every_pair_is_found() {
        let (a, b, c) = (section("a", 0, 100), section("b", 100, 200), section("c", 199, 300));
        assert_eq!(overlaps(&[c, a, b]), [(b, c)]);
        let d = section("d", 50, 250);
        assert_eq!(overlaps(&[a, b, c, d]), [(a, d), (d, b), (d, c), (b, c)]);
        assert_eq!(overlaps(&[a, section("empty", 50, 50)]), []);
    }
}
