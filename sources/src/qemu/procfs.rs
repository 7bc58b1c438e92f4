//! QEMU's process on the host, from /proc: scheduling statistics of its vCPU threads, its CPU time
//! and memory, its tap interfaces.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use domstat_layout::latest::{Cpu, NetIo, Threads};
use domstat_layout::sink::DomSink;
use domstat_layout::{Clock, Group, Ns, Word};
use procfs::process::{FDTarget, Process};
use uuid::Uuid;

use super::decode;
use super::limits::MAX_TAPS;
use super::qmp::Peer;
use crate::cgroup::Cgroup;
use crate::host::now;
use crate::process::runstate_estimator::{Activity, Reading};
use crate::threads::{MAX_THREADS, Role, ThreadTimes};

/// Most descriptors of each process that are looked at for the one that listens.
const MAX_DESCRIPTORS: usize = 4096;

/// The process that runs the VM, held so that another one that is given its number is not taken
/// for it.
#[derive(Debug)]
pub(crate) struct QemuProcess {
    process: Process,
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    tick_ns: u64,
}

/// One vCPU thread as it was when it was read.
#[derive(Clone, Debug)]
pub(crate) struct ThreadSample {
    /// Its command name.
    pub(crate) name: String,
    pub(crate) began: Ns,
    pub(crate) reading: Reading,
    pub(crate) now: Ns,
}

/// Threads of a QEMU by the names that it gives them.
#[derive(Debug, Default)]
pub(crate) struct NamedThreads {
    pub(crate) vcpus: Vec<decode::Cpu>,
    pub(crate) iothreads: BTreeSet<i32>,
}

impl QemuProcess {
    /// The process of this thread, if the kernel vouches that it is the one behind the socket at
    /// `path`, which was connected to at `connected` (CLOCK_BOOTTIME). The number is QEMU's own
    /// word: a hostile QEMU may name any process, and one in another PID namespace means another
    /// process by it. The peer's number is that of the process that called listen(), which may have
    /// ended since: another process may have it now. So the process must have the socket open.
    pub(crate) fn of_thread(
        tid: i32,
        peer: Option<Peer>,
        path: &Path,
        connected: Ns,
    ) -> Option<Self> {
        // /proc has a directory for each thread, too, that speaks of the process.
        let pid = Process::new(tid).ok()?.status().ok()?.tgid;
        // Its directory is held open: what is read below is of one process.
        let process = Process::new(pid).ok()?;
        let peer = peer?;
        let is_peer = peer.pid == pid || process.uid().ok()? == peer.uid;
        if !is_peer || !holds_socket(&process, path) {
            return None;
        }
        let found = Self::held(process)?;
        // What began after the connection does not serve it.
        (found.started() <= connected).then_some(found)
    }

    /// The process that listens at `path`, if it is one of this host: the peer of a connection there, or
    /// where there is none, since QEMU takes no more, the one that is found to have the socket open.
    pub(super) fn listening(path: &Path, peer: Option<Peer>) -> Option<Self> {
        let Some(peer) = peer else { return Self::held(holder(path)?) };
        let process = Process::new(peer.pid).ok()?;
        holds_socket(&process, path).then(|| Self::held(process)).flatten()
    }

    /// Whether it was stopped, by a signal or a debugger.
    pub(super) fn is_stopped(&self) -> bool {
        self.process.stat().is_ok_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// Whether it is a QEMU by the name of its program.
    pub(super) fn is_qemu(&self) -> bool {
        let arguments = self.process.cmdline().unwrap_or_default();
        let program = arguments.first().map(Path::new);
        let name = program.and_then(Path::file_name).map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.contains("qemu") || name == "kvm")
    }

    /// Name and UUID of the VM, as far as the command line has them.
    pub(super) fn arguments(&self) -> (Option<String>, Option<[u8; 16]>) {
        let arguments = self.process.cmdline().unwrap_or_default();
        let name = value_of(&arguments, "name").and_then(guest_name);
        let uuid = value_of(&arguments, "uuid").and_then(|value| Uuid::parse_str(value).ok());
        (name, uuid.filter(|uuid| !uuid.is_nil()).map(Uuid::into_bytes))
    }

    /// Holds a process.
    fn held(process: Process) -> Option<Self> {
        let stat = process.stat().ok()?;
        let tick_ns = 1_000_000_000u64.checked_div(procfs::ticks_per_second())?;
        Some(Self { pid: stat.pid, process, start_ticks: stat.starttime, tick_ns })
    }

    /// The process `pid`, if its command line has `word`: as libvirt's pid file says, which may be
    /// that of a process that has ended.
    #[cfg(feature = "libvirt")]
    pub(crate) fn with_word(pid: i32, word: &str) -> Option<Self> {
        let process = Process::new(pid).ok()?;
        let has_word = process.cmdline().ok()?.iter().any(|has| has == word);
        has_word.then(|| Self::held(process)).flatten()
    }

    /// Threads that QEMU names `CPU N/...` and `IO ...`, as debug-threads=on has it do.
    pub(crate) fn named_threads(&self) -> NamedThreads {
        let mut found = NamedThreads::default();
        let tasks = self.process.tasks().into_iter().flatten().flatten();
        for task in tasks.take(super::limits::MAX_THREADS) {
            let Ok(stat) = task.stat() else { continue };
            let index = stat.comm.strip_prefix("CPU ").and_then(|rest| rest.split_once('/'));
            let index = index.and_then(|(index, _)| index.parse().ok());
            match index.filter(|index| *index < super::limits::MAX_CPUS) {
                Some(index) => {
                    let cpu = decode::Cpu { index, tid: Some(task.tid), qom_path: String::new() };
                    found.vcpus.push(cpu);
                }
                None if stat.comm.starts_with("IO ") => {
                    found.iothreads.insert(task.tid);
                }
                None => {}
            }
        }
        found.vcpus.sort_by_key(|cpu| (cpu.index, cpu.tid));
        found.vcpus.dedup_by_key(|cpu| cpu.index);
        found
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// When it started, on CLOCK_BOOTTIME, rounded down to a tick.
    pub(crate) const fn started(&self) -> Ns {
        Ns(self.start_ticks.saturating_mul(self.tick_ns))
    }

    /// A vCPU thread; `None` if it has exited or the kernel accounts nothing to it.
    pub(crate) fn thread(&self, tid: i32) -> Option<ThreadSample> {
        let task = self.process.task_from_tid(tid).ok()?;
        let stat = task.stat().ok()?;
        let schedstat = task.schedstat().ok()?;
        Some(ThreadSample {
            began: Ns(stat.starttime.saturating_mul(self.tick_ns)),
            reading: Reading {
                run_ns: schedstat.sum_exec_runtime,
                wait_ns: schedstat.run_delay,
                timeslices: schedstat.pcount,
                activity: Activity::from_letter(stat.state),
            },
            name: stat.comm,
            // After the counters, so that they cannot say more than has passed.
            now: now(Clock::Boottime),
        })
    }

    /// CPU time and number of its threads by role; of vCPUs and IOThreads QEMU says which they are.
    pub(crate) fn roles(
        &self,
        times: &mut ThreadTimes,
        cpus: &[decode::Cpu],
        iothreads: &BTreeSet<i32>,
    ) -> Option<Threads> {
        let vcpus: BTreeSet<i32> = cpus.iter().filter_map(|cpu| cpu.tid).collect();
        let role_of = |tid, name: &str| match (vcpus.contains(&tid), iothreads.contains(&tid)) {
            (true, _) => Role::Vcpu,
            (_, true) => Role::Iothread,
            _ => Role::of_name(name),
        };
        times.of_process(&self.process, role_of).map(Threads::from)
    }

    /// Writes limits and pressure of the control group that holds it.
    pub(crate) fn write_cgroup<D: DomSink>(&self, cgroup: &mut Cgroup, dom: &mut D) {
        cgroup.write(&self.process, dom, Clock::Boottime);
    }

    /// CPU time, in steps of a tick (10 ms).
    pub(crate) fn cpu(&self) -> Option<(Cpu, Ns)> {
        let as_of = now(Clock::Boottime);
        let stat = self.process.stat().ok()?;
        let ns = |ticks: u64| ticks.saturating_mul(self.tick_ns);
        let cpu = Cpu {
            time_ns: ns(stat.utime.saturating_add(stat.stime)).into(),
            user_ns: ns(stat.utime).into(),
            system_ns: ns(stat.stime).into(),
            vcpus_ns: stat.guest_time.map(ns).into(),
        };
        Some((cpu, as_of))
    }

    /// Ids of its threads, but for workers, which come and go with the load. Without
    /// `debug-threads=on` all have one name.
    pub(crate) fn thread_ids(&self, known: &BTreeSet<i32>) -> BTreeSet<i32> {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return known.clone();
        };
        let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let is_worker = |tid: &i32| {
            let name = std::fs::read_to_string(format!("/proc/{}/task/{tid}/comm", self.pid));
            name.is_ok_and(|name| Role::of_name(name.trim_end()) == Role::Worker)
        };
        let ids = tasks.flatten().filter_map(id).take(MAX_THREADS);
        // A name is asked for once.
        ids.filter(|tid| known.contains(tid) || !is_worker(tid)).collect()
    }

    /// Numbers that change when something is plugged, each from one system call: of its threads, and since
    /// Linux 6.2 of its descriptors (0 before).
    pub(super) fn counts(&self) -> Option<(u64, u64)> {
        let metadata = |what: &str| std::fs::metadata(format!("/proc/{}/{what}", self.pid)).ok();
        Some((metadata("task")?.nlink(), metadata("fd")?.size()))
    }

    /// How many descriptors it has open; `None` if that is not known.
    pub(crate) fn nr_descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count())
    }

    /// Resident memory in bytes.
    pub(crate) fn rss_bytes(&self) -> Option<u64> {
        self.process.statm().ok()?.resident.checked_mul(procfs::page_size())
    }

    /// The tap interfaces that it has open: the kernel names them in fdinfo.
    pub(crate) fn taps(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/fdinfo", self.pid)) else {
            return Vec::new();
        };
        let name = |path: &Path| {
            let text = std::fs::read_to_string(path).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("iff:"))?;
            Some(line.trim().to_owned()).filter(|name| !name.is_empty())
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| name(&entry.path())).take(MAX_TAPS).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Counters of these interfaces as the domain sees them: what the host sent, it received.
    pub(crate) fn interfaces(&self, names: &[String]) -> Vec<Option<(NetIo, Ns)>> {
        let as_of = now(Clock::Boottime);
        let Ok(devices) = self.process.dev_status() else { return vec![None; names.len()] };
        let io = |name: &String| {
            let d = devices.get(name)?;
            let io = NetIo {
                rx_bytes: Word::from(d.sent_bytes),
                rx_packets: Word::from(d.sent_packets),
                rx_errs: Word::from(d.sent_errs),
                rx_drop: Word::from(d.sent_drop),
                tx_bytes: Word::from(d.recv_bytes),
                tx_packets: Word::from(d.recv_packets),
                tx_errs: Word::from(d.recv_errs),
                tx_drop: Word::from(d.recv_drop),
            };
            Some((io, as_of))
        };
        names.iter().map(io).collect()
    }
}

/// Whether a process has a socket open that is bound to `path`: the one that listens, or one that it
/// accepted there. libvirt listens for a QEMU that it starts and hands the socket over, and is the
/// peer then.
fn holds_socket(process: &Process, path: &Path) -> bool {
    // Sockets of its own network namespace, which is not always ours.
    let Ok(sockets) = process.unix() else { return false };
    let bound: BTreeSet<u64> = sockets
        .into_iter()
        .filter(|s| s.path.as_deref().is_some_and(|bound| is_same(bound, path)))
        .map(|s| s.inode)
        .collect();
    if bound.is_empty() {
        return false;
    }
    let Ok(descriptors) = process.fd() else { return false };
    descriptors
        .flatten()
        .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if bound.contains(&inode)))
}

/// The first process that has a socket open that is bound to `path`.
fn holder(path: &Path) -> Option<Process> {
    let is_its =
        |s: &procfs::net::UnixNetEntry| s.path.as_deref().is_some_and(|bound| is_same(bound, path));
    let bound: BTreeSet<u64> =
        procfs::net::unix().ok()?.into_iter().filter(is_its).map(|s| s.inode).collect();
    if bound.is_empty() {
        return None;
    }
    let has = |process: &Process| {
        let descriptors = process.fd().into_iter().flatten().flatten();
        descriptors
            .take(MAX_DESCRIPTORS)
            .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if bound.contains(&inode)))
    };
    procfs::process::all_processes().ok()?.flatten().find(has)
}

/// What follows the last option of this name.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let is_it = |option: &str| {
        option.strip_prefix('-').is_some_and(|rest| rest.strip_prefix('-').unwrap_or(rest) == name)
    };
    let at = arguments.iter().rposition(|option| is_it(option))?;
    arguments.get(at.checked_add(1)?).map(String::as_str)
}

/// The guest's name in the value of `-name`: `web1`, or `guest=web1,debug-threads=on`. A comma in it is
/// doubled.
fn guest_name(value: &str) -> Option<String> {
    const COMMA: &str = "\0";
    let value = value.replace(",,", COMMA);
    let mut name = None;
    for (n, part) in value.split(',').enumerate() {
        match part.split_once('=') {
            Some(("guest", of_guest)) => name = Some(of_guest),
            None if n == 0 => name = Some(part),
            _ => {}
        }
    }
    name.filter(|name| !name.is_empty()).map(|name| name.replace(COMMA, ","))
}

/// Whether a socket that was bound to `bound` is the one at `path`. QEMU may have been given another
/// spelling: one through a symbolic link, or one relative to its working directory at that time.
pub(super) fn is_same(bound: &Path, path: &Path) -> bool {
    if bound == path {
        return true;
    }
    if bound.file_name() != path.file_name() {
        return false;
    }
    if bound.is_relative() {
        return path.ends_with(bound.strip_prefix(".").unwrap_or(bound));
    }
    let file = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    file(path).is_some_and(|of_path| file(bound) == Some(of_path))
}

/// What is published of a thread whose counters cannot be read.
pub(crate) const NO_RUNSTATE: domstat_layout::latest::Runstate =
    <domstat_layout::latest::Runstate as Group>::NOT_PRODUCED;

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// This process as the one behind the socket at `path`.
    fn found(path: &Path, connected: Ns) -> Option<i32> {
        let pid = std::process::id().try_into().unwrap();
        let peer = Peer { pid, uid: rustix::process::geteuid().as_raw() };
        QemuProcess::of_thread(pid, Some(peer), path, connected).map(|found| found.pid)
    }

    #[test]
    fn the_peers_number_is_not_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (me, connected) = (std::process::id().try_into().ok(), now(Clock::Boottime));
        assert_eq!(found(&path, connected), me);
        let other = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &other).unwrap();
        assert_eq!(found(&other.join("q.qmp"), connected), me, "another spelling");
        assert_eq!(found(&path, Ns(1)), None, "it began after the connection");
        drop(listener);
        assert_eq!(found(&path, connected), me, "it has the connection");
        // As a process that was given the number of the one that listened.
        drop((accepted, client));
        assert_eq!(found(&path, connected), None);
    }

    #[test]
    fn who_listens_is_found_by_the_socket_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.qmp");
        assert!(QemuProcess::listening(&path, None).is_none());
        let listener = UnixListener::bind(&path).unwrap();
        let me: i32 = std::process::id().try_into().unwrap();
        assert_eq!(QemuProcess::listening(&path, None).map(|found| found.pid), Some(me));
        let peer = |pid| Some(Peer { pid, uid: 0 });
        assert!(QemuProcess::listening(&path, peer(me)).is_some_and(|found| !found.is_stopped()));
        assert!(QemuProcess::listening(&path, peer(1)).is_none(), "it has not the socket open");
        drop(listener);
        assert!(QemuProcess::listening(&path, peer(me)).is_none());
    }

    #[test]
    fn the_command_line_names_the_guest() {
        let of = |line: &[&str]| {
            let arguments: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
            value_of(&arguments, "name").and_then(guest_name)
        };
        for (line, name) in [
            (&["qemu", "-name", "web1"][..], Some("web1")),
            (&["qemu", "--name", "web1,debug-threads=on"], Some("web1")),
            (&["qemu", "-name", "debug-threads=on,guest=web1"], Some("web1")),
            (&["qemu", "-name", "a,,b"], Some("a,b")),
            (&["qemu", "-name", "a", "-name", "b"], Some("b")),
            (&["qemu", "-name", "debug-threads=on"], None),
            (&["qemu", "-name"], None),
            (&["-nam", "name"], None),
        ] {
            assert_eq!(of(line).as_deref(), name, "{line:?}");
        }
    }

    #[test]
    fn threads_are_counted() {
        let me = QemuProcess::held(Process::myself().unwrap()).unwrap();
        let before = me.counts().unwrap().0;
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let (sender, receiver) = std::sync::mpsc::channel::<()>();
                (std::thread::spawn(move || receiver.recv()), sender)
            })
            .collect();
        // More than other tests may end meanwhile.
        assert!(me.counts().unwrap().0 > before);
        for (thread, sender) in threads {
            drop(sender);
            assert!(thread.join().unwrap().is_err());
        }
    }

    #[test]
    fn a_relative_path_is_the_end_of_the_whole_one() {
        let path = Path::new("/run/vms/web1.qmp");
        for bound in ["/run/vms/web1.qmp", "web1.qmp", "./web1.qmp", "vms/web1.qmp"] {
            assert!(is_same(Path::new(bound), path), "{bound}");
        }
        for bound in ["b1.qmp", "other/web1.qmp", "/run/web1.qmp", ""] {
            assert!(!is_same(Path::new(bound), path), "{bound}");
        }
    }
}
