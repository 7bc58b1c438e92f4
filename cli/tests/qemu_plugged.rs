//! `domstat run qemu` with a real QEMU that is given a vCPU and an interface while it runs.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure is a failed test"
)]

mod common;

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use common::vm::{Vm, is_there};
use common::{Background, domstat, show, skip, wait_for};

/// The daemon of one VM. Longer than a test waits: nothing shows because its turn has come.
fn daemon(dir: &Path, vm: &Vm) -> Background {
    let mut command = domstat(dir);
    command.args(["run", "qemu", "--interval", "120", "--qmp"]).arg(&vm.qmp);
    Background::start(command.stderr(Stdio::null()))
}

/// Plugs the first vCPU that there is room for.
fn plug_vcpu(vm: &mut Vm) -> Option<()> {
    let slots = vm.ask("query-hotpluggable-cpus", &Value::Null);
    let free = slots.as_array()?.iter().rfind(|slot| slot["qom-path"].is_null())?.clone();
    let mut device = free["props"].clone();
    (device["driver"], device["id"]) = (free["type"].clone(), json!("plugged"));
    vm.ask("device_add", &device);
    Some(())
}

#[test]
fn a_plugged_vcpu_shows_before_its_turn() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "vcpus", 1, &["-smp", "cpus=2,maxcpus=4"]);
    let _daemon = daemon(dir.path(), &vm);
    let runstates = || {
        let vcpus = show(dir.path(), "vcpus")["vcpus"].as_array().unwrap().clone();
        vcpus.iter().filter(|vcpu| vcpu["groups"]["runstate"]["status"] == "active").count()
    };
    assert_eq!(runstates(), 2);
    plug_vcpu(&mut vm).unwrap();
    wait_for("the vCPU", || (runstates() == 3).then_some(()));
}

#[test]
fn a_plugged_interface_shows_before_its_turn() {
    if !is_there() {
        return skip("qemu", "qemu-system-x86_64 is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut vm = Vm::start(dir.path(), "nets", 1, &[]);
    let _daemon = daemon(dir.path(), &vm);
    let names = || {
        let nets = show(dir.path(), "nets")["nets"].as_array().unwrap().clone();
        let groups = nets.iter().map(|net| &net["groups"]["identity"]);
        let active = groups.filter(|identity| identity["status"] == "active");
        active.map(|identity| identity["fields"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(), [] as [Value; 0]);
    let name = format!("dst{}", std::process::id());
    let tap =
        json!({ "type": "tap", "id": "n", "ifname": name, "script": "no", "downscript": "no" });
    if let Err(error) = vm.try_ask("netdev_add", &tap) {
        return skip("tap", &format!("no tap interface can be made: {error}"));
    }
    wait_for("the interface", || (names() == [json!(name)]).then_some(()));
    vm.ask("netdev_del", &json!({ "id": "n" }));
    wait_for("its end", || names().is_empty().then_some(()));
}
