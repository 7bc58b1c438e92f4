//! A process of the host as a domain, each of its threads as a vCPU: a QEMU, or anything else.
//!
//! Times come from /proc/PID/task/TID/schedstat, which the kernel keeps with CONFIG_SCHED_INFO and
//! from which libvirt takes vcpu.N.time and vcpu.N.delay, and the state from
//! /proc/PID/task/TID/stat. [`RunstateEstimator`] makes runstate times of them and states the error bounds:
//! `running` within a tick of the scheduler, waits late. When a state was entered is not produced.
//!
//! In the memory group `rss_bytes` comes from /proc/PID/statm and the page faults from
//! /proc/PID/stat; a process of the host has no balloon, so nothing else is produced.
//!
//! The group `threads` has the CPU time of all threads by role: those that pass the filter are the
//! vCPUs, the roles of the others are known by their names. `limits` and `pressure` are those of the
//! control group that holds the process. A process that is stopped is `paused`; since when is known
//! to the interval, and not at all of the state that it is found in.
//!
//! The arch slot of a vCPU has the thread that is shown in it: its id and its name.
//!
//! The directory /proc/PID is opened once, so that another process that is given the same number
//! later is not taken for this one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, MAX_VCPUS, Ns};
use procfs::process::Process;

use crate::host::check_name;
use crate::{Description, Optional, Running, Source, SourceError, thread_group};

mod reader;
mod slots;

pub use domstat_layout::runstate_estimator::{self, RunstateEstimator};
use reader::{Reader, Threads};

/// How often a process is sampled by default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(250);

/// A process of the host that can be published as a domain.
///
/// `domid` is the process id, `created` the start of the process, and the UUID is derived
/// (version 5) from the host's boot id, the process id and the start, so that it is the same
/// whenever the same process is observed.
#[derive(Debug)]
pub struct ProcessSource {
    reader: Reader,
    description: Description,
    interval: Duration,
    probe: ProcessProbe,
    slots_given: bool,
}

/// Reports what a [`ProcessSource`] cannot show. It stays valid while the source runs.
#[derive(Clone, Debug, Default)]
pub struct ProcessProbe {
    shown: Arc<AtomicUsize>,
    not_shown: Arc<AtomicUsize>,
}

impl ProcessProbe {
    /// Threads for which there was no vCPU slot at the last tick.
    #[must_use]
    pub fn threads_not_shown(&self) -> usize {
        // ORDERING: a lone number; nothing else is read on the strength of it.
        self.not_shown.load(Ordering::Relaxed)
    }

    /// Threads that were shown at the last tick.
    #[must_use]
    pub fn threads_shown(&self) -> usize {
        // ORDERING: as in `threads_not_shown`.
        self.shown.load(Ordering::Relaxed)
    }

    fn set(&self, shown: usize, not_shown: usize) {
        // ORDERING: as in `threads_not_shown`.
        self.shown.store(shown, Ordering::Relaxed);
        // ORDERING: as in `threads_not_shown`.
        self.not_shown.store(not_shown, Ordering::Relaxed);
    }
}

impl ProcessSource {
    /// The process with this id.
    ///
    /// Its name is the command name of its first thread and its id, it is sampled every
    /// [`DEFAULT_INTERVAL`], and it has room for at least eight threads more than it has now.
    ///
    /// # Errors
    /// [`SourceError::NoSuchProcess`] if there is none or it is a zombie,
    /// [`SourceError::NotPermitted`] if /proc hides it, [`SourceError::Unavailable`] if the kernel
    /// keeps no scheduler statistics.
    pub fn new(pid: i32) -> Result<Self, SourceError> {
        if pid < 1 {
            return Err(SourceError::NoSuchProcess { pid });
        }
        reader::check_sched_info()?;
        let process = Process::new(pid).map_err(|error| reader::process_error(pid, &error))?;
        let reader = Reader::new(process, pid)?;
        if reader.is_thread_id() {
            return Err(SourceError::NoSuchProcess { pid });
        }
        let stat = reader.process_stat()?.ok_or(SourceError::NoSuchProcess { pid })?;
        let created = reader.start_of(&stat);
        let description = Description {
            source: "process",
            domid: u64::try_from(pid).ok(),
            uuid: reader::uuid(pid, stat.starttime),
            name: format!("{}-{pid}", sanitized(&stat.comm)),
            created: Some(created),
            nr_vcpus: 0,
            nr_blks: 0,
            nr_nets: 0,
            clock: Clock::Boottime,
            arch_dom: Vec::new(),
            arch_vcpu: vec![thread_group::group()],
            optional: Optional::default(),
            labels: Vec::new(),
        };
        let mut source = Self {
            reader,
            description,
            interval: DEFAULT_INTERVAL,
            probe: ProcessProbe::default(),
            slots_given: false,
        };
        source.count_slots()?;
        Ok(source)
    }

    /// Publishes the process under this name.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is empty, too long, or has a `/` or control characters.
    pub fn with_name(mut self, name: &str) -> Result<Self, SourceError> {
        check_name(name)?;
        name.clone_into(&mut self.description.name);
        Ok(self)
    }

    /// Samples every `interval`.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is zero.
    pub fn with_interval(mut self, interval: Duration) -> Result<Self, SourceError> {
        self.interval = crate::host::check_interval(interval)?;
        Ok(self)
    }

    /// Has room for `nr_vcpus` threads at one time.
    ///
    /// # Errors
    /// [`SourceError::BadParameter`] if it is zero or above [`MAX_VCPUS`].
    pub fn with_nr_vcpus(mut self, nr_vcpus: u32) -> Result<Self, SourceError> {
        if nr_vcpus == 0 || nr_vcpus > MAX_VCPUS {
            return Err(SourceError::BadParameter {
                parameter: "nr_vcpus",
                found: nr_vcpus.to_string(),
                expected: format!("1 to {MAX_VCPUS}"),
            });
        }
        self.description.nr_vcpus = nr_vcpus;
        self.slots_given = true;
        Ok(self)
    }

    /// Shows only threads whose command name (/proc/PID/task/TID/comm) starts with `prefix`, such
    /// as `CPU ` for the vCPUs of a QEMU that runs with `-name debug-threads=on`.
    ///
    /// # Errors
    /// [`SourceError`] if the threads can no longer be counted.
    pub fn with_thread_prefix(mut self, prefix: &str) -> Result<Self, SourceError> {
        self.reader.prefix = Some(prefix.to_owned());
        if !self.slots_given {
            self.count_slots()?;
        }
        Ok(self)
    }

    /// Publishes the process under this UUID, in textual byte order.
    #[must_use]
    pub fn with_uuid(mut self, uuid: [u8; 16]) -> Self {
        self.description.uuid = Some(uuid);
        self
    }

    /// The command names of its threads, each once, whether the filter lets them pass or not.
    ///
    /// # Errors
    /// [`SourceError`] if the threads cannot be read.
    pub fn thread_names(&self) -> Result<BTreeSet<String>, SourceError> {
        self.reader.names()
    }

    /// What the source cannot show, to be asked while it runs.
    #[must_use]
    pub fn probe(&self) -> ProcessProbe {
        self.probe.clone()
    }

    /// Room for eight more threads than there are, in steps of 16.
    fn count_slots(&mut self) -> Result<(), SourceError> {
        let pid = self.reader.pid;
        let Threads::Alive(threads) = self.reader.threads()? else {
            return Err(SourceError::NoSuchProcess { pid });
        };
        let shown = threads.iter().filter(|thread| thread.is_shown).count();
        let count = u32::try_from(shown).unwrap_or(MAX_VCPUS);
        let slots = count.saturating_add(8).next_multiple_of(16);
        self.description.nr_vcpus = slots.min(MAX_VCPUS);
        Ok(())
    }
}

impl Source for ProcessSource {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn start<D, V>(self, dom: D, vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
    {
        crate::host::check_sinks(self.description.nr_vcpus, vcpus.len())?;
        let created = self.description.created.unwrap_or(Ns(0));
        let running =
            slots::Sampler::start(self.reader, created, self.interval, self.probe, dom, vcpus)?;
        Ok(Box::new(running))
    }
}

/// A command name without what a domain's name must not have.
fn sanitized(comm: &str) -> String {
    if comm.is_empty() {
        return "process".to_owned();
    }
    comm.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests;
