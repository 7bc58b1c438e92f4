//! What `domstat run` says, and how it ends.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::process::{Command, Stdio};

use common::{Background, domstat, output, show, stderr, stdout, wait_for};

#[test]
fn a_filter_that_lets_no_thread_pass_is_reported_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let run = |prefix: &str| {
        let args = ["run", "process", "--pid", &pid, "--for", "1", "--thread-name", prefix];
        stderr(&output(dir.path(), &args))
    };
    let told = run("CPU ");
    assert!(told.contains("no thread is shown") && told.contains("\"sleep\""), "{told}");
    let told = run("sle");
    assert!(!told.contains("no thread is shown"), "{told}");
}

#[test]
fn a_uuid_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let args = ["run", "process", "--pid", &pid, "--name", "web1", "--uuid", uuid];
    let mut producer = Background::start(domstat(dir.path()).args(args).stderr(Stdio::null()));
    assert_eq!(show(dir.path(), "web1")["uuid"], uuid);
    assert!(producer.interrupt().success());
    let bad = output(dir.path(), &["run", "process", "--pid", &pid, "--uuid", "web1"]);
    assert_eq!(bad.status.code(), Some(2), "{}", stderr(&bad));
}

#[test]
fn a_closed_terminal_ends_it_as_ctrl_c_does() {
    let dir = tempfile::tempdir().unwrap();
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let args = ["run", "process", "--pid", &pid, "--name", "web1"];
    let mut producer = Background::start(domstat(dir.path()).args(args).stderr(Stdio::null()));
    let entry = dir.path().join("web1.domstat");
    wait_for("the entry", || entry.symlink_metadata().ok());
    let id = rustix::process::Pid::from_child(&producer.0);
    rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    assert!(producer.0.wait().unwrap().success());
    assert!(entry.symlink_metadata().is_err(), "its entry is removed");
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["ls", "--dir", dir.path().to_str().unwrap()];
    let listed = domstat(dir.path())
        .args(args)
        .env("DOMSTAT_DIR", "")
        .env("DOMSTAT_SOCKET", "")
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", stderr(&listed));
    assert!(stdout(&listed).contains("no domain is published"), "{}", stdout(&listed));
}

#[test]
#[cfg(not(feature = "libvirt"))]
fn without_libvirt_it_says_how_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let refused = output(dir.path(), &["run", "libvirt"]);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--features libvirt"), "{}", stderr(&refused));
    let help = output(dir.path(), &["run", "libvirt", "--help"]);
    assert!(help.status.success() && stdout(&help).contains("--read-only"));
}
