//! Entries of regions in a directory: who makes and removes them.

use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use domstat_consumer::{Attachment, Liveness};
use domstat_layout::directory::RegionLink;
use domstat_producer::{AnnounceError, Announcement, CreateError, Region, RegionBuilder};
use domstat_producer::{Created, PublishError, Published, remove_stale_entries};
use domstat_tests::skip::skip;
use rustix::fs::{MemfdFlags, Mode, memfd_create};

fn published(name: &str) -> Region {
    RegionBuilder::new(name).create_memfd().unwrap().unpublished.publish().unwrap()
}

fn link(region: &Region) -> RegionLink {
    let fd = region.as_fd().unwrap().as_raw_fd().cast_unsigned();
    RegionLink { pid: std::process::id(), fd }
}

#[test]
fn entries_of_a_producer_that_had_this_process_id_are_removed_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let own = published("own");
    let _entry = own.announce(dir.path(), "own").unwrap();
    let left = RegionLink { fd: 1000, ..link(&own) };
    symlink(left.to_string(), at("left.domstat")).unwrap();
    symlink(RegionLink { pid: 1, fd: 3 }.to_string(), at("other.domstat")).unwrap();
    symlink(left.to_string(), at("no-entry")).unwrap();
    // Nothing but the new entry changes while another is made.
    let second = published("second");
    let _second = second.announce(dir.path(), "second").unwrap();
    assert!(at("left.domstat").is_symlink());
    assert_eq!(remove_stale_entries(dir.path()).unwrap(), 1);
    assert!(!at("left.domstat").is_symlink());
    for kept in ["own.domstat", "second.domstat", "other.domstat", "no-entry"] {
        assert!(at(kept).is_symlink(), "{kept}");
    }
}

#[test]
fn an_entry_that_is_left_is_replaced_by_the_next_producer_of_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = published("web1");
    first.announce(dir.path(), "web1").unwrap().leave();
    let entry = dir.path().join("web1.domstat");
    assert_eq!(Attachment::open(&entry).unwrap().liveness(), Liveness::Live);
    let second = published("web1");
    let taken = second.announce(dir.path(), "web1").unwrap_err();
    assert!(matches!(taken, AnnounceError::NameTaken { .. }), "{taken}");
    drop(first);
    assert!(entry.is_symlink() && !entry.exists());
    let announcement = second.announce(dir.path(), "web1").unwrap();
    let incarnation = Attachment::open(&entry).unwrap().region().header().incarnation;
    assert_eq!(incarnation, second.incarnation());
    drop(announcement);
    assert!(!entry.is_symlink());
}

#[test]
fn a_launcher_announces_the_region_of_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let region = published("web1");
    let entry = Announcement::of_process(dir.path(), "web1", link(&region)).unwrap();
    assert_eq!(Attachment::open(entry.path()).unwrap().liveness(), Liveness::Live);
    let file = tempfile::tempfile().unwrap();
    let wrong = RegionLink { fd: file.as_raw_fd().cast_unsigned(), ..link(&region) };
    let refused = Announcement::of_process(dir.path(), "web2", wrong).unwrap_err();
    assert!(matches!(refused, AnnounceError::NotARegion { .. }), "{refused}");
    let absent = RegionLink { fd: 9999, ..wrong };
    let refused = Announcement::of_process(dir.path(), "web2", absent).unwrap_err();
    assert!(matches!(refused, AnnounceError::Os { .. }), "{refused}");
}

#[test]
fn a_region_lies_in_the_memory_that_a_launcher_made() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("domstat:web1", flags).unwrap();
    // As of a region that was there before.
    rustix::io::write(&memfd, &[0xff; 70_000]).unwrap();
    let launcher = memfd.try_clone().unwrap();
    let mut created = RegionBuilder::new("web1").create_in_memfd(memfd).unwrap();
    created.vcpus[0].write(&domstat_tests::runstate(7), domstat_layout::Ns(7));
    let Created { unpublished, .. } = created;
    let region = unpublished.publish().unwrap();
    let read = domstat_consumer::Region::from_fd(launcher.try_clone().unwrap()).unwrap();
    assert_eq!(read.header().incarnation, region.incarnation());
    assert!(rustix::io::pwrite(&launcher, b"x", 0).is_err(), "it is sealed");
    let again = RegionBuilder::new("web1").create_in_memfd(launcher).map(drop);
    assert!(matches!(again, Err(CreateError::NotSealable)), "{again:?}");
    let plain = memfd_create("domstat:web1", MemfdFlags::CLOEXEC).unwrap();
    let plain = RegionBuilder::new("web1").create_in_memfd(plain).map(drop);
    assert!(matches!(plain, Err(CreateError::NotSealable)), "{plain:?}");
}

#[test]
fn memory_has_the_mode_that_was_asked_for() {
    for (asked, found) in [(None, 0o777), (Some(0o444), 0o444)] {
        let mut builder = RegionBuilder::new("web1");
        if let Some(mode) = asked {
            builder = builder.mode(mode);
        }
        let region = builder.create_memfd().unwrap().unpublished.publish().unwrap();
        let stat = rustix::fs::fstat(region.as_fd().unwrap()).unwrap();
        assert_eq!(Mode::from_raw_mode(stat.st_mode).as_raw_mode(), found);
    }
}

fn publish_as(dir: &Path, name: &str) -> Result<Published, PublishError> {
    RegionBuilder::new(name).create_memfd().unwrap().unpublished.publish_as(dir, name)
}

#[test]
fn a_region_and_its_entry_begin_and_end_together() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let published = publish_as(dir, "web1").unwrap();
    assert_eq!(published.path(), dir.join("web1.domstat"));
    let seen = Attachment::open(published.path()).unwrap();
    assert_eq!(seen.region().header().incarnation, published.incarnation());
    let Err(PublishError::Announce(AnnounceError::NameTaken { .. })) = publish_as(dir, "web1")
    else {
        panic!("a live region has the name")
    };
    assert_eq!(seen.liveness(), Liveness::Live);
    published.retire();
    assert_eq!(seen.liveness(), Liveness::Retired);
    drop(publish_as(dir, "web2").unwrap());
    // From elsewhere, as in a process that ends without dropping anything.
    let published = std::mem::ManuallyDrop::new(publish_as(dir, "web3").unwrap());
    let (seen, retirer) = (Attachment::open(published.path()).unwrap(), published.retirer());
    std::thread::spawn(move || retirer.clone().retire()).join().unwrap();
    assert_eq!(seen.liveness(), Liveness::Retired);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    // An entry that another producer has put there meanwhile is not ours to remove.
    let published = publish_as(dir, "web4").unwrap();
    std::fs::remove_file(published.path()).unwrap();
    symlink("/proc/1/fd/3", published.path()).unwrap();
    published.retirer().retire();
    published.retire();
    assert!(dir.join("web4.domstat").is_symlink());
    // The entry can be left, and the region goes on.
    let (region, entry) = publish_as(dir, "web5").unwrap().into_parts();
    entry.leave();
    let seen = Attachment::open(dir.join("web5.domstat")).unwrap();
    region.retire();
    assert_eq!(seen.liveness(), Liveness::Retired);
}

/// Runs the producer in a process id namespace of its own; `None` where there can be none.
fn in_namespace(mounts_proc: bool, dir: &Path) -> Option<String> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork"]);
    if mounts_proc {
        unshare.arg("--mount-proc");
    }
    let output =
        unshare.arg(env!("CARGO_BIN_EXE_domstat-sandbox")).arg("announce").arg(dir).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn no_entry_names_a_process_of_another_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let Some(said) = in_namespace(false, dir.path()) else {
        return skip("root", "no process id namespace can be made here");
    };
    assert!(said.starts_with("process 1 is not this one in /proc"), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // Consumers of the same container see the process by that number.
    let said = in_namespace(true, dir.path()).unwrap();
    assert!(said.starts_with("announced at"), "{said}");
}
