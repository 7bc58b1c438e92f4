//! The layout of RFC v3, written by a C program that knows nothing of this project.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use domstat_invariant_checker::rfc_v3::fixtures;
use domstat_layout::rfc_v3::{HEADER_LEN, RECORD_LEN, record};
use serde_json::{Value, json};

use common::{Background, output, skip, stderr, stdout, wait_for};

/// The compiled C program; `None`, and the test is skipped, without a compiler.
fn writer(dir: &Path) -> Option<PathBuf> {
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&cc).arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("cc", "there is no C compiler");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/c/rfc_v3.c");
    let program = dir.join("rfc_v3");
    let built = Command::new(cc)
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o"])
        .args([&program, &source])
        .status();
    assert!(built.unwrap().success(), "{} compiles", source.display());
    Some(program)
}

/// The region that the program writes with these arguments; it has ended.
fn written(dir: &Path, program: &Path, args: &[&str]) -> PathBuf {
    let path = dir.join("rfc.region");
    let done = Command::new(program).arg(&path).args(args).output().unwrap();
    assert!(done.status.success(), "{}", stderr(&done));
    path
}

fn show(dir: &Path, path: &Path) -> Value {
    let shown = output(dir, &["show", "--json", path.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    serde_json::from_slice(&shown.stdout).unwrap()
}

/// The rules that `domstat check` finds broken.
fn broken(dir: &Path, path: &Path, more: &[&str]) -> Vec<String> {
    let args = [&["check", "--json", path.to_str().unwrap()], more].concat();
    let checked = output(dir, &args);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let rules = report["rules"].as_array().unwrap();
    let failed = rules.iter().filter(|rule| rule["outcome"] == "fail");
    let ids: Vec<_> = failed.map(|rule| rule["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(checked.status.code(), Some(i32::from(!ids.is_empty())), "{report:#}");
    ids
}

#[test]
fn what_the_program_wrote_is_shown_and_holds_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = writer(dir.path()) else { return };
    let path = written(dir.path(), &program, &["3", "--inactive", "1"]);

    let shown = show(dir.path(), &path);
    assert_eq!(shown["layout"], "rfc_v3");
    assert_eq!((&shown["nr_records"], &shown["stride_is_scaled"]), (&json!(31), &json!(false)));
    let vcpu = |index: usize, status: &str, seq: u32, running_ns: Value| {
        let expected =
            json!({ "index": index, "status": status, "seq": seq, "running_ns": running_ns });
        assert_eq!(shown["vcpus"][index], expected);
    };
    vcpu(0, "active", 2, json!(1_000_000_000u64));
    vcpu(1, "inactive_or_overflowed", 6, Value::Null);
    vcpu(2, "active", 6, json!(3_000_000_000u64));
    for index in 3..31 {
        vcpu(index, "never_written", 0, Value::Null);
    }
    assert_eq!(shown["vcpus"].as_array().unwrap().len(), 31);

    let text = stdout(&output(dir.path(), &["show", path.to_str().unwrap()]));
    for part in ["RFC v3", "1.000 ", "inactive or overflowed", "28 records never written"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("scales"), "{text}");
    assert_eq!(broken(dir.path(), &path, &[]), [""; 0]);

    // More vCPUs than a page holds, and none that is not there.
    let path = written(dir.path(), &program, &["40"]);
    let shown = show(dir.path(), &path);
    assert_eq!(shown["nr_records"], 63);
    assert_eq!(shown["vcpus"][39]["running_ns"], 40_000_000_000u64);
    assert_eq!(shown["vcpus"][40]["status"], "never_written");
    assert_eq!(broken(dir.path(), &path, &[]), [""; 0]);
}

#[test]
fn a_writer_that_goes_on_is_followed_and_holds_the_rules_of_change() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = writer(dir.path()) else { return };
    let path = dir.path().join("live.region");
    let mut live = Background::start(
        Command::new(&program).arg(&path).args(["4", "--live", "60"]).stdout(Stdio::piped()),
    );
    let mut line = String::new();
    BufReader::new(live.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // The compiler's structures are those that the reader expects.
    let (seq, pad, time) = (record::SEQ, record::PAD, record::RUNNING_NS);
    let expected = format!(
        "header {HEADER_LEN} record {RECORD_LEN} seq {seq} pad {pad} time {time} offset 128 stride 128 len 4096"
    );
    assert_eq!(line.trim_end(), expected);

    let running = || show(dir.path(), &path)["vcpus"][3]["running_ns"].as_u64().unwrap();
    let first = running();
    assert!(4_000_000_000 <= first, "{first}");
    wait_for("the next number", || (running() > first).then_some(()));
    assert_eq!(first % 1000, 0);
    assert_eq!(broken(dir.path(), &path, &["--watch", "1"]), [""; 0]);
    let args = ["show", path.to_str().unwrap(), "--watch", "--interval", "0.05", "--count", "2"];
    let text = stdout(&output(dir.path(), &args));
    assert!(text.contains("GAINED") && text.matches("RFC v3").count() == 2, "{text}");
}

#[test]
fn a_writer_that_died_in_mid_update_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = writer(dir.path()) else { return };
    let path = written(dir.path(), &program, &["3", "--stuck", "1"]);
    let shown = show(dir.path(), &path);
    assert_eq!(
        (&shown["vcpus"][1]["status"], &shown["vcpus"][1]["seq"]),
        (&json!("stalled"), &json!(5))
    );
    assert_eq!(shown["vcpus"][2]["running_ns"], 3_000_000_000u64, "the others are read");
    let text = stdout(&output(dir.path(), &["show", path.to_str().unwrap()]));
    assert!(text.contains("vcpu 1") && text.contains("stalled"), "{text}");
    assert_eq!(broken(dir.path(), &path, &[]), ["R09"]);
}

#[test]
fn a_producer_that_scales_the_stride_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = writer(dir.path()) else { return };
    let path = written(dir.path(), &program, &["2", "--scaled"]);
    let shown = show(dir.path(), &path);
    assert_eq!(shown["stride_is_scaled"], true);
    assert_eq!(shown["vcpus"][16]["running_ns"], 2_000_000_000u64);
    let text = stdout(&output(dir.path(), &["show", path.to_str().unwrap()]));
    assert!(text.contains("record 16 is vCPU 1"), "{text}");
    assert_eq!(broken(dir.path(), &path, &[]), ["R13"]);
}

#[test]
fn corrupt_regions_are_named_with_their_rule_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corrupt");
    let mut judged = 0;
    for fixture in fixtures::all().into_iter().filter(|f| f.is_static_file()) {
        fs::write(&path, &fixture.bytes).unwrap();
        assert_eq!(broken(dir.path(), &path, &[]), [fixture.finding.rule], "{}", fixture.name);
        let shown = output(dir.path(), &["show", path.to_str().unwrap()]);
        // What a reader needs to stay inside the mapping, it insists on.
        if ["R01", "R02", "R04", "R05", "R06"].contains(&fixture.finding.rule) {
            let line = stderr(&shown);
            assert_eq!(shown.status.code(), Some(3), "{line}");
            assert!(line.starts_with("domstat: ") && line.contains("RFC v3"), "{line}");
            assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        } else {
            assert!(shown.status.success(), "{}", fixture.name);
        }
        judged += 1;
    }
    assert_eq!(judged, 10, "fixtures that one look can judge");
}
