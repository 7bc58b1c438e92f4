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
            "vcpu" => shape.nr_vcpus,
            _ => shape.nr_devices,
        };
        for i in 0..nr {
            at = at.next_multiple_of(align);
            let name = if record.name == "dom" {
                "dom".to_owned()
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
const ROW: usize = 48;
const BOX: usize = 38;
const LEFT: usize = 120;
const WIDTH: usize = 980;
const CHARACTER: usize = 6;

/// The map as a drawing: one row for each record, to scale. A box has its name, its offset in the
/// record and its length in bytes. The background is white, whatever the page's is.
#[must_use]
pub fn svg(abi: &Abi, shape: Shape) -> String {
    let parts = parts(abi, shape);
    let longest = parts.iter().filter(|p| p.record).map(|p| p.end - p.start).max().unwrap_or(1);
    let rows = parts.iter().filter(|p| p.record).count();
    let (width, height) = (LEFT + WIDTH + 10, rows * ROW + 10);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"10\" fill=\"#111\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let (mut y, mut start) = (10, 0);
    for part in &parts {
        let bytes = part.end - part.start;
        if part.record {
            (y, start) = (if start == part.start { y } else { y + ROW }, part.start);
            let _ = writeln!(
                out,
                "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text>\
                 <text x=\"8\" y=\"{}\">at {start}, {bytes} B</text>",
                y + 16,
                part.name,
                y + 30,
            );
            continue;
        }
        let scaled = |bytes: usize| bytes * WIDTH / longest.max(1);
        let (x, w) = (LEFT + scaled(part.start - start), scaled(bytes));
        let group = part.name.split_once('.').map(|(_, group)| group);
        let label = group.map_or("header", |group| group.split(' ').next().unwrap_or(group));
        let fill = if group.is_some() { "#c6dbef" } else { "#d9d9d9" };
        let _ = write!(
            out,
            "<g><title>{}, {bytes} bytes</title><rect x=\"{x}\" y=\"{y}\" width=\"{w}\" \
             height=\"{BOX}\" fill=\"{fill}\" stroke=\"#333\"/>",
            part.name
        );
        let place = format!("+{} {bytes} B", part.start - start);
        for (line, y) in [(label, y + 16), (place.as_str(), y + 30)] {
            if line.len() * CHARACTER + 6 <= w {
                let _ = write!(out, "<text x=\"{}\" y=\"{y}\">{line}</text>", x + 4);
            }
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}
