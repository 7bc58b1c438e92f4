//! What was written once is read for ever.

use std::path::PathBuf;

use domstat_consumer::Region;
use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::{Options, Subject, check};
use domstat_layout::REVISIONS;
use domstat_tests::{golden, peer};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

#[test]
fn every_revision_reads_every_golden_region() {
    for (name, producer, _) in golden::all() {
        let region = Region::open(file(&format!("{name}.bin"))).unwrap();
        for consumer in REVISIONS {
            let (found, expected) =
                (peer::print(&region, consumer), peer::expected(producer, consumer));
            assert_eq!(found, expected, "{name} read as revision {}", consumer.number);
        }
    }
}

#[test]
fn the_checker_passes_every_golden_region() {
    for (name, _, _) in golden::all() {
        let mapped = MappedFile::open(file(&format!("{name}.bin"))).unwrap();
        let report = check(&Subject::new(mapped.mem()), &Options::default()).unwrap();
        assert!(report.passed(), "{name}: {report}");
        // They state no clock, and their times are any numbers.
        let times = report.rules.iter().find(|r| r.id == "I20").unwrap();
        assert_eq!(times.outcome, "not_checkable", "{name}: {report}");
    }
}

#[test]
fn todays_writers_of_older_revisions_still_write_the_same() {
    for (name, revision, pages) in golden::all() {
        let kept = std::fs::read(file(&format!("{name}.bin"))).unwrap();
        assert!(golden::bytes(revision, pages).unwrap() == kept, "{name} differs");
        let text = std::fs::read_to_string(file(&format!("{name}.txt"))).unwrap();
        assert_eq!(golden::dump(&kept), text, "{name}");
    }
}
