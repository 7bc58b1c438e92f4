#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

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

/// One of a header's edits, and what the comparison says.
const EDITS: &[(&str, &str, &str)] = &[
    ("uint64_t running_ns;", "uint64_t running_nsec;", "vcpu.runstate.running_ns: removed"),
    ("VCPU_RUNSTATE_BIT 0", "VCPU_RUNSTATE_BIT 1", "vcpu.runstate: bit changed"),
    ("/* cumulative, ns */", "/* instant, ns */", "retyped: cumulative before, instant"),
    ("DOM_MAGIC 0x014d4f44u", "DOM_MAGIC 0x024d4f44u", "DOMSTAT_DOM_MAGIC: changed: 0x14d4f44"),
    ("NOT_PRODUCED (~(uint64_t)0)", "NOT_PRODUCED 0", "DOMSTAT_NOT_PRODUCED: changed"),
    ("SATURATED (~(uint64_t)1)", "SATURATED (~(uint32_t)1)", "DOMSTAT_SATURATED: changed"),
    ("STATE_LIVE 1u", "STATE_LIVE 5u", "DOMSTAT_STATE_LIVE: changed: 1 before, 5 now"),
    ("CLOCK_MONOTONIC 1u", "CLOCK_MONOTONIC 2u", "DOMSTAT_CLOCK_MONOTONIC: changed"),
    ("CLOCK_XEN", "CLOCK_TSC", "DOMSTAT_CLOCK_XEN: removed"),
];

/// Removes the compile-time checks, which notice some edits by themselves.
fn unchecked(text: &str) -> String {
    text.lines().filter(|l| !l.starts_with("typedef")).map(|l| format!("{l}\n")).collect()
}

fn breaking(old: &str, new: &str) -> Vec<String> {
    let [old, new] = [old, new].map(|text| parse_c_header(text).unwrap());
    let found = compare(&old, &new);
    found.breaking().map(|change| format!("{}: {}", change.what, change.how)).collect()
}

#[test]
fn edits_of_a_header_are_found() {
    let old = unchecked(&c_header(REVISIONS[0]));
    for (from, to, why) in EDITS {
        let new = old.replacen(from, to, 1);
        assert_ne!(old, new);
        let found = breaking(&old, &new);
        assert!(found.iter().any(|change| change.contains(why)), "{from}: {found:?}");
    }
}

#[test]
fn words_of_headers_that_change_places_are_found() {
    let old = unchecked(&c_header(REVISIONS[3]));
    let swap = |a: &str, b: &str| {
        let (a, b) = (format!("    {a};"), format!("    {b};"));
        old.replacen(&a, "@", 1).replacen(&b, &a, 1).replacen('@', &b, 1)
    };
    let new = swap("uint32_t magic", "uint32_t dom_size");
    assert_eq!(
        breaking(&old, &new),
        ["dom_header.magic: moved: 0 before, 4 now", "dom_header.dom_size: moved: 4 before, 0 now"]
    );
    let new = swap("uint32_t vcpu_offs", "uint32_t vcpu_size");
    assert_eq!(breaking(&old, &new).len(), 2);
    // In all groups at once.
    let new = old
        .replace("    uint32_t seq;\n    uint32_t rsvd;", "    uint32_t rsvd;\n    uint32_t seq;");
    assert_eq!(breaking(&old, &new).len(), 2);
}

#[test]
fn contradictions_are_refused() {
    let text = c_header(REVISIONS[3]);
    for (from, to, why) in [
        ("STATE_RUNNING 0u", "STATE_RUNNING 3u", "its comment says 0"),
        (
            "uint32_t seq;\n    uint32_t rsvd;",
            "uint32_t rsvd;\n    uint32_t seq;",
            "as other groups do",
        ),
        ("/* since 1 */", "/* since 3 */", "different revisions"),
        (
            "identity, domid) == 16)",
            "identity, domid) == 24)",
            "domid of struct domstat_dom_identity: 16, not 24",
        ),
        ("#include <stdint.h>", "#include \"types.h\"", "a directive"),
        ("#include <stdint.h>", "#pragma pack(1)", "a directive"),
        ("#include <stdint.h>", "#define uint64_t uint32_t", "defines uint64_t"),
        (
            "; /* cumulative, bytes */",
            ";",
            "swap_in_bytes has no comment that states kind and unit",
        ),
    ] {
        let new = text.replacen(from, to, 1);
        assert_ne!(text, new);
        // The second group differs from the first.
        let error = parse_c_header(&new).unwrap_err().to_string();
        assert!(error.contains(why) && error.starts_with("line "), "{from}: {error}");
    }
    let mut bare = String::new();
    for part in text.split("*/") {
        bare += part.split("/*").next().unwrap();
    }
    assert!(parse_c_header(&bare).unwrap_err().what.contains("no comment"));
}

#[test]
fn text_that_is_not_a_header_is_refused() {
    let error = parse_c_header("struct x { int y; };").unwrap_err().to_string();
    assert!(error.starts_with("not a header of domstat") && error.contains("--struct"), "{error}");
    let odd =
        "#define DOMSTAT_REVISION 1\n#include <stdint.h>\nstruct domstat_x {\n    float y;\n};\n";
    assert_eq!(parse_c_header(odd).unwrap_err().line, 4);
}
