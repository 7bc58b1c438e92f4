//! Disks of a real QEMU: filter nodes, snapshots and jobs with ids of one's own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use common::vm::{Vm, is_there};
use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};

const SIZE: u64 = 16 << 20;

/// Arguments of a disk: nodes from the protocol's upwards, of which the last is the device's.
fn disk(dir: &Path, number: usize, nodes: &[&str]) -> Vec<String> {
    let file = dir.join(format!("{number}.img"));
    std::fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    let mut args = Vec::new();
    let mut below = format!("p{number}");
    let protocol = format!("driver=file,filename={},node-name={below}", file.display());
    args.extend(["-blockdev".to_owned(), protocol]);
    for (n, node) in nodes.iter().enumerate() {
        let name = format!("n{number}-{n}");
        args.extend(["-blockdev".to_owned(), format!("{node}={below},node-name={name}")]);
        below = name;
    }
    let device = format!("virtio-blk-pci,drive={below},id=virtio-disk{number}");
    args.extend(["-device".to_owned(), device]);
    args
}

fn start(dir: &Path, name: &str, disks: &[&[&str]]) -> (Vm, Background) {
    let mut args = vec!["-object".to_owned(), "throttle-group,id=group".to_owned()];
    args.extend(disks.iter().enumerate().flat_map(|(number, nodes)| disk(dir, number, nodes)));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let vm = Vm::start(dir, name, 1, &args);
    let mut command = domstat(dir);
    command.args(["run", "qemu", "--interval", "0.1", "--qmp"]).arg(&vm.qmp);
    let daemon = Background::start(command.stderr(Stdio::null()));
    show(dir, name);
    (vm, daemon)
}

/// Arms a threshold and returns the node that it is on.
fn arm(dir: &Path, domain: &str, disk: &str) -> String {
    let armed = output(dir, &["block", "threshold", domain, disk, "50%", "--json"]);
    assert!(armed.status.success(), "{disk}: {}", stderr(&armed));
    let answer: Value = serde_json::from_str(&stdout(&armed)).unwrap();
    assert_eq!(answer["threshold_bytes"], SIZE / 2);
    answer["node"].as_str().unwrap().to_owned()
}

/// Nodes on which QEMU has a threshold.
fn armed(vm: &mut Vm) -> Vec<String> {
    let nodes = vm.ask("query-named-block-nodes", &json!({ "flat": true }));
    let is_armed = |n: &&Value| n["write_threshold"] != 0;
    let name = |n: &Value| n["node-name"].as_str().unwrap().to_owned();
    nodes.as_array().unwrap().iter().filter(is_armed).map(name).collect()
}

#[test]
fn filters_are_looked_through() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let disks: [&[&str]; 5] = [
        &["driver=raw,file"],
        &["driver=raw,file", "driver=throttle,throttle-group=group,file"],
        &[
            "driver=raw,file",
            "driver=copy-on-read,file",
            "driver=throttle,throttle-group=group,file",
        ],
        &["driver=preallocate,file", "driver=raw,file"],
        &["driver=blkdebug,image", "driver=raw,file"],
    ];
    let (mut vm, _daemon) = start(dir.path(), "filters", &disks);
    let listed = output(dir.path(), &["block", "list", "filters", "--json"]);
    let listed: Value = serde_json::from_str(&stdout(&listed)).unwrap();
    let text = listed.to_string();
    assert!(!text.contains("[1]"), "a filter is not a backing image: {text}");
    for (number, disk) in ["vda", "vdb", "vdc", "vdd", "vde"].into_iter().enumerate() {
        let node = format!("p{number}");
        assert_eq!(arm(dir.path(), "filters", disk), node, "{disk}: {:?}", disks[number]);
        assert!(armed(&mut vm).contains(&node), "{disk}");
    }
    assert_eq!(armed(&mut vm).len(), disks.len());
}

#[test]
fn a_threshold_behind_a_snapshot_is_on_the_new_image() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut vm, _daemon) = start(dir.path(), "snaps", &[&["driver=raw,file"]]);
    let mut top = "n0-0".to_owned();
    for n in 0..5 {
        let next = format!("s{n}");
        let file = dir.path().join(format!("{next}.qcow2"));
        let arguments =
            json!({ "node-name": top, "snapshot-file": file, "snapshot-node-name": next });
        vm.ask("blockdev-snapshot-sync", &arguments);
        let node = arm(dir.path(), "snaps", "vda");
        let stats = vm.ask("query-blockstats", &Value::Null);
        let is_disk = |d: &&Value| d["node-name"] == next.as_str();
        let active = stats.as_array().unwrap().iter().find(is_disk).unwrap();
        assert_eq!(active["parent"]["node-name"], node.as_str(), "snapshot {n}");
        assert_eq!(armed(&mut vm).iter().filter(|x| **x == node).count(), 1);
        top = next;
    }
}

#[test]
fn a_job_is_of_the_disk_that_it_works_on_whatever_its_id() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let disks: [&[&str]; 2] =
        [&["driver=raw,file"], &["driver=raw,file", "driver=throttle,throttle-group=group,file"]];
    let (mut vm, _daemon) = start(dir.path(), "jobs", &disks);
    vm.slow_target("slow", 1 << 20);
    for id in ["vda", "z0", "copy-vda-libvirt"] {
        let arguments = json!({ "job-id": id, "device": "n1-1", "target": "slow", "sync": "none" });
        vm.ask("blockdev-mirror", &arguments);
        wait_for("the job", || {
            let jobs = output(dir.path(), &["block", "jobs", "jobs", "--json"]);
            let text = stdout(&jobs);
            text.contains(id).then(|| assert!(text.contains("\"vdb\""), "{id}: {text}"))
        });
        let aborted = output(dir.path(), &["block", "job-abort", "jobs", "vdb"]);
        assert!(aborted.status.success(), "{id}: {}", stderr(&aborted));
        wait_for("its end", || {
            (vm.ask("query-block-jobs", &Value::Null) == json!([])).then_some(())
        });
    }
}
