//! `domstat run libvirt` with a real libvirtd and QEMU under TCG, held against `virsh domstats`, across
//! restarts of libvirtd and of the daemon, and with a VM that does not answer.
//!
//! `ci/libvirt.sh` runs it: it gives libvirtd directories of its own, so that no VM of the host is
//! touched, and says so by `DOMSTAT_LIBVIRT=private`.

#![cfg(feature = "libvirt")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;
#[path = "common/libvirt.rs"]
mod libvirt;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use common::{output, show, stderr, stdout, wait_for};
use libvirt::{Daemon, Guest, Libvirtd, SIZE, arm, is_private, keys, virsh_ok};

/// One test, because libvirtd and its directories are one.
#[test]
fn libvirts_domains_are_published_whatever_restarts() {
    if !is_private() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut libvirtd = Libvirtd::start(dir.path());
    let mut one = libvirtd.create("one");
    let two = libvirtd.create("two");
    let daemon = Daemon::start(dir.path(), &[]);
    numbers_are_those_of_virsh(dir.path(), &one);
    a_threshold_fires_once(dir.path(), &daemon, &mut one);
    a_snapshot_moves_the_disk_to_another_image(dir.path(), &daemon, &mut one);
    a_firing_without_libvirtd_is_reconciled(dir.path(), &daemon, &mut libvirtd, &mut one);
    jobs_end_once(dir.path(), &daemon);
    let daemon = a_firing_without_the_daemon_is_reconciled(dir.path(), daemon, &mut one);
    a_vm_that_is_stopped_costs_only_itself(dir.path(), daemon, &one, &two);
    read_only_changes_nothing(dir.path());
    domains_come_and_go(dir.path(), &libvirtd);
}

fn numbers_are_those_of_virsh(dir: &Path, vm: &Guest) {
    let sample = show(dir, &vm.name);
    assert_eq!(sample["labels"]["nova.project"], "acme", "{sample:#}");
    let of_virsh = keys(&virsh_ok(&["domstats", "--backing", &vm.name]));
    let shown = output(dir, &["show", &vm.name, "--format", "domstats", "--backing"]);
    let own = keys(&stdout(&shown));
    for key in ["state.state", "vcpu.maximum", "block.count", "block.0.name", "block.2.name"] {
        assert_eq!(own.get(key), of_virsh.get(key), "{key}");
    }
    for key in of_virsh.keys().filter(|key| key.starts_with("block.0.") && !key.ends_with("path")) {
        if key != "block.0.backingIndex" {
            assert_eq!(own.get(key), of_virsh.get(key), "{key}");
        }
    }
    assert_eq!(sample["vcpus"].as_array().unwrap().len(), 2);
    let times = &sample["vcpus"][0]["groups"]["runstate"]["fields"];
    assert!(times["blocked_ns"].as_u64().unwrap() > 0, "of its thread in /proc: {times}");
    let checked = output(dir, &["check", &vm.name, "--watch", "1"]);
    assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
}

fn a_threshold_fires_once(dir: &Path, daemon: &Daemon, vm: &mut Guest) {
    arm(dir, "one", "vda", "8M");
    let of_virsh = keys(&virsh_ok(&["domstats", "--block", "one"]));
    assert_eq!(of_virsh["block.0.threshold"], "8388608");
    vm.write(0, 8 << 20);
    let fired = &daemon.exactly(1, "one", "write_threshold")[0];
    assert_eq!((&fired["disk"], &fired["threshold_bytes"]), (&json!("vda"), &json!(8 << 20)));
    assert_eq!((&fired["excess_bytes"], &fired["reconciled"]), (&json!(65536), &json!(false)));
    // The same again.
    arm(dir, "one", "vda", "8M");
    vm.write(0, 8 << 20);
    daemon.exactly(2, "one", "write_threshold");
    let refused = output(dir, &["block", "threshold", "one", "nodisk", "8M"]);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("there are: vda, vdc, hda"), "{}", stderr(&refused));
}

fn a_snapshot_moves_the_disk_to_another_image(dir: &Path, daemon: &Daemon, vm: &mut Guest) {
    arm(dir, "one", "vda", "60M");
    virsh_ok(&[
        "snapshot-create-as",
        "one",
        "s1",
        "--disk-only",
        "--no-metadata",
        "--diskspec",
        "vda,snapshot=external",
        "--diskspec",
        "vdc,snapshot=no",
    ]);
    // At once, on the image that the disk writes to now.
    arm(dir, "one", "vda", "4M");
    vm.write(0, 32 << 20);
    vm.write(0, 40 << 20);
    for offset in 0..64 {
        vm.write(0, (16 << 20) + offset * 65536);
    }
    let fired = daemon.exactly(3, "one", "write_threshold");
    assert_eq!(fired[2]["threshold_bytes"], 4 << 20);
    let list = stdout(&output(dir, &["block", "list", "one", "--json"]));
    let list: Value = serde_json::from_str(&list).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    let of_virsh = keys(&virsh_ok(&["domstats", "--block", "--backing", "one"]));
    let backing = format!("vda[{}]", of_virsh["block.1.backingIndex"]);
    assert_eq!(names, ["vda", &backing, "vdc", "hda"], "as libvirt numbers them");
    assert_eq!(list[1]["threshold_bytes"], 60 << 20, "that of the image before is armed still");
}

fn a_firing_without_libvirtd_is_reconciled(
    dir: &Path,
    daemon: &Daemon,
    libvirtd: &mut Libvirtd,
    vm: &mut Guest,
) {
    arm(dir, "one", "vdc", "8M");
    arm(dir, "two", "vdc", "8M");
    libvirtd.stop();
    wait_for("the end of libvirtd", || {
        (!daemon.named("one", "disconnected").is_empty()).then_some(())
    });
    let refused = output(dir, &["block", "threshold", "one", "vdc", "9M"]);
    assert!(stderr(&refused).contains("not connected"), "{}", stderr(&refused));
    vm.write(2, 8 << 20);
    libvirtd.restart();
    let fired = &daemon.exactly(4, "one", "write_threshold")[3];
    assert_eq!((&fired["disk"], &fired["reconciled"]), (&json!("vdc"), &json!(true)));
    assert_eq!(fired["excess_bytes"], Value::Null);
    daemon.exactly(0, "two", "write_threshold");
    daemon.exactly(1, "one", "connected");
    assert_eq!(daemon.named("one", "gone").len(), 0);
}

fn jobs_end_once(dir: &Path, daemon: &Daemon) {
    let target = dir.join("copy.raw");
    fs::File::create(&target).unwrap().set_len(SIZE).unwrap();
    let target = target.to_str().unwrap();
    let copy = |slowly: bool| {
        let mut args = vec!["blockcopy", "two", "vda", "--dest", target, "--format", "raw"];
        args.extend(["--transient-job", "--reuse-external"]);
        args.extend(slowly.then_some(["--bandwidth", "1"]).into_iter().flatten());
        virsh_ok(&args);
    };
    let abort = |more: &[&str]| {
        let mut args = vec!["block", "job-abort", "two", "vda"];
        args.extend(more);
        output(dir, &args)
    };
    let none = abort(&[]);
    assert_eq!(none.status.code(), Some(4));
    assert!(stderr(&none).contains("there is no block job on vda"), "{}", stderr(&none));
    copy(true);
    assert!(stdout(&output(dir, &["block", "jobs", "two"])).contains("vda"));
    let ended = abort(&[]);
    assert_eq!(stdout(&ended).trim(), "job vda: canceled", "{}", stderr(&ended));
    daemon.exactly(0, "two", "job_ended");
    copy(true);
    let accepted = abort(&["--async"]);
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    let ended = &daemon.exactly(1, "two", "job_ended")[0];
    assert_eq!((&ended["disk"], &ended["outcome"]), (&json!("vda"), &json!("canceled")));
    // What another client ends is an event, too.
    copy(true);
    wait_for("the job to be listed", || {
        let job = show(dir, "two")["blks"][0]["groups"]["job"]["fields"].clone();
        (job["kind"] == "copy" && job["state"] == "running").then_some(())
    });
    virsh_ok(&["blockjob", "two", "vda", "--abort"]);
    daemon.exactly(2, "two", "job_ended");
}

fn a_firing_without_the_daemon_is_reconciled(
    dir: &Path,
    mut daemon: Daemon,
    vm: &mut Guest,
) -> Daemon {
    arm(dir, "one", "vdc", "16M");
    daemon.process.0.kill().unwrap();
    daemon.process.0.wait().unwrap();
    drop(daemon);
    vm.write(2, 16 << 20);
    let daemon = Daemon::start(dir, &[]);
    let fired = &daemon.exactly(1, "one", "write_threshold")[0];
    assert_eq!((&fired["disk"], &fired["reconciled"]), (&json!("vdc"), &json!(true)));
    assert_eq!(fired["threshold_bytes"], 16 << 20);
    daemon
}

fn a_vm_that_is_stopped_costs_only_itself(
    dir: &Path,
    mut daemon: Daemon,
    one: &Guest,
    two: &Guest,
) {
    kill_process(two.pid, Signal::STOP).unwrap();
    daemon.exactly(1, "two", "disconnected");
    let refused = output(dir, &["block", "threshold", "two", "vda", "1M"]);
    assert!(stderr(&refused).contains("does not answer now"), "{}", stderr(&refused));
    arm(dir, &one.name, "vdc", "1M");
    arm(dir, &one.name, "vdc", "0");
    let age = || show(dir, "one")["blks"][0]["groups"]["io"]["age_ns"].as_u64().unwrap();
    let ages: Vec<u64> = (0..10)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(200));
            age()
        })
        .collect();
    assert!(ages.iter().any(|age| *age < 5_000_000_000), "{ages:?}");
    // The daemon ends although a call hangs.
    let began = Instant::now();
    assert!(daemon.process.interrupt().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    kill_process(two.pid, Signal::CONT).unwrap();
}

fn read_only_changes_nothing(dir: &Path) {
    let _daemon = Daemon::start(dir, &["--read-only"]);
    show(dir, "one");
    assert!(output(dir, &["block", "list", "one"]).status.success());
    assert!(output(dir, &["block", "jobs", "one"]).status.success());
    for args in [
        ["block", "threshold", "one", "vda", "1M"].as_slice(),
        &["block", "job-abort", "one", "vda"],
    ] {
        let refused = output(dir, args);
        assert!(stderr(&refused).contains("--read-only"), "{}", stderr(&refused));
        assert_eq!(refused.status.code(), Some(4));
    }
}

fn domains_come_and_go(dir: &Path, libvirtd: &Libvirtd) {
    let daemon = Daemon::start(dir, &[]);
    show(dir, "two");
    virsh_ok(&["destroy", "two"]);
    daemon.exactly(1, "two", "gone");
    wait_for("the end of its region", || {
        (!output(dir, &["show", "two"]).status.success()).then_some(())
    });
    libvirtd.create("two");
    show(dir, "two");
    libvirtd.create("three");
    show(dir, "three");
    virsh_ok(&["suspend", "three"]);
    let state = &daemon.exactly(1, "three", "state")[0];
    assert_eq!(state["state"], "paused");
}
