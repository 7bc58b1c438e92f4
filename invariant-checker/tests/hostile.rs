//! Hostile regions, and harmless ones that look hostile.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use domstat_consumer::AttachError;
use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::{Options, Report, Subject, check, fixtures, watch_steps};
use domstat_layout::header::{dom, record};
use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::{DOM_MAGIC, Group, MAX_VCPUS};

fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// A file with a header that says so many records, so far apart.
fn region(nr_vcpus: u32, stride: u32) -> File {
    let file = tempfile::tempfile().unwrap();
    let word = |at: usize, value: u32| {
        file.write_all_at(&value.to_le_bytes(), at as u64).unwrap();
    };
    let (vcpu_offs, vcpu_size) = (4096, 96);
    for (at, value) in [
        (dom::DOM_SIZE, 400),
        (dom::VCPU_OFFS, vcpu_offs),
        (dom::VCPU_SIZE, vcpu_size),
        (dom::VCPU_STRIDE, stride),
        (dom::NR_VCPUS, nr_vcpus),
        (dom::ALIGN, 32),
        (dom::REVISION, 1),
        (dom::MAGIC, DOM_MAGIC),
    ] {
        word(at, value);
    }
    file.set_len(u64::from(vcpu_offs) + u64::from(stride) * u64::from(nr_vcpus)).unwrap();
    file
}

fn two_looks(bytes: &[u8], patches: &[(usize, Vec<u8>)]) -> Report {
    let file = file_of(bytes);
    let mapped = MappedFile::from_fd(file.try_clone().unwrap()).unwrap();
    watch_steps(&Subject::new(mapped.mem()), &Options::default(), |looks| {
        for (at, bytes) in patches {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        looks < 2
    })
    .unwrap()
}

#[test]
fn a_huge_sparse_region_is_refused_not_mapped() {
    let Err(refused) = MappedFile::from_fd(region(16, 0xffff_f000)) else {
        panic!("it was mapped")
    };
    assert!(matches!(refused, AttachError::TooLong { .. }), "{refused}");
}

#[test]
fn many_stalled_groups_are_waited_for_together() {
    // One by one, a day and a half.
    let (nr_vcpus, stride) = (MAX_VCPUS, 96);
    let file = region(nr_vcpus, stride);
    let mut array = vec![0u8; (nr_vcpus * stride) as usize];
    for at in (0..array.len()).step_by(stride as usize) {
        array[at + record::STATS_ACTIVE] = 1;
        array[at + Runstate::DESC.offset] = 1;
    }
    file.write_all_at(&array, 4096).unwrap();
    let mapped = MappedFile::from_fd(file).unwrap();
    let options = Options { seq_deadline: Duration::from_secs(2), ..Options::default() };
    let report = check(&Subject::new(mapped.mem()), &options).unwrap();
    let rule = report.rules.iter().find(|r| r.id == "I16").unwrap();
    assert!(rule.failed(), "{report}");
    assert!(rule.more_findings > 60_000, "{}", rule.more_findings);
}

#[test]
fn a_group_that_was_active_between_two_looks_is_not_a_fault() {
    let mut bytes = fixtures::good();
    let (seq, field) = (Memory::DESC.offset, Memory::DESC.offset + 16);
    // Switched off: the bit is clear and seq is odd.
    bytes[dom::STATS_ACTIVE] &= !2;
    bytes[seq] |= 1;
    let next = bytes[seq] + 2;
    let report = two_looks(&bytes, &[(seq, vec![next]), (field, vec![0x77])]);
    assert!(report.passed(), "{report}");
    // Without an update, it is.
    let report = two_looks(&bytes, &[(field, vec![0x77])]);
    assert!(report.rules.iter().find(|r| r.id == "I14").unwrap().failed(), "{report}");
}

#[test]
fn bytes_behind_the_last_record_are_judged() {
    let mut bytes = fixtures::good();
    let file = file_of(&bytes);
    let mapped = MappedFile::from_fd(file).unwrap();
    let end = mapped.attach().unwrap().geometry().end();
    bytes.resize(end.next_multiple_of(4096), 0);
    assert!(two_looks(&bytes, &[]).passed());
    let last = bytes.len() - 8;
    assert!(last >= end);
    bytes[last] = 1;
    let report = two_looks(&bytes, &[]);
    let rule = report.rules.iter().find(|r| r.id == "I15").unwrap();
    assert_eq!(rule.findings[0].offset, last as u64, "{report}");
    // A later revision may have put something there.
    bytes[dom::REVISION] = 200;
    assert!(!two_looks(&bytes, &[]).rules.iter().find(|r| r.id == "I15").unwrap().failed());
}

#[test]
fn the_same_fault_at_every_look_counts_once() {
    let mut bytes = fixtures::good();
    // Reserved words of the header.
    bytes[dom::UNUSED..128].fill(0xff);
    let count = |report: &Report| {
        let rule = report.rules.iter().find(|r| r.id == "I11").unwrap();
        rule.findings.len() as u64 + rule.more_findings
    };
    let once = {
        let mapped = MappedFile::from_fd(file_of(&bytes)).unwrap();
        check(&Subject::new(mapped.mem()), &Options::default()).unwrap()
    };
    assert!(count(&once) > 0);
    assert_eq!(count(&two_looks(&bytes, &[])), count(&once));
}
