//! A plain file that is truncated while it is looked at ends the command, and kills it not.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Background, domstat, show, stderr, stdout, wait_for};

/// A copy of what a producer published as a file.
fn copy_of_a_region(dir: &Path) -> PathBuf {
    let child = Background::start(Command::new("sleep").arg("60"));
    let pid = child.0.id().to_string();
    let path = dir.join("plain.region");
    let file = path.to_str().unwrap();
    let producer = Background::start(domstat(dir).args([
        "run",
        "process",
        "--pid",
        &pid,
        "--file",
        file,
        "--placement",
        "page",
    ]));
    show(dir, file);
    let copy = dir.join("copy.domstat");
    std::fs::copy(&path, &copy).unwrap();
    drop(producer);
    copy
}

#[test]
fn truncated_while_it_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let copy = copy_of_a_region(dir.path());
    let name = copy.to_str().unwrap();
    let watching: &[&[&str]] = &[
        &["show", name, "--watch", "--interval", "0.01", "--json"],
        &["show", name, "--watch", "--interval", "0.01"],
        &["check", name, "--watch", "60"],
    ];
    for args in watching {
        let whole = std::fs::read(&copy).unwrap();
        let command = domstat(dir.path())
            .args(*args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let maps = format!("/proc/{}/maps", command.id());
        wait_for("the mapping", || {
            std::fs::read_to_string(&maps).ok()?.contains(name).then_some(())
        });
        std::thread::sleep(Duration::from_millis(50));
        let file = File::options().write(true).open(&copy).unwrap();
        file.set_len(100).unwrap();
        let output = command.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {:?}", output.status);
        assert!(stderr(&output).contains("truncated"), "{}", stderr(&output));
        assert!(!stdout(&output).contains("retired"), "{}", stdout(&output));
        std::fs::write(&copy, whole).unwrap();
    }
}

#[test]
fn a_file_that_is_too_short_is_listed_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let copy = copy_of_a_region(dir.path());
    File::options().write(true).open(&copy).unwrap().set_len(4096).unwrap();
    let listed = common::output(dir.path(), &["ls"]);
    assert_eq!(listed.status.code(), Some(3), "nothing can be read");
    assert!(stdout(&listed).contains("cannot be used"), "{}", stdout(&listed));
}
