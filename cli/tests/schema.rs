//! What a region says of itself, shown by a process that only reads the schema.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use common::{Background, domstat, output, show, skip, stderr, stdout, wait_for};
use std::path::{Path, PathBuf};

use domstat_layout::header::dom;
use domstat_layout::latest::{BlkQueueOf, RunState, Runstate, Wait};
use domstat_layout::schema::{self, head};
use domstat_layout::{Group, HistogramGroup, Ns, RecordKind, Word};
use domstat_producer::{Region, RegionBuilder};
use domstat_sources::kvm::{KvmOptions, KvmSource};
use serde_json::Value;

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

/// A region with numbers of vCPUs, their waits and a share, described or with a table of records only.
fn numbers(path: &Path, described: bool) -> Region {
    let builder = RegionBuilder::new("m").schema(described).vcpus(2).blks(1).blk_queues(2);
    let builder = builder.vcpu_histograms(true).labels([("tenant", "acme")]).unwrap();
    let mut created = builder.create_file(path).unwrap();
    let runstate = Runstate {
        state: RunState::Blocked.into(),
        running_ns: Word::new(123_456),
        ..Runstate::NOT_PRODUCED
    };
    created.vcpus[1].write(&runstate, Ns(7));
    let mut wait = Wait::EMPTY;
    [5, 900].into_iter().for_each(|ns| wait.record(ns));
    created.vcpu_hists[1].write(&wait, Ns(8));
    let of = BlkQueueOf { device: Word::new(0), ..BlkQueueOf::NOT_PRODUCED };
    created.blk_queues[1].write(&of, Ns(9));
    created.unpublished.publish().unwrap()
}

fn show_all(path: &Path, args: &[&str]) -> String {
    let path = path.to_str().unwrap();
    let output = output(Path::new("/"), &[&["show", path, "--all"], args].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

/// The groups of each record, without what differs between two regions.
fn records(path: &Path) -> Value {
    let mut all: Value = serde_json::from_str(&show_all(path, &["--json"])).unwrap();
    for record in all.as_object_mut().unwrap().values_mut() {
        for group in record.as_object_mut().unwrap().values_mut() {
            group.as_object_mut().unwrap().remove("age_ns");
        }
    }
    all["dom"]["identity"] = Value::Null;
    all
}

#[test]
fn groups_of_a_schema_that_is_a_table_of_records_are_those_of_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let [described, table] = ["described", "table"].map(|name| dir.path().join(name));
    let _regions = [numbers(&described, true), numbers(&table, false)];
    let found = records(&table);
    let runstate = &found["vcpu[1]"]["runstate"]["fields"];
    assert_eq!(runstate["state"]["value"], "blocked");
    assert_eq!(runstate["running_ns"]["value"], 123_456);
    assert_eq!(runstate["running_ns"]["unit"], "ns");
    assert_eq!(found["vcpu_hist[1]"]["wait"]["fields"]["max_ns"]["value"], 900);
    assert_eq!(found["vcpu_hist[0]"]["wait"]["status"], "inactive");
    assert_eq!(found, records(&described), "the same as of a schema that says all");
    let text = show_all(&table, &[]);
    let row = |part: &str| text.lines().any(|line| line.contains(part));
    assert!(row("running_ns") && row("4:1 512:1") && row("tenant=acme"), "{text}");
    assert!(!text.contains("not described"), "{text}");
}

/// A copy of a region in which labels are a kind of nobody else's, called `name`.
fn with_private_kind(path: &Path, name: &[u8; 6]) -> PathBuf {
    let mut bytes = std::fs::read(path).unwrap();
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(*bytes[at..].first_chunk::<4>().unwrap()) as usize
    };
    let schema = word(&bytes, dom::SCHEMA_OFFS);
    let records = schema + schema::HEADER_LEN;
    let groups = records + word(&bytes, schema + head::NR_RECORDS) * schema::record::LEN;
    let nr_groups = word(&bytes, schema + head::NR_GROUPS);
    // Labels are the last of the kinds, and their group the last group.
    let end = groups + nr_groups * schema::group::LEN;
    let entries = [(groups - schema::record::LEN, 1), (end - schema::group::LEN, nr_groups)];
    for (at, nr) in entries.into_iter().filter(|(_, nr)| *nr > 0) {
        assert_eq!(word(&bytes, at), RecordKind::Labels.number() as usize, "{nr}");
        bytes[at..at + 4].copy_from_slice(&(schema::FIRST_PRIVATE + 5).to_le_bytes());
    }
    if let Some(at) = bytes.windows(7).rposition(|text| text == b"labels\0") {
        bytes[at..at + 6].copy_from_slice(name);
    }
    let copy = path.with_extension("private");
    std::fs::write(&copy, bytes).unwrap();
    copy
}

#[test]
fn private_kinds_of_records_are_shown_as_far_as_they_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let [described, table] = ["described", "table"].map(|name| dir.path().join(name));
    let _regions = [numbers(&described, true), numbers(&table, false)];

    let private = with_private_kind(&described, b"notice");
    let found = records(&private);
    let notice = &found["notice[0]"]["notice"]["fields"]["text"]["value"];
    assert_eq!(*notice, "tenant=acme\n", "{found:#}");
    assert_eq!(found["vcpu_hist[1]"]["wait"]["fields"]["max_ns"]["value"], 900, "and the others");
    let text = show_all(&private, &[]);
    assert!(text.lines().any(|line| line.contains("notice") && line.contains("tenant=acme")));
    // Names come from the region: what is not for a terminal does not reach it.
    let hostile = show_all(&with_private_kind(&described, b"no\x1b[1m"), &[]);
    assert!(hostile.contains("tenant=acme") && !hostile.contains('\u{1b}'), "{hostile}");

    // A table of records has no names, and a private kind must have one.
    let private = with_private_kind(&table, b"notice");
    let output = output(Path::new("/"), &["show", private.to_str().unwrap(), "--all"]);
    assert!(!output.status.success() && stdout(&output).is_empty(), "{}", stdout(&output));
    assert!(stderr(&output).contains("expected 1 to 255 bytes"), "{}", stderr(&output));
}

/// A copy of a region without the description of the last group that it has. Names are further on, and
/// referred to by their place among the others.
fn without_last_group(path: &Path) -> PathBuf {
    let mut bytes = std::fs::read(path).unwrap();
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(*bytes[at..].first_chunk::<4>().unwrap()) as usize
    };
    let schema = word(&bytes, dom::SCHEMA_OFFS);
    let groups =
        schema + schema::HEADER_LEN + word(&bytes, schema + head::NR_RECORDS) * schema::record::LEN;
    let nr = [head::NR_GROUPS, head::NR_FIELDS].map(|at| word(&bytes, schema + at));
    let fields = groups + nr[0] * schema::group::LEN;
    let last = fields - schema::group::LEN;
    let nr_last = word(&bytes, last + schema::group::NR_FIELDS);
    let strings = fields + nr[1] * schema::field::LEN;
    let end = strings + word(&bytes, schema + head::STRINGS_LEN);
    let text = bytes[strings..end].to_vec();
    let kept = bytes[fields..strings - nr_last * schema::field::LEN].to_vec();
    bytes[last..end].fill(0);
    bytes[last..last + kept.len()].copy_from_slice(&kept);
    let strings = last + kept.len();
    bytes[strings..strings + text.len()].copy_from_slice(&text);
    for (at, nr) in [(head::NR_GROUPS, nr[0] - 1), (head::NR_FIELDS, nr[1] - nr_last)] {
        bytes[schema + at..schema + at + 4]
            .copy_from_slice(&u32::try_from(nr).unwrap().to_le_bytes());
    }
    let copy = path.with_extension("less");
    std::fs::write(&copy, bytes).unwrap();
    copy
}

#[test]
fn private_kinds_of_records_that_nobody_describes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("described");
    let _region = numbers(&path, true);
    // Of a registered kind the groups are known from the revision; of a private one they are not.
    let less = without_last_group(&path);
    let registered = show_all(&less, &[]);
    assert!(registered.contains("not described: 1 record of labels"), "{registered}");
    let private = with_private_kind(&path, b"notice");
    assert!(!show_all(&private, &[]).contains("not described"));
    let private = without_last_group(&private);
    let text = show_all(&private, &[]);
    let lines: Vec<_> = text.lines().filter(|line| line.contains("not described")).collect();
    assert_eq!(lines, ["not described: 1 record of notice"], "{text}");
    assert!(!text.contains("tenant=acme") && text.contains("runstate"), "{text}");
    assert!(records(&private).as_object().unwrap().keys().all(|key| !key.contains("notice")));
}
