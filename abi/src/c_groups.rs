//! Writer of `groups.h`: the tables that a writer in C needs of every revision, from the descriptor
//! table.

use std::collections::BTreeSet;
use std::fmt::Write;

use domstat_layout::descriptor::Kind;
use domstat_layout::revision::twin_of;
use domstat_layout::schema::FieldShape;
use domstat_layout::{GroupDesc, REVISIONS, RecordKind, Revision};

use crate::c_header::c_record_name;

/// The tables of kinds, groups and fields for `write.h`, of all revisions: the one whose header was
/// included takes what it has.
#[must_use]
pub fn c_groups() -> String {
    let mut out = Out(String::new());
    out.line("/* Tables of the kinds of record, of groups and of fields, for write.h, which includes this.");
    out.line(" *");
    out.line(" * SPDX-License-Identifier: MIT OR Apache-2.0");
    out.line(" * Generated from the descriptor table by ci/generated.sh. */");
    out.line("#ifndef DOMSTAT_GROUPS_H\n#define DOMSTAT_GROUPS_H\n");
    out.line("#ifndef DOMSTAT_KIND_DOM");
    for kind in RecordKind::ALL {
        let name = kind.name().to_uppercase();
        out.line(&format!("#define DOMSTAT_KIND_{name} {}u", kind.number()));
    }
    out.line("#endif");
    out.line(&format!("#define DOMSTAT_NR_KINDS {}u", RecordKind::ALL.len()));
    out.line("\n/* Length of a record of each kind; 0 if the revision does not have it, and of arch slots. */");
    for (i, revision) in REVISIONS.iter().enumerate() {
        let word = if i == 0 { "#if" } else { "#elif" };
        out.line(&format!("{word} DOMSTAT_REVISION == {}", revision.number));
        let sizes = RecordKind::ALL.map(|kind| size(revision, kind).to_string());
        out.line(&format!("#define DOMSTAT_RECORD_SIZES {{ 0, {} }}", sizes.join(", ")));
    }
    out.line("#endif\n");
    out.line("/* Kinds by number: name, magic, the number of the kind that records belong to (0: none). */");
    out.line("static const struct domstat_kind domstat_kinds[] = {\n    { \"\", 0, 0 },");
    for kind in RecordKind::ALL {
        let (name, magic) = (kind.name(), kind.magic());
        let base = kind.base().map_or(0, RecordKind::number);
        out.line(&format!("    {{ \"{name}\", 0x{magic:08x}u, {base} }},"));
    }
    out.line("};\n");
    let groups: Vec<&GroupDesc> = RecordKind::ALL
        .into_iter()
        .flat_map(|kind| REVISIONS.last().map_or(&[][..], |newest| newest.groups(kind)))
        .copied()
        .collect();
    out.fields(&groups);
    out.line("/* Groups in the order of a schema: kind, name, bit, start, length, since, bit of the first");
    out.line(" * copy plus 1, fields. */");
    out.line("static const struct domstat_group domstat_groups[] = {");
    out.each(&groups, Out::row);
    out.line("};\n");
    out.line(&format!(
        "/* Bytes that all strings of a schema take. */\n#define DOMSTAT_STRINGS_LEN {}u\n",
        strings_len(&groups)
    ));
    for kind in RecordKind::ALL {
        let Some(since) = REVISIONS.iter().find(|r| !r.groups(kind).is_empty()) else { continue };
        let (record, name) = (c_record_name(kind), kind.name());
        let guarded = since.number > 1;
        if guarded {
            out.line(&format!("#if DOMSTAT_REVISION >= {}", since.number));
        }
        out.line(&format!(
            "DOMSTAT_RECORD(domstat_{record}, {name}, DOMSTAT_KIND_{})",
            name.to_uppercase()
        ));
        if guarded {
            out.line("#endif");
        }
    }
    out.line("");
    let firsts: Vec<&GroupDesc> = groups.into_iter().filter(|g| g.twin_of.is_none()).collect();
    out.each(&firsts, Out::writer);
    out.line("\n#endif");
    out.0
}

/// Length of a record that the table lists.
fn size(revision: &Revision, kind: RecordKind) -> usize {
    if revision.groups(kind).is_empty() { 0 } else { revision.size(kind) }
}

/// Bytes of all strings, each with its terminator.
fn strings_len(groups: &[&GroupDesc]) -> usize {
    let kinds = RecordKind::ALL.iter().map(|kind| kind.name().len() + 1).sum::<usize>();
    let mut names = BTreeSet::new();
    let mut states = 0;
    for group in groups {
        names.insert(group.name);
        for field in group.fields {
            names.insert(field.name);
            if let Kind::State(named) = field.kind {
                states += named.iter().map(|name| name.len() + 1).sum::<usize>();
            }
        }
    }
    kinds + states + names.iter().map(|name| name.len() + 1).sum::<usize>()
}

/// `DOM_IDENTITY`: the group's name in the constants of a header.
fn constant(g: &GroupDesc) -> String {
    format!("{}_{}", g.record.name(), g.name).to_uppercase()
}

struct Out(String);

impl Out {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// Prints groups, each run of those of one revision inside a condition.
    fn each(&mut self, groups: &[&GroupDesc], print: fn(&mut Self, &GroupDesc)) {
        for run in groups.chunk_by(|a, b| a.since == b.since) {
            let since = run.first().map_or(1, |g| g.since);
            if since > 1 {
                self.line(&format!("#if DOMSTAT_REVISION >= {since}"));
            }
            run.iter().for_each(|g| print(self, g));
            if since > 1 {
                self.line("#endif");
            }
        }
    }

    fn fields(&mut self, groups: &[&GroupDesc]) {
        self.line("/* Fields of each group: name, start in the group, length, kind, unit, exponent, number of");
        self.line(
            " * values or buckets, names of the values. A second copy has those of the first. */",
        );
        let firsts: Vec<&GroupDesc> =
            groups.iter().copied().filter(|g| g.twin_of.is_none()).collect();
        self.each(&firsts, |out, g| {
            let id = format!("{}_{}", g.record.name(), g.name);
            out.line(&format!("static const struct domstat_field domstat_fields_{id}[] = {{"));
            for f in g.fields {
                let shape = FieldShape::of(f);
                let states = match f.kind {
                    Kind::State(names) => {
                        let names = names.iter().map(|name| format!("\"{name}\\0\""));
                        names.collect::<Vec<_>>().join(" ")
                    }
                    _ => "\"\"".to_owned(),
                };
                let (name, at) = (f.name, f.offset - g.offset);
                let (kind, unit, exponent) = (shape.kind.0, shape.unit.0, shape.exponent);
                let numbers =
                    format!("{at}, {}, {kind}, {unit}, {exponent}, {}", f.width, shape.nr);
                out.line(&format!("    {{ \"{name}\", {numbers}, {states} }},"));
            }
            out.line("};");
        });
        self.line("");
    }

    fn row(&mut self, g: &GroupDesc) {
        let first = g.twin_of.unwrap_or(g);
        let twin_of = g.twin_of.map_or(0, |first| first.bit + 1);
        let (kind, name, bit, at, size) = (g.record.number(), g.name, g.bit, g.offset, g.size);
        let fields = format!("domstat_fields_{}_{}", g.record.name(), first.name);
        let _ = writeln!(
            self.0,
            "    {{ {kind}, \"{name}\", {bit}, {at}, {size}, {}, {twin_of}, {}, {fields} }},",
            g.since,
            g.fields.len()
        );
    }

    /// The functions that write a group, by what write.h defines.
    fn writer(&mut self, g: &GroupDesc) {
        let (record, kind, name) = (c_record_name(g.record), g.record.name(), g.name);
        let start = format!("domstat_{record}, {kind}_{name}, {name}, DOMSTAT_{}_BIT", constant(g));
        let Some(twin) = twin_of(g) else {
            self.line(&format!("DOMSTAT_GROUP({start})"));
            if let Some(buckets) = g.fields.iter().find(|f| f.kind == Kind::LogHistogram) {
                self.line(&format!("DOMSTAT_DISTRIBUTION({start}, {})", buckets.name));
            }
            return;
        };
        let both = format!("{start}, {}, DOMSTAT_{}_BIT", twin.name, constant(twin));
        if twin.since > g.since {
            self.line(&format!("#if DOMSTAT_REVISION >= {}", twin.since));
            self.line(&format!("DOMSTAT_TWINS({both})\n#else\nDOMSTAT_GROUP({start})\n#endif"));
        } else {
            self.line(&format!("DOMSTAT_TWINS({both})"));
        }
    }
}
