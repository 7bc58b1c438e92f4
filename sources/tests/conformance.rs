//! Every source keeps the contract of `Source`, checked by the one suite there is for it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]
#![allow(clippy::panic, reason = "a test that cannot go on fails")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domstat_sources::conformance::{Report, check, check_observer};
use domstat_sources::contract::Event;
use domstat_sources::kvm::{KvmOptions, KvmSource};
use domstat_sources::process::ProcessSource;
use domstat_sources::qemu::{Options, Qemu};
use domstat_sources::xen::XenSource;

mod hostile;
mod recorded;
#[path = "../../tests/src/skip.rs"]
mod skip;

const SHORT: Duration = Duration::from_millis(20);

/// One test, because the suite wants no other thread of the process to start threads meanwhile.
#[test]
fn every_source_keeps_the_contract() {
    own_process();
    process_whose_threads_come_and_go();
    process_that_ends();
    process_that_ends_and_is_reaped();
    micro_vm();
    recorded_xen();
    xen_domain_that_ends();
    qemu_vm();
}

fn spin(length: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < length {
        std::hint::spin_loop();
    }
}

fn pid_of(child: &Child) -> i32 {
    child.id().try_into().unwrap()
}

fn own_process() {
    let stop = Arc::new(AtomicBool::new(false));
    let busy = Arc::clone(&stop);
    let sleepy = Arc::clone(&stop);
    let threads = [
        std::thread::spawn(move || {
            while !busy.load(Ordering::Relaxed) {
                spin(SHORT);
            }
        }),
        std::thread::spawn(move || {
            while !sleepy.load(Ordering::Relaxed) {
                std::thread::sleep(SHORT);
                spin(SHORT / 10);
            }
        }),
        std::thread::spawn(|| spin(Duration::from_millis(300))),
    ];
    let pid = i32::try_from(std::process::id()).unwrap();
    let make = || ProcessSource::new(pid)?.with_interval(SHORT);
    let report = check(make, Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let report: Report = report.unwrap();
    assert!(!report.ended && report.vcpus_written >= 4, "{report:?}");
    assert!(report.deactivations >= 1, "one thread ended: {report:?}");
}

fn process_whose_threads_come_and_go() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "threads_come_and_go", "--ignored"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = pid_of(&child);
    let make = || ProcessSource::new(pid)?.with_interval(SHORT)?.with_nr_vcpus(64);
    let report = check(make, Duration::from_secs(2));
    // Its standard input ends, and so does the child.
    drop(child.stdin.take());
    child.wait().unwrap();
    let report = report.unwrap();
    assert!(report.deactivations >= 1 && report.renewals >= 1, "{report:?}");
}

/// Not a test but the child of one: starts short threads until its standard input ends.
#[test]
#[ignore = "runs as the child of another test"]
fn threads_come_and_go() {
    let waiting = std::thread::spawn(|| std::io::read_to_string(std::io::stdin()).unwrap());
    let begin = Instant::now();
    while !waiting.is_finished() && begin.elapsed() < Duration::from_secs(30) {
        let short = std::thread::spawn(|| spin(2 * SHORT));
        let idle = std::thread::spawn(|| std::thread::sleep(3 * SHORT));
        short.join().unwrap();
        idle.join().unwrap();
    }
}

fn process_that_ends() {
    let mut child = Command::new("sleep").arg("0.5").spawn().unwrap();
    let pid = pid_of(&child);
    let make = || ProcessSource::new(pid)?.with_interval(SHORT);
    let report = check(make, Duration::from_secs(30));
    child.wait().unwrap();
    let report = report.unwrap();
    assert!(report.ended, "{report:?}");
    assert_eq!((report.vcpus_written, report.deactivations), (1, 2), "runstate, then memory");
}

fn process_that_ends_and_is_reaped() {
    let mut child = Command::new("sleep").arg("0.5").spawn().unwrap();
    let pid = pid_of(&child);
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    let make = || ProcessSource::new(pid)?.with_interval(SHORT);
    let report = check(make, Duration::from_secs(30));
    reaper.join().unwrap();
    assert!(report.unwrap().ended);
}

fn micro_vm() {
    if let Err(error) = KvmSource::available() {
        return skip::skip("kvm", &error.to_string());
    }
    let options = KvmOptions { nr_vcpus: 3, interval: SHORT, ..KvmOptions::default() };
    let report = check(|| KvmSource::new(&options), Duration::from_secs(2)).unwrap();
    assert_eq!(report.vcpus_written, 3, "{report:?}");
    assert_eq!((report.deactivations, report.renewals), (0, 0), "{report:?}");
    let options = KvmOptions { kernel_irqchip: true, ..options };
    let report = check(|| KvmSource::new(&options), Duration::from_secs(2)).unwrap();
    assert_eq!(report.vcpus_written, 3, "{report:?}");
}

/// A QEMU that a script plays.
fn qemu_vm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vm.qmp");
    hostile::start(&path, "vm", hostile::Hostility::Harmless);
    let options = Options { interval: SHORT, ..Options::default() };
    let report = check_observer(Qemu { path, options }, Duration::from_secs(2)).unwrap();
    let [description] = report.descriptions.as_slice() else { panic!("one region: {report:?}") };
    assert_eq!((description.source, description.name.as_str()), ("qemu", "vm"));
    assert!(report.vcpu_writes > 0 && report.device_writes > 10, "{report:?}");
    assert_eq!(report.events.first(), Some(&Event::Published));
    assert_eq!(report.events.last(), Some(&Event::Gone));
}

/// A domain of a recorded Xen host that stays.
fn recorded_xen() {
    let make = || {
        let replay = recorded::Replay::new(usize::MAX);
        let roots = replay.roots();
        XenSource::with_hypervisor(replay, &roots, 1)?.with_interval(SHORT)
    };
    let report = check(make, Duration::from_secs(1)).unwrap();
    assert_eq!((report.vcpus_written, report.ended), (3, false), "{report:?}");
    assert!(report.device_writes >= 8, "{report:?}");
}

/// One that is led through its life until it is rebooted, which is its end.
fn xen_domain_that_ends() {
    let make = || {
        let replay = recorded::Replay::new(3);
        let roots = replay.roots();
        XenSource::with_hypervisor(replay, &roots, 1)?.with_interval(SHORT)
    };
    let report = check(make, Duration::from_secs(30)).unwrap();
    assert!(report.ended && report.renewals >= 1, "{report:?}");
    assert!(report.deactivations >= 3, "{report:?}");
}
