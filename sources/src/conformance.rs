//! One suite for the contracts of [`Source`] and of [`crate::contract::Observer`]: what can be
//! observed of each of their rules.
//!
//! [`check`] runs a source against sinks that record every write with its order, its thread and
//! the time, ticks it early, on time and late, stops it or sees it end, and then judges the
//! recording. [`check_observer`] does the same for an observer. It is public so that a source elsewhere can be held to the same contract.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use domstat_layout::{Clock, MAX_VCPUS};

use crate::{Description, Devices, Progress, Running, Source, SourceError};

mod judge;
mod observer;
mod record;

pub use observer::{ObserverReport, check_observer, check_observer_within};

use record::{Log, RecordingBlk, RecordingDom, RecordingNet, RecordingShare, RecordingVcpu};

/// How long after its end a source is watched for writes that it must not make.
const WATCH: Duration = Duration::from_millis(100);
/// How long a thread that was joined may still be listed in /proc.
const GRACE: Duration = Duration::from_secs(2);
/// A tick that takes longer than this has waited for something.
const TICK_LIMIT: Duration = Duration::from_secs(5);

/// What a source that keeps the contract was seen to do, in all runs of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the source says of its domain.
    pub description: Description,
    /// Whether the domain ended by itself.
    pub ended: bool,
    /// How often the source was ticked.
    pub ticks: u64,
    /// How often a group of the dom record was written.
    pub dom_writes: u64,
    /// How often a group of a vCPU record was written.
    pub vcpu_writes: u64,
    /// vCPU slots that were written.
    pub vcpus_written: u32,
    /// How often a group of a device's record was written.
    pub device_writes: u64,
    /// How often a group was deactivated.
    pub deactivations: u64,
    /// How often a slot was given to another vCPU or device.
    pub renewals: u64,
}

/// Why a source does not keep the contract, or could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A rule of the contract is broken.
    #[error("rule {rule} of the source contract is broken: {seen}")]
    Rule {
        /// Its number in the documentation of [`Source`] or [`crate::contract::Observer`].
        rule: u8,
        /// What was seen.
        seen: String,
    },
    /// The source could not be made or started, or a tick failed.
    #[error("the source cannot be checked: it failed")]
    Failed(#[from] SourceError),
}

impl Violation {
    /// The number of the broken rule; `None` if the source could not be tried.
    #[must_use]
    pub const fn rule(&self) -> Option<u8> {
        match self {
            Self::Rule { rule, .. } => Some(*rule),
            Self::Failed(_) => None,
        }
    }

    pub(crate) fn of(rule: u8, seen: impl Into<String>) -> Self {
        Self::Rule { rule, seen: seen.into() }
    }
}

/// Checks that the sources that `make` makes keep the contract of [`Source`].
///
/// The first source is run for `run_for` and stopped, the second for a tenth of that and dropped;
/// if the domain of the first ends by itself there is no second. While this runs, no other thread
/// of the calling process may start threads: they would be taken for the source's.
///
/// What no recording can show is not checked: that a number is right, and that a source which
/// could know a field does produce it.
///
/// # Errors
/// [`Violation`] with the first broken rule.
pub fn check<S: Source>(
    make: impl Fn() -> Result<S, SourceError>,
    run_for: Duration,
) -> Result<Report, Violation> {
    let mut report = run(make()?, run_for, End::Stop)?;
    if !report.ended {
        let second = run(make()?, run_for.div_f64(10.0), End::Drop)?;
        report.ticks = report.ticks.saturating_add(second.ticks);
        report.dom_writes = report.dom_writes.saturating_add(second.dom_writes);
        report.vcpu_writes = report.vcpu_writes.saturating_add(second.vcpu_writes);
        report.device_writes = report.device_writes.saturating_add(second.device_writes);
        report.deactivations = report.deactivations.saturating_add(second.deactivations);
        report.renewals = report.renewals.saturating_add(second.renewals);
        report.ended = second.ended;
    }
    Ok(report)
}

/// How a run is brought to an end.
#[derive(Clone, Copy)]
enum End {
    Stop,
    Drop,
}

fn run<S: Source>(source: S, run_for: Duration, end: End) -> Result<Report, Violation> {
    let description = describe(&source)?;
    let threads_before = thread_ids();
    let log = Log::new(description.clock);
    let vcpus = (0..description.nr_vcpus).map(|i| RecordingVcpu::new(&log, i)).collect();
    let devices = Devices {
        blks: (0..description.nr_blks).map(|i| RecordingBlk::new(&log, i)).collect(),
        nets: (0..description.nr_nets).map(|i| RecordingNet::new(&log, i)).collect(),
        shares: (0..description.optional.nr_blk_shares)
            .map(|i| RecordingShare::new(&log, i))
            .collect(),
    };
    let began = log.now();
    let mut running = source.start_with_devices(RecordingDom::new(&log), vcpus, devices)?;
    log.mark_started();
    let mut ticks = 0;
    let result = match tick_for(running.as_mut(), run_for, &mut ticks) {
        // The source still runs; dropping it stops it.
        Err(broken @ Violation::Rule { .. }) => return Err(broken),
        other => other,
    };
    let ended = matches!(result, Ok(Progress::Ended));

    // A tick that ended or failed is the last word already; otherwise stopping is.
    let mut last = log.len();
    match (&result, end) {
        (Ok(Progress::Continue), End::Stop) => {
            running.stop();
            last = log.len();
            check_quiet(&log, last, &threads_before)?;
        }
        (Ok(Progress::Continue), End::Drop) => {
            drop(running);
            last = log.len();
            check_quiet(&log, last, &threads_before)?;
        }
        _ => {
            check_quiet(&log, last, &threads_before)?;
            // One more tick, whatever it says, and the drop must not write either.
            let _ = running.tick();
            drop(running);
            check_quiet(&log, last, &threads_before)?;
        }
    }
    let created = description.created;
    let verdict =
        log.with(|events| judge::judge(events.get(..last).unwrap_or(events), began, created));
    let counts = verdict?;
    result?;
    Ok(Report {
        description,
        ended,
        ticks,
        dom_writes: counts.dom_writes,
        vcpu_writes: counts.vcpu_writes,
        vcpus_written: counts.vcpus_written,
        device_writes: counts.device_writes,
        deactivations: counts.deactivations,
        renewals: counts.renewals,
    })
}

/// Rule 1, and what [`Description`] promises.
fn describe<S: Source>(source: &S) -> Result<Description, Violation> {
    let description = source.describe();
    let mut wrong = String::new();
    if source.describe() != description {
        wrong.push_str("the source describes itself differently the second time; ");
    }
    if description.name.is_empty() || description.name.contains('/') {
        let _ = write!(wrong, "the name is {:?}; ", description.name);
    }
    if description.nr_vcpus == 0 || description.nr_vcpus > MAX_VCPUS {
        let _ = write!(wrong, "there are {} vCPU slots; ", description.nr_vcpus);
    }
    if !matches!(description.clock, Clock::Monotonic | Clock::Boottime) {
        let _ = write!(wrong, "the clock {:?} cannot be read here; ", description.clock);
    } else if description.created.is_some_and(|at| at > crate::host::now(description.clock)) {
        wrong.push_str("the domain was created in the future; ");
    }
    if wrong.is_empty() { Ok(description) } else { Err(Violation::of(1, wrong)) }
}

/// Ticks in quick succession, on time, and late.
fn tick_for(
    running: &mut dyn Running,
    run_for: Duration,
    ticks: &mut u64,
) -> Result<Progress, Violation> {
    let begin = Instant::now();
    let interval = running.interval();
    if interval.is_zero() {
        return Err(Violation::of(9, "the interval is zero"));
    }
    let quick = [Duration::ZERO; 10].into_iter();
    let regular = [interval.min(run_for.div_f64(10.0)); 8].into_iter();
    let late = [interval.saturating_mul(3).min(run_for.div_f64(3.0))].into_iter();
    for pause in quick.chain(regular.chain(late).cycle()) {
        if begin.elapsed() >= run_for && *ticks > 10 {
            break;
        }
        std::thread::sleep(pause);
        let called = Instant::now();
        let progress = match running.tick() {
            Err(error) if error.is_transient() => Progress::Continue,
            progress => progress?,
        };
        *ticks = ticks.saturating_add(1);
        let took = called.elapsed();
        if took > TICK_LIMIT {
            return Err(Violation::of(9, format!("a tick took {took:?}")));
        }
        if progress != Progress::Continue {
            return Ok(progress);
        }
    }
    Ok(Progress::Continue)
}

/// Rule 10: nothing is written after event `last`, and no thread is left.
fn check_quiet(log: &Log, last: usize, threads_before: &BTreeSet<i32>) -> Result<(), Violation> {
    let deadline = Instant::now().checked_add(GRACE);
    loop {
        let left: Vec<i32> = thread_ids().difference(threads_before).copied().collect();
        if left.is_empty() {
            break;
        }
        if deadline.is_none_or(|deadline| Instant::now() > deadline) {
            return Err(Violation::of(10, format!("threads {left:?} are left after the end")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(WATCH);
    match log.with(|events| events.get(last).map(|event| event.to_string())) {
        Some(event) => Err(Violation::of(10, format!("after the end: {event}"))),
        None => Ok(()),
    }
}

/// The threads of this process.
fn thread_ids() -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc/self/task");
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    entries.into_iter().flatten().filter_map(name).filter_map(|n| n.parse().ok()).collect()
}
