//! The rules for the layout of RFC v3.

use domstat_layout::rfc_v3::{
    HEADER_LEN, INACTIVE, MAGIC, RECORD_LEN, Running, header, is_scaled, record,
};

use super::capture::{Capture, RecordAt, RecordLook};
use super::{Look, Rule};
use crate::Outcome;
use crate::rules::{finding_of as finding, no_watch};

/// Every rule, in order of their names.
pub const RULES: &[Rule] = &[
    rule("R01", "the magic is known", "RFC v3", &[], magic),
    rule("R02", "offset >= header", "RFC v3", HEADER, offset),
    rule("R03", "a record holds seq, pad and the running time", "RFC v3", HEADER, size),
    rule("R04", "stride >= size", "RFC v3", HEADER, stride),
    rule("R05", "at least one record lies inside the mapping", "RFC v3", HEADER, inside),
    rule(
        "R06",
        "offset, size and stride are multiples of 8",
        "KVM binary statistics",
        HEADER,
        aligned,
    ),
    rule("R07", "pad words are zero", "design mail", SHAPE, pad),
    rule("R08", "gap bytes are zero", "design mail", SHAPE, gap),
    rule("R09", "seq is even at rest, and odd no longer than the deadline", "RFC v3", SHAPE, rest),
    rule("R10", "the running time changes only together with seq", "RFC v3", SHAPE, guarded),
    rule("R11", "the running time does not decrease", "OpenMetrics", SHAPE, monotonic),
    rule("R12", "header words are constant", "xen-devel review", SHAPE, constant),
    rule("R13", "records are a stride apart, not a stride times a size", "RFC v3", SHAPE, apart),
];

const HEADER: &[&str] = &["R01"];
/// The rules that must hold before anything in a record can be judged.
const SHAPE: &[&str] = &["R01", "R02", "R03", "R04", "R05", "R06"];

const fn rule(
    id: &'static str,
    title: &'static str,
    source: &'static str,
    requires: &'static [&'static str],
    check: fn(&Look<'_>) -> Outcome,
) -> Rule {
    Rule { id, title, source, requires, check }
}

/// Fails with one word of the header unless `holds`.
fn word(
    holds: bool,
    id: &'static str,
    at: usize,
    name: &str,
    expected: impl ToString,
    found: impl ToString,
) -> Outcome {
    if holds { Outcome::Pass } else { vec![finding(id, at, name, expected, found)].into() }
}

fn magic(look: &Look<'_>) -> Outcome {
    let found = look.current.header.magic;
    let (expected, shown) = (format!("{MAGIC:#010x}"), format!("{found:#010x}"));
    word(found == MAGIC, "R01", header::MAGIC, "magic", expected, shown)
}

fn offset(look: &Look<'_>) -> Outcome {
    let found = look.current.header.offset;
    let expected = format!("at least {HEADER_LEN}");
    word(found as usize >= HEADER_LEN, "R02", header::OFFSET, "offset", expected, found)
}

fn size(look: &Look<'_>) -> Outcome {
    let found = look.current.header.size;
    let expected = format!("at least {RECORD_LEN}");
    word(found as usize >= RECORD_LEN, "R03", header::SIZE, "size", expected, found)
}

fn stride(look: &Look<'_>) -> Outcome {
    let h = look.current.header;
    let expected = format!("at least {}", h.size);
    word(h.stride >= h.size, "R04", header::STRIDE, "stride", expected, h.stride)
}

fn inside(look: &Look<'_>) -> Outcome {
    let (h, len) = (look.current.header, look.current.mapped_len as u64);
    // No wrap: both are below 2^32.
    let end = u64::from(h.offset) + u64::from(h.size);
    let expected = format!("a record that ends at byte {len} or before");
    word(end <= len, "R05", header::OFFSET, "offset", expected, h.offset)
}

fn aligned(look: &Look<'_>) -> Outcome {
    words(look.current)
        .into_iter()
        .filter(|(_, _, found)| !found.is_multiple_of(8))
        .map(|(at, name, found)| finding("R06", at, name, "a multiple of 8", found))
        .collect::<Vec<_>>()
        .into()
}

fn pad(look: &Look<'_>) -> Outcome {
    let set = look.current.records.iter().filter(|at| at.pad != 0);
    set.map(|at| finding("R07", at.base + record::PAD, name(at, "pad"), 0, at.pad))
        .collect::<Vec<_>>()
        .into()
}

fn gap(look: &Look<'_>) -> Outcome {
    let gaps = look.current.gaps.iter();
    gaps.map(|gap| finding("R08", gap.offset, gap.what.clone(), 0, format!("{:#x}", gap.found)))
        .collect::<Vec<_>>()
        .into()
}

fn rest(look: &Look<'_>) -> Outcome {
    let mut findings = Vec::new();
    for at in &look.current.records {
        if let RecordLook::Stalled { seq } = at.look {
            let expected = format!("even within {:?}", look.options.seq_deadline);
            let found = format!("{seq} all the time");
            findings.push(finding("R09", at.base + record::SEQ, name(at, "seq"), expected, found));
        }
    }
    findings.into()
}

fn guarded(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for (before, now) in pairs(previous, look.current) {
        let (Some(was), Some(is)) = (before.whole(), now.whole()) else { continue };
        if let (Some(old), Some(new)) = (was.word, is.word)
            && was.seq == is.seq
            && old != new
        {
            let what = format!("{} at seq {}", name(now, "running_ns"), is.seq);
            let at = now.base + record::RUNNING_NS;
            findings.push(finding(
                "R10",
                at,
                what,
                format!("{}, as before", shown(old)),
                shown(new),
            ));
        }
    }
    findings.into()
}

fn monotonic(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    let mut findings = Vec::new();
    for (before, now) in pairs(previous, look.current) {
        let (Some(was), Some(is)) = (before.whole(), now.whole()) else { continue };
        // A record that goes back to zeros went back, too.
        let ns = match is.running() {
            Running::NeverWritten => Some(0),
            other => other.ns(),
        };
        if let (Some(old), Some(new)) = (was.running().ns(), ns)
            && new < old
        {
            let at = now.base + record::RUNNING_NS;
            let expected = format!("at least {old}, as before");
            findings.push(finding("R11", at, name(now, "running_ns"), expected, new));
        }
    }
    findings.into()
}

fn constant(look: &Look<'_>) -> Outcome {
    let Some(previous) = look.previous else { return no_watch() };
    words(previous)
        .into_iter()
        .zip(words(look.current))
        .filter(|((_, _, was), (_, _, is))| was != is)
        .map(|((at, name, was), (_, _, is))| {
            finding("R12", at, name, format!("{was}, as before"), is)
        })
        .collect::<Vec<_>>()
        .into()
}

/// The patches as mailed count the stride in records: vCPU 1 is then where vCPU `size` should be.
fn apart(look: &Look<'_>) -> Outcome {
    let Some(geometry) = look.current.geometry else {
        return Outcome::NotCheckable("the header cannot be followed".to_owned());
    };
    let written: Vec<&RecordAt> =
        look.current.records.iter().filter(|at| at.is_written()).collect();
    let Some(second) = written.iter().find(|at| at.index > 0) else {
        return Outcome::NotCheckable("no record but the first was ever written".to_owned());
    };
    if !is_scaled(&geometry, written.iter().map(|at| at.index)) {
        return Outcome::Pass;
    }
    let expected = format!("vcpu[1] at byte {}", geometry.offset() + geometry.stride());
    let found = "zeros up to here: vcpu[1] with its stride scaled by the size";
    vec![finding("R13", second.base, name(second, "seq"), expected, found)].into()
}

/// The header's words but its magic.
fn words(capture: &Capture) -> [(usize, &'static str, u32); 3] {
    let h = capture.header;
    [
        (header::OFFSET, "offset", h.offset),
        (header::SIZE, "size", h.size),
        (header::STRIDE, "stride", h.stride),
    ]
}

fn name(at: &RecordAt, word: &str) -> String {
    format!("vcpu[{}].{word}", at.index)
}

fn shown(word: u64) -> String {
    if word & INACTIVE == 0 { word.to_string() } else { "inactive or overflowed".to_owned() }
}

/// Each record as seen before and now, where it did not move.
fn pairs<'a>(
    previous: &'a Capture,
    current: &'a Capture,
) -> impl Iterator<Item = (&'a RecordAt, &'a RecordAt)> {
    previous.records.iter().zip(&current.records).filter(|(before, now)| before.base == now.base)
}
