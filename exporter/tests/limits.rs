//! Limits of a pass, and names that become known later.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::os::unix::fs::FileExt;

use domstat_exporter::Exporter;
use domstat_exporter::scrape::Scrape;
use domstat_layout::latest::{Identity, Memory};
use domstat_layout::{Group, Ns, Word};
use domstat_producer::RegionBuilder;

/// Names of the domains with values, and of those without.
fn domains(scrape: &Scrape) -> (Vec<String>, Vec<String>) {
    let name = |domain: &domstat_exporter::scrape::DomainScrape| domain.names.domain.clone();
    let with = scrape.domains().filter(|domain| domain.has_values).map(name).collect();
    let without = scrape.domains().filter(|domain| !domain.has_values).map(name).collect();
    (with, without)
}

#[test]
fn a_name_that_cannot_be_read_at_first_is_read_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("entry.domstat");
    let region = RegionBuilder::new("web1").uuid([7; 16]).create_file(&path).unwrap();
    let region = region.unpublished.publish().unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let at = Identity::DESC.offset as u64;
    let mut seq = [0; 4];
    file.read_exact_at(&mut seq, at).unwrap();
    // A writer that has stopped halfway, and goes on later.
    let odd = u32::from_le_bytes(seq) | 1;
    file.write_all_at(&odd.to_le_bytes(), at).unwrap();
    let exporter = Exporter::new(dir.path());
    let names = || {
        let scrape = exporter.pass();
        let found: Vec<_> =
            scrape.domains().map(|d| (d.names.domain.clone(), d.names.uuid.is_some())).collect();
        exporter.give_back(scrape);
        found
    };
    assert_eq!(names(), [("entry".to_owned(), false)]);
    file.write_all_at(&seq, at).unwrap();
    assert_eq!(names(), [("web1".to_owned(), true)]);
    drop(region);
}

#[test]
fn large_regions_do_not_take_the_memory_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut regions = Vec::new();
    for n in 0..4 {
        let name = format!("a-large{n}");
        let mut created = RegionBuilder::new(&name).vcpus(60_000).create_memfd().unwrap();
        created.dom.write(&Memory { rss_bytes: Word::from(1), ..Memory::NOT_PRODUCED }, Ns(1));
        let region = created.unpublished.publish().unwrap();
        let announcement = region.announce(dir.path(), &name).unwrap();
        regions.push((region, announcement));
    }
    let small = RegionBuilder::new("web1").create_memfd().unwrap().unpublished.publish().unwrap();
    let _announcement = small.announce(dir.path(), "web1").unwrap();
    let exporter = Exporter::new(dir.path());
    let scrape = exporter.pass();
    let (with, without) = domains(&scrape);
    assert_eq!(with, ["a-large0", "a-large1", "web1"]);
    assert_eq!(without, ["a-large2", "a-large3"]);
    let limit = domstat_exporter::scrape::REASONS.iter().position(|r| *r == "limit").unwrap();
    let limited = scrape.domains().filter(|domain| domain.failures[limit] == 1);
    assert_eq!(limited.count(), 2);
    exporter.give_back(scrape);
}
