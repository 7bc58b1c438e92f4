//! Files of tapdisk, written by a C program that knows nothing of this project.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use common::{output, skip, stderr, stdout};

/// The two files of a disk after 40 reads and 30 writes; `None`, and the test is skipped, without a
/// compiler.
fn files(dir: &Path) -> Option<[PathBuf; 2]> {
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&cc).arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("cc", "there is no C compiler");
        return None;
    }
    let (source, program) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/xen/tapdisk.c"), dir.join("tapdisk"));
    let root = dir.join("shm");
    let built = Command::new(cc)
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(format!("-DROOT=\"{}\"", root.display()))
        .arg(&source)
        .status();
    assert!(built.unwrap().success(), "{} compiles", source.display());
    assert!(Command::new(&program).args(["3", "51712", "40", "30"]).status().unwrap().success());
    let mut directories = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    let td3 = directories.find(|path| path.to_str().unwrap().contains("/td3-")).unwrap();
    Some([td3.join("vbd-3-51712"), root.join("vbd3-3-51712/statistics")])
}

fn json(dir: &Path, args: &[&str], path: &Path) -> (Option<i32>, Value) {
    let done = output(dir, &[args, &["--json", path.to_str().unwrap()]].concat());
    let value = serde_json::from_str(&stdout(&done));
    (done.status.code(), value.unwrap_or_else(|_| Value::String(stderr(&done))))
}

#[test]
fn both_files_are_shown_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let Some([metrics, blkback]) = files(dir.path()) else { return };
    for (path, layout, submitted) in [(&metrics, "metrics", 41), (&blkback, "blkback", 40)] {
        let (code, shown) = json(dir.path(), &["show"], path);
        assert_eq!((code, &shown["layout"]), (Some(0), &layout.into()));
        let fields = &shown["fields"];
        assert_eq!(
            (&fields["rd_submitted"], &fields["rd_completed"]),
            (&submitted.into(), &40.into())
        );
        assert_eq!((&fields["wr_sectors"], &fields["wr_usecs"]), (&240.into(), &7500.into()));
        // The second file has no such field, and that is not 0.
        let errors = if layout == "metrics" { 3.into() } else { Value::Null };
        assert_eq!(fields["io_errors"], errors);
        let text = output(dir.path(), &["show", path.to_str().unwrap()]);
        assert!(stdout(&text).contains("rd_sectors"), "{}", stdout(&text));
        let (code, report) = json(dir.path(), &["check"], path);
        assert_eq!(
            (code, &report["verdict"], &report["looks"]),
            (Some(0), &"pass".into(), &1.into())
        );
        assert_eq!(report["rules"][4]["outcome"], "not_checkable");
        let (code, report) = json(dir.path(), &["check", "--watch", "0.1"], path);
        assert_eq!((code, &report["rules"][4]["outcome"]), (Some(0), &"pass".into()));
    }
}

#[test]
fn a_file_that_breaks_a_rule_fails() {
    let dir = tempfile::tempdir().unwrap();
    let Some([path, other]) = files(dir.path()) else { return };
    let good = fs::read(&path).unwrap();
    let broken = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let (code, report) = json(dir.path(), &["check"], &path);
        assert_eq!(code, Some(1), "{report}");
        let failed = report["rules"].as_array().unwrap().iter().filter(|r| r["outcome"] == "fail");
        failed.map(|rule| rule["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut completed = good.clone();
    completed[24..32].copy_from_slice(&99_u64.to_ne_bytes());
    assert_eq!(broken(&completed), ["T02"]);
    let mut version = good.clone();
    version[0] = 7;
    assert_eq!(broken(&version), ["T01"]);
    assert_eq!(broken(&good[..50]), ["T01"]);
    // A disk that was detached.
    fs::remove_file(&other).unwrap();
    let gone = output(dir.path(), &["check", other.to_str().unwrap()]);
    assert_eq!(gone.status.code(), Some(3), "{}", stderr(&gone));
    assert!(stderr(&gone).contains("statistics"), "{}", stderr(&gone));
}
