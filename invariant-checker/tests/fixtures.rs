//! Each corrupt fixture trips its rule and no other, at the byte that is wrong; the good region
//! passes; and no rule is without a fixture.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::fixtures::{self, Fixture, Place};
use domstat_invariant_checker::{
    Books, FrameId, NotAttachable, Options, RULES, Report, Subject, ThreadTime, check, watch_steps,
};
use domstat_layout::REVISIONS;
use domstat_layout::header::dom;
use domstat_layout::{Ns, Rule};
use proptest::prelude::*;

/// Places in the good region of revision 1.
const VCPU_0: usize = 448;
const STRIDE: usize = 128;
const RUNSTATE: usize = 32;

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
    judge_with(bytes, then, place, &[])
}

fn judge_with(
    bytes: &[u8],
    then: &[fixtures::Patch],
    place: Place,
    books: &[Books],
) -> Result<Report, NotAttachable> {
    let file = file_for(bytes, place);
    let mapped = MappedFile::from_fd(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut subject = Subject::new(mapped.mem()).with_file(mapped.file());
    if place == Place::SharedFrames {
        let frame = |inode| FrameId { device: 1, inode, offset: 0 };
        subject = subject.with_frames(vec![frame(10), frame(11), frame(11)]);
    }
    if !books.is_empty() {
        let look = Cell::new(0);
        subject = subject.with_books(move || books.get(look.replace(look.get() + 1)).cloned());
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
    for Fixture { name, bytes, then, place, books, finding } in fixtures::all() {
        let report = judge_with(&bytes, &then, place, &books).unwrap();
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
    assert_eq!(unchecked, ["I24", "I25", "I26", "I33"], "{report}");
    for revision in REVISIONS.iter().filter(|revision| revision.arch_and_schema) {
        let path = format!("../tests/golden/r{}-packed.bin", revision.number);
        let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let report = judge(&fixtures::good_of(golden), &[], Place::File).unwrap();
        assert!(report.passed(), "{report}");
        let unchecked: Vec<_> =
            report.rules.iter().filter(|r| r.outcome != "pass").map(|r| r.id).collect();
        assert_eq!(unchecked, ["I24", "I26", "I33"], "{report}");
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
fn times_are_judged_against_a_clock_only_where_there_is_one() {
    let outcome = |report: &Report| {
        let rule = report.rules.iter().find(|r| r.id == "I20").unwrap();
        (rule.outcome, rule.findings.first().map(|f| f.expected.clone()))
    };
    let mut future = fixtures::good();
    // Written by a machine that is up for longer than this one.
    let (at, now) = (VCPU_0 + RUNSTATE + 8, u64::MAX / 4);
    future[at..at + 8].copy_from_slice(&now.to_le_bytes());
    let file = file_for(&future, Place::File);
    let mapped = MappedFile::from_fd(file).unwrap();
    let judge = |subject: Subject<'_>| outcome(&check(&subject, &Options::default()).unwrap());
    let (fail, expected) = judge(Subject::new(mapped.mem()));
    assert_eq!(fail, "fail");
    assert!(expected.unwrap().ends_with("(now)"));
    assert_eq!(judge(Subject::new(mapped.mem()).without_writer()), ("pass", None));
    // Without a clock the same numbers mean nothing.
    future[dom::CLOCK] = 0;
    let file = file_for(&future, Place::File);
    let mapped = MappedFile::from_fd(file).unwrap();
    assert_eq!(judge(Subject::new(mapped.mem())), ("not_checkable", None));
}

#[test]
fn vcpus_are_compared_with_as_many_threads() {
    let fixture = fixtures::all().into_iter().find(|f| f.finding.rule == "I26").unwrap();
    let judge = |grown: &[u64]| {
        let books = |grown: &[u64], at| Books {
            from: Ns(at),
            to: Ns(at),
            threads: (0..)
                .zip(grown)
                .map(|(tid, ns)| ThreadTime { tid, running_ns: *ns })
                .collect(),
        };
        let at = |i: usize| fixture.books[i].to.0;
        let books = [books(&vec![0; grown.len()], at(0)), books(grown, at(1))];
        let report = judge_with(&fixture.bytes, &fixture.then, Place::File, &books).unwrap();
        report.rules.iter().find(|r| r.id == "I26").unwrap().outcome
    };
    // The vCPU claims 50 ms; 22.5 ms are slack.
    assert_eq!(judge(&[28_000_000]), "pass");
    assert_eq!(judge(&[27_000_000]), "fail");
    // No single thread ran for so long, though all together did.
    assert_eq!(judge(&[27_000_000, 27_000_000]), "fail");
    assert_eq!(judge(&[0, 50_000_000]), "pass");
    assert_eq!(judge(&[]), "fail");
    // Both claim 50 ms, and one thread ran.
    let mut both = fixture.clone();
    for (at, bytes) in &fixture.then {
        both.then.push((at - STRIDE, bytes.clone()));
    }
    let report = judge_with(
        &both.bytes,
        &both.then,
        Place::File,
        &[
            Books {
                threads: vec![ThreadTime { tid: 1, running_ns: 0 }],
                ..fixture.books[0].clone()
            },
            Books {
                threads: vec![ThreadTime { tid: 1, running_ns: 99_000_000 }],
                ..fixture.books[1].clone()
            },
        ],
    );
    let report = report.unwrap();
    let rule = report.rules.iter().find(|r| r.id == "I26").unwrap();
    assert_eq!((rule.outcome, rule.findings.len()), ("fail", 1), "{report}");
}

#[test]
fn every_rule_has_a_fixture() {
    let covered: Vec<_> = fixtures::all().iter().map(|f| f.finding.rule).collect();
    for rule in RULES {
        assert!(covered.contains(&rule.rule.id()), "{}", rule.rule.id());
    }
    let rules: Vec<_> = RULES.iter().map(|r| r.rule).collect();
    assert_eq!(rules, Rule::ALL);
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
    assert!(text.contains("requires I04, which did not pass"), "{text}");
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
