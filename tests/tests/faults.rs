//! Short runs of `domstat-faults`, one after the other (`ci/faults.sh` runs long ones), and what it
//! found, as tests of their own.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::thread;

use domstat_consumer::Region;
use domstat_producer::{CreateError, RegionBuilder};

static ALONE: Mutex<()> = Mutex::new(());

/// Runs the harness; whether all was well, and what it printed.
fn faults(arguments: &[&str]) -> (bool, String) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let harness = env!("CARGO_BIN_EXE_domstat-faults");
    let output = Command::new(harness).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_ne!(output.status.code(), Some(2), "{errors}");
    (output.status.success(), format!("{}{errors}", String::from_utf8_lossy(&output.stdout)))
}

fn all_well(case: &str) {
    let (well, printed) = faults(&["--faults", "40", "--case", case]);
    assert!(well, "{printed}");
    // Nothing of what is said to be read is nothing.
    let rows: Vec<&str> = printed.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let read = |row: &&str| row.split(" | ").nth(2).is_some_and(|values| values != "0");
    assert!(rows.iter().any(read), "{printed}");
}

#[test]
fn killed_and_stopped_writers() {
    all_well("kill");
}

#[test]
fn killed_device_processes() {
    all_well("devices");
}

#[test]
fn torn_values_are_found() {
    for case in ["kill", "devices"] {
        let (well, printed) = faults(&["--torn", "--faults", "20", "--case", case]);
        assert!(!well, "{printed}");
    }
}

#[test]
fn restarted_and_rival_producers() {
    all_well("storm");
    all_well("rivals");
}

#[test]
fn many_first_attaches() {
    all_well("attach");
}

#[test]
fn files_that_change_under_a_reader() {
    all_well("files");
}

#[test]
fn hostile_producers() {
    all_well("hostile");
}

#[test]
fn a_reader_that_never_rests() {
    all_well("spin");
}

#[test]
fn machines_without_descriptors_or_memory() {
    all_well("exhaust");
}

#[test]
fn of_producers_that_publish_at_once_one_gets_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    for left_behind in [false, true, true] {
        let (rivals, ready) = (8, Barrier::new(8));
        let published = thread::scope(|scope| {
            let rival = |_| {
                scope.spawn(|| {
                    let created = RegionBuilder::new("rival").create_file(&path).unwrap();
                    // Each has found the path free, or left behind by a producer that has exited.
                    ready.wait();
                    created.unpublished.publish()
                })
            };
            let rivals: Vec<_> = (0..rivals).map(rival).collect();
            rivals.into_iter().map(|rival| rival.join().unwrap()).collect::<Vec<_>>()
        });
        let (won, lost): (Vec<_>, Vec<_>) = published.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "left behind: {left_behind}");
        for error in lost {
            assert!(matches!(error, Err(CreateError::InUse { .. })), "{:?}", error.err());
        }
        let found = Region::open(&path).unwrap();
        assert_eq!(found.is_held(), Some(true));
        assert_eq!(names(dir.path()), ["region"]);
        // What a producer that was killed leaves: the same file, and no lock.
        let bytes = fs::read(&path).unwrap();
        drop(won);
        assert!(!path.exists());
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn what_killed_producers_left_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at(".domstat-region-abcdef"), [0; 4096]).unwrap();
    fs::write(at(".domstat-region-empty0"), []).unwrap();
    fs::write(at(".domstat-region-others"), "somebody's own").unwrap();
    fs::write(at(".domstat-region-settings"), []).unwrap();
    // A name as long as those that once were temporary.
    fs::write(at(".domstat-config"), []).unwrap();
    fs::create_dir(at(".domstat-region-folder")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at(".domstat-region-link00")).unwrap();
    fs::write(at(".domstat-region-locked"), [0; 4096]).unwrap();
    let at_work = File::open(at(".domstat-region-locked")).unwrap();
    at_work.lock().unwrap();
    let created = RegionBuilder::new("next").create_file(at("region")).unwrap();
    let region = created.unpublished.publish().unwrap();
    let left = [
        ".domstat-config",
        ".domstat-region-folder",
        ".domstat-region-link00",
        ".domstat-region-locked",
        ".domstat-region-others",
        ".domstat-region-settings",
        "region",
    ];
    assert_eq!(names(dir.path()), left);
    drop(region);
}

#[test]
fn a_consumer_that_looks_for_a_lock_does_not_keep_a_producer_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    drop(RegionBuilder::new("first").create_file(&path).unwrap());
    let created = RegionBuilder::new("first").create_file(&path).unwrap();
    let region = created.unpublished.publish().unwrap();
    let bytes = fs::read(&path).unwrap();
    drop(region);
    fs::write(&path, bytes).unwrap();
    // As a consumer's look does, though for longer.
    let looking = File::open(&path).unwrap();
    looking.lock_shared().unwrap();
    thread::scope(|scope| {
        let starting = scope.spawn(|| RegionBuilder::new("next").create_file(&path).map(|_| ()));
        thread::sleep(std::time::Duration::from_millis(5));
        looking.unlock().unwrap();
        starting.join().unwrap().unwrap();
    });
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn of_two_producers_of_one_name_the_second_waits_until_the_first_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let publish = || RegionBuilder::new("n").create_memfd().unwrap().unpublished.publish().unwrap();
    let (first, second) = (publish(), publish());
    // What another process holds while it looks at the name and takes it.
    let lock = File::create(dir.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    thread::scope(|scope| {
        let entry = scope.spawn(|| first.announce(dir.path(), "n").unwrap());
        thread::sleep(std::time::Duration::from_millis(100));
        assert!(!entry.is_finished() && !dir.path().join("n.domstat").is_symlink());
        lock.unlock().unwrap();
        let _entry = entry.join().unwrap();
        let taken = second.announce(dir.path(), "n").unwrap_err();
        assert!(matches!(taken, domstat_producer::AnnounceError::NameTaken { .. }), "{taken}");
        assert_eq!(names(dir.path()), ["n.domstat"]);
    });
}

#[test]
fn a_writer_survives_a_file_that_is_truncated_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let created = RegionBuilder::new("n").vcpus(200).create_file(&path).unwrap();
    let mut vcpus = created.vcpus;
    let region = created.unpublished.publish().unwrap();
    let write = |vcpu: &mut domstat_producer::VcpuWriter| {
        vcpu.write(&domstat_tests::runstate(7), domstat_layout::Ns(7));
    };
    vcpus.iter_mut().for_each(write);
    region.check().unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    vcpus.iter_mut().for_each(write);
    let truncated = region.check().unwrap_err();
    assert_eq!((truncated.file_len, truncated.path.as_path()), (0, path.as_path()));
    // Made long again, it is still not what readers have mapped.
    File::options().write(true).open(&path).unwrap().set_len(truncated.mapped_len).unwrap();
    vcpus.iter_mut().for_each(write);
    region.notify();
    assert!(region.check().is_err());
    region.retire();
    assert!(!path.exists());
}
