//! What is shown of regions of revisions 1 to 4, as it was when revision 5 began: a newer build
//! shows the same of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is a failed test")]

mod common;

use std::fmt::Write;
use std::path::Path;

use common::http::{Export, OPENMETRICS, get};
use common::{output, stderr, stdout};
use rustix::fs::{FlockOperation, flock};

/// Series that differ from scrape to scrape, and the version of the build.
const MOVING: [&str; 3] = ["process_", "domstat_scrape_duration_seconds", "domstat_build"];

/// All that is shown of one golden region, whose times are on no clock.
fn shown(name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let entry = dir.path().join("golden.domstat");
    std::fs::copy(golden.join(format!("{name}.bin")), &entry).unwrap();
    // As a producer holds it.
    let held = std::fs::File::open(&entry).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let mut text = String::new();
    for args in [
        &["show", "golden"][..],
        &["show", "golden", "--json"],
        &["show", "golden", "--all"],
        &["show", "golden", "--all", "--json"],
        &["show", "golden", "--format", "domstats"],
        &["top", "-b", "-n", "1"],
    ] {
        let output = output(dir.path(), args);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        writeln!(text, "\n$ domstat {}\n{}", args.join(" "), said.trim_end()).unwrap();
    }
    // Exits were part of the default selection.
    let export = Export::start(dir.path(), &["--no-created", "--include", "default,exits"]);
    for accept in [OPENMETRICS, "text/plain"] {
        writeln!(text, "\n$ domstat export --no-created: {accept}").unwrap();
        let body = get(export.at, "/metrics", &[&format!("Accept: {accept}")]).unwrap().body;
        for line in body.lines() {
            let name = line.trim_start_matches(|c: char| !c.is_ascii_lowercase());
            if !MOVING.iter().any(|moving| name.starts_with(moving)) {
                writeln!(text, "{line}").unwrap();
            }
        }
    }
    text
}

fn frozen(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/frozen/{name}.txt"));
    let (found, expected) = (shown(name), std::fs::read_to_string(&path).unwrap_or_default());
    if found == expected {
        return;
    }
    let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.txt"));
    std::fs::write(&new, &found).unwrap();
    let differ = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    panic!("diff {} {}: first {differ:#?}", path.display(), new.display());
}

#[test]
fn revision_1_is_shown_as_before() {
    frozen("r1-packed");
}

#[test]
fn revision_2_is_shown_as_before() {
    frozen("r2-packed");
}

#[test]
fn revision_3_is_shown_as_before() {
    frozen("r3-pages");
}

#[test]
fn revision_4_is_shown_as_before() {
    frozen("r4-packed");
}
