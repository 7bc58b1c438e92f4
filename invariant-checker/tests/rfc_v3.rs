//! Regions in the layout of RFC v3: each corrupt fixture trips its rule and no other, at the byte
//! that is wrong; the good region passes; and no rule is without a fixture.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::os::unix::fs::FileExt;

use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::fixtures::{Fixture, Patch};
use domstat_invariant_checker::rfc_v3::{RULES, check, fixtures, watch_steps};
use domstat_invariant_checker::{NotAttachable, Options, Report};
use proptest::prelude::*;

/// Two looks at a region, with the patches between them.
fn judge(bytes: &[u8], then: &[Patch]) -> Result<Report, NotAttachable> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let mapped = MappedFile::from_fd(file.try_clone().unwrap()).unwrap();
    watch_steps(mapped.mem(), &Options::default(), |looks| {
        for (at, bytes) in then {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        looks < 2
    })
}

#[test]
fn each_fixture_trips_its_rule_and_only_it() {
    for Fixture { name, bytes, then, finding, .. } in fixtures::all() {
        let report = judge(&bytes, &then).unwrap();
        let broken: Vec<_> = report.rules.iter().filter(|r| r.failed()).collect();
        let ids: Vec<_> = broken.iter().map(|r| r.id).collect();
        assert_eq!(ids, [finding.rule], "{name}\n{report}");
        assert_eq!(broken[0].findings, [finding], "{name}");
        assert!(!report.passed());
    }
    let covered: Vec<_> = fixtures::all().iter().map(|f| f.finding.rule).collect();
    assert_eq!(covered, RULES.iter().map(|r| r.id).collect::<Vec<_>>());
}

#[test]
fn the_good_region_passes_every_rule() {
    let report = judge(&fixtures::good(), &[]).unwrap();
    assert!(report.rules.iter().all(|r| r.outcome == "pass"), "{report}");
    // A single look leaves the rules about change open, and says so.
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&fixtures::good(), 0).unwrap();
    let mapped = MappedFile::from_fd(file).unwrap();
    let report = check(mapped.mem(), &Options::default()).unwrap();
    let open: Vec<_> = report.rules.iter().filter(|r| r.outcome != "pass").map(|r| r.id).collect();
    assert_eq!(open, ["R10", "R11", "R12"], "{report}");
}

#[test]
fn what_a_writer_may_do_breaks_nothing() {
    let at = |offset: usize, bytes: &[u8]| (offset, bytes.to_vec());
    // A first write, a growing time, one that overflows, and one that is produced from now on.
    let report = judge(
        &fixtures::good(),
        &[
            at(128, &6u32.to_le_bytes()),
            at(136, &(1u64 << 63).to_le_bytes()),
            at(256, &4u32.to_le_bytes()),
            at(264, &5u64.to_le_bytes()),
            at(384, &8u32.to_le_bytes()),
            at(392, &501u64.to_le_bytes()),
            at(512, &2u32.to_le_bytes()),
            at(520, &1u64.to_le_bytes()),
        ],
    );
    assert!(report.as_ref().unwrap().passed(), "{}", report.unwrap());
    // Cleared under the reader: back to zeros is going back.
    let report = judge(&fixtures::good(), &[at(384, &[0; 16])]).unwrap();
    let broken: Vec<_> = report.rules.iter().filter(|r| r.failed()).map(|r| r.id).collect();
    assert_eq!(broken, ["R11"], "{report}");
}

#[test]
fn bytes_that_are_not_a_region_are_not_judged() {
    let short = judge(&[1; 8], &[]).unwrap_err();
    assert_eq!(short, NotAttachable::ShorterThan { len: 8, header: 16 });
    assert_eq!(judge(&[0; 4096], &[]).unwrap_err(), NotAttachable::NotPublished);
}

#[test]
fn dead_writers_are_waited_for_together() {
    let mut bytes = fixtures::good();
    for index in 0..31 {
        bytes[128 + 128 * index] = 3;
    }
    let start = std::time::Instant::now();
    let report = judge(&bytes, &[]).unwrap();
    // Two looks of 100 ms each, not 62.
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    let rest = report.rules.iter().find(|r| r.id == "R09").unwrap();
    assert_eq!(rest.findings.len(), 8);
    assert!(rest.more_findings > 0, "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes are, there is a report and never a panic.
    #[test]
    fn any_bytes(
        flips in prop::collection::vec((4usize..600, any::<u8>()), 1..12),
        then in prop::collection::vec((0usize..600, any::<u8>()), 0..6),
        len in 16usize..4096,
    ) {
        let mut bytes = fixtures::good();
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(len);
        let then: Vec<_> = then.into_iter().filter(|(at, _)| *at < len).collect();
        let then: Vec<_> = then.into_iter().map(|(at, value)| (at, vec![value])).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        let mapped = MappedFile::from_fd(file.try_clone().unwrap()).unwrap();
        // Records left in mid-update are not waited for; that is tested elsewhere.
        let options = Options { seq_deadline: std::time::Duration::ZERO, ..Options::default() };
        let report = watch_steps(mapped.mem(), &options, |looks| {
            for (at, bytes) in &then {
                file.write_all_at(bytes, *at as u64).unwrap();
            }
            looks < 2
        });
        let report = report.unwrap();
        prop_assert_eq!(report.rules.len(), RULES.len());
        prop_assert_eq!(report.passed(), !report.rules.iter().any(|r| r.failed()));
    }
}
