//! QEMU's process on the host, from /proc: scheduling statistics of its vCPU threads, its CPU time
//! and memory, its tap interfaces.

use std::collections::BTreeSet;
use std::path::Path;

use domstat_layout::latest::{Cpu, NetIo, Threads};
use domstat_layout::sink::DomSink;
use domstat_layout::{Clock, Group, Ns, Word};
use procfs::process::{FDTarget, Process};

use super::decode;
use super::limits::MAX_TAPS;
use super::qmp::Peer;
use crate::cgroup::Cgroup;
use crate::host::now;
use crate::process::runstate_estimator::{Activity, Reading};
use crate::threads::{Role, ThreadTimes};

/// The process that runs the VM, held so that another one that is given its number is not taken
/// for it.
#[derive(Debug)]
pub(super) struct QemuProcess {
    process: Process,
    pub(super) pid: i32,
    pub(super) start_ticks: u64,
    tick_ns: u64,
}

/// One vCPU thread as it was when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadSample {
    pub(super) began: Ns,
    pub(super) reading: Reading,
    pub(super) now: Ns,
}

impl QemuProcess {
    /// The process of this thread, if the kernel vouches that it is the one behind the socket at
    /// `path`. The number is QEMU's own word: a hostile QEMU may name any process, and one in
    /// another PID namespace means another process by it.
    pub(super) fn of_thread(tid: i32, peer: Option<Peer>, path: &Path) -> Option<Self> {
        // /proc has a directory for each thread, too, that speaks of the process.
        let pid = Process::new(tid).ok()?.status().ok()?.tgid;
        let process = Process::new(pid).ok()?;
        let peer = peer?;
        if peer.pid != pid && !(process.uid().ok()? == peer.uid && holds_socket(&process, path)) {
            return None;
        }
        let stat = process.stat().ok()?;
        let tick_ns = 1_000_000_000u64.checked_div(procfs::ticks_per_second())?;
        Some(Self { process, pid, start_ticks: stat.starttime, tick_ns })
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.process.stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// When it started, on CLOCK_BOOTTIME, rounded down to a tick.
    pub(super) const fn started(&self) -> Ns {
        Ns(self.start_ticks.saturating_mul(self.tick_ns))
    }

    /// A vCPU thread; `None` if it has exited or the kernel accounts nothing to it.
    pub(super) fn thread(&self, tid: i32) -> Option<ThreadSample> {
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
            // After the counters, so that they cannot say more than has passed.
            now: now(Clock::Boottime),
        })
    }

    /// CPU time and number of its threads by role; of vCPUs and IOThreads QEMU says which they are.
    pub(super) fn roles(
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
    pub(super) fn write_cgroup<D: DomSink>(&self, cgroup: &mut Cgroup, dom: &mut D) {
        cgroup.write(&self.process, dom, Clock::Boottime);
    }

    /// CPU time, in steps of a tick (10 ms).
    pub(super) fn cpu(&self) -> Option<(Cpu, Ns)> {
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

    /// Resident memory in bytes.
    pub(super) fn rss_bytes(&self) -> Option<u64> {
        self.process.statm().ok()?.resident.checked_mul(procfs::page_size())
    }

    /// The tap interfaces that it has open: the kernel names them in fdinfo.
    pub(super) fn taps(&self) -> Vec<String> {
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
    pub(super) fn interfaces(&self, names: &[String]) -> Vec<Option<(NetIo, Ns)>> {
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

/// Whether a process has a socket open that is bound to `path`: libvirt listens for a QEMU that it
/// starts and hands the socket over, and is the peer then.
fn holds_socket(process: &Process, path: &Path) -> bool {
    let Ok(sockets) = procfs::net::unix() else { return false };
    let bound: BTreeSet<u64> =
        sockets.into_iter().filter(|s| s.path.as_deref() == Some(path)).map(|s| s.inode).collect();
    let Ok(descriptors) = process.fd() else { return false };
    descriptors
        .flatten()
        .any(|fd| matches!(fd.target, FDTarget::Socket(inode) if bound.contains(&inode)))
}

/// What is published of a thread whose counters cannot be read.
pub(super) const NO_RUNSTATE: domstat_layout::latest::Runstate =
    <domstat_layout::latest::Runstate as Group>::NOT_PRODUCED;
