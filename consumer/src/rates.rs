//! Rates: shares of vCPU time, up to now and between two snapshots.
//!
//! A producer writes a vCPU's times when it wakes up to, and often only when the vCPU changes its
//! state, so the numbers in the region are older than now. [`Rates`] adds the time since the write
//! to the state that was written, as Xen does for callers of `VCPUOP_get_runstate_info`, and makes
//! shares of an interval of what two snapshots say:
//!
//! ```no_run
//! use domstat_consumer::rates::Rates;
//! use domstat_consumer::{Attachment, Snapshot};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let web1 = Attachment::open("/run/domstat/web1.domstat")?;
//! let (mut then, mut now) = (Snapshot::new(), Snapshot::new());
//! web1.region().snapshot(&mut then);
//! std::thread::sleep(std::time::Duration::from_secs(1));
//! web1.region().snapshot(&mut now);
//! let rates = Rates::new(&now).since(&then).with_liveness(&web1.liveness());
//! for vcpu in rates.vcpus() {
//!     println!("vCPU {}: ran {:?} of the time, steal {:?}", vcpu.index, vcpu.running(), vcpu.steal);
//! }
//! println!("{:?} CPUs in use", rates.sums().running());
//! # Ok(())
//! # }
//! ```
//!
//! # What it holds to
//!
//! * Absent stays absent: what is not produced, or cannot be compared, is `None` and never 0.
//!   Counters are compared within one incarnation of the region and one generation of the slot.
//! * Extrapolation ends with staleness. When no group of the domain was written for longer than the
//!   limit ([`Rates::with_stale_after`]), times are as written and there are no shares: a producer
//!   that hangs must not make its domain look busy. The same holds for a region that is not live
//!   ([`Rates::with_liveness`]).
//! * A vCPU whose producer polls the scheduler's books (it has the group `sched`) has shares of the
//!   time between two writes, and none without a write in the interval.
//! * A share is between 0 and 1, since the next write may say that some of the time that was added
//!   to one state belongs to another.
//! * [`MonotonicTimes`] never gives a time that is smaller than one it gave before.
//!
//! # How the tools use it
//!
//! `domstat show --watch` and `domstat top` keep earlier snapshots of a domain, print
//! [`VcpuRates::shares`] and [`VcpuRates::steal`] of each vCPU, and sum them with [`Rates::sums`].
//! The exporter has no interval of its own: it exports [`MonotonicTimes::times`] as counters, from
//! which the database makes rates. All rates of other counters are [`per_second`].

use std::time::Duration;

use domstat_layout::latest::{REV, RunState, Runstate, Sched};
use domstat_layout::{Group, Ns, RecordKind, VcpuGroup, Word};

use crate::attach::{Limits, Liveness};
use crate::read::{Sample, Snapshot, SnapshotRecord};

/// The states of a vCPU, in order of their numbers: the order of times and shares.
pub const STATES: [RunState; 4] =
    [RunState::Running, RunState::Runnable, RunState::Blocked, RunState::Offline];

/// Times and shares of a domain's vCPUs, as of a snapshot, and since an earlier one.
#[derive(Clone, Copy, Debug)]
pub struct Rates<'a> {
    now: Dated<'a>,
    then: Option<Dated<'a>>,
    stale_after: Option<Duration>,
    is_up: bool,
}

/// A snapshot, and when the newest group in it was written.
#[derive(Clone, Copy, Debug)]
struct Dated<'a> {
    snapshot: &'a Snapshot,
    newest: Option<Ns>,
}

/// Times and shares of one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct VcpuRates {
    /// The vCPU's number.
    pub index: u32,
    /// The state that the producer wrote last.
    pub state: Option<RunState>,
    /// Time in each of the [`STATES`], up to now if the domain is live and not stale.
    pub times: [Word; 4],
    /// Share of the interval in each of the [`STATES`], 0 to 1; of a vCPU with the group `sched`,
    /// of the time between two writes, if there were two.
    pub shares: [Option<f64>; 4],
    /// Share of the interval that the vCPU wanted a CPU and had none, 0 to 1: `sched.delay` where
    /// it is produced and was written in the interval, else the share that it was runnable.
    pub steal: Option<f64>,
    /// When its runstate was written.
    pub updated: Ns,
}

/// Sums over the vCPUs of a domain, in CPUs: 1.5 is one and a half CPU all the time. `None` if it
/// is known of no vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DomainRates {
    /// vCPUs with a runstate.
    pub vcpus: u32,
    /// Sum of the shares in each of the [`STATES`].
    pub shares: [Option<f64>; 4],
    /// Sum of [`VcpuRates::steal`].
    pub steal: Option<f64>,
}

impl<'a> Dated<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, newest: snapshot.newest_write() }
    }

    /// The time up to which what is written holds; `None` if it is too old for that, or not known.
    fn extrapolated_to(&self, stale_after: Option<Duration>) -> Option<Ns> {
        let (taken, newest) = (self.snapshot.taken()?, self.newest?);
        let age = Duration::from_nanos(taken.since(newest));
        stale_after.is_none_or(|limit| age <= limit).then_some(taken)
    }

    fn vcpu<G: VcpuGroup>(&self, index: u32) -> Option<Sample<G>> {
        self.snapshot.vcpu(index)?.vcpu_group::<G>().ok()?.active()
    }
}

impl<'a> Rates<'a> {
    /// Times as of a snapshot. There are no shares without an earlier one: [`Rates::since`].
    #[must_use]
    pub fn new(now: &'a Snapshot) -> Self {
        let stale_after = Limits::default().stale_after;
        Self { now: Dated::new(now), then: None, stale_after, is_up: true }
    }

    /// Adds an earlier snapshot of the same domain. One of another incarnation of its region is
    /// ignored.
    #[must_use]
    pub fn since(mut self, then: &'a Snapshot) -> Self {
        let is_same = then.incarnation() == self.now.snapshot.incarnation();
        self.then = is_same.then(|| Dated::new(then));
        self
    }

    /// Sets for how long after the domain's newest write its numbers are those of now. The default
    /// is [`Limits::stale_after`]; `None` is for producers that only write when something happens.
    #[must_use]
    pub const fn with_stale_after(mut self, limit: Option<Duration>) -> Self {
        self.stale_after = limit;
        self
    }

    /// Says how the domain stands: if it is neither live nor stalled, its times are as written and
    /// it has no shares.
    #[must_use]
    pub const fn with_liveness(mut self, liveness: &Liveness) -> Self {
        self.is_up = matches!(liveness, Liveness::Live | Liveness::Stalled(_));
        self
    }

    /// The vCPUs whose runstates are produced and can be read.
    pub fn vcpus(&self) -> impl Iterator<Item = VcpuRates> + use<'a> {
        let rates = *self;
        (0..rates.now.snapshot.nr_vcpus()).filter_map(move |index| rates.vcpu(index))
    }

    /// One vCPU; `None` if its runstate is not produced or cannot be read.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<VcpuRates> {
        let now = self.now.vcpu::<Runstate>(index)?;
        let until = self.until(&self.now);
        let runstate = until.map_or(now.group, |until| now.at(until));
        let shares = self.shares(index, &now).unwrap_or_default();
        let [_, runnable, ..] = shares;
        Some(VcpuRates {
            index,
            state: now.run_state(),
            times: STATES.map(|state| runstate.time_in(state)),
            shares,
            steal: self.delay(index).or(runnable),
            updated: now.updated,
        })
    }

    /// Sums over all vCPUs.
    #[must_use]
    pub fn sums(&self) -> DomainRates {
        let mut sums = DomainRates::default();
        for vcpu in self.vcpus() {
            sums.vcpus = sums.vcpus.saturating_add(1);
            for (sum, share) in sums.shares.iter_mut().zip(vcpu.shares) {
                *sum = add(*sum, share);
            }
            sums.steal = add(sums.steal, vcpu.steal);
        }
        sums
    }

    /// The time up to which a snapshot's numbers hold; `None`: until they were written.
    fn until(&self, dated: &Dated<'_>) -> Option<Ns> {
        dated.extrapolated_to(self.stale_after).filter(|_| self.is_up)
    }

    /// The interval, if the domain was live and not stale at both of its ends.
    fn interval(&self) -> Option<(Dated<'a>, Ns, Ns)> {
        let then = self.then?;
        let (begin, end) = (self.until(&then)?, self.until(&self.now)?);
        (begin < end).then_some((then, begin, end))
    }

    fn shares(&self, index: u32, now: &Sample<Runstate>) -> Option<[Option<f64>; 4]> {
        let (then, begin, end) = self.interval()?;
        let before = then.vcpu::<Runstate>(index).filter(|b| b.generation == now.generation)?;
        let (before, now, elapsed) = if self.is_polled(index) {
            (before.group, now.group, now.updated.since(before.updated))
        } else {
            (before.at(begin), now.at(end), end.since(begin))
        };
        let in_state = |state| {
            let (before, now) = (before.time_in(state).value()?, now.time_in(state).value()?);
            Some(share(now.saturating_sub(before), elapsed))
        };
        (elapsed > 0).then(|| STATES.map(in_state))
    }

    /// Whether the vCPU's times are read from the scheduler's books now and then, and not written by
    /// the vCPU itself. What it has done since the last write is then not known: a state that was
    /// found is not one that lasts.
    fn is_polled(&self, index: u32) -> bool {
        self.now.vcpu::<Sched>(index).is_some()
    }

    /// The share of delay by the scheduler, if a delay was written in the interval.
    fn delay(&self, index: u32) -> Option<f64> {
        let (then, ..) = self.interval()?;
        let (then, now) = (then.vcpu::<Sched>(index)?, self.now.vcpu::<Sched>(index)?);
        let (grown, elapsed) = growth(&then, &now, |sched| sched.delay_ns)?;
        Some(share(grown, elapsed))
    }
}

impl VcpuRates {
    /// Share of the interval that it ran.
    #[must_use]
    pub const fn running(&self) -> Option<f64> {
        self.shares[0]
    }
}

impl DomainRates {
    /// CPUs that the domain's vCPUs ran on.
    #[must_use]
    pub const fn running(&self) -> Option<f64> {
        self.shares[0]
    }
}

/// A part of a time, from 0 to 1; the time is longer than 0.
#[allow(clippy::cast_precision_loss, reason = "a share is shown with a few digits")]
fn share(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64).min(1.0)
}

/// The sum of what is known.
fn add(sum: Option<f64>, part: Option<f64>) -> Option<f64> {
    match (sum, part) {
        (Some(sum), Some(part)) => Some(sum + part),
        (sum, part) => sum.or(part),
    }
}

/// How much a counter grew between two writes, and the nanoseconds between these; `None` if there
/// was one write only, the slot was given to another tenant, or the counter is not a number.
fn growth<G>(then: &Sample<G>, now: &Sample<G>, field: impl Fn(&G) -> Word) -> Option<(u64, u64)> {
    if then.generation != now.generation {
        return None;
    }
    let grown = field(&now.group).value()?.checked_sub(field(&then.group).value()?)?;
    let elapsed = now.updated.since(then.updated);
    (elapsed > 0).then_some((grown, elapsed))
}

/// Growth of a counter for each second of the time between the two writes, which may lie further
/// apart than the reads. `None` if there was one write only, the slot was given to another tenant,
/// or the counter is not a number or decreased.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a rate is shown with a few digits")]
pub fn per_second<G: Group>(
    then: &Sample<G>,
    now: &Sample<G>,
    field: impl Fn(&G) -> Word,
) -> Option<f64> {
    let (grown, elapsed) = growth(then, now, field)?;
    Some(grown as f64 * 1e9 / elapsed as f64)
}

impl Snapshot {
    /// When the newest group in it was written; `None` if there is none.
    #[must_use]
    pub fn newest_write(&self) -> Option<Ns> {
        let vcpus = (0..self.nr_vcpus()).filter_map(|i| self.vcpu(i));
        let blks = (0..self.nr_blks()).filter_map(|i| self.blk(i));
        let nets = (0..self.nr_nets()).filter_map(|i| self.net(i));
        let newest = |kind: RecordKind, record: SnapshotRecord<'_>| {
            let groups = REV.groups(kind).iter().filter(|desc| desc.twin_of.is_none());
            groups.filter_map(|desc| Some(record.fields(desc).ok()?.active()?.updated)).max()
        };
        let dom = std::iter::once(newest(RecordKind::Dom, self.dom()));
        dom.chain(vcpus.map(|record| newest(RecordKind::Vcpu, record)))
            .chain(blks.map(|record| newest(RecordKind::Blk, record)))
            .chain(nets.map(|record| newest(RecordKind::Net, record)))
            .max()
            .flatten()
    }
}

/// Times of a domain's vCPUs, up to now, that never decrease: for counters.
///
/// The next write may take back some of the time that was added to a state since the last one.
/// Then the time given stands still until what is written has caught up.
#[derive(Clone, Debug, Default)]
pub struct MonotonicTimes {
    incarnation: u64,
    vcpus: Vec<Given>,
}

/// The largest times given of one vCPU.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    generation: u32,
    times: [u64; 4],
}

impl MonotonicTimes {
    /// Times before the first snapshot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time of each vCPU in each of the [`STATES`], in nanoseconds, by the vCPU's number;
    /// `None` for what is not produced or cannot be read. Counts start over with another
    /// incarnation of the region, and with another tenant of a vCPU's slot.
    pub fn times(&mut self, rates: &Rates<'_>) -> impl Iterator<Item = [Option<u64>; 4]> {
        let snapshot = rates.now.snapshot;
        if self.incarnation != snapshot.incarnation() {
            self.incarnation = snapshot.incarnation();
            self.vcpus.clear();
        }
        self.vcpus.resize(snapshot.nr_vcpus() as usize, Given::default());
        let rates = *rates;
        (0..).zip(&mut self.vcpus).map(move |(index, given)| {
            let Some(sample) = rates.now.vcpu::<Runstate>(index) else { return [None; 4] };
            if sample.generation != given.generation {
                *given = Given { generation: sample.generation, times: [0; 4] };
            }
            let Some(vcpu) = rates.vcpu(index) else { return [None; 4] };
            let mut times = vcpu.times.map(Word::value);
            for (time, given) in times.iter_mut().zip(&mut given.times) {
                *given = time.map_or(*given, |time| time.max(*given));
                *time = time.map(|_| *given);
            }
            times
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(running: u64, updated: u64, generation: u32) -> Sample<Runstate> {
        let group = Runstate { running_ns: Word::from(running), ..Runstate::NOT_PRODUCED };
        Sample { group, updated: Ns(updated), seq: 2, generation }
    }

    #[test]
    fn a_counter_is_compared_between_two_writes_of_one_tenant() {
        let rate = |then, now| per_second(&then, &now, |r: &Runstate| r.running_ns);
        assert_eq!(rate(sample(100, 1_000, 1), sample(600, 2_000, 1)), Some(5e8));
        assert_eq!(rate(sample(100, 1_000, 1), sample(600, 1_000, 1)), None, "one write");
        assert_eq!(rate(sample(100, 1_000, 1), sample(600, 2_000, 2)), None, "another tenant");
        assert_eq!(rate(sample(600, 1_000, 1), sample(100, 2_000, 1)), None, "it decreased");
        let absent = Sample { group: Runstate::NOT_PRODUCED, ..sample(0, 2_000, 1) };
        assert_eq!(rate(sample(600, 1_000, 1), absent), None, "not produced");
    }

    #[test]
    fn a_sum_of_nothing_is_nothing_and_no_zero_is_negative() {
        let sums = Rates::new(&Snapshot::new()).sums();
        assert_eq!(sums, DomainRates::default());
        assert_eq!(sums.running(), None);
        let zero = [Some(0.0), None, Some(0.0)].into_iter().fold(None, add).unwrap();
        assert!(zero.is_sign_positive());
        assert!(share(0, 5).is_sign_positive());
        assert!((share(7, 5) - 1.0).abs() < f64::EPSILON, "a share is at most 1");
    }
}
