//! A real QEMU: its vCPU threads are what libvirt's vcpu.time and vcpu.delay come from.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use domstat_sources::process::runstate_estimator::RUN_AHEAD_NS;

use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};

/// The threads of a process whose names start with `prefix`, in order of their ids, with the
/// time each has run so far in nanoseconds.
fn threads(pid: u32, prefix: &str) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap_or_default().starts_with(prefix) {
            let tid = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
            found.push((tid, run_ns(&task)));
        }
    }
    found.sort_unstable();
    found
}

fn run_ns(task: &Path) -> u64 {
    let schedstat = fs::read_to_string(task.join("schedstat")).unwrap();
    schedstat.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn vcpu_threads_of_qemu() {
    let qemu = "qemu-system-x86_64";
    if Command::new(qemu).arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    // A boot ROM whose first instruction jumps to itself: vCPU 0 spins, vCPU 1 is never started.
    let mut rom = vec![0xf4; 64 << 10];
    rom[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]);
    let rom_path = dir.path().join("spin.rom");
    fs::write(&rom_path, rom).unwrap();
    let vm = Background::start(
        Command::new(qemu)
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "16"])
            .args(["-name", "spin,debug-threads=on", "-nodefaults", "-display", "none", "-bios"])
            .arg(&rom_path)
            .stdin(Stdio::null()),
    );
    let pid = vm.0.id();
    wait_for("QEMU's vCPU threads", || (threads(pid, "CPU ").len() == 2).then_some(()));

    let before = threads(pid, "CPU ");
    let args =
        ["run", "process", "--pid", &pid.to_string(), "--thread-name", "CPU ", "--name", "q"];
    let mut producer = Background::start(domstat(dir.path()).args(args).args(["--interval", "20"]));
    let ran = |index: usize| {
        let sample = show(dir.path(), "q");
        let runstate = &sample["vcpus"][index]["groups"]["runstate"];
        assert_eq!(runstate["status"], "active", "{sample:#}");
        runstate["fields"]["running_ns"].as_u64().unwrap()
    };
    let spinning = wait_for("the spinning vCPU", || {
        let ran = ran(0);
        (ran > before[0].1 + 300_000_000).then_some(ran)
    });
    // What was published lies between what the kernel's counters said before and say now, which lag
    // behind a running thread by up to a tick.
    let after = threads(pid, "CPU ");
    assert!(spinning <= after[0].1 + RUN_AHEAD_NS, "{spinning} {after:?}");
    let resting = ran(1);
    assert!(before[1].1 <= resting && resting <= threads(pid, "CPU ")[1].1 + RUN_AHEAD_NS);
    let shown = show(dir.path(), "q");
    assert_eq!(
        shown["vcpus"][2]["groups"]["runstate"]["status"], "inactive",
        "other threads are left out"
    );

    let checked = output(dir.path(), &["check", "q", "--watch", "1"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));
    drop(vm);
    assert!(producer.0.wait().unwrap().success(), "the end of QEMU is the end of the domain");
}
