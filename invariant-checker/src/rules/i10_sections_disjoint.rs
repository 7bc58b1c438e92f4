//! Disjoint sections: no two share a byte, and no two frames of a page-granular region share memory.

use super::{Look, RuleCheck, SHAPE, finding};
use crate::capture::BeyondHeader;
use crate::{Finding, FrameId, Outcome};
use domstat_layout::Rule;
use domstat_layout::header::{ARCH_VCPU_WORDS, ArrayWords, dom};
use domstat_layout::schema::record;

pub(super) const RULE: RuleCheck =
    RuleCheck { rule: Rule::I10, source: "KVM binary statistics", requires: SHAPE, check };

fn check(look: &Look<'_>) -> Outcome {
    let h = &look.current.header;
    let dom = Section { name: "dom_size", word: dom::DOM_SIZE, start: 0, end: h.dom_size.into() };
    let arrays = h.arrays().map(|(p, w)| Section {
        name: p.offs.1,
        word: p.offs.0,
        start: w.offs.into(),
        // No wrap: each factor is below 2^32.
        end: u64::from(w.offs) + u64::from(w.nr) * u64::from(w.stride),
    });
    // The vCPUs' arch slots lie in the strides of their records, by I23.
    let others = h.sections().filter(|(p, _)| *p != ARCH_VCPU_WORDS).map(|(p, w)| Section {
        name: p.offs.1,
        word: p.offs.0,
        start: w.offs.into(),
        end: u64::from(w.offs) + u64::from(w.size),
    });
    let sections: Vec<Section> = std::iter::once(dom).chain(arrays).chain(others).collect();
    let mut findings = Vec::new();
    for (a, b) in overlaps(&sections) {
        let expected = format!("{} or more: the end of what {} starts", a.end, a.name);
        findings.push(finding(RULE.rule, b.word, b.name, expected, b.start));
    }
    beyond_header(look, &mut findings);
    for (first, second) in same_frames(&look.subject.frames) {
        // Frame 0 is the dom record's, frame i + 1 vCPU i's.
        let index = u32::try_from(second).unwrap_or(u32::MAX).saturating_sub(1);
        let at = look.current.geometry.and_then(|g| g.vcpu_offset(index)).unwrap_or(0);
        let expected = "memory of its own";
        let found = format!("the memory of frame {first}");
        findings.push(finding(RULE.rule, at, format!("frame {second}"), expected, found));
    }
    findings.into()
}

/// Adds the kinds beyond the header that lie in the place of another part, or of one another. Their
/// ranges may cross only where strides and counts are equal and each has a part of the stride.
fn beyond_header(look: &Look<'_>, findings: &mut Vec<Finding>) {
    let h = &look.current.header;
    let one = |offs, size| ArrayWords { offs, size, stride: size, nr: u32::from(size > 0) };
    let slots = ArrayWords {
        offs: h.vcpu.offs.saturating_add(h.arch_vcpu.offs),
        size: h.arch_vcpu.size,
        nr: if h.arch_vcpu.size > 0 { h.vcpu.nr } else { 0 },
        ..h.vcpu
    };
    let mut parts = vec![one(0, h.dom_size), one(h.arch_dom.offs, h.arch_dom.size), slots];
    parts.push(one(h.schema.offs, h.schema.size));
    let nr_dense = parts.len();
    parts.extend(h.arrays().map(|(_, words)| words));
    let nr_header = parts.len();
    parts.extend(look.current.beyond_header.iter().map(|entry| entry.words));
    // An array of the header has the gap after its last record, too.
    let range = |i: usize, w: &ArrayWords| {
        let start = u64::from(w.offs);
        let last = u64::from(w.nr.saturating_sub(1)) * u64::from(w.stride);
        let gap = if (nr_dense..nr_header).contains(&i) { w.stride } else { w.size };
        start..start + last + u64::from(gap)
    };
    for (i, BeyondHeader { kind, words, at }) in (nr_header..).zip(&look.current.beyond_header) {
        for (j, other) in parts.iter().enumerate().take(i).filter(|(_, other)| other.nr > 0) {
            let (ours, theirs) = (range(i, words), range(j, other));
            let in_windows = words.stride == other.stride && words.nr == other.nr && {
                let (low, high) =
                    if words.offs < other.offs { (words, other) } else { (other, words) };
                let at = u64::from(high.offs) - u64::from(low.offs);
                at >= low.size.into() && at + u64::from(high.size) <= low.stride.into()
            };
            if ours.start < theirs.end && theirs.start < ours.end && !in_windows {
                let what = format!("schema: {}.offs", kind.name());
                let expected = format!("nothing between {} and {}", theirs.start, theirs.end);
                findings.push(finding(RULE.rule, at + record::OFFS, what, expected, words.offs));
                break;
            }
        }
    }
}

/// A part of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    /// The header word that says where it starts, or for the dom record where it ends.
    name: &'static str,
    word: usize,
    start: u64,
    end: u64,
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

    fn section(name: &'static str, start: u64, end: u64) -> Section {
        Section { name, word: 0, start, end }
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
