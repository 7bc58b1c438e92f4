//! Every edit of one token of every generated header: found by the comparison, refused by the
//! parser, or of a kind that cannot change what a build reads.
//!
//! Tokens are cut here without the crate's own tokenizer. The edits of a token: removed, doubled,
//! exchanged with the next one, and replaced by others of its kind. The kinds that cannot matter
//! are listed in [`harmless`], by where the token stands and not by what the comparison says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "in a test, a panic is the report"
)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use domstat_abi::{Abi, c_header, compare, parse_c_header};
use domstat_layout::{REVISIONS, Revision};

/// Start and end of each token in the text; delimiters of comments are tokens, words in comments,
/// too.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let is_word = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let len = match bytes[at] {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b if is_word(b) => bytes[at..].iter().take_while(|b| is_word(**b)).count(),
            _ if text[at..].starts_with("/*") || text[at..].starts_with("*/") => 2,
            _ => text[at..].chars().next().unwrap().len_utf8(),
        };
        found.push((at, at + len));
        at += len;
    }
    found
}

/// What a token is replaced by.
fn replacements(token: &str) -> Vec<String> {
    const TYPES: [&str; 5] = ["uint8_t", "uint32_t", "uint64_t", "int32_t", "char"];
    let digits = token.trim_end_matches('u');
    let number = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse::<u64>().ok(),
    };
    if let Some(n) = number {
        let others = [n + 1, n.wrapping_sub(1), n * 2, 0];
        let others = others.into_iter().filter(|other| *other != n);
        return others.map(|other| other.to_string()).collect();
    }
    if TYPES.contains(&token) {
        return TYPES.iter().filter(|ty| **ty != token).map(|ty| (*ty).to_owned()).collect();
    }
    if token.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()) {
        return vec![format!("{token}x")];
    }
    let others = [";", "{", "}", "[", "(", ",", "=", "~", "#", "*/", "/*", "-"];
    others.iter().filter(|other| **other != token).map(|other| (*other).to_owned()).collect()
}

/// Why an edit of the token at `at` can change nothing that a build reads, if that is so.
fn harmless(text: &str, at: usize, end: usize, is_swap: bool) -> Option<&'static str> {
    let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
    let line = text[line_start..].lines().next().unwrap();
    let token = &text[at..end];
    let before = &text[..at];
    let opened = before.rfind("/*");
    let in_comment = opened.is_some_and(|open| before.rfind("*/").is_none_or(|e| e < open));
    if token == "*/" || token == "/*" {
        // The end of a comment may move inside of a comment, or to a place without code.
        return Some("comment").filter(|_| !is_member_comment(text, at));
    }
    if in_comment && !is_member_comment(text, opened.unwrap()) {
        return Some("comment");
    }
    if line.starts_with("#error") {
        return Some("message of the include guard");
    }
    if token.starts_with("domstat_check_") {
        return Some("name of a check");
    }
    if token.starts_with("reserved") {
        return Some("name of reserved words");
    }
    if token == "DOMSTAT_REVISION" && line.starts_with("#ifdef") {
        return Some("include guard");
    }
    if line.contains(" reserved") && token.parse::<u64>().is_ok() {
        // The structure is as long as before, by its own check.
        return Some("length of reserved words before padding");
    }
    if is_swap && token == "(" && line.starts_with("#define") {
        return Some("parentheses: ~((uint64_t)0) is (~(uint64_t)0)");
    }
    if before.ends_with("#define DOMSTAT_REVISION ") {
        return Some("number of the revision, which is information only");
    }
    None
}

/// Whether a comment gives the meaning of a field or the revision of a group; those of header words
/// are prose.
fn is_member_comment(text: &str, opened: usize) -> bool {
    let line_start = text[..opened].rfind('\n').map_or(0, |n| n + 1);
    let line = text[line_start..].lines().next().unwrap();
    if !line.starts_with("    ") {
        return false;
    }
    let of = text[..opened].rfind("\nstruct domstat_").map(|n| n + "\nstruct domstat_".len());
    let of = of.map(|start| text[start..].split_whitespace().next().unwrap());
    !matches!(of, Some("dom_header" | "record_header"))
}

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The comparison reports that it breaks builds.
    Breaks,
    /// The header is refused.
    Refused,
    /// It is reported as an addition.
    Addition,
    /// Nothing is reported.
    Nothing,
}

fn judge(old: &Abi, edited: &str) -> Verdict {
    let Ok(new) = parse_c_header(edited) else { return Verdict::Refused };
    let found = compare(old, &new);
    match (found.is_compatible(), found.changes.is_empty()) {
        (false, _) => Verdict::Breaks,
        (true, false) => Verdict::Addition,
        (true, true) => Verdict::Nothing,
    }
}

/// Verdicts on the edits of some tokens.
#[derive(Default)]
struct Verdicts {
    counts: BTreeMap<Verdict, u64>,
    /// Edits that are not found, by the reason why they cannot matter.
    harmless: BTreeMap<&'static str, u64>,
    /// Edits that are not found and can matter.
    missed: Vec<String>,
}

impl Verdicts {
    fn token(&mut self, text: &str, old: &Abi, tokens: &[(usize, usize)], i: usize) {
        let (start, end) = tokens[i];
        let token = &text[start..end];
        let mut edits = vec![(String::new(), end), (format!("{token} {token}"), end)];
        edits.extend(replacements(token).into_iter().map(|by| (by, end)));
        if let Some(&(next, next_end)) = tokens.get(i + 1)
            && text[next..next_end] != *token
        {
            let (gap, next) = (&text[end..next], &text[next..next_end]);
            edits.push((format!("{next}{gap}{token}"), next_end));
        }
        for (by, after) in edits {
            let verdict = judge(old, &format!("{}{by}{}", &text[..start], &text[after..]));
            *self.counts.entry(verdict).or_default() += 1;
            if matches!(verdict, Verdict::Breaks | Verdict::Refused) {
                continue;
            }
            match harmless(text, start, end, after > end) {
                Some(reason) => *self.harmless.entry(reason).or_default() += 1,
                None => {
                    let line = text[..start].lines().count();
                    self.missed.push(format!("line {line}: {token} -> {by}: {verdict:?}"));
                }
            }
        }
    }
}

/// Tries every edit of a revision's header, on all processors.
fn try_all(number: u32) {
    try_revision(Revision::of(number).unwrap());
}

fn try_revision(revision: &Revision) {
    let (number, text) = (revision.number, c_header(revision));
    let old = parse_c_header(&text).unwrap();
    assert_eq!(judge(&old, &text), Verdict::Nothing);
    let tokens = tokens(&text);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut verdicts = Verdicts::default();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= tokens.len() {
                return verdicts;
            }
            verdicts.token(&text, &old, &tokens, i);
        }
    };
    let mut all = Verdicts::default();
    std::thread::scope(|scope| {
        let nr = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..nr).map(|_| scope.spawn(work)).collect();
        for verdicts in threads.into_iter().map(|thread| thread.join().unwrap()) {
            for (verdict, n) in verdicts.counts {
                *all.counts.entry(verdict).or_default() += n;
            }
            for (reason, n) in verdicts.harmless {
                *all.harmless.entry(reason).or_default() += n;
            }
            all.missed.extend(verdicts.missed);
        }
    });
    let tried: u64 = all.counts.values().sum();
    let found: u64 =
        [Verdict::Breaks, Verdict::Refused].iter().filter_map(|v| all.counts.get(v)).sum();
    println!("revision {number}: {} tokens, {tried} edits, {found} found", tokens.len());
    println!("{:?}\nnot found, and why they cannot matter: {:?}", all.counts, all.harmless);
    assert!(all.missed.is_empty(), "{} missed: {:#?}", all.missed.len(), all.missed);
    // Every token, and several edits of each.
    assert!(tried > 4 * tokens.len() as u64 && found > 3 * tokens.len() as u64);
}

#[test]
fn revision_1() {
    try_all(1);
}

#[test]
fn revision_2() {
    try_all(2);
}

#[test]
fn revision_3() {
    try_all(3);
}

#[test]
fn revision_4() {
    try_all(4);
}

#[test]
fn revision_5() {
    // One kind of record after the other: each edit takes as long as the header is.
    let whole = Revision::of(5).unwrap();
    for record in whole.records.iter().filter(|(_, groups)| !groups.is_empty()) {
        let records = Box::leak(Box::new([*record]));
        try_revision(&Revision { number: 5, records, arch_and_schema: whole.arch_and_schema });
    }
}

#[test]
fn every_revision_is_tried() {
    assert_eq!(REVISIONS.len(), 5, "add a test of the new one");
}

#[test]
fn blanks_between_tokens_cannot_matter() {
    for revision in REVISIONS {
        let text = c_header(revision);
        let (tokens, old) = (tokens(&text), parse_c_header(&text).unwrap());
        for &(start, _) in tokens.iter().step_by(7) {
            let line = text[..start].rsplit('\n').next().unwrap();
            // Where a directive ends, lines count.
            let blank = if line.starts_with('#') { "  " } else { "\n\t " };
            let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            // Comments after members are on the member's line; delimiters stay whole.
            if text[start..].starts_with("/*") || !text[..start].ends_with(|c| !is_word(c)) {
                continue;
            }
            let edited = format!("{}{blank}{}", &text[..start], &text[start..]);
            let new = parse_c_header(&edited).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(new.records.len(), old.records.len());
            assert!(compare(&old, &new).changes.is_empty(), "{line}");
        }
    }
}
