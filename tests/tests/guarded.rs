//! Plain files, truncated under their readers: an error, never a signal, never a torn value.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use domstat_consumer::attach::Truncated;
use domstat_consumer::region::MappedFile;
use domstat_consumer::{AttachError, ReadError, Reading, Region, Snapshot};
use domstat_layout::Ns;
use domstat_layout::latest::Runstate;
use domstat_producer::{Created, Placement, RegionBuilder};
use domstat_tests::{assert_whole, runstate};
use tempfile::{NamedTempFile, TempDir};

/// A file as a producer leaves it that was killed: a page for each record.
fn region(nr_vcpus: u32) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain.region");
    let Created { unpublished, mut vcpus, .. } = RegionBuilder::new("plain")
        .vcpus(nr_vcpus)
        .placement(Placement::PageGranular)
        .create_file(&path)
        .unwrap();
    for vcpu in &mut vcpus {
        vcpu.write(&runstate(7), Ns(7));
    }
    let region = unpublished.publish().unwrap();
    let copy = dir.path().join("copy.region");
    std::fs::copy(&path, &copy).unwrap();
    drop((region, vcpus));
    (dir, copy)
}

fn truncate(path: &std::path::Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn is_lost<T>(result: Result<T, ReadError>) -> Truncated {
    match result {
        Err(ReadError::Truncated(lost)) => lost,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a value was read from a file that was truncated"),
    }
}

#[test]
fn every_read_of_a_truncated_file_is_an_error() {
    let (_dir, path) = region(3);
    let region = Region::open(&path).unwrap();
    let vcpu = region.vcpu(2).unwrap();
    assert_eq!(vcpu.read::<Runstate>().unwrap().active().unwrap().group, runstate(7));
    let len = std::fs::metadata(&path).unwrap().len();

    truncate(&path, 0);
    let lost = is_lost(vcpu.read::<Runstate>());
    assert_eq!((lost.mapped_len, lost.file_len), (len, 0));
    assert!(lost.to_string().contains("truncated"), "{lost}");
    is_lost(vcpu.stat(Runstate::running_ns));
    is_lost(region.dom().read::<domstat_layout::latest::Identity>());
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    is_lost(snapshot.vcpu(0).unwrap().vcpu_group::<Runstate>());
    is_lost(snapshot.dom().dom_group::<domstat_layout::latest::Memory>());
    assert_eq!(region.status().state, None);
    assert_eq!(region.copy_schema(), None);

    // Made long again, it is as lost as before: an access failed.
    truncate(&path, len);
    let lost = is_lost(vcpu.read::<Runstate>());
    assert!(lost.to_string().contains("could not be read"), "{lost}");
    assert!(matches!(Region::open(&path), Err(AttachError::Geometry { .. })));
}

#[test]
fn a_truncation_inside_a_group_raises_no_fault_and_is_an_error() {
    let (_dir, path) = region(1);
    let region = Region::open(&path).unwrap();
    let vcpu = region.vcpu(0).unwrap();
    assert!(vcpu.read::<Runstate>().is_ok());
    // Past seq and the first fields; the rest of the page reads as zeros from now on.
    let at = region.geometry().vcpu_offset(0).unwrap() + 32 + 40;
    truncate(&path, at as u64);
    is_lost(vcpu.read::<Runstate>());
    is_lost(vcpu.stat(Runstate::offline_ns));
}

#[test]
fn what_is_mapped_and_not_yet_believed_is_guarded_too() {
    let (_dir, path) = region(1);
    let mapped = MappedFile::open(&path).unwrap();
    mapped.intact().unwrap();
    truncate(&path, 0);
    assert_eq!(mapped.mem().load_u32(0), Some(0));
    assert!(mapped.intact().is_err());
    assert!(matches!(mapped.attach(), Err(AttachError::Truncated(_))));
}

#[test]
fn readers_beside_truncations_see_whole_groups_or_an_error() {
    const ROUNDS: usize = 200;
    let mut lost = 0;
    for round in 0..ROUNDS {
        let (_dir, path) = region(4);
        let region = Region::open(&path).unwrap();
        let truncated = AtomicBool::new(false);
        // Somewhere in the file, page boundaries and the middle of groups included.
        let len = std::fs::metadata(&path).unwrap().len();
        let to = (round as u64 * 104_729) % (len - 8);
        let to = if round % 2 == 0 { to & !4095 } else { to };
        lost += thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|reader| {
                    let (region, truncated) = (&region, &truncated);
                    scope.spawn(move || {
                        let mut snapshot = Snapshot::new();
                        loop {
                            let last = truncated.load(Ordering::Acquire);
                            let reading = if reader == 0 {
                                region.vcpu(3).unwrap().read::<Runstate>()
                            } else {
                                region.snapshot(&mut snapshot);
                                snapshot.vcpu(3).unwrap().vcpu_group::<Runstate>()
                            };
                            match reading {
                                Ok(Reading::Active(sample)) => {
                                    assert!(!last, "read from a truncated file");
                                    assert_whole(&sample, sample.updated);
                                    assert_eq!(sample.updated, Ns(7));
                                }
                                Ok(other) => panic!("{other:?} is not what was written"),
                                Err(ReadError::Truncated(_)) => return 1,
                                Err(other) => panic!("{other}"),
                            }
                        }
                    })
                })
                .collect();
            thread::yield_now();
            truncate(&path, to);
            truncated.store(true, Ordering::Release);
            readers.into_iter().map(|r| r.join().unwrap()).sum::<usize>()
        });
    }
    assert_eq!(lost, 2 * ROUNDS, "every reader got an error");
}

#[test]
fn mappings_come_and_go_while_others_are_lost() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (_dir, path) = region(1);
                    let (first, second) =
                        (Region::open(&path).unwrap(), Region::open(&path).unwrap());
                    drop(second);
                    truncate(&path, 0);
                    is_lost(first.vcpu(0).unwrap().read::<Runstate>());
                }
            });
        }
    });
}

/// Run in a process of its own by the test below.
#[test]
#[ignore = "dies of SIGBUS, as it must"]
fn child_with_a_mapping_that_is_not_ours() {
    let (_dir, path) = region(1);
    let guarded = Region::open(&path).unwrap();
    truncate(&path, 0);
    is_lost(guarded.vcpu(0).unwrap().read::<Runstate>());
    // The guard is in place, and does not swallow what is not its business.
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(4096).unwrap();
    let other = domstat_tests::unguarded::Plain::map(file.as_file(), 4096).unwrap();
    assert_eq!(other.first_byte(), 0);
    file.as_file().set_len(0).unwrap();
    println!("before {}", std::io::Write::flush(&mut std::io::stdout()).is_ok());
    println!("after {}", other.first_byte());
}

#[test]
fn a_fault_in_another_mapping_kills_as_it_did() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_with_a_mapping_that_is_not_ours", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("before true") && !said.contains("after"), "{said}");
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{:?}", output.status);
}
