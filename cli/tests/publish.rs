//! Publishing, listing, showing and checking, each in a process of its own.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::time::Duration;

use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};
use domstat_sources::kvm::KvmSource;

/// A child that works and rests, to be looked at, and renames its thread when there is `rename`.
fn busy_child(rename: &std::path::Path) -> Background {
    let script = "while :; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.01; \
                  if [ -e \"$0\" ]; then printf renamed > /proc/$$/comm; fi; done";
    Background::start(std::process::Command::new("sh").args(["-c", script]).arg(rename))
}

#[test]
fn a_process_from_its_first_sample_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let rename = dir.path().join("rename");
    let mut child = busy_child(&rename);
    let pid = child.0.id().to_string();
    let mut producer = Background::start(domstat(dir.path()).args([
        "run",
        "process",
        "--pid",
        &pid,
        "--name",
        "p1",
        "--interval",
        "20",
    ]));
    let first = show(dir.path(), "p1");
    assert_eq!(first["domid"], child.0.id());
    assert_eq!(first["state"], "live");
    let runstate = &first["vcpus"][0]["groups"]["runstate"];
    assert_eq!(runstate["status"], "active");
    assert!(runstate["fields"]["running_ns"].is_u64());
    assert!(runstate["fields"]["state_entry_ns"].is_null(), "polling does not see it");
    assert_eq!(first["vcpus"][1]["groups"]["runstate"]["status"], "inactive");
    assert!(first["groups"]["memory"]["fields"]["current_bytes"].is_null());
    assert!(first["groups"]["memory"]["fields"]["rss_bytes"].as_u64().unwrap() > 0);

    // It moves.
    let ran = |v: &serde_json::Value| {
        v["vcpus"][0]["groups"]["runstate"]["fields"]["running_ns"].as_u64().unwrap()
    };
    wait_for("running time", || (ran(&show(dir.path(), "p1")) > ran(&first)).then_some(()));

    let listed = stdout(&output(dir.path(), &["ls"]));
    assert!(listed.contains("p1") && listed.contains("running"), "{listed}");
    let checked = output(dir.path(), &["check", "p1", "--watch", "0.3"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));

    // Its thread, by the id and the name that the kernel has.
    let region = dir.path().join("p1.domstat");
    let text = stdout(&output(dir.path(), &["show", region.to_str().unwrap()]));
    let row = text.lines().find(|line| line.starts_with("0  ")).unwrap();
    assert!(text.contains("TID THREAD") && row.ends_with(&format!(" {pid} sh")), "{text}");
    std::fs::write(&rename, "").unwrap();
    wait_for("its new name", || {
        stdout(&output(dir.path(), &["show", "p1"])).contains(" renamed").then_some(())
    });

    // A second producer of the same name is refused, and the first is unharmed.
    let second = output(dir.path(), &["run", "process", "--pid", &pid, "--name", "p1"]);
    assert_eq!(second.status.code(), Some(3));
    assert!(stderr(&second).contains("published already"), "{}", stderr(&second));
    show(dir.path(), "p1");

    // A reader that watches sees the end as an end.
    let watcher = domstat(dir.path())
        .args(["show", "p1", "--watch", "--interval", "0.05", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(producer.0.wait().unwrap().success(), "the domain's end is no failure");
    let watched = watcher.wait_with_output().unwrap();
    assert!(watched.status.success());
    let last: serde_json::Value =
        serde_json::from_str(stdout(&watched).lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "retired");
    assert!(stdout(&output(dir.path(), &["ls"])).contains("no domain"));
}

#[test]
fn a_plain_file_is_readable_by_anyone_and_gone_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let child = busy_child(&dir.path().join("rename"));
    let pid = child.0.id().to_string();
    let path = dir.path().join("plain.region");
    let file = path.to_str().unwrap();
    for placement in ["packed", "page"] {
        let args = [
            "run",
            "process",
            "--pid",
            &pid,
            "--file",
            file,
            "--placement",
            placement,
            "--interval",
            "20",
        ];
        let mut producer = Background::start(domstat(dir.path()).args(args));
        let shown = show(dir.path(), file);
        assert_eq!(shown["domid"], child.0.id());
        let checked = output(dir.path(), &["check", file, "--watch", "0.2"]);
        assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"DOM\x01") && bytes.len().is_multiple_of(4096));
        let taken = output(dir.path(), &args);
        assert!(stderr(&taken).contains("in use by another producer"), "{}", stderr(&taken));
        assert!(producer.interrupt().success());
        assert!(!path.exists(), "the file goes with the region");
    }
}

#[test]
fn a_killed_producer_is_noticed_and_its_name_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let child = busy_child(&dir.path().join("rename"));
    let pid = child.0.id().to_string();
    let start = || {
        Background::start(
            domstat(dir.path()).args(["run", "process", "--pid", &pid, "--name", "k"]),
        )
    };
    let mut first = start();
    let before = show(dir.path(), "k");
    let watcher = domstat(dir.path())
        .args(["show", "k", "--watch", "--interval", "0.05"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let watched = watcher.wait_with_output().unwrap();
    assert_eq!(watched.status.code(), Some(3));
    assert!(stderr(&watched).contains("has exited"), "{}", stderr(&watched));
    assert!(stderr(&output(dir.path(), &["show", "k"])).contains("has exited"));
    let mut second = start();
    let after = show(dir.path(), "k");
    assert_ne!(before["incarnation"], after["incarnation"]);
    assert!(second.interrupt().success());
}

#[test]
fn who_asks_to_is_attached_to_the_next_producer() {
    let dir = tempfile::tempdir().unwrap();
    let child = busy_child(&dir.path().join("rename"));
    let pid = child.0.id().to_string();
    let start = || {
        Background::start(
            domstat(dir.path()).args(["run", "process", "--pid", &pid, "--name", "k"]),
        )
    };
    let mut first = start();
    let before = show(dir.path(), "k");
    let mut watcher = Background::start(
        domstat(dir.path())
            .args(["show", "k", "--watch", "--interval", "0.05", "--json", "--reattach"])
            .stdout(std::process::Stdio::piped()),
    );
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(watcher.0.stdout.take().unwrap()));
    let mut next = || -> serde_json::Value {
        let shown: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(shown["liveness"], "live");
        shown
    };
    assert_eq!(next()["incarnation"], before["incarnation"]);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let _second = start();
    while next()["incarnation"] == before["incarnation"] {}
    assert!(watcher.interrupt().success());
}

#[test]
fn a_restart_under_the_same_name_ends_who_watched_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let child = busy_child(&dir.path().join("rename"));
    let pid = child.0.id().to_string();
    let start = || {
        Background::start(
            domstat(dir.path()).args(["run", "process", "--pid", &pid, "--name", "k"]),
        )
    };
    let mut first = start();
    let before = show(dir.path(), "k");
    // It looks once now, and again when the second producer is there.
    let watcher = domstat(dir.path())
        .args(["show", "k", "--watch", "--interval", "5", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let mut second = start();
    wait_for("the second producer", || {
        let output = output(dir.path(), &["show", "k", "--json"]);
        let now: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (now["incarnation"] != before["incarnation"]).then_some(())
    });
    let watched = watcher.wait_with_output().unwrap();
    assert_eq!(watched.status.code(), Some(3), "{}", stderr(&watched));
    assert!(stderr(&watched).contains("has exited"), "{}", stderr(&watched));
    assert!(second.interrupt().success());
}

#[test]
fn a_file_that_outlived_its_producer_is_not_shown_as_live() {
    let dir = tempfile::tempdir().unwrap();
    let child = busy_child(&dir.path().join("rename"));
    let pid = child.0.id().to_string();
    let path = dir.path().join("k.region");
    let file = path.to_str().unwrap();
    let mut producer = Background::start(
        domstat(dir.path()).args(["run", "process", "--pid", &pid, "--file", file]),
    );
    let held = show(dir.path(), file);
    assert_eq!(held["held"], true);
    producer.0.kill().unwrap();
    producer.0.wait().unwrap();
    let output = output(dir.path(), &["show", file, "--json"]);
    assert!(stderr(&output).contains("no producer holds"), "{}", stderr(&output));
    let left: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(left["held"], false);
}

#[test]
fn the_micro_vm_is_published_and_checked() {
    if let Err(why) = KvmSource::available() {
        return skip("kvm", &why.to_string());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut producer =
        Background::start(domstat(dir.path()).args(["run", "kvm", "--vcpus", "3", "--name", "vm"]));
    let shown = show(dir.path(), "vm");
    assert_eq!(shown["nr_vcpus"], 3);
    let checked = output(dir.path(), &["check", "vm", "--watch", "1", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{report:#}");
    assert!(producer.interrupt().success());
}

#[test]
fn the_demo_on_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(dir.path(), &["demo", "--seconds", "1"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert!(text.contains("VCPU") && text.contains("I20"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}
