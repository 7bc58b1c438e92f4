//! Regions that other programs publish of a domain: series of the domain, with a label of their own.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;

use domstat_exporter::Exporter;
use domstat_exporter::openmetrics::{Format, write};
use domstat_layout::latest::{BlkIdentity, BlkIo, Runstate};
use domstat_layout::{Clock, Group, Name, Uuid};
use domstat_producer::{Announcement, Region, RegionBuilder};

fn text(exporter: &Exporter) -> String {
    let scrape = exporter.pass();
    let mut text = Vec::new();
    let take = |piece: Vec<u8>| {
        text.extend(piece);
        Ok::<_, ()>(())
    };
    write(&scrape, Format::OpenMetrics, false, take).unwrap();
    exporter.give_back(scrape);
    String::from_utf8(text).unwrap()
}

/// A region with the disk `vda`, of which so much was read; with a vCPU if it is a domain.
fn publish(
    dir: &Path,
    name: &str,
    uuid: Option<[u8; 16]>,
    read: u64,
    is_domain: bool,
) -> (Region, Announcement) {
    let now = domstat_producer::now(Clock::Monotonic).unwrap();
    let mut builder = RegionBuilder::new(name).clock(Clock::Monotonic).blks(1);
    if let Some(uuid) = uuid {
        builder = builder.uuid(uuid);
    }
    let mut created = builder.create_memfd().unwrap();
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, now);
    created.blks[0].write(&BlkIo { rd_bytes: read.into(), ..BlkIo::NOT_PRODUCED }, now);
    if is_domain {
        created.vcpus[0].write(&Runstate::NOT_PRODUCED, now);
    }
    let region = created.unpublished.publish().unwrap();
    let announcement = region.announce(dir, name).unwrap();
    (region, announcement)
}

/// The bytes read of each disk, by the labels of its series.
fn reads(exporter: &Exporter) -> Vec<String> {
    let text = text(exporter);
    let lines = text.lines().filter(|line| line.starts_with("domstat_block_read_bytes_total{"));
    let mut lines: Vec<_> =
        lines.map(|line| line["domstat_block_read_bytes_total".len()..].to_owned()).collect();
    lines.sort();
    lines
}

#[test]
fn parts_are_series_of_their_domain() {
    let dir = tempfile::tempdir().unwrap();
    let exporter = Exporter::new(dir.path());
    // A part that is there before its domain is called as it calls itself.
    let _part = publish(dir.path(), "web1.vhost0", None, 2, false);
    assert_eq!(reads(&exporter), [r#"{domain="web1.vhost0",device="vda"} 2"#]);
    let _domain = publish(dir.path(), "web1", Some([7; 16]), 1, true);
    let _same_uuid = publish(dir.path(), "web1.vhost1", Some([7; 16]), 3, false);
    let _other = publish(dir.path(), "web1.example", Some([8; 16]), 4, true);
    let _nameless = publish(dir.path(), "web1.example.net", None, 5, true);
    let uuid = |n: u8| format!("uuid=\"{}\"", Uuid([n; 16]));
    let (seven, eight) = (uuid(7), uuid(8));
    assert_eq!(
        reads(&exporter),
        [
            format!(r#"{{domain="web1",{seven},device="vda"}} 1"#),
            format!(r#"{{domain="web1",{seven},part="vhost0",device="vda"}} 2"#),
            format!(r#"{{domain="web1",{seven},part="vhost1",device="vda"}} 3"#),
            format!(r#"{{domain="web1.example",{eight},device="vda"}} 4"#),
            r#"{domain="web1.example.net",device="vda"} 5"#.to_owned(),
        ]
    );
    // The memory of a domain under a second name is no part of it.
    let alias = dir.path().join("web1.again.domstat");
    let link = std::fs::read_link(dir.path().join("web1.domstat")).unwrap();
    std::os::unix::fs::symlink(link, &alias).unwrap();
    assert!(!reads(&exporter).iter().any(|line| line.contains("again")), "{:?}", reads(&exporter));
    std::fs::remove_file(&alias).unwrap();
    // Each says how old its own numbers are.
    let text = text(&exporter);
    let ages = text.lines().filter(|line| {
        line.starts_with("domstat_") && line.contains("age") && line.contains(r#"domain="web1","#)
    });
    let (parts, whole): (Vec<_>, Vec<_>) = ages.partition(|line| line.contains("part="));
    assert!(!parts.is_empty() && !whole.is_empty(), "{text}");
}

#[test]
fn another_user_adds_nothing_to_a_domain() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give memory to another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let exporter = Exporter::new(dir.path());
    let (domain, _domain) = publish(dir.path(), "web1", Some([7; 16]), 1, true);
    let (evil, _evil) = publish(dir.path(), "web1.vhost0", Some([7; 16]), 2, false);
    let give = |region: &Region, uid: u32| {
        let fd = region.as_fd().unwrap();
        rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None).unwrap();
    };
    let joined = || reads(&exporter).iter().any(|line| line.contains("part="));
    assert!(joined());
    give(&evil, 1001);
    assert!(!joined(), "{:?}", reads(&exporter));
    // Root may add to the domains of others, and a user to its own.
    give(&domain, 1001);
    assert!(joined());
    give(&evil, 0);
    assert!(joined());
    give(&evil, 65_534);
    give(&domain, 65_534);
    assert!(!joined(), "it is not known who that is");
}
