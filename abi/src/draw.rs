//! Maps of regions, as text and as SVG.

use std::fmt::Write;

use domstat_layout::RecordKind;

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
    /// Offset in its record.
    at: usize,
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
    let part = |start, end, name, record| Part { start, at: start - at, end, name, record };
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
const ROW: usize = 48;
const BOX: usize = 42;
const LEFT: usize = 150;
const WIDTH: usize = 1040;
const TOP: usize = 54;
const GAP: usize = 10;
/// Width of a character at the drawing's font size.
const CHARACTER: usize = 7;
/// Width that each doubling of a length adds to a box.
const DOUBLING: usize = 18;

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

/// The map as a drawing: the records in order, each with a box for its header and for each group. A
/// box has its name, its offset in the record, its length in bytes and its bit; its width grows with
/// the logarithm of the length. Of an array's records the first is drawn.
#[must_use]
pub fn svg(abi: &Abi, shape: Shape) -> String {
    let mut drawing = Drawing { body: String::new(), x: LEFT, y: TOP };
    let mut in_sight = true;
    for part in &parts(abi, shape) {
        if part.record {
            let first = !part.name.contains('[') || part.name.ends_with("[0]");
            in_sight = first;
            drawing.record(part, first);
        } else if in_sight {
            drawing.part(part);
        }
    }
    let (width, height) = (LEFT + WIDTH + 12, drawing.y + ROW + 6);
    let (revision, align) = (abi.revision, shape.align);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>Map of a region of revision {revision}, records aligned to {align} bytes</title>\n\
         {STYLE}<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n\
         <text class=\"dim\" x=\"12\" y=\"22\">revision {revision}, records aligned to {align} \
         bytes; at the left: record, number of its kind, place in the region, length</text>\n\
         <text class=\"dim\" x=\"12\" y=\"38\">in each box: group, offset in the record, bytes, bit \
         of stats_active (#); its width grows with the logarithm of its length</text>\n\
         {}</svg>\n",
        width - 1,
        height - 1,
        drawing.body,
    )
}

/// A drawing, and where its next box goes.
struct Drawing {
    body: String,
    x: usize,
    y: usize,
}

impl Drawing {
    /// Begins a record; of one that is not drawn there is its place only.
    fn record(&mut self, part: &Part, is_drawn: bool) {
        let bytes = part.end - part.start;
        if !self.body.is_empty() {
            self.y += if self.x > LEFT { ROW + GAP } else { BOX / 2 };
        }
        self.x = LEFT;
        let kind = part.name.split('[').next().and_then(kind);
        let kind = kind.filter(|_| is_drawn).map_or_else(String::new, |n| format!(" kind {n}"));
        let (name, y) = (&part.name, self.y + 15);
        let place = format!("at {}, {bytes} B", part.start);
        let place = if is_drawn {
            format!("y=\"{}\">{place}", y + 16)
        } else {
            format!("y=\"{y}\" dx=\"{}\">{place}, as the first", LEFT - 12)
        };
        let _ = writeln!(
            self.body,
            "<text class=\"name\" x=\"12\" y=\"{y}\">{name}<tspan class=\"dim\">{kind}</tspan></text>\
             <text class=\"dim\" x=\"12\" {place}</text>",
        );
        if is_drawn {
            // What follows begins a line of boxes, even if there is none.
            self.x = LEFT;
        }
    }

    fn part(&mut self, part: &Part) {
        let bytes = part.end - part.start;
        let (class, label, bit) = match part.name.split_once('.') {
            None => ("header", "header", ""),
            Some((_, group)) => {
                let (label, bit) = group.split_once(" (bit ").unwrap_or((group, ""));
                let class = if label.ends_with("_twin") { "twin" } else { "group" };
                (class, label, bit.trim_end_matches(')'))
            }
        };
        let with_bit = if bit.is_empty() { String::new() } else { format!(" #{bit}") };
        let place = format!("+{}, {bytes} B{with_bit}", part.at);
        let text = label.len().max(place.len()) * CHARACTER + 8;
        let doublings = usize::try_from(bytes.max(1).ilog2()).unwrap_or(0);
        let width = text.max(doublings * DOUBLING);
        if self.x > LEFT && self.x + width > LEFT + WIDTH {
            (self.x, self.y) = (LEFT, self.y + ROW);
        }
        let (x, y) = (self.x, self.y);
        let _ = writeln!(
            self.body,
            "<g><title>{}: offset {}, {bytes} bytes</title><rect class=\"{class}\" x=\"{x}\" \
             y=\"{y}\" width=\"{width}\" height=\"{BOX}\"/>\
             <text class=\"name\" x=\"{}\" y=\"{}\">{label}</text>\
             <text class=\"dim\" x=\"{}\" y=\"{}\">{place}</text></g>",
            part.name,
            part.at,
            x + 4,
            y + 17,
            x + 4,
            y + 33,
        );
        self.x += width + 2;
    }
}

/// The number of a kind of record, as schemas and C headers have it.
fn kind(name: &str) -> Option<u32> {
    RecordKind::ALL.iter().find(|kind| kind.name() == name).map(|kind| kind.number())
}
