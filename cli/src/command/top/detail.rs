//! One domain's vCPUs and devices, and what they did between two snapshots.

use domstat_consumer::{Reading, Region, Sample, Snapshot, SnapshotRecord};
use domstat_layout::latest::{
    BlkExtent, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, Exits, JOB_KIND_NAMES, JOB_STATE_NAMES,
    NetIdentity, NetIo, Runstate, Sched, VcpuState,
};
use domstat_layout::{BlkGroup, Name, NetGroup, Ns, VcpuGroup, Word};

/// Snapshots of the domain that is looked into, so far apart that rates make sense.
#[derive(Default)]
pub(super) struct Watched {
    entry: String,
    incarnation: u64,
    pub(super) now: Snapshot,
    middle: Snapshot,
    base: Snapshot,
    has_base: bool,
}

impl Watched {
    /// Takes the next snapshot. Rates are over one second at least, and two at most.
    pub(super) fn sample(&mut self, entry: &str, region: &Region) {
        let incarnation = region.header().incarnation;
        if self.entry != entry || self.incarnation != incarnation {
            *self = Self { entry: entry.to_owned(), incarnation, ..Self::default() };
        }
        region.snapshot(&mut self.now);
        let second = |a: &Snapshot, b: &Snapshot| {
            let (Some(a), Some(b)) = (a.taken(), b.taken()) else { return true };
            a.since(b) >= 1_000_000_000
        };
        if !self.has_base {
            self.base.clone_from(&self.now);
            self.middle.clone_from(&self.now);
            self.has_base = true;
        } else if second(&self.now, &self.middle) {
            std::mem::swap(&mut self.base, &mut self.middle);
            self.middle.clone_from(&self.now);
        }
    }

    fn elapsed(&self) -> f64 {
        let times = self.now.taken().zip(self.base.taken());
        times.map_or(0.0, |(now, then)| now.since(then) as f64)
    }
}

/// A group now and then, if it is still of the same tenant.
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

    /// A second's part of it: of the time between the two writes.
    fn rate(&self, field: impl Fn(&G) -> Word) -> Option<f64> {
        let growth = self.growth(field)?;
        match self.now.updated.since(self.then.as_ref()?.updated) {
            0 => Some(0.0),
            ns => Some(growth as f64 * 1e9 / ns as f64),
        }
    }
}

/// A vCPU as it is shown.
pub(super) struct VcpuRow {
    pub(super) index: u32,
    pub(super) state: Option<VcpuState>,
    /// Shares of the time by state; 0 to 1.
    pub(super) shares: [Option<f64>; 4],
    pub(super) steal: Option<f64>,
    pub(super) exits: Option<f64>,
    pub(super) age: Option<u64>,
    pub(super) stalled: bool,
}

/// A disk as it is shown.
pub(super) struct BlkRow {
    pub(super) name: String,
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
    pub(super) requests: Option<f64>,
    /// Nanoseconds for one read and one write.
    pub(super) read_latency: Option<u64>,
    pub(super) write_latency: Option<u64>,
    pub(super) errors: Option<u64>,
    pub(super) age: Option<u64>,
    pub(super) allocation: Option<u64>,
    pub(super) capacity: Option<u64>,
    pub(super) threshold: Option<u64>,
    pub(super) job: Option<Job>,
}

/// What is being done to a disk.
pub(super) struct Job {
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
    pub(super) current: Option<u64>,
    pub(super) end: Option<u64>,
}

/// A network interface as it is shown.
pub(super) struct NetRow {
    pub(super) name: String,
    pub(super) received: Option<f64>,
    pub(super) sent: Option<f64>,
    pub(super) packets_in: Option<f64>,
    pub(super) packets_out: Option<f64>,
    pub(super) trouble: Option<u64>,
    pub(super) age: Option<u64>,
}

impl Watched {
    fn age(&self, updated: Ns) -> Option<u64> {
        Some(self.now.taken()?.since(updated))
    }

    fn vcpu<G: VcpuGroup>(&self, index: u32) -> Option<Pair<G>> {
        let of = |snapshot: &Snapshot| active(snapshot.vcpu(index)?.vcpu_group::<G>());
        Pair::new(of(&self.now), of(&self.base))
    }

    fn blk<G: BlkGroup>(&self, index: u32) -> Option<Pair<G>> {
        let of = |snapshot: &Snapshot| active(snapshot.blk(index)?.blk_group::<G>());
        Pair::new(of(&self.now), of(&self.base))
    }

    fn net<G: NetGroup>(&self, index: u32) -> Option<Pair<G>> {
        let of = |snapshot: &Snapshot| active(snapshot.net(index)?.net_group::<G>());
        Pair::new(of(&self.now), of(&self.base))
    }

    /// The vCPUs that there are.
    pub(super) fn vcpus(&self) -> impl Iterator<Item = VcpuRow> {
        (0..self.now.nr_vcpus()).filter_map(|index| self.vcpu_row(index))
    }

    fn vcpu_row(&self, index: u32) -> Option<VcpuRow> {
        let stalled = self.now.vcpu(index)?.vcpu_group::<Runstate>().is_err();
        let exits = self.vcpu::<Exits>(index).and_then(|p| p.rate(|e| e.exits));
        let mut row = VcpuRow {
            index,
            state: None,
            shares: [None; 4],
            steal: None,
            exits,
            age: None,
            stalled,
        };
        let Some(pair) = self.vcpu::<Runstate>(index) else { return stalled.then_some(row) };
        row.age = self.age(pair.now.updated);
        row.state = pair.now.vcpu_state();
        if let (Some(then), Some(now), Some(before)) =
            (&pair.then, self.now.taken(), self.base.taken())
        {
            let (now, then, elapsed) = (pair.now.at(now), then.at(before), self.elapsed());
            row.shares = crate::command::top::STATES.map(|state| {
                let grown =
                    now.time_in(state).value()?.saturating_sub(then.time_in(state).value()?);
                (elapsed > 0.0).then(|| (grown as f64 / elapsed).min(1.0))
            });
        }
        let delay = self.vcpu::<Sched>(index).and_then(|p| p.rate(|s| s.delay_ns));
        let [_, runnable, ..] = row.shares;
        row.steal = delay.map(|ns| (ns / 1e9).min(1.0)).or(runnable);
        Some(row)
    }

    /// The disks that there are.
    pub(super) fn blks(&self) -> impl Iterator<Item = BlkRow> {
        (0..self.now.nr_blks()).filter_map(|index| self.blk_row(index))
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
        let of = |field: fn(&BlkIo) -> Word| io.as_ref().and_then(|p| p.rate(field));
        let latency = |time: fn(&BlkIoTimes) -> Word, requests: fn(&BlkIo) -> Word| {
            let time = times.as_ref()?.growth(time)?;
            time.checked_div(io.as_ref()?.growth(requests)?)
        };
        let (reads, writes) = (of(|io| io.rd_req), of(|io| io.wr_req));
        Some(BlkRow {
            name: device(identity.map(|p| p.now.group.name), index),
            read: of(|io| io.rd_bytes),
            written: of(|io| io.wr_bytes),
            requests: super::totals::both(reads, writes),
            read_latency: latency(|t| t.rd_total_ns, |io| io.rd_req),
            write_latency: latency(|t| t.wr_total_ns, |io| io.wr_req),
            errors: io.as_ref().and_then(|p| p.now.errs.value()),
            age: io.and_then(|p| self.age(p.now.updated)),
            allocation: extent.and_then(|e| e.allocation_bytes.value()),
            capacity: extent.and_then(|e| e.capacity_bytes.value()),
            threshold: extent.and_then(|e| e.threshold_bytes.value()).filter(|t| *t > 0),
            job: job.and_then(|job| shown(&job.group)),
        })
    }

    /// The network interfaces that there are.
    pub(super) fn nets(&self) -> impl Iterator<Item = NetRow> {
        (0..self.now.nr_nets()).filter_map(|index| self.net_row(index))
    }

    fn net_row(&self, index: u32) -> Option<NetRow> {
        let identity = self.net::<NetIdentity>(index);
        let io = self.net::<NetIo>(index);
        if identity.is_none() && io.is_none() {
            return None;
        }
        let of = |field: fn(&NetIo) -> Word| io.as_ref().and_then(|p| p.rate(field));
        let trouble = io.as_ref().and_then(|p| {
            let io = p.now.group;
            let words = [io.rx_errs, io.rx_drop, io.tx_errs, io.tx_drop];
            words.iter().filter_map(|w| w.value()).reduce(u64::saturating_add)
        });
        Some(NetRow {
            name: device(identity.map(|p| p.now.group.name), index),
            received: of(|io| io.rx_bytes),
            sent: of(|io| io.tx_bytes),
            packets_in: of(|io| io.rx_packets),
            packets_out: of(|io| io.tx_packets),
            trouble,
            age: io.and_then(|p| self.age(p.now.updated)),
        })
    }

    /// A record of each kind, to say which of its groups are produced.
    pub(super) fn records(&self) -> [(&'static str, Vec<SnapshotRecord<'_>>); 4] {
        let now = &self.now;
        [
            ("dom", vec![now.dom()]),
            ("vcpu", (0..now.nr_vcpus()).filter_map(|i| now.vcpu(i)).collect()),
            ("blk", (0..now.nr_blks()).filter_map(|i| now.blk(i)).collect()),
            ("net", (0..now.nr_nets()).filter_map(|i| now.net(i)).collect()),
        ]
    }
}

fn device(name: Option<Name>, index: u32) -> String {
    let name = name.as_ref().and_then(Name::as_str).filter(|name| !name.is_empty());
    name.map_or_else(|| format!("#{index}"), crate::output::printable)
}

/// A job, if there is or was one.
fn shown(job: &BlkJob) -> Option<Job> {
    let named = |names: &'static [&'static str], word: Word| {
        usize::try_from(word.value()?).ok().and_then(|i| names.get(i).copied())
    };
    let kind = named(JOB_KIND_NAMES, job.kind).filter(|kind| *kind != "none")?;
    let state = named(JOB_STATE_NAMES, job.state).unwrap_or("-");
    Some(Job { kind, state, current: job.cur_bytes.value(), end: job.end_bytes.value() })
}
