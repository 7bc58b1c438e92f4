//! CPU time and number of a domain's host threads by role, from /proc/PID/task.
//!
//! Times go on over threads that have ended, up to what they were last seen with: a thread that
//! begins and ends between two looks is not counted.

use std::collections::HashMap;

use domstat_layout::latest::Threads;
use procfs::process::{Process, Task};

use crate::vhost;

/// Most threads of a domain that are looked at; of one that has more nothing is said. QEMU has one
/// for each vCPU, of which there are at most 4,096, and some hundreds at most besides.
pub(crate) const MAX_THREADS: usize = 8192;

/// Role of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs a vCPU.
    Vcpu,
    /// It serves devices, as QEMU's IOThreads do.
    Iothread,
    /// It is the kernel's, and serves a vhost device.
    Vhost,
    /// It comes and goes with the load.
    Worker,
    /// Any other: main loop, migration, display.
    Other,
}

const NR_ROLES: usize = 5;

impl Role {
    /// The role that a thread's name shows. QEMU names its threads with `-name debug-threads=on`,
    /// as libvirt has it do; other VMMs and the kernel always do.
    pub(crate) fn of_name(name: &str) -> Self {
        let numbered = |prefix: &str| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        // QEMU, Firecracker, cloud-hypervisor, crosvm, and the micro-VM of this crate.
        if ["CPU ", "fc_vcpu ", "vcpu", "crosvm_vcpu", "domstat-vcpu"].into_iter().any(numbered) {
            return Self::Vcpu;
        }
        if numbered("vhost-") {
            return Self::Vhost;
        }
        // The kernel's own workers for io_uring are threads of the process.
        if name == "worker" || numbered("iou-wrk-") {
            return Self::Worker;
        }
        // QEMU's thread that serves monitors is named as if it were one of those.
        if name.starts_with("IO ") && name != "IO mon_iothread" || numbered("domstat-queue") {
            return Self::Iothread;
        }
        Self::Other
    }
}

/// The threads of one role; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfRole {
    pub(crate) ns: Option<u64>,
    pub(crate) threads: Option<u64>,
}

/// The threads of a domain, by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ByRole([OfRole; NR_ROLES]);

#[cfg(test)]
impl ByRole {
    pub(crate) const fn of(&self, role: Role) -> OfRole {
        let [vcpu, iothread, vhost, worker, other] = self.0;
        match role {
            Role::Vcpu => vcpu,
            Role::Iothread => iothread,
            Role::Vhost => vhost,
            Role::Worker => worker,
            Role::Other => other,
        }
    }
}

impl From<ByRole> for Threads {
    fn from(all: ByRole) -> Self {
        let [vcpu, iothread, vhost, worker, other] = all.0;
        Self {
            vcpu_ns: vcpu.ns.into(),
            vcpu_threads: vcpu.threads.into(),
            iothread_ns: iothread.ns.into(),
            iothread_threads: iothread.threads.into(),
            vhost_ns: vhost.ns.into(),
            vhost_threads: vhost.threads.into(),
            worker_ns: worker.ns.into(),
            worker_threads: worker.threads.into(),
            other_ns: other.ns.into(),
            other_threads: other.threads.into(),
        }
    }
}

/// Identity of a thread: an id alone is given to another thread some time after its thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ThreadKey {
    pub(crate) tid: i32,
    pub(crate) start_ticks: u64,
}

/// CPU time that the threads of a domain have used, by role, those that have ended included.
#[derive(Debug, Default)]
pub(crate) struct ThreadTimes {
    /// Time of each thread as it was last seen, and in which look.
    known: HashMap<ThreadKey, (u64, u64)>,
    used: [u64; NR_ROLES],
    looks: u64,
}

impl ThreadTimes {
    /// Begins to look at all threads.
    pub(crate) fn look(&mut self) -> Look<'_> {
        self.looks = self.looks.wrapping_add(1);
        Look { times: self, threads: [0; NR_ROLES] }
    }

    /// Looks at all threads of a process, whose roles `role_of` knows by their ids and names. `None`
    /// if the process has ended, has too many, or the kernel does not account for their time.
    pub(crate) fn of_process(
        &mut self,
        process: &Process,
        role_of: impl Fn(i32, &str) -> Role,
    ) -> Option<ByRole> {
        let mut seen = Vec::new();
        for task in process.tasks().ok()?.flatten() {
            if seen.len() >= MAX_THREADS {
                return None;
            }
            // One that has just ended is left out.
            seen.extend(sample(&task, &role_of));
        }
        self.add(process.pid, seen)
    }

    /// Looks at some threads of a process, whose ids and roles these are.
    pub(crate) fn of_threads(&mut self, process: &Process, ids: &[(i32, Role)]) -> Option<ByRole> {
        let thread = |&(tid, role): &(i32, Role)| {
            sample(&process.task_from_tid(tid).ok()?, |_, _: &str| role)
        };
        self.add(process.pid, ids.iter().filter_map(thread).collect())
    }

    fn add(&mut self, pid: i32, seen: Vec<(ThreadKey, Role, u64)>) -> Option<ByRole> {
        if seen.is_empty() {
            return None;
        }
        let mut look = self.look();
        for (key, role, run_ns) in seen {
            look.thread(key, role, run_ns);
        }
        Some(look.done(pid))
    }
}

fn sample(task: &Task, role_of: impl Fn(i32, &str) -> Role) -> Option<(ThreadKey, Role, u64)> {
    let (stat, schedstat) = (task.stat().ok()?, task.schedstat().ok()?);
    let key = ThreadKey { tid: task.tid, start_ticks: stat.starttime };
    Some((key, role_of(task.tid, &stat.comm), schedstat.sum_exec_runtime))
}

/// One look at all threads of a domain.
pub(crate) struct Look<'a> {
    times: &'a mut ThreadTimes,
    threads: [u64; NR_ROLES],
}

impl Look<'_> {
    /// A thread that has used this much time.
    pub(crate) fn thread(&mut self, key: ThreadKey, role: Role, run_ns: u64) {
        let ThreadTimes { known, used, looks } = &mut *self.times;
        let (before, look) = known.entry(key).or_insert((0, *looks));
        let more = run_ns.saturating_sub(*before);
        (*before, *look) = (run_ns.max(*before), *looks);
        // What a thread used under another name stays where it was counted.
        if let Some(used) = used.get_mut(role as usize) {
            *used = used.saturating_add(more);
        }
        if let Some(threads) = self.threads.get_mut(role as usize) {
            *threads = threads.saturating_add(1);
        }
    }

    /// All threads were seen. Those that the kernel runs for vhost devices of process `pid` are
    /// added where they are not threads of the process itself.
    pub(crate) fn done(mut self, pid: i32) -> ByRole {
        let is_vhost_known = match vhost::threads_of(pid) {
            vhost::Threads::OfProcess => true,
            vhost::Threads::Unknown => false,
            vhost::Threads::OfKernel(threads) => {
                for vhost::KernelThread { tid, start_ticks, run_ns } in threads {
                    self.thread(ThreadKey { tid, start_ticks }, Role::Vhost, run_ns);
                }
                true
            }
        };
        let Self { times, threads } = self;
        let looks = times.looks;
        times.known.retain(|_, (_, look)| *look == looks);
        let mut all = [OfRole::default(); NR_ROLES];
        for ((of_role, used), threads) in all.iter_mut().zip(times.used).zip(threads) {
            *of_role = OfRole { ns: Some(used), threads: Some(threads) };
        }
        if !is_vhost_known && let Some(vhost) = all.get_mut(Role::Vhost as usize) {
            *vhost = OfRole::default();
        }
        ByRole(all)
    }
}

#[cfg(test)]
mod tests;
