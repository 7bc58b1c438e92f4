//! Regions without an entry, found in the descriptors of processes.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use domstat_consumer::Liveness;
use domstat_consumer::fleet::{Fleet, Member};
use domstat_producer::{Region, RegionBuilder};
use domstat_tests::skip::skip;

/// A round over all processes takes a few scans on a busy host.
const SCANS: u32 = 200;

/// A producer in a process of its own, which ends with it.
struct Producer {
    child: Child,
    _input: ChildStdin,
}

impl Producer {
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let input = child.stdin.take()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let producer = Self { child, _input: input };
        (line == "ready\n").then_some(producer)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sandbox(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domstat-sandbox"));
    command.args(args);
    command
}

fn published(name: &str) -> Region {
    RegionBuilder::new(name).create_memfd().unwrap().unpublished.publish().unwrap()
}

/// The fleet of an empty directory, after all processes were looked at.
fn scanned(dir: &Path) -> Fleet {
    let mut fleet = Fleet::new(dir).scan_processes();
    for _ in 0..SCANS {
        fleet.refresh().unwrap();
        if fleet.is_scanned() {
            return fleet;
        }
    }
    panic!("processes are left after {SCANS} scans");
}

/// The members that a process writes, and their keys.
fn of(fleet: &Fleet, pid: u32) -> Vec<(&str, &Member)> {
    fleet.iter().filter(|(_, member)| member.owner().is_some_and(|o| o.pid == pid)).collect()
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[test]
fn a_region_without_an_entry_is_found_with_its_process_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let mut producer = Producer::start(&mut sandbox(&["hold", "alone"])).unwrap();
    let mut fleet = scanned(dir.path());
    let found = of(&fleet, producer.pid());
    let [(key, member)] = found.as_slice() else { panic!("{} found", found.len()) };
    assert_eq!(*key, format!("alone@{}", producer.pid()));
    assert_eq!(member.owner().unwrap().uid, uid());
    assert_eq!(member.liveness().unwrap(), Liveness::Live);
    // The same attachment as long as the region is there.
    let address = std::ptr::from_ref(member.region().unwrap());
    let key = (*key).to_owned();
    fleet.refresh().unwrap();
    assert_eq!(std::ptr::from_ref(fleet.get(&key).unwrap().region().unwrap()), address);
    producer.child.kill().unwrap();
    producer.child.wait().unwrap();
    assert_eq!(fleet.get(&key).unwrap().liveness().unwrap(), Liveness::Dead);
    assert!(of(&scanned(dir.path()), producer.pid()).is_empty());
}

#[test]
fn what_has_an_entry_is_not_found_twice_and_what_is_not_published_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (known, hidden) = (published("known"), published("hidden"));
    let _entry = known.announce(dir.path(), "known").unwrap();
    let unpublished = RegionBuilder::new("unpublished").create_memfd().unwrap();
    // Readers have the memory open, too, and frames are no regions.
    let fd = hidden.as_fd().unwrap().as_raw_fd();
    let _reader = std::fs::File::open(format!("/proc/self/fd/{fd}")).unwrap();
    let frames = RegionBuilder::new("frames").create_memfd_frames().unwrap();
    let fleet = scanned(dir.path());
    let pid = std::process::id();
    // Other tests have regions in this process.
    let is_ours = |key: &&str| {
        ["hidden", "known", "unpublished", "frames"].contains(&key.split('@').next().unwrap())
    };
    let keys: Vec<_> = fleet.iter().map(|(key, _)| key).filter(is_ours).collect();
    assert_eq!(keys, [format!("hidden@{pid}").as_str(), "known"]);
    assert!(fleet.get("known").unwrap().owner().is_none());
    assert_eq!(
        fleet.get(&format!("hidden@{pid}")).unwrap().path().parent().unwrap(),
        Path::new(&format!("/proc/{pid}/fd"))
    );
    drop((unpublished, frames));
}

#[test]
fn a_region_that_calls_itself_as_its_neighbor_takes_nothing_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let real = published("web1");
    let _entry = real.announce(dir.path(), "web1").unwrap();
    let liars = [(); 2].map(|()| Producer::start(&mut sandbox(&["hold", "web1"])).unwrap());
    let mut fleet = scanned(dir.path());
    for _ in 0..2 {
        let member = fleet.get("web1").unwrap();
        assert_eq!(member.region().unwrap().header().incarnation, real.incarnation());
        for liar in &liars {
            let found = of(&fleet, liar.pid());
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].0, format!("web1@{}", liar.pid()));
        }
        fleet.refresh().unwrap();
    }
    // Nor does a name that no domain may have.
    let liar = Producer::start(&mut sandbox(&["hold", "../\x1b[2Jx\n"])).unwrap();
    let fleet = scanned(dir.path());
    let found = of(&fleet, liar.pid());
    assert_eq!(found[0].0, format!("@{}", liar.pid()));
}

#[test]
fn a_process_that_opens_very_much_hides_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let n = 100_000.min(most.unwrap_or(u64::MAX).saturating_sub(100));
    let crowd = Producer::start(&mut sandbox(&["crowd", &n.to_string(), "crowded"])).unwrap();
    let other = Producer::start(&mut sandbox(&["hold", "other"])).unwrap();
    let mut fleet = scanned(dir.path());
    assert_eq!(of(&fleet, other.pid()).len(), 1);
    // Sealed memory that calls itself a region's is shown as what it is; what is not sealed may never be one.
    let found = of(&fleet, crowd.pid());
    let (regions, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(_, member)| member.region().is_ok());
    assert_eq!(regions.len(), 1, "{n} descriptors");
    assert_eq!(regions[0].0, format!("crowded@{}", crowd.pid()));
    assert_eq!(others.len(), 500);
    let before = fleet.iter().len();
    fleet.refresh().unwrap();
    assert_eq!(fleet.iter().len(), before);
}

/// Copies a program and its libraries to where `chroot` finds them.
fn install(program: &Path, root: &Path) -> PathBuf {
    let libraries = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&libraries.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(library, to).unwrap();
    }
    std::fs::copy(program, root.join("producer")).unwrap();
    PathBuf::from("/producer")
}

#[test]
fn a_jailed_domain_is_found_with_its_name_and_its_user() {
    const USER: u32 = 54_321;
    let (dir, jail) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(jail.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let program = install(Path::new(env!("CARGO_BIN_EXE_domstat-sandbox")), jail.path());
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--mount", "--fork", "--kill-child", "chroot"]);
    unshare.arg(format!("--userspec={USER}:{USER}")).arg(jail.path()).arg(&program);
    let mut announces = Command::new("unshare");
    announces.args(unshare.get_args()).args(["announce", "/"]);
    unshare.args(["hold", "jailed"]);
    let Some(producer) = Producer::start(&mut unshare) else {
        return skip("root", "no jail can be made here");
    };
    let fleet = scanned(dir.path());
    let of_user = |member: &Member| member.owner().is_some_and(|owner| owner.uid == USER);
    let found: Vec<_> = fleet.iter().filter(|(_, member)| of_user(member)).collect();
    let [(key, member)] = found.as_slice() else { panic!("{} found", found.len()) };
    let owner = member.owner().unwrap();
    let parent = format!("/proc/{0}/task/{0}/children", producer.pid());
    let children = std::fs::read_to_string(parent).unwrap();
    assert_eq!(children.trim(), owner.pid.to_string());
    assert_eq!(*key, format!("jailed@{}", owner.pid));
    assert_eq!(member.liveness().unwrap(), Liveness::Live);
    let said = announces.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("process 1 is not this one in /proc"), "{said}");
    // Its launcher knows the number that it has here.
    let fd: u32 = member.path().file_name().unwrap().to_str().unwrap().parse().unwrap();
    let link = domstat_layout::directory::RegionLink { pid: owner.pid, fd };
    let entry = domstat_producer::Announcement::of_process(dir.path(), "jailed", link).unwrap();
    let attached = domstat_consumer::Attachment::open(entry.path()).unwrap();
    assert_eq!(attached.liveness(), Liveness::Live);
    drop(producer);
    // It ends by itself when its input does.
    while attached.liveness().is_up() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn of_two_processes_of_a_user_that_can_write_the_older_one_is_the_producer() {
    let dir = tempfile::tempdir().unwrap();
    let region = published("shared");
    let memfd = region.as_fd().unwrap().as_fd().try_clone_to_owned().unwrap();
    // A child that inherits the descriptor, as a device process may.
    let mut child = Command::new("sleep");
    let child = child.arg("600").stdin(Stdio::from(memfd)).spawn().unwrap();
    let child = Producer { _input: spare_input(), child };
    let fleet = scanned(dir.path());
    assert!(of(&fleet, child.pid()).is_empty());
    let key = format!("shared@{}", std::process::id());
    assert_eq!(fleet.get(&key).unwrap().owner().unwrap().pid, std::process::id());
}

/// An input that nobody reads.
fn spare_input() -> ChildStdin {
    let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    child.wait().unwrap();
    input
}
