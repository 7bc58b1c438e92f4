//! Rows of a domain: its vCPUs, disks and interfaces, with rates between two snapshots.

use std::time::Duration;

use domstat_consumer::rates::{Rates, per_second};
use domstat_consumer::{Liveness, Reading, Sample, Snapshot, SnapshotRecord};
use domstat_layout::latest::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, Exits, JOB_KIND_NAMES, JOB_STATE_NAMES,
    Memory, NetIdentity, NetIo, Runstate, VcpuState,
};
use domstat_layout::{BlkGroup, Group, Name, NetGroup, Ns, VcpuGroup, Word};

use crate::output::printable;

/// A domain as of one snapshot, and what changed since an earlier one.
#[derive(Clone, Copy)]
pub(crate) struct Interval<'a> {
    now: &'a Snapshot,
    then: Option<&'a Snapshot>,
    rates: Rates<'a>,
}

/// A group now and then, if both are of the same tenant.
struct Pair<G> {
    now: Sample<G>,
    then: Option<Sample<G>>,
}

fn active<G, E>(read: Result<Reading<Sample<G>>, E>) -> Option<Sample<G>> {
    read.ok().and_then(Reading::active)
}

impl<G> Pair<G> {
    fn new(now: Option<Sample<G>>, then: Option<Sample<G>>) -> Option<Self> {
        let now = now?;
        let then = then.filter(|then| then.generation == now.generation);
        Some(Self { now, then })
    }

    /// How much a counter grew.
    fn growth(&self, field: impl Fn(&G) -> Word) -> Option<u64> {
        let then = self.then.as_ref()?;
        field(&self.now.group).value()?.checked_sub(field(&then.group).value()?)
    }

    /// Growth per second of the time between the two writes; 0 if there was none in between.
    fn rate(&self, field: impl Fn(&G) -> Word) -> Option<f64>
    where
        G: Group,
    {
        let then = self.then.as_ref()?;
        per_second(then, &self.now, &field).or_else(|| self.growth(field).map(|_| 0.0))
    }
}

/// A vCPU.
pub(crate) struct VcpuRow {
    pub(crate) index: u32,
    pub(crate) state: Option<VcpuState>,
    /// Time in each state, in nanoseconds.
    pub(crate) times: [Word; 4],
    /// Share of the interval in each state, 0 to 1.
    pub(crate) shares: [Option<f64>; 4],
    /// Share of the interval that it was runnable and not running.
    pub(crate) steal: Option<f64>,
    /// Exits per second.
    pub(crate) exits: Option<f64>,
    /// Age of the newest write of its runstate, in nanoseconds.
    pub(crate) age: Option<u64>,
    /// Why its runstate cannot be read.
    pub(crate) error: Option<String>,
}

/// A disk.
pub(crate) struct BlkRow {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) io: Option<BlkIo>,
    /// Bytes per second.
    pub(crate) read: Option<f64>,
    pub(crate) written: Option<f64>,
    /// Requests per second.
    pub(crate) reads: Option<f64>,
    pub(crate) writes: Option<f64>,
    /// Nanoseconds for one read and one write in the interval.
    pub(crate) read_latency: Option<u64>,
    pub(crate) write_latency: Option<u64>,
    pub(crate) age: Option<u64>,
    pub(crate) allocation: Option<u64>,
    pub(crate) capacity: Option<u64>,
    /// The armed write threshold.
    pub(crate) threshold: Option<u64>,
    pub(crate) job: Option<Job>,
}

/// The block job of a disk.
pub(crate) struct Job {
    pub(crate) kind: &'static str,
    pub(crate) state: &'static str,
    pub(crate) current: Option<u64>,
    pub(crate) end: Option<u64>,
}

/// A network interface.
pub(crate) struct NetRow {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) io: Option<NetIo>,
    /// Bytes per second.
    pub(crate) received: Option<f64>,
    pub(crate) sent: Option<f64>,
    /// Packets per second.
    pub(crate) packets_in: Option<f64>,
    pub(crate) packets_out: Option<f64>,
    pub(crate) age: Option<u64>,
}

/// Sums over a domain's vCPUs and devices. `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// vCPUs that are present.
    pub(crate) vcpus: u32,
    /// CPUs' worth of time that its vCPUs ran, and that they were runnable and not running.
    pub(crate) running: Option<f64>,
    pub(crate) steal: Option<f64>,
    /// Exits per second.
    pub(crate) exits: Option<f64>,
    /// Bytes per second.
    pub(crate) read: Option<f64>,
    pub(crate) written: Option<f64>,
    pub(crate) received: Option<f64>,
    pub(crate) sent: Option<f64>,
}

impl BlkRow {
    /// Whether it is a drive without a medium: it has a name and nothing to say.
    pub(crate) fn is_empty_drive(&self) -> bool {
        let none = |word: Word| word.value().is_none_or(|n| n == 0);
        let idle = self.io.is_none_or(|io| none(io.rd_req) && none(io.wr_req));
        idle && self.capacity.is_none_or(|n| n == 0)
            && self.allocation.is_none_or(|n| n == 0)
            && self.job.is_none()
            && self.threshold.is_none()
    }

    /// Requests per second.
    pub(crate) fn requests(&self) -> Option<f64> {
        sum(self.reads, self.writes)
    }

    pub(crate) fn errors(&self) -> Option<u64> {
        self.io?.errs.value()
    }

    /// How much of its capacity is allocated, 0 to 1.
    pub(crate) fn filled(&self) -> Option<f64> {
        let (allocation, capacity) = (self.allocation?, self.capacity?);
        (capacity > 0).then(|| allocation as f64 / capacity as f64)
    }

    pub(crate) fn is_past_threshold(&self) -> bool {
        self.allocation.zip(self.threshold).is_some_and(|(a, t)| a > t)
    }
}

impl NetRow {
    /// Errors and drops, of both directions.
    pub(crate) fn trouble(&self) -> Option<u64> {
        let io = self.io?;
        let words = [io.rx_errs, io.rx_drop, io.tx_errs, io.tx_drop];
        words.iter().filter_map(|w| w.value()).reduce(u64::saturating_add)
    }
}

impl Job {
    fn new(job: &BlkJob) -> Option<Self> {
        let named = |names: &'static [&'static str], word: Word| {
            usize::try_from(word.value()?).ok().and_then(|i| names.get(i).copied())
        };
        let kind = named(JOB_KIND_NAMES, job.kind).filter(|kind| *kind != "none")?;
        let state = named(JOB_STATE_NAMES, job.state).unwrap_or("-");
        Some(Self { kind, state, current: job.cur_bytes.value(), end: job.end_bytes.value() })
    }

    /// How far it is, 0 to 1.
    pub(crate) fn done(&self) -> Option<f64> {
        let (current, end) = (self.current?, self.end.filter(|end| *end > 0)?);
        Some((current as f64 / end as f64).min(1.0))
    }
}

impl<'a> Interval<'a> {
    /// A domain as of `now`, and since `then` if that is given. What is not live has no rates.
    pub(crate) fn new(
        now: &'a Snapshot,
        then: Option<&'a Snapshot>,
        liveness: &Liveness,
        stale_after: Duration,
    ) -> Self {
        let rates = Rates::new(now).with_stale_after(Some(stale_after)).with_liveness(liveness);
        let is_up = matches!(liveness, Liveness::Live | Liveness::Stalled(_));
        let same = |then: &&Snapshot| is_up && then.incarnation() == now.incarnation();
        let then = then.filter(same);
        Self { now, then, rates: then.map_or(rates, |then| rates.since(then)) }
    }

    pub(crate) const fn now(&self) -> &'a Snapshot {
        self.now
    }

    /// Whether there are rates.
    pub(crate) const fn has_rates(&self) -> bool {
        self.then.is_some()
    }

    fn age(&self, updated: Ns) -> Option<u64> {
        Some(self.now.taken()?.since(updated))
    }

    fn pair<G>(&self, of: impl Fn(&Snapshot) -> Option<Sample<G>>) -> Option<Pair<G>> {
        Pair::new(of(self.now), self.then.and_then(&of))
    }

    fn vcpu<G: VcpuGroup>(&self, index: u32) -> Option<Pair<G>> {
        self.pair(|snapshot| active(snapshot.vcpu(index)?.vcpu_group::<G>()))
    }

    fn blk<G: BlkGroup>(&self, index: u32) -> Option<Pair<G>> {
        self.pair(|snapshot| active(snapshot.blk(index)?.blk_group::<G>()))
    }

    fn net<G: NetGroup>(&self, index: u32) -> Option<Pair<G>> {
        self.pair(|snapshot| active(snapshot.net(index)?.net_group::<G>()))
    }

    /// The vCPUs that are present or cannot be read.
    pub(crate) fn vcpus(self) -> impl Iterator<Item = VcpuRow> + use<'a> {
        (0..self.now.nr_vcpus()).filter_map(move |index| self.vcpu_row(index))
    }

    fn vcpu_row(&self, index: u32) -> Option<VcpuRow> {
        let error = self.now.vcpu(index)?.vcpu_group::<Runstate>().err();
        let rates = self.rates.vcpu(index);
        if rates.is_none() && error.is_none() {
            return None;
        }
        Some(VcpuRow {
            index,
            state: rates.and_then(|vcpu| vcpu.state),
            times: rates.map_or([Word::NOT_PRODUCED; 4], |vcpu| vcpu.times),
            shares: rates.map_or([None; 4], |vcpu| vcpu.shares),
            steal: rates.and_then(|vcpu| vcpu.steal),
            exits: self.vcpu::<Exits>(index).and_then(|p| p.rate(|e| e.exits)),
            age: rates.and_then(|vcpu| self.age(vcpu.updated)),
            error: error.map(|e| e.to_string()),
        })
    }

    /// The disks that are present.
    pub(crate) fn blks(self) -> impl Iterator<Item = BlkRow> + use<'a> {
        (0..self.now.nr_blks()).filter_map(move |index| self.blk_row(index))
    }

    fn blk_row(&self, index: u32) -> Option<BlkRow> {
        let identity = self.blk::<BlkIdentity>(index);
        let io = self.blk::<BlkIo>(index);
        let extent = self.blk::<BlkExtent>(index).map(|p| p.now);
        let job = self.blk::<BlkJob>(index).map(|p| p.now);
        if identity.is_none() && io.is_none() && extent.is_none() && job.is_none() {
            return None;
        }
        let times = self.blk::<BlkIoTimes>(index);
        let rate = |field: fn(&BlkIo) -> Word| io.as_ref().and_then(|p| p.rate(field));
        let latency = |time: fn(&BlkIoTimes) -> Word, requests: fn(&BlkIo) -> Word| {
            let time = times.as_ref()?.growth(time)?;
            time.checked_div(io.as_ref()?.growth(requests)?)
        };
        Some(BlkRow {
            index,
            name: device(identity.map(|p| p.now.group.name), index),
            read: rate(|io| io.rd_bytes),
            written: rate(|io| io.wr_bytes),
            reads: rate(|io| io.rd_req),
            writes: rate(|io| io.wr_req),
            read_latency: latency(|t| t.rd_total_ns, |io| io.rd_req),
            write_latency: latency(|t| t.wr_total_ns, |io| io.wr_req),
            age: io.as_ref().and_then(|p| self.age(p.now.updated)),
            io: io.map(|p| p.now.group),
            allocation: extent.and_then(|e| e.allocation_bytes.value()),
            capacity: extent.and_then(|e| e.capacity_bytes.value()),
            threshold: extent.and_then(|e| e.threshold_bytes.value()).filter(|t| *t > 0),
            job: job.and_then(|job| Job::new(&job.group)),
        })
    }

    /// The network interfaces that are present.
    pub(crate) fn nets(self) -> impl Iterator<Item = NetRow> + use<'a> {
        (0..self.now.nr_nets()).filter_map(move |index| self.net_row(index))
    }

    fn net_row(&self, index: u32) -> Option<NetRow> {
        let identity = self.net::<NetIdentity>(index);
        let io = self.net::<NetIo>(index);
        if identity.is_none() && io.is_none() {
            return None;
        }
        let rate = |field: fn(&NetIo) -> Word| io.as_ref().and_then(|p| p.rate(field));
        Some(NetRow {
            index,
            name: device(identity.map(|p| p.now.group.name), index),
            received: rate(|io| io.rx_bytes),
            sent: rate(|io| io.tx_bytes),
            packets_in: rate(|io| io.rx_packets),
            packets_out: rate(|io| io.tx_packets),
            age: io.as_ref().and_then(|p| self.age(p.now.updated)),
            io: io.map(|p| p.now.group),
        })
    }

    pub(crate) fn sums(self) -> Sums {
        let mut sums = Sums::default();
        for vcpu in self.vcpus() {
            sums.vcpus += 1;
            let [running, ..] = vcpu.shares;
            sums.running = sum(sums.running, running);
            sums.steal = sum(sums.steal, vcpu.steal);
            sums.exits = sum(sums.exits, vcpu.exits);
        }
        for blk in self.blks() {
            sums.read = sum(sums.read, blk.read);
            sums.written = sum(sums.written, blk.written);
        }
        for net in self.nets() {
            sums.received = sum(sums.received, net.received);
            sums.sent = sum(sums.sent, net.sent);
        }
        sums
    }
}

/// Memory that the domain uses: resident if that is known, else what it was given.
pub(crate) fn memory(snapshot: &Snapshot) -> Option<u64> {
    let memory = active(snapshot.dom().dom_group::<Memory>())?.group;
    memory.rss_bytes.value().or(memory.current_bytes.value())
}

/// A record of each kind, to tell which of its groups are produced.
pub(crate) fn records(now: &Snapshot) -> [(&'static str, Vec<SnapshotRecord<'_>>); 4] {
    [
        ("dom", vec![now.dom()]),
        ("vcpu", (0..now.nr_vcpus()).filter_map(|i| now.vcpu(i)).collect()),
        ("blk", (0..now.nr_blks()).filter_map(|i| now.blk(i)).collect()),
        ("net", (0..now.nr_nets()).filter_map(|i| now.net(i)).collect()),
    ]
}

/// The sum of what is known.
pub(crate) fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    }
}

fn device(name: Option<Name>, index: u32) -> String {
    let name = name.as_ref().and_then(Name::as_str).filter(|name| !name.is_empty());
    name.map_or_else(|| format!("#{index}"), printable)
}
