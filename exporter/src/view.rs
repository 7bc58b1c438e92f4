//! What one pass over all domains found: the numbers of one scrape.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domstat_consumer::{Reading, Snapshot, SnapshotRecord};
use domstat_layout::latest::{Runstate, Sched, VcpuState};
use domstat_layout::{RecordKind, Stat, State};

use crate::family::FieldRef;

/// A point in time since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Duration);

impl std::convert::From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

/// Why a read or an attachment failed, as a label says it.
pub const REASONS: [&str; 5] = ["stalled", "gone", "not_permitted", "invalid", "other"];

/// Who a domain is.
#[derive(Debug, Default)]
pub struct Names {
    /// Its name; the entry's, if its region says none.
    pub domain: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Both as labels in the text formats.
    pub labels: String,
    /// The host's number for it.
    pub domid: Option<u64>,
    /// Its region's incarnation and revision.
    pub region: Option<(u64, u32)>,
}

/// One domain as a scrape shows it. Buffers in it are used again by the next.
#[derive(Debug, Default)]
pub struct DomainView {
    /// Who it is.
    pub names: Arc<Names>,
    /// Whether its numbers are shown: it is live, and held by its producer.
    pub up: bool,
    /// The state of its region, if there is one.
    pub state: Option<State>,
    /// Its groups, if it is up.
    pub snapshot: Snapshot,
    /// When its counters began.
    pub created: Stamp,
    /// vCPUs that there are.
    pub nr_vcpus: u32,
    /// Age of each group that is produced, by name, in nanoseconds.
    pub ages: Vec<(&'static str, u64)>,
    /// Fields that are saturated.
    pub saturated: u64,
    /// Reads that were tried again, since the domain is known.
    pub retries: u64,
    /// Failures by [`REASONS`], since the domain is known.
    pub failures: [u64; REASONS.len()],
    /// Left out: another domain has the same names.
    pub(crate) hidden: bool,
    /// Each vCPU's times by state, up to now.
    pub(crate) times: Vec<[Option<u64>; 4]>,
    /// Slots whose counters began later than the domain's, in order.
    pub(crate) later: Vec<(RecordKind, u32, Stamp)>,
    /// Names of the block devices and of the network interfaces.
    pub(crate) devices: [Vec<String>; 2],
}

/// What one pass found.
#[derive(Debug, Default)]
pub struct View {
    domains: Vec<DomainView>,
    len: usize,
    /// When this program began to count.
    pub started: Stamp,
    /// Scrapes that were refused.
    pub refused: u64,
    /// Times that the directory could not be read.
    pub directory_failures: u64,
    /// Domains that were left out because another has the same names.
    pub duplicates: u64,
}

impl View {
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The next domain's buffers, to be filled.
    pub(crate) fn next(&mut self) -> &mut DomainView {
        if self.len == self.domains.len() {
            self.domains.push(DomainView::default());
        }
        self.len += 1;
        let last = self.len - 1;
        #[allow(clippy::indexing_slicing, reason = "it was pushed if it was not there")]
        &mut self.domains[last]
    }

    pub(crate) fn domains_mut(&mut self) -> &mut [DomainView] {
        self.domains.get_mut(..self.len).unwrap_or_default()
    }

    /// Gives back the buffers of domains that have gone.
    pub(crate) fn shrink(&mut self) {
        self.domains.truncate(self.len.saturating_mul(2).max(16));
    }

    /// The domains, in the order of their entries.
    pub fn domains(&self) -> impl Iterator<Item = &DomainView> {
        self.domains.iter().take(self.len).filter(|domain| !domain.hidden)
    }
}

impl DomainView {
    /// When the counters of a slot began.
    #[must_use]
    pub fn created(&self, kind: RecordKind, index: u32) -> Stamp {
        let at = self.later.binary_search_by_key(&(kind, index), |(kind, i, _)| (*kind, *i));
        let later = at.ok().and_then(|at| self.later.get(at));
        later.map_or(self.created, |(_, _, stamp)| *stamp)
    }

    /// Number of records of a kind.
    pub(crate) fn nr(&self, kind: RecordKind) -> u32 {
        match kind {
            RecordKind::Vcpu => self.snapshot.nr_vcpus(),
            RecordKind::Blk => self.snapshot.nr_blks(),
            RecordKind::Net => self.snapshot.nr_nets(),
            _ => 1,
        }
    }

    pub(crate) fn record(&self, kind: RecordKind, index: u32) -> Option<SnapshotRecord<'_>> {
        match kind {
            RecordKind::Dom => Some(self.snapshot.dom()),
            RecordKind::Vcpu => self.snapshot.vcpu(index),
            RecordKind::Blk => self.snapshot.blk(index),
            RecordKind::Net => self.snapshot.net(index),
            RecordKind::ArchDom | RecordKind::ArchVcpu => None,
        }
    }

    /// A field's number, if there is one.
    pub(crate) fn value(&self, record: SnapshotRecord<'_>, field: FieldRef) -> Option<u64> {
        match record.word(field.group, field.offset) {
            Ok(Reading::Active(word)) => word.value(),
            _ => None,
        }
    }

    /// Time that a vCPU spent in `state`.
    #[must_use]
    pub fn time_in(&self, index: u32, state: VcpuState) -> Option<u64> {
        *self.times.get(index as usize)?.get(state as usize)?
    }

    /// What a vCPU is doing, if there is one.
    #[must_use]
    pub fn vcpu_state(&self, index: u32) -> Option<VcpuState> {
        self.snapshot.vcpu(index)?.vcpu_group::<Runstate>().ok()?.active()?.vcpu_state()
    }

    /// Time that a vCPU wanted a CPU and had none: as the scheduler counted it, or else as its
    /// runstate says.
    #[must_use]
    pub fn steal(&self, index: u32) -> Option<u64> {
        let sched = self.snapshot.vcpu(index)?.vcpu_group::<Sched>().ok();
        let delay = sched.map(|sched| sched.stat(|s| s.delay_ns));
        match delay {
            Some(Stat::Value(ns)) => Some(ns),
            _ => self.time_in(index, VcpuState::Runnable),
        }
    }

    /// The name of a device, for a label.
    #[must_use]
    pub fn device(&self, kind: RecordKind, index: u32) -> &str {
        let [blks, nets] = &self.devices;
        let names = if kind == RecordKind::Blk { blks } else { nets };
        names.get(index as usize).map_or("", String::as_str)
    }
}
