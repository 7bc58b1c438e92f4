//! Distributions, shares, labels and causes as `domstat run` publishes them, read from regions: of the
//! micro-VM, and of a real QEMU with a throttled disk, held against QEMU's own replies.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::{
    BlkIo, BlkLimits, BlkQueue, BlkQueueIo, BlkQueueIoTimes, BlkQueueOf, BlkQueueQueue, Lineage,
    RdLatency, Status, Threads, Wait, WrLatency,
};
use domstat_layout::{Group, HistogramGroup, Share, Word};
use serde_json::{Value, json};

use common::vm::{Vm, is_there};
use common::{Background, domstat, output, skip, stderr, stdout, wait_for};

fn open(dir: &Path, name: &str) -> Region {
    let entry = dir.join(format!("{name}.domstat"));
    wait_for("the region", || Region::open(&entry).ok())
}

fn active<G: Group, E: std::fmt::Debug>(
    reading: Result<Reading<domstat_consumer::Sample<G>>, E>,
) -> Option<G> {
    match reading.unwrap() {
        Reading::Active(sample) => Some(sample.group),
        _ => None,
    }
}

#[test]
fn the_micro_vm_shows_a_disk_its_shares_and_waits() {
    if let Err(error) = domstat_sources::kvm::KvmSource::available() {
        return skip("kvm", &error.to_string());
    }
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", "kvm", "--name", "vm1", "--label", "tenant=acme", "--label", "a.b=c d"];
    let mut producer = Background::start(domstat(dir.path()).args(args).stderr(Stdio::null()));
    let region = open(dir.path(), "vm1");
    let labels = active(region.labels()).unwrap();
    assert_eq!(labels.text.as_str(), Some("tenant=acme\na.b=c d\n"));
    let (blk, hist) = (region.blk(0).unwrap(), region.blk_hist(0).unwrap());
    wait_for("some reads", || {
        let rd: RdLatency = active(hist.read()).unwrap();
        (rd.count().value() > Some(20)).then_some(())
    });
    let of = |index: u32| {
        let share = region.blk_queue(index).unwrap();
        let of: BlkQueueOf = active(share.read()).unwrap();
        assert_eq!((of.device.value(), of.queue.value()), (Some(0), Some(u64::from(index))));
        let (io, queue): (BlkQueueIo, BlkQueueQueue) =
            (active(share.read()).unwrap(), active(share.read()).unwrap());
        (io, queue)
    };
    // The device's own numbers first: its shares are as new at least.
    let (io, queue): (BlkIo, BlkQueue) = (active(blk.read()).unwrap(), active(blk.read()).unwrap());
    let mut sums = (BlkIo::NOT_PRODUCED, Word::new(0));
    for index in 0..2 {
        let (share, queue) = of(index);
        if index == 0 {
            sums.0 = share.whole();
        } else {
            share.add_to(&mut sums.0);
        }
        assert!(queue.0.submitted.value() >= queue.0.completed.value(), "{queue:?}");
        sums.1 = sums.1.plus(queue.0.completed);
    }
    assert!(region.blk_queue(2).is_none());
    assert!(sums.0.rd_req.value() >= io.rd_req.value() && io.rd_req.value() > Some(0));
    assert!(sums.1.value() >= queue.completed.value(), "{queue:?}");
    let waits: Wait = active(region.vcpu_hist(1).unwrap().read()).unwrap();
    assert!(waits.count().value() > Some(0) && waits.max_ns.value() <= waits.sum_ns.value());
    let threads: Threads = active(region.dom().read()).unwrap();
    assert_eq!(
        (threads.vcpu_threads.value(), threads.iothread_threads.value()),
        (Some(2), Some(2))
    );
    assert!(threads.vcpu_ns.value() > Some(0));
    let status: Status = active(region.dom().read()).unwrap();
    assert_eq!((status.state.value(), status.reason.value()), (Some(0), Some(1)));
    let lineage: Lineage = active(region.dom().read()).unwrap();
    assert_eq!(lineage.session.value(), Some(region.header().incarnation));
    let check = output(dir.path(), &["check", "vm1", "--watch", "1"]);
    assert!(check.status.success(), "{}{}", stdout(&check), stderr(&check));
    assert!(producer.interrupt().success());
}

/// Requests that have ended, their times in sum, and the integral of the queue of a share, of a moment
/// when nothing is in flight.
fn quiet(region: &Region, share: u32) -> (u64, u64, u64) {
    let share = region.blk_queue(share).unwrap();
    wait_for("a moment without requests", || {
        let queue = || active::<BlkQueueQueue, _>(share.read()).unwrap().0;
        let before = queue();
        let times = active::<BlkQueueIoTimes, _>(share.read()).unwrap().0;
        let is_quiet = before == queue() && before.submitted == before.completed;
        let total = times.rd_total_ns.plus(times.wr_total_ns).plus(times.flush_total_ns);
        let numbers = (
            before.completed.value()?,
            total.value()?,
            before.queued_ns.value().filter(|_| is_quiet)?,
        );
        Some(numbers)
    })
}

#[test]
fn queued_time_is_the_time_of_the_requests_one_by_one() {
    if let Err(error) = domstat_sources::kvm::KvmSource::available() {
        return skip("kvm", &error.to_string());
    }
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", "kvm", "--name", "vm1"];
    let mut producer = Background::start(domstat(dir.path()).args(args).stderr(Stdio::null()));
    let region = open(dir.path(), "vm1");
    for share in 0..2 {
        let (began, began_total, began_queued) = quiet(&region, share);
        let (requests, total, queued) = wait_for("more requests", || {
            Some(quiet(&region, share)).filter(|(requests, ..)| *requests >= began + 100)
        });
        // Each request carries the time of its acceptance; the integral knows only how many there are.
        assert_eq!(queued - began_queued, total - began_total, "of {} requests", requests - began);
    }
    assert!(producer.interrupt().success());
}

#[test]
fn a_process_that_is_stopped_is_paused() {
    let dir = tempfile::tempdir().unwrap();
    let child = Background::start(Command::new("sleep").arg("600"));
    let pid = child.0.id().to_string();
    let args = ["run", "process", "--pid", &pid, "--name", "p", "--interval", "20"];
    let mut producer = Background::start(domstat(dir.path()).args(args).stderr(Stdio::null()));
    let region = open(dir.path(), "p");
    let state = || active::<Status, _>(region.dom().read()).unwrap();
    assert_eq!((state().state.value(), state().since_ns.value()), (Some(0), None));
    let id = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
    let paused = wait_for("the pause", || Some(state()).filter(|s| s.state.value() == Some(1)));
    assert!(paused.since_ns.value() > Some(0));
    rustix::process::kill_process(id, rustix::process::Signal::CONT).unwrap();
    wait_for("the end of it", || (state().state.value() == Some(0)).then_some(()));
    assert!(producer.interrupt().success());
    // A plain file that a producer leaves behind is followed by another one of the same process.
    let file = dir.path().join("plain");
    let args = ["run", "process", "--pid", &pid, "--file"];
    let lineage = |before: Option<u64>| {
        let mut producer =
            Background::start(domstat(dir.path()).args(args).arg(&file).stderr(Stdio::null()));
        let region = wait_for("a new region", || {
            let region = Region::open(&file).ok()?;
            (Some(region.header().incarnation) != before).then_some(region)
        });
        let lineage: Lineage = active(region.dom().read()).unwrap();
        producer.0.kill().unwrap();
        producer.0.wait().unwrap();
        (lineage, region.header().incarnation)
    };
    let (first, incarnation) = lineage(None);
    let known = (first.session.value(), first.previous_incarnation.value());
    assert_eq!(known, (Some(incarnation), None));
    let (second, _) = lineage(Some(incarnation));
    assert_eq!(second.session, first.session, "its counters go on");
    assert_eq!(second.previous_incarnation.value(), Some(incarnation));
}

#[test]
fn illegal_labels_are_refused_before_anything_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let own = std::process::id().to_string();
    let run = |more: &[&str]| {
        let args = [&["run", "process", "--pid", &own, "--for", "1"], more].concat();
        let output = output(dir.path(), &args);
        (output.status.code(), stderr(&output))
    };
    let (code, said) = run(&["--label", "Tenant=acme"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("a key has a-z, 0-9, _ and . only, and this one is Tenant"), "{said}");
    let (code, said) = run(&["--label", "a=1", "--label", "a=2"]);
    assert_eq!((code, said.trim()), (Some(2), "domstat: labels: the key a is given twice"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

const SECTORS: u32 = 150;

#[test]
fn latencies_of_a_throttled_disk_are_the_bins_of_qemu() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "slow", SECTORS, &["-S"]);
    let stats = |vm: &mut Vm| vm.ask("query-blockstats", &Value::Null)[0].clone();
    let qdev = stats(&mut vm)["qdev"].clone();
    let limit = json!({ "id": qdev, "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0,
                        "iops_wr": 100 });
    vm.ask("block_set_io_throttle", &limit);
    let mut daemon = Background::start(
        domstat(dir.path())
            .args(["run", "qemu", "--interval", "0.1", "--latency-histograms", "--qmp"])
            .arg(&vm.qmp)
            .stderr(Stdio::null()),
    );
    let region = open(dir.path(), "slow");
    let (blk, hist) = (region.blk(0).unwrap(), region.blk_hist(0).unwrap());
    let limits: BlkLimits = active(blk.read()).unwrap();
    assert_eq!((limits.wr_limit_req.value(), limits.limit_req.value()), (Some(100), Some(0)));
    let status: Status = active(region.dom().read()).unwrap();
    assert_eq!((status.state.value(), status.since_ns.value()), (Some(1), None), "prelaunch");
    let nothing: WrLatency = active(hist.read()).unwrap();
    assert_eq!((nothing.count().value(), nothing.sum_ns.value()), (Some(0), Some(0)));
    vm.ask("cont", &Value::Null);
    let status = wait_for("it to run", || {
        active::<Status, _>(region.dom().read()).filter(|status| status.state.value() == Some(0))
    });
    assert!(status.since_ns.value().is_some());
    wait_for("the guest", || (vm.counted() == u64::from(SECTORS)).then_some(()));
    // It halts, so nothing moves any more.
    let stats_now = stats(&mut vm)["stats"].clone();
    let bins = stats_now["wr_latency_histogram"]["bins"].as_array().unwrap().clone();
    let wr = wait_for("the last write", || {
        active::<WrLatency, _>(hist.read()).filter(|w| w.count().value() == Some(SECTORS.into()))
    });
    let found: Vec<Value> = wr.ns.0.iter().map(|word| json!(word.value())).collect();
    assert_eq!(found, bins);
    assert_eq!(json!(wr.sum_ns.value()), stats_now["wr_total_time_ns"]);
    assert_eq!(wr.max_ns.value(), None, "QEMU does not know it");
    // 100 requests a second: most took some milliseconds, and none an hour.
    println!("bins {found:?}, sum {:?}", wr.sum_ns.value());
    assert!(daemon.interrupt().success());
    assert_eq!(stats(&mut vm)["stats"]["wr_latency_histogram"], Value::Null, "taken back");
}
