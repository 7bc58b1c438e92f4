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

/// The map as a drawing: one row for each record, to scale.
#[must_use]
pub fn svg(abi: &Abi, shape: Shape) -> String {
    let parts = parts(abi, shape);
    let longest = parts.iter().filter(|p| p.record).map(|p| p.end - p.start).max().unwrap_or(1);
    let rows = parts.iter().filter(|p| p.record).count();
    let (row, left, width) = (36, 110, 980);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"monospace\" font-size=\"10\">\n",
        left + width + 10,
        rows * row + 10
    );
    let (mut y, mut start) = (0, 0);
    for part in &parts {
        if part.record {
            (y, start) = (y + row, part.start);
            let _ = writeln!(
                out,
                "<text x=\"4\" y=\"{}\">{} @{}</text>",
                y - 14,
                part.name,
                part.start
            );
            continue;
        }
        let scaled = |bytes: usize| bytes * width / longest.max(1);
        let (x, w) = (left + scaled(part.start - start), scaled(part.end - part.start));
        let fill = if part.name.ends_with("header") { "#d9d9d9" } else { "#c6dbef" };
        let label = part.name.rsplit(['.', ' ']).next_back().unwrap_or("");
        let label = part.name.split_once('.').map_or(label, |(_, group)| group);
        let label = label.split(' ').next().unwrap_or("");
        let _ = writeln!(
            out,
            "<g><title>{} ({} bytes)</title><rect x=\"{x}\" y=\"{}\" width=\"{w}\" height=\"28\" \
             fill=\"{fill}\" stroke=\"#333\"/><text x=\"{}\" y=\"{}\">{}</text></g>",
            part.name,
            part.end - part.start,
            y - 32,
            x + 3,
            y - 14,
            if w > label.len() * 6 { label } else { "" },
        );
    }
    out.push_str("</svg>\n");
    out
}
