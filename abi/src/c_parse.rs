//! Parser of C headers: structures give places, constants give bits, comments give the meaning of
//! fields.

use std::collections::BTreeMap;

use crate::{Abi, Field, Group, Record};

/// Why a header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HeaderError {
    /// Where, from 1 on; 0 for what is nowhere.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// A structure of the header.
#[derive(Default)]
struct Struct {
    members: Vec<Member>,
    size: usize,
    align: usize,
}

struct Member {
    /// The structure that it is, if it is one.
    of: Option<String>,
    name: String,
    offset: usize,
    width: usize,
    comment: String,
}

/// Reads a header in the form in which this crate writes them.
///
/// # Errors
/// [`HeaderError`] for a member whose type is not known, or a group without a bit.
pub fn parse_c_header(text: &str) -> Result<Abi, HeaderError> {
    let mut structs: BTreeMap<String, Struct> = BTreeMap::new();
    let mut constants: BTreeMap<String, u32> = BTreeMap::new();
    let mut current: Option<(String, Struct)> = None;
    for (i, line) in text.lines().enumerate() {
        let line_no = i + 1;
        let trimmed = line.trim();
        if let Some((name, value)) = define(trimmed) {
            constants.insert(name, value);
        } else if let Some(name) =
            trimmed.strip_prefix("struct domstat_").and_then(|rest| rest.strip_suffix(" {"))
        {
            current = Some((name.to_owned(), Struct { align: 1, ..Struct::default() }));
        } else if trimmed == "};" {
            if let Some((name, mut done)) = current.take() {
                done.size = done.size.next_multiple_of(done.align);
                structs.insert(name, done);
            }
        } else if let Some((_, open)) = &mut current {
            let added = open.add(trimmed, &structs);
            added.map_err(|what| HeaderError { line: line_no, what })?;
        }
    }
    assemble(&structs, &constants)
}

/// `#define DOMSTAT_X 3u` as its name without prefix and its value.
fn define(line: &str) -> Option<(String, u32)> {
    let mut words = line.strip_prefix("#define DOMSTAT_")?.split_whitespace();
    let (name, value) = (words.next()?, words.next()?);
    Some((name.to_owned(), value.trim_end_matches('u').parse().ok()?))
}

impl Struct {
    /// Adds a line such as `uint64_t running_ns; /* cumulative, ns */`.
    fn add(&mut self, line: &str, structs: &BTreeMap<String, Self>) -> Result<(), String> {
        let Some((declared, rest)) = line.split_once(';') else { return Ok(()) };
        let comment = rest.trim().trim_start_matches("/*").trim_end_matches("*/").trim();
        let declared = declared.trim();
        let (ty, name) = declared.rsplit_once(' ').ok_or("a member without a name")?;
        let (name, count) = match name.split_once('[') {
            None => (name, 1),
            Some((name, count)) => {
                let count = count.trim_end_matches(']').parse::<usize>();
                (name, count.map_err(|_| format!("the length of {name} is no number"))?)
            }
        };
        let of = ty.strip_prefix("struct domstat_");
        let (width, align) = match (ty, of) {
            ("uint64_t", _) => (8, 8),
            ("uint32_t", _) => (4, 4),
            ("uint8_t" | "char", _) => (1, 1),
            (_, Some(of)) => {
                let of = structs.get(of).ok_or_else(|| format!("{ty} is not known"))?;
                (of.size, of.align)
            }
            _ => return Err(format!("{ty} is not a type of the layout")),
        };
        let offset = self.size.checked_next_multiple_of(align).ok_or("too long")?;
        let width = width.checked_mul(count).ok_or("too long")?;
        self.size = offset.checked_add(width).ok_or("too long")?;
        self.align = self.align.max(align);
        self.members.push(Member {
            of: of.map(str::to_owned),
            name: name.to_owned(),
            offset,
            width,
            comment: comment.to_owned(),
        });
        Ok(())
    }
}

fn assemble(
    structs: &BTreeMap<String, Struct>,
    constants: &BTreeMap<String, u32>,
) -> Result<Abi, HeaderError> {
    let nowhere = |what: String| HeaderError { line: 0, what };
    let revision = constants.get("REVISION").copied();
    let revision = revision.ok_or_else(|| nowhere("no DOMSTAT_REVISION".to_owned()))?;
    let mut abi = Abi { revision, records: Vec::new() };
    // A record is a structure that starts with a header.
    for (name, record) in structs {
        let [header, groups @ ..] = record.members.as_slice() else { continue };
        if header.name != "header" {
            continue;
        }
        let mut found = Vec::new();
        for member in groups {
            let body = member.of.as_ref().and_then(|of| structs.get(of));
            let body =
                body.ok_or_else(|| nowhere(format!("{name}.{} is no group", member.name)))?;
            let id = format!("{name}_{}", member.name).to_uppercase();
            let bit = constants.get(&format!("{id}_BIT")).copied();
            found.push(Group {
                name: member.name.clone(),
                bit: bit.ok_or_else(|| nowhere(format!("no DOMSTAT_{id}_BIT")))?,
                offset: member.offset,
                size: member.width,
                since: member.comment.trim_start_matches("since ").parse().unwrap_or(0),
                twin_of: constants.get(&format!("{id}_TWIN_OF")).copied(),
                fields: body.members.iter().skip(3).map(|f| field(f, member.offset)).collect(),
            });
        }
        abi.records.push(Record {
            name: name.clone(),
            header_len: header.width,
            size: record.size,
            groups: found,
        });
    }
    // In the order in which regions have them.
    let order = ["dom", "vcpu", "blk", "net"];
    abi.records.sort_by_key(|r| order.iter().position(|name| *name == r.name));
    Ok(abi)
}

/// A member of a group, which starts at `base`; its comment is `kind, unit: values`.
fn field(member: &Member, base: usize) -> Field {
    let (says, states) = member.comment.split_once(':').unwrap_or((&member.comment, ""));
    let (kind, unit) = says.split_once(", ").unwrap_or((says, ""));
    Field {
        name: member.name.clone(),
        offset: base.saturating_add(member.offset),
        width: member.width,
        kind: kind.trim().to_owned(),
        unit: unit.trim().to_owned(),
        states: states.split_whitespace().map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use domstat_layout::REVISIONS;

    use super::*;
    use crate::{c_header, compare};

    #[test]
    fn a_written_header_is_read_back() {
        for revision in REVISIONS {
            let text = c_header(revision);
            let read = parse_c_header(&text).unwrap();
            assert_eq!(read, Abi::of_revision(revision.number).unwrap());
        }
    }

    #[test]
    fn edits_of_a_header_are_found() {
        let old = c_header(REVISIONS[0]);
        let edits = [
            ("uint64_t running_ns;", "uint32_t running_ns;", "vcpu.runstate.running_ns: resized"),
            ("VCPU_RUNSTATE_BIT 0", "VCPU_RUNSTATE_BIT 1", "vcpu.runstate: bit changed"),
            ("/* cumulative, ns */", "/* instant, ns */", "retyped: cumulative before, instant"),
            ("running runnable", "running ready", "has other values"),
        ];
        for (from, to, why) in edits {
            let new = old.replacen(from, to, 1);
            let [a, b] = [&old, &new].map(|text| parse_c_header(text).unwrap());
            let found = compare(&a, &b);
            assert!(
                found.breaking().any(|c| format!("{}: {}", c.what, c.how).contains(why)),
                "{found}"
            );
        }
    }

    #[test]
    fn text_that_is_not_a_header_is_refused() {
        assert_eq!(parse_c_header("").unwrap_err().what, "no DOMSTAT_REVISION");
        let odd = "struct domstat_x {\n    float y;\n};\n";
        assert_eq!(parse_c_header(odd).unwrap_err().line, 2);
    }
}
