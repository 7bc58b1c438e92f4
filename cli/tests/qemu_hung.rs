//! `domstat run qemu` with a real QEMU that does not answer when the daemon starts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use domstat_sources::qemu::qmp::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use common::vm::{Vm, is_there};
use common::{Background, domstat, output, show, skip, stdout, wait_for};

fn daemon(dir: &Path, vm: &Vm) -> Background {
    let mut command = domstat(dir);
    command.args(["run", "qemu", "--interval", "0.2", "--limit", "1", "--qmp"]).arg(&vm.qmp);
    Background::start(command.stderr(Stdio::null()))
}

fn send(vm: &Vm, signal: Signal) {
    kill_process(Pid::from_child(&vm.process.0), signal).unwrap();
}

/// The first events of the daemon, by name.
fn events(dir: &Path, count: usize) -> Vec<String> {
    let count = count.to_string();
    let text = stdout(&output(dir, &["events", "--json", "--from", "0", "--count", &count]));
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// The groups of this kind of records that are active, as `vcpus[1].runstate`.
fn active(sample: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |prefix: &str, groups: &Value| {
        let groups = groups.as_object().unwrap().iter();
        let active = groups.filter(|(_, group)| group["status"] == "active");
        names.extend(active.map(|(name, _)| format!("{prefix}{name}")));
    };
    add("", &sample["groups"]);
    for kind in ["vcpus", "blks"] {
        for (n, record) in sample[kind].as_array().unwrap().iter().enumerate() {
            add(&format!("{kind}[{n}]."), &record["groups"]);
        }
    }
    names
}

#[test]
fn a_vm_that_hangs_from_the_start_is_published_and_becomes_whole() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    // The name and UUID are on the command line.
    let uuid = "6b1c4f4e-9d2a-4c56-8f0e-3a1b2c3d4e5f";
    let vm = Vm::start(dir.path(), "hangs", 1, &["-uuid", uuid]);
    send(&vm, Signal::STOP);
    let _daemon = daemon(dir.path(), &vm);
    let sample = show(dir.path(), "hangs");
    assert_eq!(sample["uuid"], uuid, "{sample:#}");
    assert_eq!(sample["status"], "hung");
    let status = &sample["groups"]["status"]["fields"];
    assert_eq!(
        (&status["state"], &status["reason"], &status["since_ns"]),
        (&json!("unknown"), &json!("host_error"), &Value::Null),
        "it has never answered"
    );
    let groups = active(&sample);
    for name in
        ["identity", "status", "memory", "cpu", "threads", "vcpus[0].runstate", "vcpus[1].runstate"]
    {
        assert!(groups.iter().any(|group| group == name), "{name} in {groups:?}");
    }
    assert!(!groups.iter().any(|name| name.starts_with("blks[0].")), "{groups:?}");
    let memory = &sample["groups"]["memory"]["fields"];
    assert!(memory["rss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(memory["current_bytes"], Value::Null, "absent, not 0");
    let listed = stdout(&output(dir.path(), &["ls"]));
    assert!(listed.lines().any(|l| l.contains("hangs") && l.contains("hung")), "{listed}");
    assert_eq!(events(dir.path(), 2), ["published", "disconnected"]);
    let armed = output(dir.path(), &["block", "threshold", "hangs", "hda", "1M"]);
    assert!(!armed.status.success(), "QEMU cannot be asked");

    send(&vm, Signal::CONT);
    let sample = wait_for("its answers", || {
        let sample = show(dir.path(), "hangs");
        (sample["status"] == "running").then_some(sample)
    });
    assert!(active(&sample).iter().any(|name| name == "blks[0].io"), "{sample:#}");
    assert_eq!(sample["uuid"], uuid);
    assert_eq!(sample["groups"]["memory"]["fields"]["current_bytes"], 16 << 20);
    assert_eq!(events(dir.path(), 3), ["published", "disconnected", "connected"]);
    let checked = output(dir.path(), &["check", "hangs"]);
    assert!(checked.status.success(), "{}", stdout(&checked));
}

#[test]
fn a_vm_that_dies_while_it_hangs_is_retired() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let vm = Vm::start(dir.path(), "dies", 1, &[]);
    send(&vm, Signal::STOP);
    let _daemon = daemon(dir.path(), &vm);
    show(dir.path(), "dies");
    drop(vm);
    assert_eq!(events(dir.path(), 3), ["published", "disconnected", "gone"]);
    wait_for("its end", || (!output(dir.path(), &["show", "dies"]).status.success()).then_some(()));
}

#[test]
fn a_vm_that_serves_another_client_does_not_hang() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let vm = Vm::start(dir.path(), "busy", 1, &[]);
    let limit = std::time::Duration::from_secs(30);
    let other = Connection::open(&vm.qmp, limit).unwrap();
    let _daemon = daemon(dir.path(), &vm);
    wait_for("the daemon", || dir.path().join("control.sock").exists().then_some(()));
    // Longer than the limit of one that hangs.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(!output(dir.path(), &["show", "busy"]).status.success());
    drop(other);
    assert_eq!(show(dir.path(), "busy")["status"], "running");
    assert_eq!(events(dir.path(), 1), ["published"]);
}
