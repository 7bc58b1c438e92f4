//! What a region says of itself, shown by a process that only reads the schema.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};
use domstat_producer::RegionBuilder;
use domstat_sources::kvm::{KvmOptions, KvmSource};

#[test]
fn every_statistic_that_the_kernel_describes_is_shown_by_its_name() {
    if let Err(error) = KvmSource::available() {
        return skip("kvm", &error.to_string());
    }
    let dir = tempfile::tempdir().unwrap();
    let _producer = Background::start(domstat(dir.path()).args(["run", "kvm", "--name", "m"]));
    show(dir.path(), "m");
    let all = || {
        let output = output(dir.path(), &["show", "m", "--all", "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    // The kernel's own list, from a VM of this process.
    let source = KvmSource::new(&KvmOptions::default()).unwrap();
    let Some(stats) = source.probe().kvm_stats(0).unwrap() else {
        return println!("no KVM statistics to compare with");
    };
    let found = all();
    for index in 0..2 {
        let group = &found[format!("arch_vcpu[{index}]")]["kvm"];
        assert_eq!(group["status"], "active", "{group:#}");
        let names = group["fields"].as_object().unwrap();
        assert_eq!(names.len(), stats.len());
        for stat in &stats {
            let value = &names[&stat.name]["value"];
            let len = value.as_array().map_or(1, Vec::len);
            assert_eq!(len, stat.values.len(), "{}", stat.name);
        }
    }
    assert_eq!(found["vcpu[0]"]["runstate"]["fields"]["running_ns"]["unit"], "ns");
    let exits = |v: &serde_json::Value| {
        v["arch_vcpu[0]"]["kvm"]["fields"]["exits"]["value"].as_u64().unwrap()
    };
    wait_for("an exit", || (exits(&all()) > exits(&found)).then_some(()));
    let text = stdout(&output(dir.path(), &["show", "m", "--all"]));
    assert!(text.contains("halt_wait_ns") && text.contains("log_histogram"), "{text}");
}

#[test]
fn a_region_without_a_schema_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.region");
    let created = RegionBuilder::new("old").revision(3).create_file(&path).unwrap();
    let _region = created.unpublished.publish().unwrap();
    let output = output(dir.path(), &["show", path.to_str().unwrap(), "--all"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("revision is 3, and 4 added it"), "{}", stderr(&output));
}
