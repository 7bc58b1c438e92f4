//! Publishing at a socket and reading from there, each in a process of its own.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};
use serde_json::Value;

fn serve(dir: &Path, socket: &str, more: &[&str]) -> (Background, Background) {
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let mut args = vec!["run", "process", "--pid", &pid, "--name", "p1", "--socket", socket];
    args.extend(["--interval", "20"]);
    args.extend(more);
    let producer = Background::start(domstat(dir).args(args));
    wait_for("the socket", || Path::new(socket).exists().then_some(()));
    (child, producer)
}

#[test]
fn a_domain_is_listed_shown_and_checked_over_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = path.to_str().unwrap();
    let (mut child, mut producer) = serve(dir.path(), socket, &[]);
    let listed = stdout(&output(dir.path(), &["ls", "--socket", socket]));
    assert!(listed.contains("p1") && listed.contains("running"), "{listed}");
    let json = stdout(&output(dir.path(), &["ls", "--json", "--socket", socket]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["entry"], &json[0]["liveness"]), (&"p1".into(), &"live".into()));
    let shown = output(dir.path(), &["show", "p1", "--json", "--socket", socket]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["domid"], child.0.id());
    let args = ["check", "p1", "--watch", "0.2", "--json", "--socket", socket];
    let checked = output(dir.path(), &args);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{report:#}");
    let sealed = report["rules"].as_array().unwrap().iter().find(|r| r["id"] == "I24").unwrap();
    assert_eq!(sealed["outcome"], "pass", "{sealed:#}");
    // No entry in the directory, and the socket is in use.
    assert!(stdout(&output(dir.path(), &["ls"])).contains("no domain"));
    let second = output(dir.path(), &["run", "kvm", "--socket", socket]);
    assert!(!second.status.success());
    let unknown = output(dir.path(), &["show", "p2", "--socket", socket]);
    assert_eq!(unknown.status.code(), Some(3));
    assert!(stderr(&unknown).contains("no such domain"), "{}", stderr(&unknown));

    // Who watches sees the domain's end as such.
    let watcher = domstat(dir.path())
        .args(["show", "p1", "--watch", "--interval", "0.05", "--json", "--socket", socket])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(producer.0.wait().unwrap().success());
    let watched = watcher.wait_with_output().unwrap();
    assert!(watched.status.success());
    let last: Value = serde_json::from_str(stdout(&watched).lines().last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["liveness"]), (&"retired".into(), &"retired".into()));
    assert!(!path.exists());
    let gone = output(dir.path(), &["ls", "--socket", socket]);
    assert!(stderr(&gone).contains("no daemon listens"), "{}", stderr(&gone));
}

#[test]
fn a_killed_daemon_ends_who_watches() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let socket = path.to_str().unwrap();
    let (_child, mut producer) = serve(dir.path(), socket, &[]);
    let watcher = domstat(dir.path())
        .args(["show", "p1", "--watch", "--interval", "0.05", "--socket", socket])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    producer.0.kill().unwrap();
    producer.0.wait().unwrap();
    let watched = watcher.wait_with_output().unwrap();
    assert_eq!(watched.status.code(), Some(3));
    assert!(stderr(&watched).contains("has exited"), "{}", stderr(&watched));
    // What it left in the filesystem hinders nobody.
    let (_child, mut again) = serve(dir.path(), socket, &[]);
    wait_for("the second", || {
        stdout(&output(dir.path(), &["ls", "--socket", socket])).contains("p1").then_some(())
    });
    assert!(again.interrupt().success());
}

#[test]
fn the_mode_of_the_socket_decides_who_reads() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "another user can be tried by root only");
    }
    let dir = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    // A copy that another user may run, wherever this was built.
    let program = dir.path().join("domstat");
    common::copy_program(&program);
    let as_nobody = |socket: &str, gid: u32| {
        let mut command = Command::new(&program);
        command.args(["show", "p1", "--json", "--socket", socket]).uid(65_534).gid(gid);
        command.output().unwrap()
    };
    let path = dir.path().join("s");
    let socket = path.to_str().unwrap();
    let (_child, _producer) =
        serve(dir.path(), socket, &["--socket-mode", "660", "--socket-group", "12345"]);
    let refused = as_nobody(socket, 65_534);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("not permitted"), "{}", stderr(&refused));
    let admitted = as_nobody(socket, 12_345);
    assert!(admitted.status.success(), "{}", stderr(&admitted));
    let shown: Value = serde_json::from_slice(&admitted.stdout).unwrap();
    assert_eq!(shown["liveness"], "live");
}

#[test]
fn a_reader_in_another_process_id_namespace_is_not_fooled() {
    // There the producer's number means nothing, or another process.
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "true"]);
    if !unshare.output().is_ok_and(|output| output.status.success()) {
        return skip("root", "no process id namespace can be made here");
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let mut producer = Background::start(
        domstat(dir.path()).args(["run", "process", "--pid", &pid, "--name", "p"]),
    );
    show(dir.path(), "p");
    let watcher = Command::new("unshare")
        .args(["--pid", "--fork", env!("CARGO_BIN_EXE_domstat"), "show", "p", "--watch", "--json"])
        .args(["--interval", "0.05"])
        .env("DOMSTAT_DIR", dir.path())
        // LeakSanitizer stops its threads by their numbers in /proc, which here is the outer one's.
        .env("LSAN_OPTIONS", "detect_leaks=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(400));
    producer.0.kill().unwrap();
    producer.0.wait().unwrap();
    let watched = watcher.wait_with_output().unwrap();
    assert_eq!(watched.status.code(), Some(3), "{}", stderr(&watched));
    assert!(stdout(&watched).contains("\"liveness\":\"live\""), "{}", stdout(&watched));
    assert!(stderr(&watched).contains("has exited"), "{}", stderr(&watched));
}

#[test]
fn a_reader_in_another_time_namespace_knows_the_age() {
    let dir = tempfile::tempdir().unwrap();
    // Its clocks are far ahead of the producers'.
    let unshare = |program: &str, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-T", "--monotonic", "1000000", "--boottime", "2000000", program]);
        command.args(args).env("DOMSTAT_DIR", dir.path()).output().unwrap()
    };
    if !Command::new("unshare").args(["-T", "true"]).output().is_ok_and(|o| o.status.success()) {
        return skip("root", "no time namespace can be made here");
    }
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (socket, file) = (at("s.sock"), at("file"));
    let places = [("e", None), ("s", Some(["--socket", &socket])), ("f", Some(["--file", &file]))];
    let _producers = places.map(|(name, place)| {
        let mut producer = domstat(dir.path());
        producer.args(["run", "process", "--pid", &pid, "--name", name]);
        Background::start(producer.args(place.into_iter().flatten()))
    });
    for domain in ["e", "s", &file] {
        show(dir.path(), domain);
        let shown = unshare(env!("CARGO_BIN_EXE_domstat"), &["show", domain, "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown["liveness"], "live", "{domain}: {shown}");
    }
    let listed = unshare(env!("CARGO_BIN_EXE_domstat"), &["ls", "--json"]);
    let listed: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let live = |name: &str| listed.iter().any(|d| d["name"] == name && d["liveness"] == "live");
    assert!(live("e") && live("s"), "{listed:?}");
}

#[test]
fn a_file_is_not_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let refused = output(
        dir.path(),
        &["run", "process", "--pid", "1", "--file", "/tmp/x", "--socket", "/tmp/y"],
    );
    assert_eq!(refused.status.code(), Some(2));
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let _producer = Background::start(
        domstat(dir.path()).args(["run", "process", "--pid", &pid, "--name", "p"]),
    );
    assert_eq!(show(dir.path(), "p")["liveness"], "live");
}
