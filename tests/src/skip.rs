//! Tests of what this machine may lack; other crates include this file by its path.
#![allow(unreachable_pub, reason = "public only where it is a library's")]

use std::io::Write;

/// Says that a test is skipped; where `DOMSTAT_REQUIRE` names what is missing, fails instead.
///
/// # Panics
/// If it is required.
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("DOMSTAT_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == what), "{what} is required here: {why}");
    // Not by a macro: those are captured, and a skip is to be seen.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
