//! The Rust reader over every vector: verdicts and answers, by single reads and by snapshots; and the
//! checker over the good ones.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use domstat_consumer::region::MappedFile;
use domstat_consumer::{AttachError, Patience, Region};
use domstat_invariant_checker::{Options, Subject, check};
use domstat_tests::answers;
use domstat_tests::vectors::{self, Vector, Verdict};
use serde_json::Value;

fn file(vector: &Vector) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vector.bytes).unwrap();
    file
}

/// Where two values differ, each with its path.
fn differences(at: &str, expected: &Value, found: &Value, to: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differences(&format!("{at}.{key}"), &expected[key], &found[key], to);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}[{i}]"), a, b, to);
            }
        }
        _ if expected == found => {}
        _ => to.push(format!("{at}: expected {expected}, found {found}")),
    }
}

/// What the reader does otherwise than the vector says.
fn faults(vector: &Vector) -> Vec<String> {
    let mut faults = Vec::new();
    let region = match Region::from_fd(file(vector)) {
        Ok(region) => region,
        Err(AttachError::Geometry { .. }) if vector.verdict == Verdict::Refuse => return faults,
        Err(error) => return vec![format!("{}: {error}", vector.path)],
    };
    let region = region.with_patience(Patience { spins: 4, yielding: Duration::from_micros(50) });
    let verdict = if region.beyond_header().is_ok() { Verdict::Read } else { Verdict::Skip };
    if verdict != vector.verdict {
        return vec![format!("{}: {verdict:?}, not {:?}", vector.path, vector.verdict)];
    }
    differences(&vector.path, &vector.answers, &answers::answers(&region), &mut faults);
    let whole = answers::snapshot_records(&region);
    for (kind, records) in whole.as_object().unwrap() {
        let at = format!("{} snapshot {kind}", vector.path);
        differences(&at, &vector.answers["records"][kind], records, &mut faults);
    }
    faults
}

#[test]
fn every_vector_is_read_as_it_says() {
    let vectors = vectors::all(&vectors::folder()).unwrap();
    let faults: Vec<String> = vectors.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    let good = vectors.iter().filter(|v| v.path.starts_with("good/")).count();
    assert!(good >= 40 && vectors.len() - good >= 80, "{good} of {}", vectors.len());
    for verdict in [Verdict::Read, Verdict::Skip, Verdict::Refuse] {
        assert!(vectors.iter().any(|v| v.verdict == verdict && v.path.starts_with("bad/")));
    }
}

#[test]
fn a_wrong_answer_is_found() {
    let mut vectors = vectors::all(&vectors::folder()).unwrap();
    let vector = vectors.iter_mut().find(|v| v.path == "good/r5-packed").unwrap();
    let io = &mut vector.answers["records"]["blk"][0]["io"]["rd_req"];
    *io = Value::from("0");
    assert_eq!(faults(vector).len(), 2, "by a single read, and by a snapshot");
    vector.verdict = Verdict::Refuse;
    assert_eq!(faults(vector).len(), 1);
}

/// The rules that the checker finds broken; "refused" if it cannot judge the region.
fn broken(vector: &Vector) -> Vec<String> {
    let mapped = MappedFile::from_fd(file(vector)).unwrap();
    let options = Options { seq_deadline: Duration::from_millis(1), ..Options::default() };
    match check(&Subject::new(mapped.mem()), &options) {
        Ok(report) => {
            let failed = report.rules.iter().filter(|rule| !rule.findings.is_empty());
            failed.map(|rule| rule.id.to_owned()).collect()
        }
        Err(_) => vec!["refused".to_owned()],
    }
}

#[test]
fn the_checker_passes_the_good_vectors_and_no_bad_one() {
    for vector in vectors::all(&vectors::folder()).unwrap() {
        let broken = broken(&vector);
        if vector.path.starts_with("good/") {
            assert_eq!(broken, vector.rules, "{}", vector.path);
        } else {
            assert!(!broken.is_empty(), "{}", vector.path);
        }
    }
}
