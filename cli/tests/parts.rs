//! What other programs publish of a domain, in `show` and `ls`: joined, refused, and devices that two have.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::path::Path;

use common::{output, stdout};
use domstat_layout::latest::{BlkIdentity, BlkIo, Runstate};
use domstat_layout::{Clock, Group, Name};
use domstat_producer::{Announcement, Region, RegionBuilder};
use serde_json::Value;

fn publish(dir: &Path, name: &str, disk: &str, is_domain: bool) -> (Region, Announcement) {
    let now = domstat_producer::now(Clock::Monotonic).unwrap();
    let builder = RegionBuilder::new(name).clock(Clock::Monotonic).blks(1);
    let mut created = builder.uuid([7; 16]).create_memfd().unwrap();
    created.blks[0].write(&BlkIdentity { name: Name::new(disk) }, now);
    created.blks[0].write(&BlkIo { rd_bytes: 4096.into(), ..BlkIo::NOT_PRODUCED }, now);
    if is_domain {
        created.vcpus[0].write(&Runstate::NOT_PRODUCED, now);
    }
    let region = created.unpublished.publish().unwrap();
    let announcement = region.announce(dir, name).unwrap();
    (region, announcement)
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&stdout(&output(dir, args))).unwrap()
}

#[test]
fn parts_are_joined_and_a_device_that_two_have_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = publish(dir.path(), "web1", "vda", true);
    let alone = json(dir.path(), &["show", "web1", "--json"]);
    assert_eq!(alone.get("parts"), None);
    let _parts = [
        publish(dir.path(), "web1.vhost0", "vdb", false),
        publish(dir.path(), "web1.vhost1", "vda", false),
        publish(dir.path(), "web1.vhost2", "vdb", false),
    ];
    let text = stdout(&output(dir.path(), &["show", "web1"]));
    for line in [
        "disk vda: web1 has one of this name, too; they are not added up",
        "disk vdb: web1.vhost0 has one of this name, too; they are not added up",
    ] {
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }
    let shown = json(dir.path(), &["show", "web1", "--json"]);
    let parts = shown["parts"].as_array().unwrap();
    let entries: Vec<_> = parts.iter().map(|part| part["entry"].as_str().unwrap()).collect();
    assert_eq!(entries, ["web1.vhost0", "web1.vhost1", "web1.vhost2"]);
    let io = &parts[0]["blks"][0]["groups"]["io"];
    assert_eq!(io["fields"]["rd_bytes"], 4096);
    assert!(io["age_ns"].is_u64() && parts[0].get("again").is_none());
    assert_eq!(parts[1]["again"][0]["of"], "web1");
    assert_eq!(parts[2]["again"][0]["device"], "disk vdb");
    let list = json(dir.path(), &["ls", "--json"]);
    let of = |at: usize| list[at].get("part_of").and_then(Value::as_str);
    assert_eq!((of(0), of(1), of(3)), (None, Some("web1"), Some("web1")));
}

#[test]
fn a_part_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return common::skip("root", "only root can give memory to another user");
    }
    let dir = tempfile::tempdir().unwrap();
    let _domain = publish(dir.path(), "web1", "vda", true);
    let (evil, _evil) = publish(dir.path(), "web1.vhost0", "vdb", false);
    let uid = rustix::fs::Uid::from_raw(1001);
    rustix::fs::fchown(evil.as_fd().unwrap(), Some(uid), None).unwrap();
    let text = stdout(&output(dir.path(), &["show", "web1"]));
    let line = "web1.vhost0: not joined: user 1001 published it, and user 0 the domain";
    assert!(text.contains(line) && !text.contains("vdb"), "{text}");
    let shown = json(dir.path(), &["show", "web1", "--json"]);
    assert!(shown["parts"][0]["error"].as_str().unwrap().starts_with("not joined"));
    assert!(shown["parts"][0].get("blks").is_none());
    let list = json(dir.path(), &["ls", "--json"]);
    assert_eq!((&list[1]["not_part_of"], list[1].get("part_of")), (&Value::from("web1"), None));
    let text = stdout(&output(dir.path(), &["ls"]));
    assert!(text.contains("web1.vhost0 is no part of web1: not joined: user 1001"), "{text}");
}
