use super::*;
use crate::skip;

/// A tree of files that looks like /proc and a cgroup v2 mount.
struct Tree {
    dir: tempfile::TempDir,
}

const STAT: &str = "7 (qemu) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 2 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 \
                    0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";

impl Tree {
    /// Process 7 whose threads are in these groups, the main thread first.
    fn new(threads: &[&str]) -> Self {
        let tree = Self { dir: tempfile::tempdir().unwrap() };
        let mount = tree.path("cgroup");
        let mounts = format!(
            "31 23 0:28 / / rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /nowhere rw,relatime - cgroup cgroup rw,cpu\n\
             41 31 0:38 / {} rw,relatime - cgroup2 cgroup2 rw\n",
            mount.display()
        );
        tree.write("mountinfo", &mounts);
        tree.write("7/stat", STAT);
        tree.place(threads);
        tree
    }

    fn place(&self, threads: &[&str]) {
        for (tid, group) in (7..).zip(threads) {
            self.write(&format!("7/task/{tid}/cgroup"), &format!("1:cpu:/\n0::{group}\n"));
        }
        self.write("7/cgroup", &format!("1:cpu:/\n0::{}\n", threads[0]));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn process(&self) -> Process {
        Process::new_with_root(self.path("7")).unwrap()
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::with_mounts(&self.path("mountinfo"))
    }

    fn read(&self) -> (GroupLimits, GroupPressure) {
        self.cgroup().read(&self.process())
    }
}

/// libvirt's scope of a QEMU.
const SCOPE: &str = r"/machine.slice/machine-qemu\x2d1\x2dvm.scope";

fn libvirt() -> Tree {
    let in_scope = |child: &str| format!("{SCOPE}/libvirt/{child}");
    let (emulator, vcpu) = (in_scope("emulator"), in_scope("vcpu0"));
    let tree = Tree::new(&[&emulator, &vcpu]);
    tree.write(&format!("cgroup{emulator}/cpu.max"), "1000 100000\n");
    tree.write(&format!("cgroup{vcpu}/cpu.max"), "2000 100000\n");
    tree.write("cgroup/machine.slice/cpu.max", "3000 100000\n");
    tree
}

#[test]
fn every_number_is_read_and_max_is_no_limit() {
    let tree = Tree::new(&["/a.scope"]);
    for (name, text) in [
        ("cpu.max", "max 100000\n"),
        ("cpu.weight", "79\n"),
        (
            "cpu.stat",
            "usage_usec 5\nnr_periods 11\nnr_throttled 3\nthrottled_usec 4\nnr_bursts 0\n",
        ),
        ("memory.max", "max\n"),
        ("memory.high", "4096\n"),
        ("memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 0\n"),
        (
            "cpu.pressure",
            "some avg10=1.00 avg60=0.00 avg300=0.00 total=6\nfull avg10=0.00 avg60=0.00 \
             avg300=0.00 total=0\n",
        ),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
    ] {
        tree.write(&format!("cgroup/a.scope/{name}"), text);
    }
    let (limits, pressure) = tree.read();
    let expected = GroupLimits {
        cpu_quota_ns: Some(0),
        cpu_period_ns: Some(100_000_000),
        cpu_weight: Some(79),
        cpu_periods: Some(11),
        cpu_throttled_periods: Some(3),
        cpu_throttled_ns: Some(4000),
        memory_max_bytes: Some(0),
        memory_high_bytes: Some(4096),
        memory_high_events: Some(2),
        oom_kills: Some(5),
    };
    assert_eq!(limits, expected);
    let expected = GroupPressure {
        cpu_some_ns: Some(6000),
        cpu_full_ns: Some(0),
        memory_some_ns: Some(7000),
        ..GroupPressure::default()
    };
    assert_eq!(pressure, expected);
}

#[test]
fn what_is_not_there_or_not_as_expected_is_not_produced() {
    let nothing = (GroupLimits::default(), GroupPressure::default());
    assert_eq!(Tree::new(&["/absent.scope"]).read(), nothing);
    let hostile = Tree::new(&["/a.scope"]);
    for (name, text) in [
        ("cpu.max", "18446744073709551615 -1\n".to_owned()),
        ("cpu.weight", String::new()),
        ("cpu.stat", format!("{}nr_periods 1\n", "x".repeat(1 << 20))),
        ("memory.max", "99999999999999999999999\n".to_owned()),
        ("memory.events", "high\nhigh x\noom_kill 5 6\n".to_owned()),
        ("cpu.pressure", "some total=\nfull total=18446744073709551615\n".to_owned()),
    ] {
        hostile.write(&format!("cgroup/a.scope/{name}"), &text);
    }
    assert_eq!(hostile.read(), nothing);
}

#[test]
fn a_group_outside_of_the_mount_and_the_root_are_none() {
    for group in ["/", "", "/../other.scope", "/a/../b.scope", "relative"] {
        let tree = Tree::new(&[group]);
        for dir in ["cgroup", "other.scope", "cgroup/b.scope", "cgroup/relative"] {
            tree.write(&format!("{dir}/cpu.weight"), "100\n");
        }
        assert_eq!(tree.read().0.cpu_weight, None, "{group}");
    }
    let v1 = Tree::new(&["/a"]);
    v1.write("cgroup/a/cpu.weight", "100\n");
    v1.write("7/cgroup", "1:cpu:/a\n");
    assert_eq!(v1.read().0.cpu_weight, None, "a v1 hierarchy is not looked at");
}

#[test]
fn limits_of_some_threads_and_of_slices_are_not_those_of_the_domain() {
    let tree = libvirt();
    tree.write(&format!("cgroup{SCOPE}/cpu.weight"), "50\n");
    tree.write(&format!("cgroup{SCOPE}/libvirt/cpu.weight"), "60\n");
    let (limits, _) = tree.read();
    assert_eq!((limits.cpu_quota_ns, limits.cpu_weight), (None, Some(50)), "the scope");
}

#[test]
fn the_nearest_group_with_a_limit_is_taken() {
    let tree = libvirt();
    tree.write(&format!("cgroup{SCOPE}/memory.max"), "8192\n");
    tree.write(&format!("cgroup{SCOPE}/libvirt/memory.max"), "max\n");
    assert_eq!(tree.read().0.memory_max_bytes, Some(8192), "the scope has one");
    tree.write(&format!("cgroup{SCOPE}/libvirt/memory.max"), "4096\n");
    assert_eq!(tree.read().0.memory_max_bytes, Some(4096), "its child has one");

    let pod = Tree::new(&["/kubepods/pod1/vm"]);
    pod.write("cgroup/kubepods/pod1/vm/cpu.weight", "1\n");
    assert_eq!(pod.read().0.cpu_weight, Some(1), "its own, if no unit is there");
    pod.write("cgroup/kubepods/pod1/cpu.max", "5000 10000\n");
    assert_eq!(pod.read().0.cpu_quota_ns, Some(5_000_000));
}

#[test]
fn the_mount_with_the_longest_root_is_taken() {
    let tree = Tree::new(&["/a/b.scope"]);
    let mounts = format!(
        "41 31 0:38 /other {0}/x rw - cgroup2 cgroup2 rw\n\
         42 31 0:38 /a {0}/sub rw - cgroup2 cgroup2 rw\n",
        tree.dir.path().display()
    );
    tree.write("mountinfo", &mounts);
    tree.write("sub/b.scope/cpu.weight", "3\n");
    assert_eq!(tree.read().0.cpu_weight, Some(3));
}

#[test]
fn counters_go_on_in_another_group() {
    let tree = Tree::new(&["/a.scope"]);
    let throttled = |group: &str, us: u64| {
        tree.write(&format!("cgroup/{group}/cpu.stat"), &format!("throttled_usec {us}\n"));
    };
    throttled("a.scope", 100);
    throttled("b.scope", 7);
    let (mut cgroup, process) = (tree.cgroup(), tree.process());
    let mut read = || cgroup.read(&process).0.cpu_throttled_ns;
    assert_eq!(read(), Some(100_000), "all that the first group counted");
    throttled("a.scope", 130);
    assert_eq!(read(), Some(130_000));
    tree.place(&["/b.scope"]);
    assert_eq!(read(), Some(130_000), "of the second, what it counts from here on");
    throttled("b.scope", 9);
    assert_eq!(read(), Some(132_000));
}

#[test]
fn a_group_of_this_host_says_what_its_files_say() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(mount) = mount.and_then(|line| line.split(' ').nth(4)) else {
        return skip::skip("cgroup2", "cgroup v2 is not mounted");
    };
    let dir = Path::new(mount).join(format!("domstat-test-{}.scope", std::process::id()));
    if let Err(error) = std::fs::create_dir(&dir) {
        return skip::skip("cgroup2", &format!("no group can be made below {mount}: {error}"));
    }
    let group = RemovedGroup(dir.clone());
    let limited = std::fs::write(dir.join("cpu.max"), "5000 100000");
    let mut child = Spinner(
        std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap(),
    );
    if let Err(error) = std::fs::write(dir.join("cgroup.procs"), child.0.id().to_string()) {
        return skip::skip("cgroup2", &format!("no process can be moved: {error}"));
    }
    let process = Process::new(i32::try_from(child.0.id()).unwrap()).unwrap();
    let mut cgroup = Cgroup::default();
    std::thread::sleep(Duration::from_millis(300));
    // The process stands still: nothing is counted between two looks.
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let (limits, pressure) = cgroup.read(&process);
    let file = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    assert_eq!(cgroup.group.as_ref().unwrap().dir, dir);
    let some = file("cpu.pressure");
    let some = some.lines().next().and_then(|line| line.split_once("total="));
    let some = some.and_then(|(_, us)| us.parse::<u64>().ok()).map(|us| us * 1000);
    assert_eq!(pressure.cpu_some_ns, some, "cpu.pressure");
    if let Err(error) = limited {
        skip::skip("cgroup2-cpu", &format!("the controller cpu is not there: {error}"));
    } else {
        let stat = file("cpu.stat");
        let number = |key: &str| keyed(&stat, key).unwrap();
        assert_eq!(limits.cpu_quota_ns, Some(5_000_000));
        assert!(limits.cpu_throttled_ns.unwrap() > 0, "{limits:?}");
        assert_eq!(limits.cpu_throttled_ns, Some(number("throttled_usec") * 1000));
        assert_eq!(limits.cpu_throttled_periods, Some(number("nr_throttled")));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    drop(group);
}

/// A group that is removed in the end.
struct RemovedGroup(PathBuf);

impl Drop for RemovedGroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Spinner(std::process::Child);

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
