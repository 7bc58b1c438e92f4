//! Scrape of all domains: the numbers of one pass.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domstat_consumer::{AttachError, Liveness, Reading, Snapshot, SnapshotRecord};
use domstat_layout::latest::{RunState, Runstate, Sched};
use domstat_layout::{GroupDesc, RecordKind, Stat};

use crate::distributions::Distributions;
use crate::family::FieldRef;
use crate::process::ProcessStats;
use crate::queue_times::Times;
use crate::selection::Selection;

/// States of a vCPU with a time of their own, in the order of the times in a scrape.
pub(crate) const RUNSTATES: [RunState; 4] =
    [RunState::Running, RunState::Runnable, RunState::Blocked, RunState::Offline];

/// Records of a large domain: more than virtual machines usually have.
pub(crate) const LARGE: u32 = 1024;

/// Length of the copy of a large domain: some hundreds of records, or of sums of shares.
const LARGE_LEN: usize = 1 << 20;

/// A point in time, as the duration since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Duration);

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// Words for how a domain stands, as label values: those of [`Liveness`], and those of
/// [`AttachError`] for a domain that is not attached.
pub const STANDINGS: [&str; 12] = {
    let [live, stale, stalled, unheld, dead, restarted, retired, lost] = Liveness::NAMES;
    let [_dead, not_permitted, invalid, timed_out, error] = AttachError::NAMES;
    [
        live,
        stale,
        stalled,
        unheld,
        dead,
        restarted,
        retired,
        lost,
        not_permitted,
        invalid,
        timed_out,
        error,
    ]
};

/// Reasons of failed reads and attachments, as label values: a stalled writer, those of
/// [`AttachError`], and a limit of the exporter.
pub const REASONS: [&str; 7] = {
    let [dead, not_permitted, invalid, timed_out, error] = AttachError::NAMES;
    ["stalled", dead, not_permitted, invalid, timed_out, error, "limit"]
};

/// Identity of a domain.
#[derive(Debug, Default)]
pub struct Names {
    /// Name in the region, or else of the entry.
    pub domain: String,
    /// UUID.
    pub uuid: Option<String>,
    /// Name of this part of the domain, if another program publishes it.
    pub part: Option<String>,
    /// Name, UUID and part as labels in the text formats.
    pub labels: String,
    /// Names and values of the selected labels of the domain.
    pub domain_labels: Vec<(String, String)>,
    /// The host's number of the domain.
    pub domid: Option<u64>,
    /// Incarnation and revision of the region.
    pub region: Option<(u64, u32)>,
    /// Whether the name is final: the region's identity was readable.
    pub(crate) is_final: bool,
}

/// One domain in a scrape. The next scrape reuses its buffers.
#[derive(Debug, Default)]
pub struct DomainScrape {
    /// Identity.
    pub names: Arc<Names>,
    /// Whether its producer lives and publishes it.
    pub up: bool,
    /// How it stands, one of [`STANDINGS`].
    pub standing: &'static str,
    /// Whether its numbers are exported: it is up, and within the limits of a pass.
    pub has_values: bool,
    /// All groups, valid if it has values.
    pub snapshot: Snapshot,
    /// Start of the domain's counters.
    pub created: Stamp,
    /// Current vCPUs.
    pub nr_vcpus: u32,
    /// Age of each group that is produced, in nanoseconds.
    pub ages: Vec<(&'static GroupDesc, u64)>,
    /// Saturated fields.
    pub saturated: u64,
    /// Retried reads since the domain is known.
    pub retries: u64,
    /// Failures since the domain is known, by [`REASONS`].
    pub failures: [u64; REASONS.len()],
    /// Not exported: another domain has the same names.
    pub(crate) hidden: bool,
    /// Each vCPU's times by state, up to now.
    pub(crate) times: Vec<[Option<u64>; 4]>,
    /// Sums over the vCPUs, by [`addends`](crate::vcpu_sums::addends), if they are selected.
    pub(crate) sums: Vec<Option<u64>>,
    /// Busy and queued times of the block devices, up to now.
    pub(crate) queues: Vec<Times>,
    /// Histograms, if they are selected.
    pub(crate) distributions: Distributions,
    /// Slots whose counters started later than the domain's, in order.
    pub(crate) later: Vec<(RecordKind, u32, Stamp)>,
    /// Names of the block devices and of the network interfaces.
    pub(crate) devices: [Vec<String>; 2],
}

/// Result of one pass over all domains.
#[derive(Debug, Default)]
pub struct Scrape {
    domains: Vec<DomainScrape>,
    len: usize,
    /// What is exported.
    pub(crate) selection: Arc<Selection>,
    /// Start of the exporter's own counters.
    pub started: Stamp,
    /// Refused scrapes.
    pub refused: u64,
    /// Duration of the pass.
    pub duration: Duration,
    /// Resources of the exporter's process, if they are readable.
    pub process: Option<ProcessStats>,
    /// Failed reads of the directory.
    pub directory_failures: u64,
    /// Domains not exported because another has the same names.
    pub duplicates: u64,
    /// Domains not exported because there are too many.
    pub limited: u64,
}

impl Scrape {
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Buffers of the next domain, to be filled.
    pub(crate) fn next(&mut self) -> &mut DomainScrape {
        if self.len == self.domains.len() {
            self.domains.push(DomainScrape::default());
        }
        self.len += 1;
        let last = self.len - 1;
        #[allow(clippy::indexing_slicing, reason = "it was pushed if it was not there")]
        &mut self.domains[last]
    }

    pub(crate) fn domains_mut(&mut self) -> &mut [DomainScrape] {
        self.domains.get_mut(..self.len).unwrap_or_default()
    }

    /// Frees the buffers of removed domains, and those of large ones: a region that was large once
    /// does not keep memory for good.
    pub(crate) fn shrink(&mut self) {
        self.domains.truncate(self.len.saturating_mul(2).max(16));
        for domain in &mut self.domains {
            let kinds = [RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net];
            let is_large = |kind| nr_records(&domain.snapshot, kind) > LARGE;
            if kinds.into_iter().any(is_large) || domain.snapshot.memory() > LARGE_LEN {
                *domain = DomainScrape::default();
            }
        }
    }

    /// The domains, in the order of their entries.
    pub fn domains(&self) -> impl Iterator<Item = &DomainScrape> {
        self.domains.iter().take(self.len).filter(|domain| !domain.hidden)
    }
}

impl DomainScrape {
    /// Start of a slot's counters.
    #[must_use]
    pub fn created(&self, kind: RecordKind, index: u32) -> Stamp {
        let at = self.later.binary_search_by_key(&(kind, index), |(kind, i, _)| (*kind, *i));
        let later = at.ok().and_then(|at| self.later.get(at));
        later.map_or(self.created, |(_, _, stamp)| *stamp)
    }

    /// Number of a field, if it has one.
    pub(crate) fn value(&self, record: SnapshotRecord<'_>, field: FieldRef) -> Option<u64> {
        match record.word(field.group, field.offset) {
            Ok(Reading::Active(word)) => word.value(),
            _ => None,
        }
    }

    /// Time that a vCPU spent in `state`.
    #[must_use]
    pub fn time_in(&self, index: u32, state: RunState) -> Option<u64> {
        *self.times.get(index as usize)?.get(state as usize)?
    }

    /// State of a vCPU, if it is present.
    #[must_use]
    pub fn run_state(&self, index: u32) -> Option<RunState> {
        self.snapshot.vcpu(index)?.vcpu_group::<Runstate>().ok()?.active()?.run_state()
    }

    /// Time that a vCPU was runnable but not running: as the scheduler counted it, or else from
    /// its runstate.
    #[must_use]
    pub fn steal(&self, index: u32) -> Option<u64> {
        let sched = self.snapshot.vcpu(index)?.vcpu_group::<Sched>().ok();
        let delay = sched.map(|sched| sched.stat(|s| s.delay_ns));
        match delay {
            Some(Stat::Value(ns)) => Some(ns),
            _ => self.time_in(index, RunState::Runnable),
        }
    }

    /// Label of a device.
    #[must_use]
    pub fn device(&self, kind: RecordKind, index: u32) -> &str {
        let [blks, nets] = &self.devices;
        let names = if kind == RecordKind::Blk { blks } else { nets };
        names.get(index as usize).map_or("", String::as_str)
    }
}

/// Number of records of a kind.
pub(crate) fn nr_records(snapshot: &Snapshot, kind: RecordKind) -> u32 {
    match kind {
        RecordKind::Vcpu => snapshot.nr_vcpus(),
        RecordKind::Blk => snapshot.nr_blks(),
        RecordKind::Net => snapshot.nr_nets(),
        RecordKind::Dom => 1,
        _ => 0,
    }
}

/// One record of a snapshot.
pub(crate) fn record(
    snapshot: &Snapshot,
    kind: RecordKind,
    index: u32,
) -> Option<SnapshotRecord<'_>> {
    match kind {
        RecordKind::Dom => Some(snapshot.dom()),
        RecordKind::Vcpu => snapshot.vcpu(index),
        RecordKind::Blk => snapshot.blk(index),
        RecordKind::Net => snapshot.net(index),
        _ => None,
    }
}
