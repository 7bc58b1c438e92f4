//! Reads one process's files in /proc.

use std::collections::BTreeSet;
use std::io;

use domstat_layout::latest::Memory;
use domstat_layout::{Ns, Word};
use procfs::ProcError;
use procfs::process::{Process, Stat, Task};
use uuid::Uuid;

use super::runstate_estimator::{Activity, Reading};
use crate::SourceError;
use crate::host::now;
use crate::threads::{Role, ThreadKey};

const SCHED_INFO_HINT: &str = "use a kernel built with CONFIG_SCHED_INFO (CONFIG_SCHEDSTATS, or delay accounting switched on)";
const HIDDEN_HINT: &str =
    "run as the user who owns the process or as root, or mount /proc without hidepid";

/// One thread as it was when it was read.
#[derive(Clone, Debug)]
pub(super) struct ThreadSample {
    pub(super) key: ThreadKey,
    /// Its command name.
    pub(super) name: String,
    pub(super) role: Role,
    /// Whether it passes the filter.
    pub(super) is_shown: bool,
    pub(super) began: Ns,
    pub(super) reading: Reading,
    pub(super) now: Ns,
}

/// The threads of a process.
pub(super) enum Threads {
    /// Those that live, in order of their ids.
    Alive(Vec<ThreadSample>),
    /// The process has ended or is a zombie.
    Gone,
}

/// Reads one process's files.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) process: Process,
    pub(super) pid: i32,
    /// Show only threads whose command name starts so: they are the vCPUs.
    pub(super) prefix: Option<String>,
    tick_ns: u64,
    page_bytes: u64,
}

impl Reader {
    pub(super) fn new(process: Process, pid: i32) -> Result<Self, SourceError> {
        let tick_ns =
            1_000_000_000u64.checked_div(procfs::ticks_per_second()).ok_or_else(|| {
                SourceError::Unavailable {
                    what: "the length of a clock tick".to_owned(),
                    hint: "the C library must answer sysconf(_SC_CLK_TCK)",
                }
            })?;
        Ok(Self { process, pid, prefix: None, tick_ns, page_bytes: procfs::page_size() })
    }

    /// /proc/PID/stat, or `None` if the process has ended.
    pub(super) fn process_stat(&self) -> Result<Option<Stat>, SourceError> {
        self.unless_gone(self.process.stat(), "stat")
    }

    /// Whether the id is that of a thread other than the first: /proc has a hidden directory for
    /// it, too, that speaks of the whole process.
    pub(super) fn is_thread_id(&self) -> bool {
        self.process.status().is_ok_and(|status| status.tgid != self.pid)
    }

    /// When the process or thread started, on CLOCK_BOOTTIME, rounded down to a tick.
    pub(super) const fn start_of(&self, stat: &Stat) -> Ns {
        Ns(stat.starttime.saturating_mul(self.tick_ns))
    }

    /// Reads every thread.
    pub(super) fn threads(&self) -> Result<Threads, SourceError> {
        let Some(tasks) = self.unless_gone(self.process.tasks(), "task")? else {
            return Ok(Threads::Gone);
        };
        let mut alive = false;
        let mut samples = Vec::new();
        for task in tasks {
            let Some(task) = self.unless_gone(task, "task")? else { continue };
            let Some(stat) = self.unless_gone(task.stat(), "task/TID/stat")? else { continue };
            // A leader that ended before its threads stays a zombie until they have ended.
            if matches!(stat.state, 'Z' | 'X' | 'x') {
                continue;
            }
            alive = true;
            if let Some(sample) = self.sample(&task, &stat)? {
                samples.push(sample);
            }
        }
        samples.sort_by_key(|sample| sample.key.tid);
        Ok(if alive { Threads::Alive(samples) } else { Threads::Gone })
    }

    /// The command names of all threads.
    pub(super) fn names(&self) -> Result<BTreeSet<String>, SourceError> {
        let tasks = self.unless_gone(self.process.tasks(), "task")?;
        let mut names = BTreeSet::new();
        for task in tasks.into_iter().flatten() {
            let Some(task) = self.unless_gone(task, "task")? else { continue };
            names.extend(self.unless_gone(task.stat(), "task/TID/stat")?.map(|stat| stat.comm));
        }
        Ok(names)
    }

    fn sample(&self, task: &Task, stat: &Stat) -> Result<Option<ThreadSample>, SourceError> {
        let schedstat = self.unless_gone(task.schedstat(), "task/TID/schedstat")?;
        let passes = self.prefix.as_ref().map(|prefix| stat.comm.starts_with(prefix));
        let by_name = || Role::of_name(&stat.comm);
        Ok(schedstat.map(|schedstat| ThreadSample {
            key: ThreadKey { tid: task.tid, start_ticks: stat.starttime },
            name: stat.comm.clone(),
            role: if passes == Some(true) { Role::Vcpu } else { by_name() },
            is_shown: passes.unwrap_or(true),
            began: self.start_of(stat),
            reading: Reading {
                run_ns: schedstat.sum_exec_runtime,
                wait_ns: schedstat.run_delay,
                timeslices: schedstat.pcount,
                activity: Activity::from_letter(stat.state),
            },
            // After the counters, so that they cannot say more than has passed.
            now: now(domstat_layout::Clock::Boottime),
        }))
    }

    /// The memory group and the letter of the process's state, or `None` if it has ended.
    pub(super) fn memory(&self) -> Result<Option<(Memory, char, Ns)>, SourceError> {
        let Some(stat) = self.process_stat()? else { return Ok(None) };
        let Some(statm) = self.unless_gone(self.process.statm(), "statm")? else {
            return Ok(None);
        };
        let memory = Memory {
            rss_bytes: statm.resident.checked_mul(self.page_bytes).into(),
            major_faults: Word::new(stat.majflt),
            minor_faults: Word::new(stat.minflt),
            ..<Memory as domstat_layout::Group>::NOT_PRODUCED
        };
        Ok(Some((memory, stat.state, now(domstat_layout::Clock::Boottime))))
    }

    /// `None` if what was read no longer exists.
    fn unless_gone<T>(
        &self,
        result: Result<T, ProcError>,
        file: &str,
    ) -> Result<Option<T>, SourceError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(os_error(self.pid, file, error)),
        }
    }
}

/// A stable UUID (version 5) of the process that got `pid` at `start_ticks` of this boot.
pub(super) fn uuid(pid: i32, start_ticks: u64) -> Option<[u8; 16]> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = Uuid::parse_str(boot_id.trim()).ok()?;
    Some(Uuid::new_v5(&boot, format!("{pid}:{start_ticks}").as_bytes()).into_bytes())
}

/// Whether the kernel keeps scheduler statistics; without, schedstat is missing or all zero.
pub(super) fn check_sched_info() -> Result<(), SourceError> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    // The thread that asks has been given a CPU at least once.
    if text.split_whitespace().any(|number| number != "0") {
        return Ok(());
    }
    Err(SourceError::Unavailable {
        what: "scheduler statistics (/proc/PID/schedstat)".to_owned(),
        hint: SCHED_INFO_HINT,
    })
}

/// Why /proc/PID cannot be opened.
pub(super) fn process_error(pid: i32, error: &ProcError) -> SourceError {
    let hidden = rustix::process::Pid::from_raw(pid).is_some_and(|id| {
        !matches!(rustix::process::test_kill_process(id), Err(rustix::io::Errno::SRCH))
    });
    match error {
        ProcError::PermissionDenied(_) => not_permitted(pid),
        _ if hidden => not_permitted(pid),
        _ => SourceError::NoSuchProcess { pid },
    }
}

fn not_permitted(pid: i32) -> SourceError {
    SourceError::NotPermitted { action: format!("observe process {pid}"), hint: HIDDEN_HINT }
}

fn os_error(pid: i32, file: &str, error: ProcError) -> SourceError {
    let action = format!("read /proc/{pid}/{file}");
    match error {
        ProcError::PermissionDenied(_) => not_permitted(pid),
        ProcError::Io(source, _) => SourceError::Os { action, source },
        other => SourceError::Os { action, source: io::Error::other(other.to_string()) },
    }
}

fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(libc::ESRCH),
        _ => false,
    }
}
