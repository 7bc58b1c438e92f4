//! Constants and header words of a revision: what its C header defines besides groups.

use domstat_layout::descriptor::{GROUP_HEADER_LEN, GROUP_RSVD, GROUP_UPDATED_NS};
use domstat_layout::header::{DOM_HEADER_LEN, FIRST_PRIVATE_KIND, RECORD_HEADER_LEN, SCHEMA_MAGIC};
use domstat_layout::markdown::{DOM_HEADER, RECORD_HEADER};
use domstat_layout::{Clock, RecordKind, Revision, State, Word};

use crate::{Header, HeaderWord};

/// A constant of the C header.
pub(crate) struct Constant {
    /// Its name without `DOMSTAT_`.
    pub(crate) name: String,
    /// Its value in C.
    pub(crate) text: String,
    /// Its value.
    pub(crate) value: u64,
}

fn constant(name: impl Into<String>, text: impl Into<String>, value: u64) -> Constant {
    Constant { name: name.into(), text: text.into(), value }
}

/// Values of a statistic that are not numbers.
pub(crate) fn sentinels() -> [Constant; 2] {
    [
        constant("NOT_PRODUCED", "(~(uint64_t)0)", u64::from_le(Word::NOT_PRODUCED.to_raw())),
        constant("SATURATED", "(~(uint64_t)1)", u64::from_le(Word::SATURATED.to_raw())),
    ]
}

/// Magic numbers of records, arch slots and schema.
pub(crate) fn magics(revision: &Revision) -> Vec<Constant> {
    let kinds = RecordKind::ALL.into_iter().filter(|kind| !revision.groups(*kind).is_empty());
    let mut magics: Vec<(String, u32)> =
        kinds.map(|kind| (kind.name().to_uppercase(), kind.magic())).collect();
    if revision.arch_and_schema {
        magics.push(("ARCH".to_owned(), RecordKind::ArchDom.magic()));
        magics.push(("SCHEMA".to_owned(), SCHEMA_MAGIC));
    }
    let constant = |(name, magic): (String, u32)| {
        constant(format!("{name}_MAGIC"), format!("0x{magic:08x}u"), magic.into())
    };
    magics.into_iter().map(constant).collect()
}

/// Numbers of the kinds of record in a schema, from the revision on that has kinds which no header
/// announces.
pub(crate) fn kinds(revision: &Revision) -> Vec<Constant> {
    if revision.number < 5 {
        return Vec::new();
    }
    let kinds = RecordKind::ALL.into_iter().filter(|kind| revision.has(*kind));
    let kinds = kinds.map(|kind| (kind.name().to_uppercase(), kind.number()));
    let kinds = kinds.map(|(name, n)| constant(format!("KIND_{name}"), format!("{n}u"), n.into()));
    let first = FIRST_PRIVATE_KIND;
    kinds.chain([constant("KIND_PRIVATE", format!("0x{first:08x}u"), first.into())]).collect()
}

/// Values of the header words `state` and `clock`.
pub(crate) fn header_values() -> Vec<Constant> {
    let states = [State::Initializing, State::Live, State::Retired];
    let states = states.map(|state| (format!("STATE_{}", state.name()), state as u32));
    let clocks = [Clock::Unknown, Clock::Monotonic, Clock::Boottime, Clock::XenSystemTime];
    let clocks = clocks.map(|clock| (format!("CLOCK_{}", clock.name()), clock as u32));
    let named = states.into_iter().chain(clocks);
    named.map(|(name, n)| constant(name.to_uppercase(), format!("{n}u"), n.into())).collect()
}

/// The headers of the dom record, of array records and of groups.
pub(crate) fn headers(revision: u32) -> Vec<Header> {
    let header = |name: &str, size, rows: &[(usize, &str, &str, &str)]| Header {
        name: name.to_owned(),
        size,
        words: known_words(rows, revision)
            .map(|(offset, ty, word, _)| HeaderWord {
                name: (*word).to_owned(),
                offset: *offset,
                width: if *ty == "u64" { 8 } else { 4 },
            })
            .collect(),
    };
    let group = [
        (0, "u32", "seq", ""),
        (GROUP_RSVD, "u32", "rsvd", ""),
        (GROUP_UPDATED_NS, "u64", "updated_ns", ""),
    ];
    vec![
        header("dom_header", DOM_HEADER_LEN, DOM_HEADER),
        header("record_header", RECORD_HEADER_LEN, RECORD_HEADER),
        header("group_header", GROUP_HEADER_LEN, &group),
    ]
}

/// The rows of a header that a revision puts to use.
pub(crate) fn known_words<'a>(
    rows: &'a [(usize, &'a str, &'a str, &'a str)],
    revision: u32,
) -> impl Iterator<Item = &'a (usize, &'a str, &'a str, &'a str)> {
    rows.iter().filter(move |row| !row.1.is_empty() && since(row.2) <= revision)
}

/// The revision that put a header word to use.
fn since(word: &str) -> u32 {
    let part = word.trim_start_matches("nr_");
    match part {
        _ if part.starts_with("blk") => 2,
        _ if ["arch", "schema", "net"].iter().any(|p| part.starts_with(p)) => 4,
        _ => 1,
    }
}
