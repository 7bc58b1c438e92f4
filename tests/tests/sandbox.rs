//! Producers under the system call filters and path rules of VMMs.
#![cfg(all(target_arch = "x86_64", target_env = "gnu"))]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use domstat_tests::skip::skip;

/// The signal of a system call that is not permitted.
const SIGSYS: i32 = 31;
/// Permitted in any case, so that a row cannot do without it.
const ALWAYS: [&str; 1] = ["munmap"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sandbox(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_domstat-sandbox")).args(args).output().unwrap()
}

fn dir() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

fn text(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// Whether a call makes exactly these system calls.
fn call(name: &str, calls: &[&str]) -> Output {
    let (_dir, path) = dir();
    sandbox(&["call", name, &path, &calls.join(",")])
}

/// The names in backquotes of a cell.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether the clock can be read without a system call, as the documentation has it.
fn has_vdso() -> bool {
    let has = call("now", &[]).status.success();
    if !has {
        skip("vdso", "the clock is a system call here");
    }
    has
}

#[test]
fn every_call_of_the_table_makes_the_system_calls_that_it_says() {
    if !has_vdso() {
        return;
    }
    let page = std::fs::read_to_string(root().join("docs/sandbox.md")).unwrap();
    let (_, table) = page.split_once("<!-- the rows are read").unwrap();
    let rows: Vec<_> = table
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| {
            let mut cells = line.split('|').skip(1);
            Some((*quoted(cells.next()?).first()?, quoted(cells.next()?)))
        })
        .collect();
    assert!(rows.len() >= 20, "{rows:?}");
    for (name, calls) in &rows {
        let all = call(name, calls);
        assert!(all.status.success(), "{name} with {calls:?}: {}", text(&all));
        for left_out in calls.iter().filter(|call| !ALWAYS.contains(call)) {
            let others: Vec<_> = calls.iter().copied().filter(|call| call != left_out).collect();
            let killed = call(name, &others);
            let signal = killed.status.signal();
            assert_eq!(signal, Some(SIGSYS), "{name} does without {left_out}: {}", text(&killed));
        }
    }
}

#[test]
fn a_debug_build_looks_at_each_descriptor_before_it_closes_it() {
    let without = |name: &str, calls: &[&str]| {
        let (_dir, path) = dir();
        let calls = calls.join(",");
        sandbox(&["call-strictly", name, &path, &calls])
    };
    let output = without("Region::retire", &["futex", "close", "munmap"]);
    let expected = cfg!(debug_assertions).then_some(SIGSYS);
    assert_eq!(output.status.signal(), expected, "{}", text(&output));
    // What closes nothing is the same in both.
    let output = without("Region::notify", &["futex"]);
    assert!(output.status.success(), "{}", text(&output));
}

fn rules(of: &str) -> String {
    root().join("tests/sandbox").join(format!("{of}.txt")).to_str().unwrap().to_owned()
}

#[test]
fn a_producer_that_published_before_writes_and_ends_under_the_filters_of_vmms() {
    if !has_vdso() {
        return;
    }
    for of in ["cloud-hypervisor", "firecracker"] {
        let (_dir, path) = dir();
        let output = sandbox(&["vmm", &path, &rules(of)]);
        assert!(output.status.success(), "{of}: {}", text(&output));
        // It was left, and leads nowhere.
        let entry = Path::new(&path).join("jailed.domstat");
        assert!(entry.is_symlink() && !entry.exists());
    }
}

#[test]
fn what_a_producer_needs_to_publish_under_a_filter_is_as_documented() {
    let inside = |of: &str, more: &str| {
        let (_dir, path) = dir();
        sandbox(&["inside", &path, &rules(of), more])
    };
    if !has_vdso() {
        return;
    }
    let added = inside("cloud-hypervisor", "getpid,symlink,flock");
    assert!(added.status.success(), "{}", text(&added));
    for too_few in ["getpid,symlink", "getpid,flock", "symlink,flock"] {
        let killed = inside("cloud-hypervisor", too_few);
        assert_eq!(killed.status.signal(), Some(SIGSYS), "{too_few}: {}", text(&killed));
    }
    let killed = inside("firecracker", "");
    assert_eq!(killed.status.signal(), Some(SIGSYS), "{}", text(&killed));
}

#[test]
fn landlock_keeps_a_producer_from_the_directory_only() {
    for (scope, expected) in [("none", "Permission denied"), ("dir", "announced at")] {
        let (_dir, path) = dir();
        let output = sandbox(&["landlock", &path, scope]);
        assert!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.contains("not enforced") {
            return skip("landlock", "this kernel has no Landlock");
        }
        assert!(said.contains(expected), "{scope}: {said}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "nothing is left");
    }
}
