//! Writer of C headers, from the descriptor table.

use std::fmt::Write;

use domstat_layout::descriptor::{FieldDesc, Kind};
use domstat_layout::markdown::{DOM_HEADER, RECORD_HEADER};
use domstat_layout::schema::FieldShape;
use domstat_layout::{GroupDesc, REVISIONS, RecordKind, Revision};

use crate::constants::{
    Constant, header_values, kinds as kinds_of_record, known_words, magics, sentinels,
};

/// The C header of a revision: structures and constants in C99, with a compile-time check of
/// every offset and size.
#[must_use]
pub fn c_header(revision: &Revision) -> String {
    let n = revision.number;
    let mut out = Out(String::new());
    out.line(&format!("/* The domain-stats shared-memory ABI, revision {n}, in C99."));
    out.line(" *");
    out.line(" * SPDX-License-Identifier: MIT OR Apache-2.0");
    out.line(" * Generated from the descriptor table by ci/generated.sh. FROZEN when it landed.");
    out.line(" *");
    out.line(" * Integers are little-endian. A group is guarded by its seq (odd: update in");
    out.line(" * progress). Sizes and strides come from the header of the region, never from");
    out.line(" * sizeof; a group may be read if its bit is set and it ends inside the size that");
    out.line(" * the header states. Comments after fields state kind, unit and values. */");
    out.line("#ifdef DOMSTAT_REVISION");
    out.line("#error \"only one revision's header can be included\"");
    out.line("#endif");
    out.line(&format!("#define DOMSTAT_REVISION {n}\n"));
    out.line("#include <stddef.h>\n#include <stdint.h>\n");
    out.line("/* What a word can say instead of a number. */");
    out.constants(sentinels());
    out.line("");
    let kinds: Vec<RecordKind> =
        RecordKind::ALL.into_iter().filter(|k| !revision.groups(*k).is_empty()).collect();
    out.constants(magics(revision));
    let numbers = kinds_of_record(revision);
    if !numbers.is_empty() {
        out.line("\n/* Numbers of the kinds of record in a schema; from PRIVATE on they are never given out. */");
    }
    out.constants(numbers);
    out.line("\n/* Values of state and of clock in the header. */");
    out.constants(header_values());

    out.header_struct("dom_header", DOM_HEADER, domstat_layout::header::DOM_HEADER_LEN, n);
    let record_len = domstat_layout::header::RECORD_HEADER_LEN;
    out.header_struct("record_header", RECORD_HEADER, record_len, n);
    for kind in kinds {
        for group in revision.groups(kind) {
            out.group(group);
        }
        out.record(kind, revision);
    }
    out.0
}

struct Out(String);

/// The name of a kind's structure in C, without `struct domstat_`. Those of kinds that no header has
/// words for end in `_record`: `blk_queue` is the group `queue` of a block device.
#[must_use]
pub fn c_record_name(kind: RecordKind) -> String {
    let suffix = if RecordKind::OPTIONAL.contains(&kind) { "_record" } else { "" };
    format!("{}{suffix}", kind.name())
}

/// Meaning of an array record's magic in the headers of revisions 1 to 4, which are frozen: a list of
/// all magics that there were.
const MAGICS_BEFORE_5: &str = "of its kind: \"VCP\", \"BLK\", \"NET\" or \"ARC\", and 1";

impl Out {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn constants(&mut self, constants: impl IntoIterator<Item = Constant>) {
        for Constant { name, text, .. } in constants {
            self.line(&format!("#define DOMSTAT_{name} {text}"));
        }
    }

    fn check(&mut self, id: &str, condition: &str) {
        let _ = writeln!(self.0, "typedef char domstat_check_{id}[({condition}) ? 1 : -1];");
    }

    fn header_struct(
        &mut self,
        name: &str,
        rows: &[(usize, &str, &str, &str)],
        len: usize,
        revision: u32,
    ) {
        let _ = writeln!(self.0, "\nstruct domstat_{name} {{");
        let mut at = 0;
        let mut nr_reserved = 0;
        let mut fill = |out: &mut String, at: &mut usize, to: usize| {
            if *at < to {
                let _ = writeln!(out, "    uint32_t reserved{nr_reserved}[{}];", (to - *at) / 4);
                nr_reserved += 1;
                *at = to;
            }
        };
        for (offset, ty, word, meaning) in known_words(rows, revision) {
            let listed = revision < 5 && name == "record_header" && *word == "magic";
            let meaning = if listed { MAGICS_BEFORE_5 } else { meaning };
            fill(&mut self.0, &mut at, *offset);
            let (ty, width) = if *ty == "u64" { ("uint64_t", 8) } else { ("uint32_t", 4) };
            let _ = writeln!(self.0, "    {ty} {word}; /* {meaning} */");
            at += width;
        }
        fill(&mut self.0, &mut at, len);
        self.line("};");
        for (offset, _, word, _) in known_words(rows, revision) {
            let place = format!("offsetof(struct domstat_{name}, {word}) == {offset}");
            self.check(&format!("{name}_{word}"), &place);
        }
        self.check(name, &format!("sizeof(struct domstat_{name}) == {len}"));
    }

    fn group(&mut self, g: &GroupDesc) {
        let id = format!("{}_{}", g.record.name(), g.name);
        let upper = id.to_uppercase();
        let _ = writeln!(self.0, "\n/* {}", g.doc.trim());
        let _ = writeln!(self.0, " * Since revision {}. */", g.since);
        let _ = writeln!(self.0, "#define DOMSTAT_{upper}_BIT {}", g.bit);
        if let Some(first) = g.twin_of {
            let _ = writeln!(self.0, "#define DOMSTAT_{upper}_TWIN_OF {}", first.bit);
        }
        for f in g.fields {
            let Kind::State(names) = f.kind else { continue };
            for (i, name) in names.iter().enumerate() {
                let value = format!("{upper}_{}_{}", f.name.to_uppercase(), name.to_uppercase());
                let _ = writeln!(self.0, "#define DOMSTAT_{value} {i}u");
            }
        }
        let _ = writeln!(self.0, "struct domstat_{id} {{");
        self.line("    uint32_t seq;\n    uint32_t rsvd;\n    uint64_t updated_ns;");
        for f in g.fields {
            self.field(f);
        }
        self.line("};");
        for f in g.fields {
            let at = f.offset - g.offset;
            let place = format!("offsetof(struct domstat_{id}, {}) == {at}", f.name);
            self.check(&format!("{id}_{}", f.name), &place);
        }
        self.check(&id, &format!("sizeof(struct domstat_{id}) == {}", g.size));
    }

    fn field(&mut self, f: &FieldDesc) {
        let member = match (f.kind, f.width) {
            (_, 8) => format!("uint64_t {}", f.name),
            (Kind::LogHistogram, width) => format!("uint64_t {}[{}]", f.name, width / 8),
            (Kind::Text, width) => format!("char {}[{width}]", f.name),
            (_, width) => format!("uint8_t {}[{width}]", f.name),
        };
        let shape = FieldShape::of(f);
        let kind = shape.kind.name().unwrap_or("-");
        let mut says = format!("{kind}, {}", shape.scaled());
        if let Kind::State(names) = f.kind {
            let _ = write!(says, ": {}", names.join(" "));
        }
        let _ = writeln!(self.0, "    {member}; /* {says} */");
    }

    fn record(&mut self, kind: RecordKind, revision: &Revision) {
        let name = kind.name();
        let header = if kind == RecordKind::Dom { "dom_header" } else { "record_header" };
        let since = REVISIONS.iter().find(|r| !r.groups(kind).is_empty()).map_or(0, |r| r.number);
        let _ = writeln!(self.0, "\n/* The {name} record. Since revision {since}. */");
        let of = c_record_name(kind);
        let _ = writeln!(self.0, "struct domstat_{of} {{\n    struct domstat_{header} header;");
        for g in revision.groups(kind) {
            let line = format!("struct domstat_{name}_{0} {0}; /* since {1} */", g.name, g.since);
            let _ = writeln!(self.0, "    {line}");
        }
        self.line("};");
        for g in revision.groups(kind) {
            let place = format!("offsetof(struct domstat_{of}, {}) == {}", g.name, g.offset);
            self.check(&format!("record_{name}_{}", g.name), &place);
        }
        let size = revision.size(kind);
        self.check(&format!("record_{of}"), &format!("sizeof(struct domstat_{of}) == {size}"));
    }
}
