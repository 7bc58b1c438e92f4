//! Record slots of one VM's region: the tenant of each slot, and what was written there last.

use std::collections::{BTreeMap, BTreeSet};

use domstat_layout::latest::{
    BlkDiscards, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob, BlkLimits,
    NetIdentity, NetIo, Runstate, Sched,
};
use domstat_layout::sink::{BlkSink, NetSink, VcpuSink};
use domstat_layout::{BlkHistGroup, Group, Name, Ns, Word};

use super::Publisher;
use super::decode::Cpu;
use super::latency::Distributions;
use super::procfs::{NO_RUNSTATE, QemuProcess, ThreadSample};
use crate::process::RunstateEstimator;
use crate::process::runstate_estimator::Activity;
use crate::thread_group;

/// Whether a slot needs a new generation for its next tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    /// Never written.
    Fresh,
    /// Written for some tenant.
    Used,
}

/// One vCPU slot.
pub(crate) struct VcpuSlot<S> {
    pub(crate) sink: S,
    state: SlotState,
    /// The thread that is accounted, and when it began.
    thread: Option<(i32, Ns)>,
    estimator: Option<RunstateEstimator>,
    /// The thread's name as it was published.
    name: Option<String>,
}

/// One block device slot.
pub(crate) struct BlkSlot<S> {
    pub(crate) sink: S,
    /// What it shows: the disk's name, and its device or node, since another may have had that name.
    key: Option<(String, String)>,
    state: SlotState,
    io: BlkIo,
    /// What was written last of its distributions.
    distributions: Distributions,
    pub(crate) extent: BlkExtent,
    pub(crate) extent_as_of: Option<Ns>,
    /// The threshold that fired last.
    pub(crate) last_exceeded: Option<u64>,
    pub(crate) job: BlkJob,
}

/// One network interface slot.
struct NetSlot<S> {
    sink: S,
    name: Option<String>,
    state: SlotState,
    io: Option<NetIo>,
}

pub(crate) struct Slots<P: Publisher> {
    pub(crate) dom: P::Dom,
    pub(crate) vcpus: Vec<VcpuSlot<P::Vcpu>>,
    blks: Vec<BlkSlot<P::Blk>>,
    /// Which slot shows the image of this name.
    blk_of: BTreeMap<String, usize>,
    nets: Vec<NetSlot<P::Net>>,
}

impl<P: Publisher> Slots<P> {
    pub(crate) fn new(
        dom: P::Dom,
        vcpus: Vec<P::Vcpu>,
        blks: Vec<P::Blk>,
        nets: Vec<P::Net>,
    ) -> Self {
        let vcpu = |sink| VcpuSlot {
            sink,
            state: SlotState::Fresh,
            thread: None,
            estimator: None,
            name: None,
        };
        let blk = |sink| BlkSlot {
            sink,
            key: None,
            state: SlotState::Fresh,
            io: BlkIo::NOT_PRODUCED,
            distributions: Distributions::default(),
            extent: BlkExtent::NOT_PRODUCED,
            extent_as_of: None,
            last_exceeded: None,
            job: no_job(),
        };
        let net = |sink| NetSlot { sink, name: None, state: SlotState::Fresh, io: None };
        Self {
            dom,
            vcpus: vcpus.into_iter().map(vcpu).collect(),
            blks: blks.into_iter().map(blk).collect(),
            blk_of: BTreeMap::new(),
            nets: nets.into_iter().map(net).collect(),
        }
    }

    /// Writes runstate and sched of every vCPU; `cpus` are in the order of their indices. Of a domain that does not run, what does not want
    /// a CPU is offline. False if the counters of a thread cannot be read.
    pub(crate) fn threads(
        &mut self,
        cpus: &[Cpu],
        process: Option<&QemuProcess>,
        runs: bool,
        now: Ns,
    ) -> bool {
        let mut complete = true;
        let mut cpus = cpus.iter().peekable();
        for (index, slot) in (0u32..).zip(&mut self.vcpus) {
            let Some(cpu) = cpus.next_if(|c| c.index == index) else {
                if slot.thread.take().is_some() || slot.estimator.take().is_some() {
                    slot.sink.deactivate::<Runstate>();
                    slot.sink.deactivate::<Sched>();
                    slot.sink.write_arch(thread_group::INDEX, &thread_group::NO_THREAD, now);
                    slot.name = None;
                }
                continue;
            };
            let sample = cpu.tid.and_then(|tid| Some((tid, process?.thread(tid)?)));
            match sample {
                Some((tid, sample)) => slot.show(tid, sample, process, runs),
                None => {
                    complete = false;
                    if slot.estimator.is_none() {
                        slot.state = SlotState::Used;
                        slot.sink.write(&NO_RUNSTATE, now);
                    }
                }
            }
        }
        complete
    }

    /// Gives every image a slot: those that are shown stay in theirs, those that were removed leave it.
    /// Images for which there is no slot are counted.
    pub(crate) fn place(&mut self, keys: &[(String, String)], now: Ns) -> usize {
        let wanted: BTreeSet<&(String, String)> = keys.iter().collect();
        for slot in &mut self.blks {
            if slot.key.as_ref().is_some_and(|key| !wanted.contains(key)) {
                slot.leave();
            }
        }
        let mut shown: BTreeSet<(String, String)> =
            self.blks.iter().filter_map(|slot| slot.key.clone()).collect();
        let mut free = self.blks.iter_mut().filter(|slot| slot.key.is_none());
        let mut left = 0;
        for key in keys {
            if !shown.insert(key.clone()) {
                continue;
            }
            match free.next() {
                Some(slot) => slot.enter(key, now),
                None => left += 1,
            }
        }
        self.blk_of.clear();
        for (index, slot) in self.blks.iter().enumerate() {
            if let Some((name, _)) = &slot.key {
                self.blk_of.entry(name.clone()).or_insert(index);
            }
        }
        left
    }

    /// The slot of the image of this name, which may be longer than what a record holds.
    pub(crate) fn blk(&mut self, name: &str) -> Option<&mut BlkSlot<P::Blk>> {
        let index = *self.blk_of.get(Name::new(name).as_str()?)?;
        self.blks.get_mut(index)
    }

    /// The index of its record.
    pub(crate) fn blk_index(&self, name: &str) -> Option<u64> {
        u64::try_from(*self.blk_of.get(Name::new(name).as_str()?)?).ok()
    }

    pub(crate) fn blk_ref(&self, name: &str) -> Option<&BlkSlot<P::Blk>> {
        let index = *self.blk_of.get(Name::new(name).as_str()?)?;
        self.blks.get(index)
    }

    /// Writes the extent of every image, as of `now`.
    pub(crate) fn write_extents(&mut self, now: Ns) {
        for slot in self.blks.iter_mut().filter(|slot| slot.key.is_some()) {
            slot.write_extent(now);
        }
    }

    /// Writes every interface of `samples` and removes the others.
    pub(crate) fn interfaces(&mut self, samples: &BTreeMap<String, (NetIo, Ns)>) {
        for slot in &mut self.nets {
            if slot.name.as_ref().is_some_and(|name| !samples.contains_key(name)) {
                slot.sink.deactivate::<NetIdentity>();
                slot.sink.deactivate::<NetIo>();
                slot.name = None;
                slot.io = None;
            }
        }
        for (name, (io, now)) in samples {
            let shown = self.nets.iter().position(|s| s.name.as_ref() == Some(name));
            let index = shown.or_else(|| self.nets.iter().position(|s| s.name.is_none()));
            let Some(slot) = index.and_then(|i| self.nets.get_mut(i)) else { continue };
            let fell = slot.io.is_some_and(|was| decreased(&words_of(&was), &words_of(io)));
            if slot.name.is_none() || fell {
                if slot.state == SlotState::Used {
                    slot.sink.renew();
                }
                slot.state = SlotState::Used;
                slot.sink.write(&NetIdentity { name: Name::new(name) }, *now);
            }
            slot.name = Some(name.clone());
            slot.io = Some(*io);
            slot.sink.write(io, *now);
        }
    }
}

impl<S: VcpuSink> VcpuSlot<S> {
    fn show(&mut self, tid: i32, sample: ThreadSample, process: Option<&QemuProcess>, runs: bool) {
        let mut reading = sample.reading;
        if !runs && reading.activity == Activity::Waits {
            reading.activity = Activity::Stopped;
        }
        let thread = Some((tid, sample.began));
        let known = self.thread == thread;
        self.thread = thread;
        let estimator = match &mut self.estimator {
            Some(estimator) if known => {
                estimator.advance(reading, sample.now);
                estimator
            }
            estimator => {
                if self.state == SlotState::Used {
                    self.sink.renew();
                }
                self.state = SlotState::Used;
                self.name = None;
                // No thread is older than its process; the kernel rounds both down.
                let least = process.map_or(Ns(0), QemuProcess::started);
                estimator.insert(RunstateEstimator::new(
                    sample.began.max(least),
                    reading,
                    sample.now,
                ))
            }
        };
        self.sink.write(&estimator.runstate(), sample.now);
        let sched = Sched {
            time_ns: sample.reading.run_ns.into(),
            wait_ns: Word::NOT_PRODUCED,
            delay_ns: sample.reading.wait_ns.into(),
            timeslices: sample.reading.timeslices.into(),
        };
        self.sink.write(&sched, sample.now);
        // QEMU names a thread only after it began.
        if self.name.as_ref() != Some(&sample.name) {
            let words = thread_group::words(tid, &sample.name);
            self.sink.write_arch(thread_group::INDEX, &words, sample.now);
            self.name = Some(sample.name);
        }
    }
}

impl<S: BlkSink> BlkSlot<S> {
    fn enter(&mut self, key: &(String, String), now: Ns) {
        if self.state == SlotState::Used {
            self.sink.renew();
        }
        self.state = SlotState::Used;
        self.key = Some(key.clone());
        self.io = BlkIo::NOT_PRODUCED;
        self.distributions = Distributions::default();
        self.extent = BlkExtent { threshold_events: Word::new(0), ..BlkExtent::NOT_PRODUCED };
        self.extent_as_of = None;
        self.last_exceeded = None;
        self.job = no_job();
        self.sink.write(&BlkIdentity { name: Name::new(&key.0) }, now);
        // Backing images have no jobs of their own.
        if !key.0.ends_with(']') {
            self.sink.write(&self.job, now);
        }
    }

    fn leave(&mut self) {
        self.key = None;
        self.sink.deactivate::<BlkIdentity>();
        self.sink.deactivate::<BlkIo>();
        self.sink.deactivate::<BlkIoTimes>();
        self.sink.deactivate::<BlkExtent>();
        self.sink.deactivate::<BlkJob>();
        self.sink.deactivate::<BlkDiscards>();
        self.sink.deactivate::<BlkFailures>();
        self.sink.deactivate::<BlkLimits>();
        self.distributions(&Distributions::default(), Ns(0));
    }

    /// Writes what was read and written. Counters that fell are those of another device.
    pub(crate) fn io(&mut self, io: &BlkIo, times: &BlkIoTimes, now: Ns) {
        if decreased(&words_of_io(&self.io), &words_of_io(io))
            && let Some(key) = self.key.clone()
        {
            let (job, extent) = (self.job, self.extent);
            self.enter(&key, now);
            (self.job, self.extent) = (job, extent);
        }
        self.io = *io;
        self.sink.write(io, now);
        // What no device times, and a peer that says less than QEMU does, is not produced.
        if is_produced(times) {
            self.sink.write(times, now);
        }
    }

    /// Writes what was discarded and what failed.
    pub(crate) fn write_more(&mut self, discards: &BlkDiscards, failures: &BlkFailures, now: Ns) {
        if is_produced(discards) {
            self.sink.write(discards, now);
        }
        if is_produced(failures) {
            self.sink.write(failures, now);
        }
    }

    /// Writes the distributions of the device, and withdraws those that it has no more. Buckets that
    /// fell are those of a histogram that was set again.
    pub(crate) fn distributions(&mut self, new: &Distributions, now: Ns) {
        if new.fell(&self.distributions) {
            let Some(key) = self.key.clone() else { return };
            let (io, job, extent) = (self.io, self.job, self.extent);
            self.enter(&key, now);
            (self.io, self.job, self.extent) = (io, job, extent);
            self.sink.write(&io, now);
        }
        fn show<S: BlkSink, G: BlkHistGroup>(sink: &mut S, is: Option<&G>, was: bool, now: Ns) {
            match is {
                Some(group) => sink.write_hist(group, now),
                None if was => sink.deactivate_hist::<G>(),
                None => {}
            }
        }
        let old = std::mem::replace(&mut self.distributions, new.clone());
        show(&mut self.sink, new.rd.as_ref(), old.rd.is_some(), now);
        show(&mut self.sink, new.wr.as_ref(), old.wr.is_some(), now);
        show(&mut self.sink, new.fl.as_ref(), old.fl.is_some(), now);
    }

    pub(crate) fn write_extent(&mut self, now: Ns) {
        let now = self.extent_as_of.map_or(now, |was| was.max(now));
        self.extent_as_of = Some(now);
        self.sink.write(&self.extent, now);
    }
}

/// A disk that never had a job.
fn no_job() -> BlkJob {
    let none = Word::new(0);
    BlkJob { kind: none, state: none, ended: none, ..BlkJob::NOT_PRODUCED }
}

/// Whether the group has a field that is produced.
fn is_produced<G: Group>(group: &G) -> bool {
    let (words, _) = group.as_bytes().as_chunks::<8>();
    words.iter().any(|&word| Word::from_raw(u64::from_ne_bytes(word)) != Word::NOT_PRODUCED)
}

fn words_of_io(io: &BlkIo) -> [Word; 5] {
    [io.rd_req, io.rd_bytes, io.wr_req, io.wr_bytes, io.errs]
}

fn words_of(io: &NetIo) -> [Word; 4] {
    [io.rx_bytes, io.rx_packets, io.tx_bytes, io.tx_packets]
}

/// Whether a counter went back.
fn decreased(before: &[Word], after: &[Word]) -> bool {
    let pairs = before.iter().zip(after);
    pairs.filter_map(|(b, a)| Some((b.value()?, a.value()?))).any(|(b, a)| a < b)
}
