//! Books of threads: the CPU time that the kernel accounts to each thread of a process, compared
//! with what vCPUs claim to have run.

use std::collections::BTreeMap;
use std::io;

use domstat_layout::latest::Runstate;
use domstat_layout::{Group, Ns, Word};

use crate::Capture;

/// Threads that a watch remembers; above this it no longer judges.
const MAX_THREADS: usize = 65_536;

/// CPU times of a process's threads at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// A moment on the region's clock, not after the first thread was looked at.
    pub from: Ns,
    /// A moment on the region's clock, not before the last thread was looked at.
    pub to: Ns,
    /// The threads.
    pub threads: Vec<ThreadTime>,
}

/// CPU time of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadTime {
    /// Its id.
    pub tid: u32,
    /// The time that it ran on a CPU since it began.
    pub running_ns: u64,
}

impl Books {
    /// The books of a process, from `/proc/PID/task/*/schedstat`; `now` reads the region's clock.
    ///
    /// # Errors
    /// What the kernel says: there is no such process, or it may not be looked at.
    pub fn of_process(pid: u32, now: impl Fn() -> Option<Ns>) -> io::Result<Self> {
        let unknown = || io::Error::other("the region's clock is not one of this machine");
        let from = now().ok_or_else(unknown)?;
        let mut threads = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let tid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread can exit while its process is looked at.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let running_ns = text.split_whitespace().next().and_then(|n| n.parse().ok());
            if let (Some(tid), Some(running_ns)) = (tid, running_ns) {
                threads.push(ThreadTime { tid, running_ns });
            }
        }
        Ok(Self { from, to: now().ok_or_else(unknown)?, threads })
    }
}

/// What a watch remembers from its first look on: how much each vCPU claims to have run, and each
/// thread's books.
#[derive(Default)]
pub(crate) struct Watch {
    /// When the books begin and end.
    span: Option<(Ns, Ns)>,
    /// Each thread's time at first and at last.
    threads: BTreeMap<u32, (u64, u64)>,
    vcpus: BTreeMap<u32, Claim>,
}

/// What a vCPU claims to have run since the books began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    generation: u32,
    first_ns: u64,
    pub(crate) index: u32,
    pub(crate) base: usize,
    pub(crate) running_ns: u64,
}

impl Watch {
    pub(crate) fn observe(&mut self, look: &Capture) {
        let Some(books) = &look.books else { return };
        let is_first = self.span.is_none();
        let from = self.span.map_or(books.to, |(from, _)| from);
        self.span = Some((from, books.to));
        for thread in &books.threads {
            // A thread that began later had run for no time when the watch began.
            let first = if is_first { thread.running_ns } else { 0 };
            let entry = self.threads.entry(thread.tid).or_insert((first, first));
            entry.1 = thread.running_ns.max(entry.1);
        }
        for group in look.groups.iter().filter(|g| g.desc == Runstate::DESC) {
            let Some(whole) = group.whole() else { continue };
            let running = group.desc.fields.iter().find(|f| f.name == "running_ns");
            let word = running.and_then(|f| whole.words(group.desc, f)?.first().copied());
            let running = word.and_then(|raw| Word::from_raw(raw.to_le()).value());
            // What was written before the books began cannot be compared with them.
            let Some(running) = running.filter(|_| whole.updated_ns >= from.0) else { continue };
            let (generation, index) = (whole.generation, group.record.index);
            let base = group.record.base;
            let new = Claim { generation, first_ns: running, index, base, running_ns: 0 };
            let claim = self.vcpus.entry(index).or_insert(new);
            if claim.generation != generation {
                *claim = new;
            }
            claim.running_ns = running.saturating_sub(claim.first_ns);
        }
    }

    /// The time that the books span.
    pub(crate) fn span_ns(&self) -> Option<u64> {
        let (from, to) = self.span?;
        (self.threads.len() <= MAX_THREADS).then(|| to.since(from))
    }

    /// The vCPUs' claims, the longest first.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims: Vec<Claim> = self.vcpus.values().copied().collect();
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.running_ns));
        claims
    }

    /// The time that each thread ran during the watch, the longest first.
    pub(crate) fn thread_times(&self) -> Vec<u64> {
        let grown = self.threads.values().map(|(first, last)| last.saturating_sub(*first));
        let mut times: Vec<u64> = grown.collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times
    }
}
