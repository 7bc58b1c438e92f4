//! Running times of vCPUs, compared with the kernel's books of the threads that run them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Background, domstat, output, show, stderr, stdout};
use domstat_consumer::clock::now;
use domstat_layout::latest::{RunState, Runstate};
use domstat_layout::{Clock, Ns, Word};
use domstat_producer::{Created, RegionBuilder, RunstateTracker, ThreadTimes, VcpuWriter};
use serde_json::Value;

/// What the checker says of each rule.
fn check(dir: &Path, name: &str, pid: u32, percent: u64) -> Vec<(String, String)> {
    let (pid, percent) = (pid.to_string(), percent.to_string());
    let args =
        ["check", name, "--json", "--watch", "2", "--against", &pid, "--tolerance", &percent];
    let report = output(dir, &args);
    assert_eq!(stderr(&report), "");
    let json: Value = serde_json::from_slice(&report.stdout).unwrap();
    let text = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
    let rules = json["rules"].as_array().unwrap().iter();
    rules.map(|rule| (text(rule, "id"), text(rule, "outcome"))).collect()
}

fn failed(rules: &[(String, String)]) -> Vec<&str> {
    rules.iter().filter(|(_, outcome)| outcome == "fail").map(|(id, _)| id.as_str()).collect()
}

fn outcome<'a>(rules: &'a [(String, String)], id: &str) -> &'a str {
    &rules.iter().find(|(rule, _)| rule == id).unwrap().1
}

#[test]
fn a_busy_process_is_as_busy_as_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let busy = Background::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let pid = busy.0.id();
    let mut command = domstat(dir.path());
    command.args(["run", "process", "--pid", &pid.to_string(), "--name", "busy"]);
    let _producer = Background::start(&mut command);
    show(dir.path(), "busy");
    let rules = check(dir.path(), "busy", pid, 5);
    assert_eq!(failed(&rules), [""; 0], "{rules:?}");
    assert_eq!(outcome(&rules, "I26"), "pass", "{rules:?}");
    // The same region cannot be that of a process that sleeps.
    let idle = Background::start(Command::new("sleep").arg("60"));
    let rules = check(dir.path(), "busy", idle.0.id(), 0);
    assert_eq!(failed(&rules), ["I26"], "{rules:?}");
}

/// While `judge` runs, publishes a vCPU that claims `percent` of the time that passes as running and
/// whatever is left as blocked, from a thread that sleeps.
fn with_claims<T>(dir: &Path, percent: u64, judge: impl FnOnce() -> T) -> T {
    let clock = || now(Clock::Monotonic).unwrap();
    let builder = RegionBuilder::new("liar").vcpus(1).clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let start = clock();
    let mut write = |at: Ns| {
        let passed = at.since(start);
        let running = passed * percent / 100;
        vcpus[0].write(
            &Runstate {
                state: RunState::Running.into(),
                state_entry_ns: start.0.into(),
                running_ns: Word::new(running),
                runnable_ns: Word::new(0),
                blocked_ns: Word::new(passed.saturating_sub(running)),
                offline_ns: Word::new(0),
            },
            at,
        );
    };
    write(clock());
    let region = unpublished.publish().unwrap();
    let _announcement = region.announce(dir, "liar").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                write(clock());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let judged = judge();
        stop.store(true, Ordering::Relaxed);
        judged
    })
}

#[test]
fn a_vcpu_that_claims_more_than_its_thread_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let ours = std::process::id();
    let of = |percent| with_claims(dir.path(), percent, || check(dir.path(), "liar", ours, 5));
    // More than there is: the sum is wrong already.
    assert_eq!(failed(&of(200)), ["I20", "I26"]);
    // A sum without a fault, which only the books contradict.
    assert_eq!(failed(&of(100)), ["I26"]);
    assert_eq!(failed(&of(0)), [""; 0]);
}

/// While `judge` runs, a thread stands for a vCPU: it halts nearly all the time, inside of what stands for
/// `KVM_RUN`. Its runstate is what `write` makes of the thread's times.
fn with_a_vcpu<T>(
    dir: &Path,
    mut write: impl FnMut(&mut VcpuWriter, &mut ThreadTimes) + Send,
    judge: impl FnOnce() -> T,
) -> T {
    let builder = RegionBuilder::new("vmm").vcpus(1).clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let stop = AtomicBool::new(false);
    let (open, opened) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            open.send(ThreadTimes::of_current_thread(Clock::Monotonic).unwrap()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut times = opened.recv().unwrap();
        write(&mut vcpus[0], &mut times);
        let region = unpublished.publish().unwrap();
        let _announcement = region.announce(dir, "vmm").unwrap();
        let stop = &stop;
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                write(&mut vcpus[0], &mut times);
            }
        });
        let judged = judge();
        stop.store(true, Ordering::Relaxed);
        judged
    })
}

#[test]
fn a_tracker_around_kvm_run_is_found_where_halts_stay_inside() {
    let dir = tempfile::tempdir().unwrap();
    let ours = std::process::id();
    let judge = || check(dir.path(), "vmm", ours, 5);
    let clock = || now(Clock::Monotonic).unwrap();
    // A vCPU that halts does not leave KVM_RUN: nothing ever enters another state.
    let mut tracker = RunstateTracker::new(RunState::Running, clock());
    let inside = |vcpu: &mut VcpuWriter, _: &mut ThreadTimes| {
        let at = clock();
        vcpu.write(tracker.enter(RunState::Running, at), at);
    };
    let rules = with_a_vcpu(dir.path(), inside, judge);
    assert_eq!(failed(&rules), ["I26"], "{rules:?}");
    // The kernel's books of the same thread.
    let books = |vcpu: &mut VcpuWriter, times: &mut ThreadTimes| {
        // In the end, the thread may have exited.
        let Ok(sample) = times.sample() else { return };
        vcpu.write(&sample.runstate, sample.now);
        vcpu.write(&sample.sched, sample.now);
    };
    let rules = with_a_vcpu(dir.path(), books, judge);
    assert_eq!(failed(&rules), [""; 0], "{rules:?}");
    assert_eq!(outcome(&rules, "I26"), "pass", "{rules:?}");
}

#[test]
fn a_process_that_cannot_be_looked_at_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let region = domstat_producer::RegionBuilder::new("r").vcpus(1).clock(Clock::Monotonic);
    let region = region.create_memfd().unwrap().unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "r").unwrap();
    let args = ["check", "r", "--watch", "0.1", "--against", "4294967295"];
    let report = output(dir.path(), &args);
    assert_eq!(report.status.code(), Some(4), "{}", stdout(&report));
    assert!(stderr(&report).contains("the books of process 4294967295"), "{}", stderr(&report));
    // Without looks there is nothing to compare.
    let report = output(dir.path(), &["check", "r", "--against", "1"]);
    assert_eq!(report.status.code(), Some(2), "{}", stderr(&report));
}
