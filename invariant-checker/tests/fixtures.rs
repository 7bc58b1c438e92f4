//! Each corrupt fixture trips its rule and no other, at the byte that is wrong; the good region
//! passes; and no rule is without a fixture.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::fixtures::{self, Fixture, Place};
use domstat_invariant_checker::{
    FrameId, NotAttachable, Options, RULES, Report, Subject, check, watch_steps,
};
use domstat_layout::REVISIONS;
use proptest::prelude::*;

fn file_for(bytes: &[u8], place: Place) -> File {
    let file = match place {
        Place::File | Place::SharedFrames => tempfile::tempfile().unwrap(),
        Place::UnsealedMemfd => {
            let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
            File::from(rustix::fs::memfd_create("domstat-fixture", flags).unwrap())
        }
    };
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// Two looks at a region, with the patches between them.
fn judge(bytes: &[u8], then: &[fixtures::Patch], place: Place) -> Result<Report, NotAttachable> {
    let file = file_for(bytes, place);
    let mapped = MappedFile::from_fd(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut subject = Subject::new(mapped.mem()).with_file(mapped.file());
    if place == Place::SharedFrames {
        let frame = |inode| FrameId { device: 1, inode, offset: 0 };
        subject = subject.with_frames(vec![frame(10), frame(11), frame(11)]);
    }
    watch_steps(&subject, &Options::default(), |looks| {
        for (at, bytes) in then {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        looks < 2
    })
}

#[test]
fn each_fixture_trips_its_rule_and_only_it() {
    for Fixture { name, bytes, then, place, finding } in fixtures::all() {
        let report = judge(&bytes, &then, place).unwrap();
        let broken: Vec<_> = report.rules.iter().filter(|r| r.failed()).collect();
        let ids: Vec<_> = broken.iter().map(|r| r.id).collect();
        assert_eq!(ids, [finding.rule], "{name}\n{report}");
        assert_eq!(broken[0].findings, [finding], "{name}");
        assert!(!report.passed());
    }
}

#[test]
fn the_good_region_passes_every_rule_that_can_be_checked() {
    let report = judge(&fixtures::good(), &[], Place::File).unwrap();
    assert!(report.passed(), "{report}");
    let unchecked: Vec<_> =
        report.rules.iter().filter(|r| r.outcome != "pass").map(|r| r.id).collect();
    assert_eq!(unchecked, ["I24", "I25"], "{report}");
    for revision in REVISIONS.iter().filter(|revision| revision.arch_and_schema) {
        let path = format!("../tests/golden/r{}-packed.bin", revision.number);
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let report = judge(&fixtures::good_of(golden), &[], Place::File).unwrap();
        assert!(report.passed(), "{report}");
        let unchecked: Vec<_> =
            report.rules.iter().filter(|r| r.outcome != "pass").map(|r| r.id).collect();
        assert_eq!(unchecked, ["I24"], "{report}");
    }
    // A single look leaves the rules about change open, and says so.
    let file = file_for(&fixtures::good(), Place::File);
    let mapped = MappedFile::from_fd(file).unwrap();
    let report = check(&Subject::new(mapped.mem()), &Options::default()).unwrap();
    assert!(report.passed());
    for rule in report.rules.iter().filter(|r| ["I14", "I17", "I18", "I19"].contains(&r.id)) {
        assert!(rule.reason.as_ref().unwrap().contains("watch"), "{report}");
    }
}

#[test]
fn every_rule_has_a_fixture() {
    let covered: Vec<_> = fixtures::all().iter().map(|f| f.finding.rule).collect();
    for rule in RULES {
        assert!(covered.contains(&rule.id), "{}", rule.id);
    }
    assert_eq!(RULES.len(), 25);
}

#[test]
fn a_sealed_memfd_passes_and_one_with_half_the_seals_fails() {
    use rustix::fs::SealFlags;
    let judge = |seals: SealFlags| {
        let file = file_for(&fixtures::good(), Place::UnsealedMemfd);
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        let mapped = MappedFile::from_fd(file).unwrap();
        let subject = Subject::new(mapped.mem()).with_file(mapped.file());
        let report = check(&subject, &Options::default()).unwrap();
        report.rules.iter().find(|r| r.id == "I24").unwrap().outcome
    };
    assert_eq!(judge(SealFlags::SHRINK | SealFlags::FUTURE_WRITE), "pass");
    assert_eq!(judge(SealFlags::SHRINK | SealFlags::WRITE), "pass");
    assert_eq!(judge(SealFlags::SHRINK), "fail");
    assert_eq!(judge(SealFlags::FUTURE_WRITE), "fail");
}

#[test]
fn bytes_that_are_not_a_region_are_not_judged() {
    let short = judge(&[1; 64], &[], Place::File).unwrap_err();
    assert_eq!(short, NotAttachable::TooShort { len: 64 });
    let unpublished = judge(&[0; 4096], &[], Place::File).unwrap_err();
    assert_eq!(unpublished, NotAttachable::NotPublished);
}

#[test]
fn the_report_is_readable_by_people_and_programs() {
    let fixture = fixtures::all().into_iter().find(|f| f.finding.rule == "I04").unwrap();
    let report = judge(&fixture.bytes, &[], Place::File).unwrap();
    let text = report.to_string();
    assert!(text.contains("at byte 8: vcpu_offs: expected at least 400, found 384"), "{text}");
    assert!(text.contains("requires I04, which does not hold"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["rules"][3]["findings"][0]["offset"], 8);
    assert_eq!(json["rules"][0]["outcome"], "pass");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes are, there is a report or a reason why not, and never a panic.
    #[test]
    fn any_bytes(
        flips in prop::collection::vec((0usize..704, any::<u8>()), 1..12),
        then in prop::collection::vec((0usize..704, any::<u8>()), 0..6),
    ) {
        let mut bytes = fixtures::good();
        for (at, value) in flips {
            bytes[at] = value;
        }
        // Groups left in mid-update are waited for; that is tested elsewhere.
        for seq in [128, 304, 448 + 32, 576 + 32] {
            bytes[seq] &= !1;
        }
        let then: Vec<_> = then
            .into_iter()
            .filter(|(at, _)| ![128, 304, 480, 608].contains(at))
            .map(|(at, value)| (at, vec![value]))
            .collect();
        if let Ok(report) = judge(&bytes, &then, Place::File) {
            prop_assert_eq!(report.rules.len(), RULES.len());
            prop_assert_eq!(report.passed(), !report.rules.iter().any(|r| r.failed()));
        }
    }
}
