//! What daemons serve whose sockets lie in the directory, as every command shows it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;
#[path = "../../tests/src/daemon.rs"]
#[allow(dead_code, unreachable_pub, clippy::expect_used, reason = "each user takes its part")]
mod daemon;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::http::Export;
use common::made_up::MadeUp;
use common::{Background, domstat, output, skip, stderr, stdout, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// More than any of this takes, on a machine with other work.
const SOON: Duration = Duration::from_secs(10);

/// A daemon that publishes the process `pid` as `name` at `socket`.
fn serve(dir: &Path, pid: u32, name: &str, socket: &Path) -> Background {
    let pid = pid.to_string();
    let args = ["run", "process", "--pid", &pid, "--name", name, "--interval", "20", "--socket"];
    let daemon = Background::start(domstat(dir).args(args).arg(socket).stderr(Stdio::null()));
    wait_for("the daemon", || {
        let connection = domstat_consumer::handover::Connection::connect(socket).ok()?;
        connection.attach(name).ok().map(drop)
    });
    daemon
}

fn sleeper() -> Background {
    Background::start(Command::new("sleep").arg("600"))
}

/// A domain's state as batch mode and `ls` say it.
fn states(dir: &Path, more: &[&str], name: &str) -> [String; 2] {
    let of = |args: &[&str], key: &str| {
        let output = output(dir, &[args, more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["entry"] == name);
        let Some(row) = row else { return "none".to_owned() };
        row[key].as_str().unwrap_or("error").to_owned()
    };
    let top = of(&["top", "-b", "-n", "1", "-d", "0.2", "--json"], "liveness");
    [top, of(&["ls", "--json"], "liveness")]
}

/// Whether the exporter shows the domain as up; nothing if it does not show it.
fn up(export: &Export, name: &str) -> Option<bool> {
    let text = export.scrape();
    let series = format!("domstat_up{{domain=\"{name}\"");
    let line = text.lines().find(|line| line.starts_with(&series))?;
    let is_up = line.ends_with(" 1");
    // What is not up has no numbers.
    let numbers = format!("domstat_domain_vcpus{{domain=\"{name}\"");
    assert_eq!(text.contains(&numbers), is_up, "{text}");
    Some(is_up)
}

fn is_live(states: &[String; 2]) -> bool {
    states == &["live", "live"]
}

#[test]
fn a_domain_at_a_socket_in_the_directory_is_seen_by_all_until_its_daemon_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let _other = MadeUp::start(dir.path(), "web1", "web1");
    let export = Export::start(dir.path(), &[]);
    let child = sleeper();
    let socket = dir.path().join("4242.sock");
    let mut daemon = serve(dir.path(), child.0.id(), "p1", &socket);

    assert_eq!(states(dir.path(), &[], "p1"), ["live", "live"]);
    assert_eq!(up(&export, "p1"), Some(true));
    let listed = stdout(&output(dir.path(), &["ls"]));
    assert!(listed.contains("p1") && listed.contains("web1"), "{listed}");
    let shown = output(dir.path(), &["show", "p1", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["domid"], &shown["liveness"]), (&child.0.id().into(), &"live".into()));
    let checked = output(dir.path(), &["check", "p1", "--watch", "0.2"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    let watching = ["show", "p1", "--watch", "--reattach", "--interval", "0.05", "--json"];
    let samples = dir.path().join("samples");
    let file = std::fs::File::create(&samples).unwrap();
    let mut watcher =
        Background::start(domstat(dir.path()).args(watching).stdout(file).stderr(Stdio::piped()));
    wait_for("a sample", || (std::fs::metadata(&samples).unwrap().len() > 0).then_some(()));

    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    assert!(socket.exists());
    assert_eq!(states(dir.path(), &[], "web1"), ["live", "live"]);
    // Nobody who comes now knows which domain it was.
    assert_eq!(states(dir.path(), &[], "p1"), ["none", "none"]);
    assert_eq!(states(dir.path(), &[], "4242"), ["dead", "dead"]);
    assert_eq!(up(&export, "p1"), Some(false));
    assert_eq!(up(&export, "web1"), Some(true));
    let text = export.scrape();
    let failures = |line: &&str| line.starts_with("domstat_read_failures_total{domain=\"p1\"");
    assert!(text.lines().filter(failures).any(|line| line.contains("reason=\"dead\"")), "{text}");
    for (name, why) in [("p1", "is the domain published"), ("4242", "no daemon listens")] {
        let missing = output(dir.path(), &["show", name]);
        assert_eq!(missing.status.code(), Some(3));
        assert!(stderr(&missing).contains(why), "{}", stderr(&missing));
    }

    let mut daemon = serve(dir.path(), child.0.id(), "p1", &socket);
    assert_eq!(states(dir.path(), &[], "p1"), ["live", "live"]);
    wait_for("the exporter", || (up(&export, "p1") == Some(true)).then_some(()));
    // It is looked for once a second.
    let length = std::fs::metadata(&samples).unwrap().len();
    wait_for("more samples", || {
        (std::fs::metadata(&samples).unwrap().len() > length).then_some(())
    });
    assert!(daemon.interrupt().success());
    assert_eq!(states(dir.path(), &[], "p1"), ["none", "none"]);
    assert_eq!(up(&export, "p1"), None);
    assert!(watcher.interrupt().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut watcher.0.stderr.take().unwrap(), &mut said).unwrap();
    assert!(said.contains("published again"), "{said}");
}

#[test]
fn who_asks_to_waits_for_the_next_one_when_a_domain_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let child = sleeper();
    let socket = dir.path().join("a.sock");
    let mut first = serve(dir.path(), child.0.id(), "p1", &socket);
    let args = ["show", "p1", "--watch", "--reattach", "--interval", "0.05", "--json"];
    let mut watcher = Background::start(
        domstat(dir.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()),
    );
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(watcher.0.stdout.take().unwrap()));
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let before = next()["incarnation"].clone();
    assert!(first.interrupt().success());
    let _second = serve(dir.path(), child.0.id(), "p1", &socket);
    while next()["incarnation"] == before {}
    assert!(watcher.interrupt().success());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut watcher.0.stderr.take().unwrap(), &mut said).unwrap();
    assert!(said.contains("has ended: waiting") && said.contains("published again"), "{said}");
}

#[test]
fn a_dead_entry_hides_no_domain_that_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let child = sleeper();
    let _daemon = serve(dir.path(), child.0.id(), "p1", &dir.path().join("a.sock"));
    let export = Export::start(dir.path(), &[]);
    assert_eq!(up(&export, "p1"), Some(true));
    let entry = dir.path().join("p1.domstat");
    std::os::unix::fs::symlink("/proc/4194300/fd/6", &entry).unwrap();

    assert_eq!(states(dir.path(), &[], "p1"), ["live", "live"]);
    assert_eq!(up(&export, "p1"), Some(true));
    let shown = output(dir.path(), &["show", "p1", "--json"]);
    let value: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(value["domid"], child.0.id(), "{}", stderr(&shown));
    let checked = output(dir.path(), &["check", "p1"]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));

    // It is removed all the same.
    let pruned = output(dir.path(), &["ls", "--prune"]);
    assert!(stdout(&pruned).contains("removed"), "{}", stdout(&pruned));
    assert!(entry.symlink_metadata().is_err());
    assert_eq!(states(dir.path(), &[], "p1"), ["live", "live"]);
}

#[test]
fn a_daemon_that_is_stopped_holds_up_no_other_domain() {
    let dir = tempfile::tempdir().unwrap();
    let _other = MadeUp::start(dir.path(), "web1", "web1");
    let child = sleeper();
    let daemon = serve(dir.path(), child.0.id(), "p1", &dir.path().join("a.sock"));
    let export = Export::start(dir.path(), &[]);
    assert_eq!(up(&export, "p1"), Some(true));
    let pid = Pid::from_child(&daemon.0);
    kill_process(pid, Signal::STOP).unwrap();

    // Who is connected reads on, and is not even held up once.
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(up(&export, "web1"), Some(true));
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // Who comes now learns nothing of it, and all of the others.
    let start = Instant::now();
    assert!(is_live(&states(dir.path(), &[], "web1")));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(states(dir.path(), &[], "a"), ["timed_out", "timed_out"]);
    let late = Export::start(dir.path(), &[]);
    assert_eq!((up(&late, "web1"), up(&late, "a")), (Some(true), Some(false)));

    kill_process(pid, Signal::CONT).unwrap();
    wait_for("the daemon", || (up(&late, "p1") == Some(true)).then_some(()));
    assert_eq!((up(&late, "a"), up(&export, "p1")), (None, Some(true)));
    assert!(is_live(&states(dir.path(), &[], "p1")));
}

#[test]
fn with_a_socket_named_that_daemon_is_all_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let _other = MadeUp::start(dir.path(), "web1", "web1");
    let child = sleeper();
    let path = dir.path().join("elsewhere");
    let socket = path.to_str().unwrap();
    let none = output(dir.path(), &["top", "-b", "-n", "1", "--socket", socket]);
    assert_eq!(none.status.code(), Some(3));
    assert!(stderr(&none).contains("no daemon listens"), "{}", stderr(&none));
    let mut daemon = serve(dir.path(), child.0.id(), "p1", &path);
    let more = ["--socket", socket];
    assert!(is_live(&states(dir.path(), &more, "p1")));
    assert_eq!(states(dir.path(), &more, "web1"), ["none", "none"]);
    assert_eq!(states(dir.path(), &[], "p1"), ["none", "none"], "not in the directory by its name");
    let export = Export::start(dir.path(), &more);
    assert_eq!((up(&export, "p1"), up(&export, "web1")), (Some(true), None));
    let mut command = domstat(dir.path());
    command.env("DOMSTAT_SOCKET", socket).args(["top", "-b", "-n", "1", "-d", "0.1", "--json"]);
    let rows: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["name"]), (1, &"p1".into()));
    daemon.0.kill().unwrap();
    daemon.0.wait().unwrap();
    assert_eq!(up(&export, "p1"), Some(false));
}

#[test]
fn a_socket_that_others_may_not_connect_to_is_one_error_and_a_control_socket_is_none() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "another user can be tried by root only");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // A copy that another user may run, wherever this was built.
    let program = dir.path().join("domstat");
    common::copy_program(&program);
    let child = sleeper();
    let _daemon = serve(dir.path(), child.0.id(), "p1", &dir.path().join("a.sock"));
    let control = dir.path().join("control.sock");
    let _control = std::os::unix::net::UnixListener::bind(&control).unwrap();
    std::fs::set_permissions(&control, PermissionsExt::from_mode(0o600)).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).env("DOMSTAT_DIR", dir.path()).env_remove("DOMSTAT_SOCKET");
        command.uid(65_534).gid(65_534).output().unwrap()
    };
    let listed = as_nobody(&["ls", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    assert_eq!(listed[0]["entry"], "a");
    assert!(listed[0]["error"].as_str().unwrap().contains("not permitted"), "{listed:#}");
    assert!(is_live(&states(dir.path(), &[], "p1")));
    let all = stdout(&output(dir.path(), &["ls"]));
    assert!(!all.contains("control"), "{all}");
    let shown = as_nobody(&["show", "a"]);
    assert!(stderr(&shown).contains("not permitted"), "{}", stderr(&shown));
}

#[test]
fn one_wait_is_for_all_domains_that_a_daemon_never_hands_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("elsewhere");
    let names = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
    let listener = daemon::listen(&path);
    std::thread::spawn(move || daemon::list_only(&listener, &names, None));
    let begin = Instant::now();
    let listed = output(dir.path(), &["ls", "--json", "--socket", path.to_str().unwrap()]);
    let took = begin.elapsed();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), names.len(), "{listed:#}");
    // The deadline of one alone is 5 s.
    assert!(took < Duration::from_secs(20), "{took:?}");
}
