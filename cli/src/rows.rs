//! Rows of a domain: its vCPUs, disks and interfaces, with rates between two snapshots.

use std::collections::HashMap;
use std::time::Duration;

use domstat_consumer::rates::{Rates, STATES, per_second};
use domstat_consumer::{Liveness, Reading, Sample, Snapshot, SnapshotRecord};
use domstat_layout::latest::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, Exits, JOB_KIND_NAMES, JOB_STATE_NAMES,
    Memory, NetIdentity, NetIo, NetLimits, RunState, Runstate, Sched,
};
use domstat_layout::{BlkGroup, Group, Name, NetGroup, Ns, VcpuGroup, Word};

use crate::output::printable;

pub(crate) mod causes;
pub(crate) mod distributions;
mod exits;
mod queue;
mod threads;

pub(crate) use distributions::{Distributions, Percentile};
pub(crate) use queue::QueueRow;
pub(crate) use threads::VcpuThreads;

/// A domain as of one snapshot, and what changed since an earlier one.
#[derive(Clone, Copy)]
pub(crate) struct Interval<'a> {
    now: &'a Snapshot,
    then: Option<&'a Snapshot>,
    rates: Rates<'a>,
    held: Option<&'a HeldRates>,
    distributions: Option<(&'a Distributions, &'a Distributions)>,
}

/// Rates of one group between two writes.
#[derive(Clone, Copy, Debug)]
struct Measured {
    generation: u32,
    /// When the later write was, and the time between the two in nanoseconds.
    updated: Ns,
    spacing: u64,
    rates: [Option<f64>; 4],
}

/// Rates of groups between their last two writes, for producers that write less often than a reader
/// looks: no write in an interval is no news, not 0.
#[derive(Debug, Default)]
pub(crate) struct HeldRates(HashMap<(u32, u32, u32), Measured>);

/// Whether a group that is written every `spacing` nanoseconds, and is as old as `age`, misses a
/// write: its rate is then no longer known.
pub(crate) const fn is_overdue(age: u64, spacing: u64) -> bool {
    age / 2 > spacing
}

/// Record, group and index: what a rate is of.
fn key<G: Group>(index: u32) -> (u32, u32, u32) {
    (G::DESC.record.number(), G::DESC.bit, index)
}

impl HeldRates {
    /// Notes the rates of all groups that were written between two snapshots.
    pub(crate) fn note(&mut self, then: &Snapshot, now: &Snapshot) {
        if then.incarnation() != now.incarnation() {
            return self.0.clear();
        }
        let rates = Rates::new(now).since(then).with_stale_after(None);
        let interval = Interval { now, then: Some(then), rates, held: None, distributions: None };
        for index in 0..now.nr_vcpus() {
            self.add::<Runstate>(index, interval.polled_shares(index));
            self.add::<Sched>(index, interval.polled_steal(index));
            let exits = interval.vcpu::<Exits>(index);
            self.add::<Exits>(index, exits.as_ref().and_then(exit_rates));
        }
        for index in 0..now.nr_blks() {
            let io = interval.blk::<BlkIo>(index);
            let times = interval.blk::<BlkIoTimes>(index);
            let latencies = times.as_ref().zip(io.as_ref()).and_then(|(t, io)| latencies(t, io));
            self.add::<BlkIo>(index, io.as_ref().and_then(blk_rates));
            self.add::<BlkIoTimes>(index, latencies);
        }
        for index in 0..now.nr_nets() {
            let io = interval.net::<NetIo>(index);
            self.add::<NetIo>(index, io.as_ref().and_then(net_rates));
        }
    }

    fn add<G: Group>(&mut self, index: u32, measured: Option<Measured>) {
        if let Some(measured) = measured {
            self.0.insert(key::<G>(index), measured);
        }
    }

    /// The rates as of `now`, if they are of its last write.
    fn get<G: Group>(&self, index: u32, now: &Sample<G>) -> Option<&Measured> {
        let is_last = |m: &&Measured| m.updated == now.updated && m.generation == now.generation;
        self.0.get(&key::<G>(index)).filter(is_last)
    }
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

    /// Rates between the two writes, if there were two.
    fn measure(
        &self,
        rates: impl FnOnce(&Sample<G>, &Sample<G>) -> [Option<f64>; 4],
    ) -> Option<Measured> {
        let (then, now) = (self.then.as_ref()?, &self.now);
        let (generation, updated) = (now.generation, now.updated);
        let spacing = updated.since(then.updated);
        (spacing > 0).then(|| Measured { generation, updated, spacing, rates: rates(then, now) })
    }
}

fn exit_rates(exits: &Pair<Exits>) -> Option<Measured> {
    exits.measure(|then, now| [per_second(then, now, |e| e.exits), None, None, None])
}

/// Bytes read and written, reads and writes.
fn blk_rates(io: &Pair<BlkIo>) -> Option<Measured> {
    let fields: [fn(&BlkIo) -> Word; 4] =
        [|io| io.rd_bytes, |io| io.wr_bytes, |io| io.rd_req, |io| io.wr_req];
    io.measure(|then, now| fields.map(|field| per_second(then, now, field)))
}

/// Nanoseconds for one read and for one write.
fn latencies(times: &Pair<BlkIoTimes>, io: &Pair<BlkIo>) -> Option<Measured> {
    let latency = |time: fn(&BlkIoTimes) -> Word, requests: fn(&BlkIo) -> Word| {
        let requests = io.growth(requests).filter(|n| *n > 0)?;
        Some(times.growth(time)? as f64 / requests as f64)
    };
    let read = latency(|t| t.rd_total_ns, |io| io.rd_req);
    let write = latency(|t| t.wr_total_ns, |io| io.wr_req);
    times.measure(|_, _| [read, write, None, None])
}

/// Bytes received and sent, packets received and sent.
fn net_rates(io: &Pair<NetIo>) -> Option<Measured> {
    let fields: [fn(&NetIo) -> Word; 4] =
        [|io| io.rx_bytes, |io| io.tx_bytes, |io| io.rx_packets, |io| io.tx_packets];
    io.measure(|then, now| fields.map(|field| per_second(then, now, field)))
}

/// A vCPU.
pub(crate) struct VcpuRow {
    pub(crate) index: u32,
    pub(crate) state: Option<RunState>,
    /// Time in each state, in nanoseconds.
    pub(crate) times: [Word; 4],
    /// Share of the interval in each state, 0 to 1.
    pub(crate) shares: [Option<f64>; 4],
    /// Share of the interval that it was runnable and not running.
    pub(crate) steal: Option<f64>,
    /// Exits per second.
    pub(crate) exits: Option<f64>,
    /// p99 of its single waits for a CPU.
    pub(crate) wait: Option<Percentile>,
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
    pub(crate) queue: QueueRow,
    /// p50 and p99 of reads, writes and flushes.
    pub(crate) percentiles: [[Option<Percentile>; 2]; 3],
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
    /// What limits it stands under, and what they cost it.
    pub(crate) limits: Option<NetLimits>,
    /// Seconds for which packets waited for a limit, in a second.
    pub(crate) throttled: Option<f64>,
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

    /// Mean time of a read or write in the interval, in nanoseconds.
    pub(crate) fn latency(&self) -> Option<f64> {
        let requests = self.requests().filter(|requests| *requests > 0.0)?;
        Some(self.requests_time()? * 1e9 / requests)
    }

    /// Mean number of requests in flight in the interval. A source that does not publish it has the time
    /// of the reads and writes that ended, which is the same by Little's law.
    pub(crate) fn queue_length(&self) -> Option<f64> {
        self.queue.length.or_else(|| self.requests_time())
    }

    /// Seconds that reads and writes took, in a second.
    fn requests_time(&self) -> Option<f64> {
        let time = |requests: Option<f64>, latency: Option<u64>| match requests? {
            0.0 => Some(0.0),
            requests => Some(requests * latency? as f64 / 1e9),
        };
        Some(time(self.reads, self.read_latency)? + time(self.writes, self.write_latency)?)
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
        Self {
            now,
            then,
            rates: then.map_or(rates, |then| rates.since(then)),
            held: None,
            distributions: None,
        }
    }

    /// Adds the rates of groups that were not written in the interval.
    pub(crate) const fn holding(mut self, held: &'a HeldRates) -> Self {
        self.held = Some(held);
        self
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

    /// Rates between the last two writes of a group, as long as the next one is not overdue.
    fn rates_of<G: Group>(
        &self,
        index: u32,
        group: Option<&Pair<G>>,
        measured: Option<Measured>,
    ) -> [Option<f64>; 4] {
        let rates = || {
            let now = &group.filter(|_| self.has_rates())?.now;
            let measured = measured.as_ref().or_else(|| self.held?.get(index, now))?;
            let overdue = is_overdue(self.age(now.updated)?, measured.spacing);
            (!overdue).then_some(measured.rates)
        };
        rates().unwrap_or_default()
    }

    /// The vCPUs that are present or cannot be read.
    pub(crate) fn vcpus(self) -> impl Iterator<Item = VcpuRow> + use<'a> {
        (0..self.now.nr_vcpus()).filter_map(move |index| self.vcpu_row(index))
    }

    /// The shares between two polls, of a vCPU whose times are polled.
    fn polled_shares(&self, index: u32) -> Option<Measured> {
        let _polled = self.vcpu::<Sched>(index)?;
        let rates = self.rates.vcpu(index)?;
        self.vcpu::<Runstate>(index)?.measure(|_, _| rates.shares)
    }

    /// The times as of the last poll, of a vCPU whose times are polled: what it did since is not known,
    /// and the next poll may find less than the state that lasted would have added.
    fn polled_times(&self, index: u32) -> Option<[Word; 4]> {
        let _polled = self.vcpu::<Sched>(index)?;
        let runstate = self.vcpu::<Runstate>(index)?.now.group;
        Some(STATES.map(|state| runstate.time_in(state)))
    }

    /// The share of steal between two polls.
    fn polled_steal(&self, index: u32) -> Option<Measured> {
        let rates = self.rates.vcpu(index)?;
        self.vcpu::<Sched>(index)?.measure(|_, _| [rates.steal, None, None, None])
    }

    fn vcpu_row(&self, index: u32) -> Option<VcpuRow> {
        let error = self.now.vcpu(index)?.vcpu_group::<Runstate>().err();
        let rates = self.rates.vcpu(index);
        let shares =
            self.rates_of(index, self.vcpu::<Runstate>(index).as_ref(), self.polled_shares(index));
        let [steal, ..] =
            self.rates_of(index, self.vcpu::<Sched>(index).as_ref(), self.polled_steal(index));
        if rates.is_none() && error.is_none() {
            return None;
        }
        Some(VcpuRow {
            index,
            state: rates.and_then(|vcpu| vcpu.state),
            times: self
                .polled_times(index)
                .or_else(|| rates.map(|vcpu| vcpu.times))
                .unwrap_or([Word::NOT_PRODUCED; 4]),
            shares: rates
                .map(|vcpu| vcpu.shares)
                .filter(|shares| shares.iter().any(Option::is_some))
                .unwrap_or(shares),
            steal: rates.and_then(|vcpu| vcpu.steal).or(steal),
            exits: {
                let group = self.vcpu::<Exits>(index);
                let measured = group.as_ref().and_then(exit_rates);
                let [exits, ..] = self.rates_of(index, group.as_ref(), measured);
                exits
            },
            wait: self.wait_percentile(index),
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
        let [read, written, reads, writes] =
            self.rates_of(index, io.as_ref(), io.as_ref().and_then(blk_rates));
        let measured = times.as_ref().zip(io.as_ref()).and_then(|(t, io)| latencies(t, io));
        let [read_latency, write_latency, ..] =
            self.rates_of(index, times.as_ref(), measured).map(|ns| ns.map(whole));
        Some(BlkRow {
            index,
            name: device(identity.map(|p| p.now.group.name), index),
            read,
            written,
            reads,
            writes,
            read_latency,
            write_latency,
            age: io.as_ref().and_then(|p| self.age(p.now.updated)),
            io: io.map(|p| p.now.group),
            allocation: extent.and_then(|e| e.allocation_bytes.value()),
            capacity: extent.and_then(|e| e.capacity_bytes.value()),
            threshold: extent.and_then(|e| e.threshold_bytes.value()).filter(|t| *t > 0),
            job: job.and_then(|job| Job::new(&job.group)),
            queue: self.queue(index),
            percentiles: self.blk_percentiles(index),
        })
    }

    /// The network interfaces that are present.
    pub(crate) fn nets(self) -> impl Iterator<Item = NetRow> + use<'a> {
        (0..self.now.nr_nets()).filter_map(move |index| self.net_row(index))
    }

    fn net_row(&self, index: u32) -> Option<NetRow> {
        let identity = self.net::<NetIdentity>(index);
        let io = self.net::<NetIo>(index);
        let limits = self.net::<NetLimits>(index);
        if identity.is_none() && io.is_none() {
            return None;
        }
        let [received, sent, packets_in, packets_out] =
            self.rates_of(index, io.as_ref(), io.as_ref().and_then(net_rates));
        Some(NetRow {
            index,
            name: device(identity.map(|p| p.now.group.name), index),
            received,
            sent,
            packets_in,
            packets_out,
            age: io.as_ref().and_then(|p| self.age(p.now.updated)),
            io: io.map(|p| p.now.group),
            throttled: limits
                .as_ref()
                .and_then(|p| sum(p.share(|l| l.rx_throttled_ns), p.share(|l| l.tx_throttled_ns))),
            limits: limits.map(|p| p.now.group),
        })
    }

    /// The name of a disk's slot.
    pub(crate) fn disk_name(&self, index: u32) -> String {
        device(self.blk::<BlkIdentity>(index).map(|p| p.now.group.name), index)
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

/// Nanoseconds without their fraction.
#[allow(clippy::cast_possible_truncation, reason = "what does not fit becomes the largest")]
#[allow(clippy::cast_sign_loss, reason = "it is not negative")]
const fn whole(ns: f64) -> u64 {
    ns as u64
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

#[cfg(test)]
mod tests;
