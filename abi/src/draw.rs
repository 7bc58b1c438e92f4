//! Maps of regions, as text and as SVG.

use std::fmt::Write;

use crate::{Abi, Record};

/// The region that a map shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Alignment of records.
    pub align: usize,
    /// vCPU records.
    pub nr_vcpus: usize,
    /// Records of each other array.
    pub nr_devices: usize,
}

/// A part of a region.
struct Part {
    start: usize,
    end: usize,
    name: String,
    record: bool,
}

/// The parts of a region, in order.
fn parts(abi: &Abi, shape: Shape) -> Vec<Part> {
    let align = shape.align.max(8);
    let mut parts = Vec::new();
    let mut at = 0usize;
    for record in &abi.records {
        let nr = match record.name.as_str() {
            "dom" => 1,
            "labels" => 1,
            "vcpu" | "vcpu_hist" => shape.nr_vcpus,
            _ => shape.nr_devices,
        };
        for i in 0..nr {
            at = at.next_multiple_of(align);
            let name = if matches!(record.name.as_str(), "dom" | "labels") {
                record.name.clone()
            } else {
                format!("{}[{i}]", record.name)
            };
            record_parts(&mut parts, record, at, &name);
            at += record.size;
        }
    }
    parts
}

fn record_parts(parts: &mut Vec<Part>, record: &Record, at: usize, name: &str) {
    let part = |start, end, name, record| Part { start, end, name, record };
    parts.push(part(at, at + record.size, name.to_owned(), true));
    parts.push(part(at, at + record.header_len, format!("{name} header"), false));
    for g in &record.groups {
        let name = format!("{name}.{} (bit {})", g.name, g.bit);
        parts.push(part(at + g.offset, at + g.end(), name, false));
    }
}

/// The map as lines of text.
#[must_use]
pub fn ascii(abi: &Abi, shape: Shape) -> String {
    let mut text = format!("revision {}, align {}\n", abi.revision, shape.align);
    let mut end = 0;
    for part in parts(abi, shape) {
        if part.record {
            if part.start > end {
                let _ = writeln!(text, "{end:>8} +- gap, {} bytes, zero", part.start - end);
            }
            let _ = writeln!(
                text,
                "{:>8} +-- {} ({} bytes)",
                part.start,
                part.name,
                part.end - part.start
            );
            end = part.end;
        } else {
            let _ = writeln!(
                text,
                "{:>8} |   {} ({} bytes)",
                part.start,
                part.name,
                part.end - part.start
            );
        }
    }
    let _ = writeln!(text, "{end:>8} +-- end");
    text
}

/// Heights and widths of the drawing, in pixels.
const ROW: usize = 54;
const BOX: usize = 42;
const LEFT: usize = 132;
const WIDTH: usize = 1060;
const TOP: usize = 34;
/// Width of a character at the drawing's font size.
const CHARACTER: usize = 7;

/// Colors, for pages of both kinds. The drawing has a background of its own: a viewer that does not
/// know the reader's choice shows the light one on any page.
const STYLE: &str = "\
<style>
svg { font: 11px ui-monospace, monospace; }
text { fill: #1f2328; } .dim { fill: #57606a; } .name { font-weight: bold; }
.page { fill: #ffffff; stroke: #d0d7de; } rect { stroke: #57606a; }
.header { fill: #e4e6e9; } .group { fill: #cfe3f7; } .twin { fill: #e2dcf5; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .dim { fill: #9da7b3; } .page { fill: #0d1117; stroke: #30363d; }
rect { stroke: #7d8590; } .header { fill: #30363d; } .group { fill: #1c3a5e; } .twin { fill: #3b3161; }
}
</style>
";

/// The map as a drawing: one row for each record, to scale. A box has its name, its offset in the
/// record, its length in bytes and its bit.
#[must_use]
pub fn svg(abi: &Abi, shape: Shape) -> String {
    let parts = parts(abi, shape);
    let longest = parts.iter().filter(|p| p.record).map(|p| p.end - p.start).max().unwrap_or(1);
    let rows = parts.iter().filter(|p| p.record).count();
    let (width, height) = (LEFT + WIDTH + 12, TOP + rows * ROW + 6);
    let (revision, align) = (abi.revision, shape.align);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Map of a region of revision {revision}, records aligned to {align} bytes</title>\n\
         {STYLE}<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n\
         <text class=\"dim\" x=\"12\" y=\"22\">revision {revision}, records aligned to {align} \
         bytes; in each box: offset in the record, bytes, bit of stats_active (#)</text>\n",
        width - 1,
        height - 1,
    );
    let (mut y, mut start) = (TOP, 0);
    for part in &parts {
        let bytes = part.end - part.start;
        if part.record {
            (y, start) = (if start == part.start { y } else { y + ROW }, part.start);
            let _ = writeln!(
                out,
                "<text class=\"name\" x=\"12\" y=\"{}\">{}</text>\
                 <text class=\"dim\" x=\"12\" y=\"{}\">at {start}, {bytes} B</text>",
                y + 17,
                part.name,
                y + 33,
            );
            continue;
        }
        let scaled = |bytes: usize| bytes * WIDTH / longest.max(1);
        let (x, w) = (LEFT + scaled(part.start - start), scaled(bytes));
        let at = part.start - start;
        let (class, label, bit) = match part.name.split_once('.') {
            None => ("header", "header", ""),
            Some((_, group)) => {
                let (label, bit) = group.split_once(" (bit ").unwrap_or((group, ""));
                let class = if label.ends_with("_twin") { "twin" } else { "group" };
                (class, label, bit.trim_end_matches(')'))
            }
        };
        let _ = write!(
            out,
            "<g><title>{}: offset {at}, {bytes} bytes</title><rect class=\"{class}\" x=\"{x}\" \
             y=\"{y}\" width=\"{w}\" height=\"{BOX}\"/>",
            part.name
        );
        let with_bit = if bit.is_empty() { String::new() } else { format!(" #{bit}") };
        let places = [format!("+{at}, {bytes} B{with_bit}"), format!("+{at} {bytes}{with_bit}")];
        let fits = |line: &&str| line.len() * CHARACTER + 5 <= w;
        let name = Some(label).filter(fits);
        let place = places.iter().map(String::as_str).find(fits);
        for (class, line, y) in [("name", name, y + 17), ("dim", place, y + 33)] {
            if let Some(line) = line {
                let _ =
                    write!(out, "<text class=\"{class}\" x=\"{}\" y=\"{y}\">{line}</text>", x + 4);
            }
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}
