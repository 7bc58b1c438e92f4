//! `domstat run qemu` with a hostile QEMU next to a harmless one: the harmless one keeps its usual
//! age, the daemon's memory stays within its cap, and the daemon ends when it is asked to.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;
#[path = "../../sources/tests/hostile/mod.rs"]
mod hostile;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Background, domstat, output, show, stderr, wait_for};
use hostile::Hostility;

/// How long each hostile peer is observed.
const WATCH: Duration = Duration::from_secs(3);
/// The interval is 0.1 s; a hang is what fails.
const USUAL_AGE: Duration = Duration::from_secs(5);
/// What one hostile QEMU may add, parsed and unparsed, with the program itself, in KiB.
const MEMORY: u64 = 256 << 10;
/// More than the end takes.
const END: Duration = Duration::from_secs(5);

/// Age of the newest I/O counters, from two clocks that are the same one.
fn age(dir: &Path) -> Duration {
    let sample = show(dir, "harmless");
    let age = sample["blks"][0]["groups"]["io"]["age_ns"].as_u64();
    Duration::from_nanos(age.unwrap_or_else(|| panic!("an age in {sample:#}")))
}

/// The most memory that a process had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn trial(name: &str, hostility: Hostility) {
    let dir = tempfile::tempdir().unwrap();
    let sockets = dir.path().join("qmp");
    std::fs::create_dir(&sockets).unwrap();
    hostile::start(&sockets.join("harmless.qmp"), "harmless", Hostility::Harmless);
    // It claims the other one's name.
    hostile::start(&sockets.join("hostile.qmp"), "harmless", hostility);
    let log = dir.path().join("log");
    let mut daemon = Background::start(
        domstat(dir.path())
            .args(["run", "qemu", "--interval", "0.1", "--qmp-dir"])
            .arg(&sockets)
            .stderr(File::create(&log).unwrap()),
    );
    show(dir.path(), "harmless");
    let until = Instant::now() + WATCH;
    let mut oldest = Duration::ZERO;
    while Instant::now() < until {
        oldest = oldest.max(age(dir.path()));
        let list = output(dir.path(), &["block", "list", "harmless"]);
        assert!(list.status.success(), "{name}: {}", stderr(&list));
        std::thread::sleep(Duration::from_millis(50));
    }
    let peak = peak(daemon.0.id());
    let began = Instant::now();
    assert!(daemon.interrupt().success(), "{name}");
    let end = began.elapsed();
    let log = std::fs::read_to_string(log).unwrap();
    println!("{name}: oldest {oldest:?}, memory {} MiB, end after {end:?}", peak >> 10);
    assert!(oldest < USUAL_AGE, "{name}: {oldest:?}");
    assert!(peak < MEMORY, "{name}: {peak} KiB");
    assert!(end < END, "{name}: {end:?}");
    assert!(!log.contains("did not end"), "{name}: {log}");
}

#[test]
fn each_hostile_peer_harms_itself_alone() {
    for (name, hostility) in Hostility::NAMES {
        trial(name, hostility);
    }
}

#[test]
fn a_domain_is_named_after_its_socket_unless_names_are_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("mine.qmp");
    hostile::start(&socket, "another", Hostility::Harmless);
    for (more, name) in [(&[][..], "mine"), (&["--trust-names"][..], "another")] {
        let mut command = domstat(dir.path());
        command.args(["run", "qemu", "--qmp"]).arg(&socket).args(more);
        let mut daemon = Background::start(command.stderr(std::process::Stdio::null()));
        wait_for(name, || output(dir.path(), &["show", name]).status.success().then_some(()));
        assert!(daemon.interrupt().success());
    }
}

#[test]
fn a_name_that_is_taken_is_noted_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let sockets = ["one.qmp", "two.qmp"].map(|name| dir.path().join(name));
    let mut command = domstat(dir.path());
    command.args(["run", "qemu", "--trust-names", "--interval", "0.1"]);
    for socket in &sockets {
        hostile::start(socket, "same", Hostility::Harmless);
        command.arg("--qmp").arg(socket);
    }
    let mut daemon = Background::start(command.stderr(File::create(&log).unwrap()));
    let note = wait_for("the note", || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().find(|line| line.contains("cannot publish")).map(str::to_owned)
    });
    let cause = note.split_once("cannot publish").unwrap().1;
    assert!(cause.contains("published already"), "{note}");
    assert!(daemon.interrupt().success());
}
