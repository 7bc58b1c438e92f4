//! Values that `domstat run libvirt` publishes of a real libvirtd's VMs, next to what virsh prints at the
//! same moment: every key of `virsh domstats`, limits of disks, jobs, migrations, metadata.
//!
//! `ci/libvirt.sh` runs it, as it does `libvirt_vm.rs`.

#![cfg(feature = "libvirt")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;
#[path = "common/libvirt.rs"]
mod libvirt;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use common::{Background, output, show, skip, stderr, stdout, wait_for};
use libvirt::{
    Daemon, Libvirtd, OtherHost, SIZE, arm, describe, is_private, keys, virsh, virsh_ok,
};

/// One test, because libvirtd and its directories are one.
#[test]
fn values_are_those_of_virsh() {
    if !is_private() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let libvirtd = Libvirtd::start(dir);
    let create = |kind: &str, name: &str| {
        virsh_ok(&["create", describe(dir, kind, name, "").to_str().unwrap()]);
    };
    create("qemu", "tcg");
    create("qemu", "moves");
    let has_kvm = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if has_kvm {
        create("kvm", "kvm");
    } else {
        skip("kvm", "keys of KVM: no /dev/kvm that can be opened");
    }
    let mut daemon = Daemon::start(dir, &[]);
    every_key_is_that_of_virsh(dir, "tcg");
    if has_kvm {
        every_key_is_that_of_virsh(dir, "kvm");
        exits_are_those_of_kvm(dir);
    }
    limits_are_those_of_virsh(dir);
    a_job_shows_how_far_it_is(dir);
    a_migration_shows_how_far_it_is(dir, &daemon);
    metadata_are_labels(dir);
    assert!(daemon.process.interrupt().success());
    drop(daemon);
    a_read_only_socket_changes_nothing(dir, "/run/libvirt/libvirt-sock-ro");
    drop(libvirtd);
    a_modular_daemon_is_as_good(dir);
}

/// Keys of libvirt that domstat does not print, as `docs/libvirt.md` lists them.
fn is_left_out(key: &str, domain: &str) -> bool {
    let of_block = |field: &str| key.starts_with("block.") && key.ends_with(field);
    // Of a disk; an image that backs one has its number.
    of_block(".path")
        || of_block(".backingIndex")
        || (key.starts_with("vcpu.") && key.ends_with(".wait"))
        || matches!(key, "cpu.cache.monitor.count" | "balloon.last-update")
        || (domain == "tcg" && key.starts_with("cpu.haltpoll."))
}

/// By how much a number may differ of a VM that is paused.
fn tolerance(key: &str) -> u64 {
    match key {
        // Both count in ticks, and QEMU's own threads work on.
        "cpu.time" | "cpu.user" | "cpu.system" => 2_000_000_000,
        // libvirt counts in 10 ms.
        _ if key.starts_with("vcpu.") && key.ends_with(".time") => 10_000_000,
        _ if key.starts_with("vcpu.") && key.ends_with(".delay") => 1_000_000_000,
        // libvirt reads another file, which lags.
        "balloon.rss" => 4096,
        // Each look at KVM's statistics is a signal.
        _ if key.ends_with("signal_exits.sum") || key.ends_with("exits.sum") => 1000,
        _ => 0,
    }
}

/// How the two differ; nothing if they do not.
fn differences(
    domain: &str,
    theirs: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in theirs {
        let Some(own) = ours.get(key) else {
            if !is_left_out(key, domain) {
                found.push(format!("{key}={value} only in libvirt"));
            }
            continue;
        };
        let numbers = value.parse::<u64>().ok().zip(own.parse::<u64>().ok());
        let is_near = numbers.is_some_and(|(a, b)| a.abs_diff(b) <= tolerance(key));
        if !is_near && value != own {
            found.push(format!("{key}={value}, not {own}"));
        }
    }
    let more = ours.keys().filter(|key| !theirs.contains_key(*key));
    found.extend(more.map(|key| format!("{key} only in domstat")));
    found
}

/// Compares all of a VM that is paused: until then its numbers move.
fn every_key_is_that_of_virsh(dir: &Path, domain: &str) {
    show(dir, domain);
    virsh_ok(&["suspend", domain]);
    let mut last = Vec::new();
    let same = || {
        let theirs = keys(&virsh_ok(&["domstats", "--backing", domain]));
        let shown = output(dir, &["show", domain, "--format", "domstats", "--backing"]);
        let differ = differences(domain, &theirs, &keys(&stdout(&shown)));
        assert!(theirs.len() > 50, "{theirs:?}");
        let is_same = differ.is_empty();
        if differ != last {
            println!("{domain}: {} keys of libvirt, these differ: {differ:#?}", theirs.len());
            last = differ;
        }
        is_same.then_some(())
    };
    wait_for("the same numbers", same);
    virsh_ok(&["resume", domain]);
}

/// libvirt hands on what KVM counts: it is in the groups that every reader knows.
fn exits_are_those_of_kvm(dir: &Path) {
    let exits = wait_for("exits", || {
        let sample = show(dir, "kvm");
        let exits = sample["vcpus"][0]["groups"]["exits"]["fields"]["exits"].as_u64();
        exits.filter(|exits| *exits > 0)
    });
    let of_virsh = keys(&virsh_ok(&["domstats", "--vcpu", "kvm"]));
    let now: u64 = of_virsh["vcpu.0.exits.sum"].parse().unwrap();
    assert!(now >= exits, "{now} and {exits}");
}

fn limits_are_those_of_virsh(dir: &Path) {
    let limits = |disk: usize| {
        let group = show(dir, "tcg")["blks"][disk]["groups"]["limits"].clone();
        group["fields"].clone()
    };
    let none = wait_for("limits", || Some(limits(0)).filter(Value::is_object));
    assert_eq!((&none["limit_req"], &none["wr_limit_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(none["throttled_req"], Value::Null, "libvirt does not say");
    virsh_ok(&["blkdeviotune", "tcg", "vda", "--total-iops-sec", "100", "--live"]);
    virsh_ok(&["blkdeviotune", "tcg", "vda", "--write-bytes-sec", "1000000", "--live"]);
    wait_for("changed limits", || {
        let new = limits(0);
        (new["limit_req"] == 100 && new["wr_limit_bytes"] == 1_000_000).then_some(())
    });
    assert_eq!(limits(1)["limit_req"], 0);
}

/// Begins a job that takes a minute.
fn copy_slowly(dir: &Path) {
    let target = dir.join("copy.raw");
    fs::File::create(&target).unwrap().set_len(SIZE).unwrap();
    let target = target.to_str().unwrap();
    let copy = ["blockcopy", "tcg", "vdb", "--dest", target, "--format", "raw"];
    let slowly = ["--transient-job", "--reuse-external", "--bandwidth", "1"];
    virsh_ok(&[copy.as_slice(), &slowly].concat());
}

fn a_job_shows_how_far_it_is(dir: &Path) {
    copy_slowly(dir);
    let job = || {
        let list = stdout(&output(dir, &["block", "jobs", "tcg", "--json"]));
        let list: Value = serde_json::from_str(&list).unwrap();
        list[0].clone()
    };
    let first = job();
    assert_eq!((&first["disk"], &first["state"]), (&json!("vdb"), &json!("running")), "{first}");
    assert_eq!(first["limit_bytes"], 1 << 20, "{first}");
    let seen = wait_for("progress", || {
        let now = job();
        let moved = now["cur_bytes"].as_u64().unwrap() > first["cur_bytes"].as_u64().unwrap();
        (moved && now["bytes_per_second"].is_u64()).then_some(now)
    });
    let end = seen["end_bytes"].as_u64().unwrap();
    assert!(end >= seen["cur_bytes"].as_u64().unwrap() && end <= 2 * SIZE, "{seen}");
    virsh_ok(&["blockjob", "tcg", "vdb", "--abort"]);
}

fn a_migration_shows_how_far_it_is(dir: &Path, daemon: &Daemon) {
    let migration = || {
        let group = show(dir, "moves")["groups"]["migration"].clone();
        group["fields"].clone()
    };
    let none = wait_for("the group", || Some(migration()).filter(Value::is_object));
    assert_eq!((&none["state"], &none["migrations"]), (&json!("none"), &json!(0)));
    assert_eq!(none["transferred_bytes"], Value::Null);
    let other = OtherHost::start(dir);
    let migrate = |bandwidth: &str| {
        let mut command = Command::new("virsh");
        command.args(["-q", "-c", "qemu:///system", "migrate", "--live", "--unsafe"]);
        command.args(["--bandwidth", bandwidth, "moves", &other.uri, "tcp://127.0.0.1"]);
        command.stderr(fs::File::create(dir.join("migrate.said")).unwrap());
        command.stdout(Stdio::null());
        command
    };
    // So slow that it is seen.
    let mut slow = Background::start(&mut migrate("1"));
    let seen = wait_for("the migration", || {
        let seen = migration();
        let has_sent = seen["transferred_bytes"].as_u64() > Some(0);
        (seen["state"] == "active" && has_sent).then_some(seen)
    });
    assert!(seen["dirty_bytes"].is_u64() && seen["iterations"].is_u64(), "{seen}");
    assert!(seen["remaining_bytes"].as_u64().unwrap() < 17 << 20, "{seen}");
    assert!(seen["started_ns"].is_u64(), "{seen}");
    virsh_ok(&["domjobabort", "moves"]);
    assert!(!slow.0.wait().unwrap().success());
    let failed = wait_for("its end", || Some(migration()).filter(|m| m["state"] == "failed"));
    assert_eq!(failed["migrations"], 1, "{failed}");
    assert_eq!(daemon.named("moves", "gone").len(), 0);
    let moved = migrate("0").status().unwrap();
    assert!(moved.success(), "{}", fs::read_to_string(dir.join("migrate.said")).unwrap());
    daemon.exactly(1, "moves", "gone");
}

/// As Nova writes it.
const NOVA: &str = r#"
  <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
    <nova:package version="27.1.1"/>
    <nova:name>web-1</nova:name>
    <nova:creationTime>2026-03-01 10:11:12</nova:creationTime>
    <nova:flavor name="m1.small">
      <nova:memory>2048</nova:memory><nova:disk>20</nova:disk><nova:swap>0</nova:swap>
      <nova:ephemeral>0</nova:ephemeral><nova:vcpus>1</nova:vcpus>
    </nova:flavor>
    <nova:owner>
      <nova:user uuid="5b1f9c6f7d0b4a9f8f8f1f3c3a0d4c11">alice</nova:user>
      <nova:project uuid="c0ffee00c0ffee00c0ffee00c0ffee00">acme</nova:project>
    </nova:owner>
    <nova:root type="image" uuid="9d2b1b0e-7e0e-4b0c-9d38-1c6f3a1b2c3d"/>
    <nova:ports>
      <nova:port uuid="0f6b7b9e-1d53-4a5f-8d1d-2f6b0c9f6a10">
        <nova:ip type="fixed" address="10.0.0.5" ipVersion="4"/>
      </nova:port>
    </nova:ports>
  </nova:instance>"#;

/// As KubeVirt writes it.
const KUBEVIRT: &str = r#"
  <kubevirt xmlns="http://kubevirt.io">
    <uid>8f28a9e3-0d3b-4f2f-9b39-6d8f0f8a5d11</uid>
    <graceperiod><deletionGracePeriodSeconds>30</deletionGracePeriodSeconds></graceperiod>
  </kubevirt>"#;

/// Whoever may open that socket only sees everything, whatever domstat was asked for.
fn a_read_only_socket_changes_nothing(dir: &Path, socket: &str) {
    let uri = format!("qemu:///system?socket={socket}");
    let _daemon = Daemon::start(dir, &["--connect", &uri]);
    let sample = show(dir, "tcg");
    assert_eq!(sample["vcpus"][0]["groups"]["runstate"]["status"], "active");
    wait_for("all groups", || {
        let sample = show(dir, "tcg");
        let is_active = |group: &Value| group["status"] == "active";
        let groups = [&sample["groups"]["memory"], &sample["blks"][0]["groups"]["limits"]];
        groups.iter().all(|group| is_active(group)).then_some(())
    });
    copy_slowly(dir);
    let jobs = stdout(&output(dir, &["block", "jobs", "tcg", "--json"]));
    assert!(jobs.contains("running"), "{jobs}");
    for args in [["threshold", "tcg", "vda", "1M"].as_slice(), &["job-abort", "tcg", "vdb"]] {
        let refused = output(dir, &[&["block"], args].concat());
        assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("read only access"), "{}", stderr(&refused));
    }
    virsh_ok(&["blockjob", "tcg", "vdb", "--abort"]);
}

/// virtqemud, which has sockets of its own and serves QEMU's domains alone.
fn a_modular_daemon_is_as_good(dir: &Path) {
    let program = std::env::var_os("DOMSTAT_VIRTQEMUD").map(PathBuf::from);
    let program = program.unwrap_or_else(|| PathBuf::from("/usr/sbin/virtqemud"));
    if !program.exists() {
        return skip("virtqemud", "there is none, and DOMSTAT_VIRTQEMUD names none");
    }
    let _virtqemud = Libvirtd::start_program(dir, &program);
    virsh_ok(&["create", describe(dir, "qemu", "tcg", "").to_str().unwrap()]);
    let mut daemon = Daemon::start(dir, &["--connect", "qemu:///system?mode=direct"]);
    every_key_is_that_of_virsh(dir, "tcg");
    arm(dir, "tcg", "vda", "8M");
    copy_slowly(dir);
    let ended = output(dir, &["block", "job-abort", "tcg", "vdb"]);
    assert_eq!(stdout(&ended).trim(), "job vdb: canceled", "{}", stderr(&ended));
    assert!(daemon.process.interrupt().success());
    drop(daemon);
    a_read_only_socket_changes_nothing(dir, "/run/libvirt/virtqemud-sock-ro");
}

/// Domains that are defined and started, whose XML libvirt keeps and prints in its own way.
fn metadata_are_labels(dir: &Path) {
    for (name, metadata, labels) in [
        (
            "instance-0000002a",
            NOVA,
            json!({
                "nova.name": "web-1", "nova.project": "acme", "nova.user": "alice",
                "nova.project_id": "c0ffee00c0ffee00c0ffee00c0ffee00", "nova.flavor": "m1.small",
            }),
        ),
        (
            "shop_db-0",
            KUBEVIRT,
            json!({
                "kubevirt.namespace": "shop", "kubevirt.name": "db-0",
                "kubevirt.uid": "8f28a9e3-0d3b-4f2f-9b39-6d8f0f8a5d11",
            }),
        ),
    ] {
        let xml = describe(dir, "qemu", name, metadata);
        virsh_ok(&["define", xml.to_str().unwrap()]);
        virsh_ok(&["start", name]);
        assert_eq!(show(dir, name)["labels"], labels, "{name}");
        let _ = virsh(&["destroy", name]);
        virsh_ok(&["undefine", name]);
    }
}
