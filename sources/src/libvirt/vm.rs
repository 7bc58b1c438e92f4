//! State of one domain while it is published: its region's slots, its images and thresholds, and
//! events that are not yet delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use domstat_layout::latest::{
    Balloon, BlkExtent, BlkLimits, Cpu as CpuGroup, Memory, Migration, NetIo, Sched, Status,
    Threads,
};
use domstat_layout::sink::{BlkSink, DomSink, VcpuSink};
use domstat_layout::{Clock, Ns, Word};

use super::described::Described;
use super::levels::{Change, Firing, Levels};
use super::migration::MigrationState;
use super::state;
use super::stats::Image;
use super::worker::{Found, Look, disks};
use super::xml::Description as Xml;
use crate::Optional;
use crate::cgroup::Cgroup;
use crate::contract::{
    Armed, ArmedThresholds, Description, DiskInfo, Event, LossReason, Publisher, Sinks, SourceError,
};
use crate::host::now;
use crate::libvirt_state;
use crate::qemu::decode::Cpu;
use crate::qemu::job::End;
use crate::qemu::limits::{MAX_CPUS, MAX_IMAGES};
use crate::qemu::procfs::QemuProcess;
use crate::qemu::slots::Slots;
use crate::status::{DomainStatus, State};
use crate::threads::ThreadTimes;

mod jobs;
mod thresholds;
use jobs::Jobs;
use thresholds::Held;

/// Slots for images beyond those that a domain has when it is published.
const SPARE_BLKS: u32 = 8;
/// Slots for interfaces beyond those.
const SPARE_NETS: u32 = 4;

/// Something that happened and is not yet delivered.
pub(super) enum Report {
    /// A threshold of this image fired.
    Firing(String, Firing),
    /// The job of this disk is ready to be completed.
    JobReady(String),
    /// The job of this disk has ended.
    JobEnded(String, End),
    Event(Event),
}

/// What differs between a domain and the next one of its UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// libvirt's number, which it gives once.
    id: u32,
    /// Process id and start, if the process is one of this host.
    process: Option<(i32, u64)>,
}

impl Identity {
    pub(super) fn new(found: &Found, process: Option<&QemuProcess>) -> Self {
        Self { id: found.id, process: process.map(|p| (p.pid, p.start_ticks)) }
    }
}

pub(super) struct Vm<P: Publisher> {
    pub(super) name: String,
    /// Where it is reached.
    address: PathBuf,
    uuid: [u8; 16],
    identity: Identity,
    xml: Xml,
    process: Option<QemuProcess>,
    cpus: Vec<Cpu>,
    iothreads: BTreeSet<i32>,
    /// Its threads, but for workers, and how many descriptors it has: other ones mean that something
    /// was plugged.
    thread_ids: BTreeSet<i32>,
    nr_descriptors: Option<usize>,
    max_cpus: u32,
    thread_times: ThreadTimes,
    cgroup: Cgroup,
    taps: Vec<String>,
    /// Interfaces that are not taps, as libvirt counts them.
    other_nets: BTreeMap<String, (NetIo, Ns)>,
    /// Groups that its region describes itself.
    described: Described,
    images: Vec<Image>,
    /// Limits of disks, and as of when.
    limits: BTreeMap<String, (BlkLimits, Ns)>,
    pub(super) migration: MigrationState,
    status: Option<DomainStatus>,
    state: Option<State>,
    /// When libvirt answered last.
    answered: Ns,
    /// The disk whose error stopped the domain last, and whether it was space.
    io_error: Option<(String, bool)>,
    has_balloon: bool,
    pub(super) levels: Levels,
    /// What the next daemon would know of them.
    remembered: ArmedThresholds,
    /// What was armed on the image of the request that is under way.
    before: Option<(String, u64)>,
    held: Option<Held>,
    pub(super) jobs: Jobs,
    slots: Option<Slots<P>>,
    region: Option<P::Region>,
    /// A region that nobody sees yet.
    unpublished: Option<P::Unpublished>,
    was_published: bool,
    /// Whether there are more images than slots.
    pub(super) is_outgrown: bool,
    pub(super) reports: Vec<Report>,
}

impl<P: Publisher> Vm<P> {
    pub(super) fn new(
        name: String,
        uuid: [u8; 16],
        found: &Found,
        process: Option<QemuProcess>,
        address: PathBuf,
    ) -> Self {
        Self {
            name,
            address,
            uuid,
            identity: Identity::new(found, process.as_ref()),
            xml: found.description.clone(),
            process,
            cpus: Vec::new(),
            iothreads: BTreeSet::new(),
            thread_ids: BTreeSet::new(),
            nr_descriptors: None,
            max_cpus: 1,
            thread_times: ThreadTimes::default(),
            cgroup: Cgroup::default(),
            taps: Vec::new(),
            other_nets: BTreeMap::new(),
            described: Described::default(),
            images: Vec::new(),
            limits: BTreeMap::new(),
            migration: MigrationState::default(),
            status: None,
            state: None,
            answered: found.look.asked_ns,
            io_error: None,
            has_balloon: false,
            levels: Levels::default(),
            remembered: ArmedThresholds::default(),
            before: None,
            held: None,
            jobs: Jobs::default(),
            slots: None,
            region: None,
            unpublished: None,
            was_published: false,
            is_outgrown: false,
            reports: Vec::new(),
        }
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether its process is one of this host.
    pub(super) const fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its process is known to have ended.
    pub(super) fn has_exited(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_alive())
    }

    /// Whether libvirt has to be asked for interfaces all the time: some are not taps.
    pub(super) fn needs_nets(&self) -> bool {
        !self.other_nets.is_empty()
    }

    /// Makes a region with room for what `look` says, which nobody sees yet. The one before it is
    /// retired first. What is written to it is asked for from here on.
    pub(super) fn create(&mut self, publisher: &mut P, look: &Look) -> Result<(), SourceError> {
        (self.slots, self.region, self.unpublished) = (None, None, None);
        self.is_outgrown = false;
        self.other_nets.clear();
        self.find_threads(look);
        self.described = Described::new(&look.stats, &self.described);
        let description = self.describe(look);
        let Sinks { dom, vcpus, blks, nets, unpublished } = publisher.create(&description)?;
        self.slots = Some(Slots::new(dom, vcpus, blks, nets));
        self.unpublished = Some(unpublished);
        Ok(())
    }

    /// Publishes the region, to which everything was written.
    pub(super) fn publish(&mut self, publisher: &mut P) -> Result<(), SourceError> {
        let _ = self.threads();
        if let Some(unpublished) = self.unpublished.take() {
            self.region = Some(publisher.publish(&self.name, unpublished)?);
        }
        if !std::mem::replace(&mut self.was_published, true) {
            // The first event of a domain.
            self.reports.insert(0, Report::Event(Event::Published));
        }
        Ok(())
    }

    /// Whether its region is visible.
    pub(super) const fn is_published(&self) -> bool {
        self.region.is_some()
    }

    /// Whether it ever was.
    pub(super) const fn was_published(&self) -> bool {
        self.was_published
    }

    fn describe(&mut self, look: &Look) -> Description {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let images = number(look.stats.images.as_ref().map_or(0, Vec::len));
        let nets = number(self.taps.len().max(self.xml.nr_nets));
        let indices = self.cpus.iter().map(|cpu| cpu.index.saturating_add(1));
        let least = indices.max().unwrap_or(1);
        let max = look.stats.max_vcpus.unwrap_or(self.max_cpus);
        self.max_cpus = max.max(least).clamp(1, MAX_CPUS);
        Description {
            source: "libvirt",
            domid: Some(self.identity.id.into()),
            uuid: Some(self.uuid),
            name: self.name.clone(),
            created: self.process.as_ref().map(QemuProcess::started),
            nr_vcpus: self.max_cpus,
            nr_blks: images.saturating_add(SPARE_BLKS).min(number(MAX_IMAGES)),
            nr_nets: nets.saturating_add(SPARE_NETS),
            clock: Clock::Boottime,
            arch_dom: self.described.dom(),
            arch_vcpu: self.described.vcpu(),
            optional: Optional::default(),
            labels: self.xml.labels.clone(),
        }
    }

    /// Finds the threads of vCPUs and IOThreads: QEMU names them as libvirt has it do. Without a
    /// process of this host vCPUs are those that libvirt lists.
    fn find_threads(&mut self, look: &Look) {
        if let Some(process) = &self.process {
            let found = process.named_threads();
            self.cpus = found.vcpus;
            self.iothreads = found.iothreads;
            self.thread_ids = process.thread_ids(&self.thread_ids);
            self.nr_descriptors = process.nr_descriptors();
            self.taps = process.taps();
        }
        if self.cpus.is_empty() {
            let vcpus = look.stats.vcpus.keys();
            self.cpus =
                vcpus.map(|i| Cpu { index: *i, tid: None, qom_path: String::new() }).collect();
        }
    }

    /// Looks whether a vCPU or an interface was plugged or unplugged: libvirt has no event for a vCPU,
    /// but there is another thread then, and another descriptor with another interface.
    fn look_for_plugged(&mut self) {
        let Some(process) = &self.process else { return };
        let threads = process.thread_ids(&self.thread_ids);
        if threads != self.thread_ids {
            let found = process.named_threads();
            (self.cpus, self.iothreads) = (found.vcpus, found.iothreads);
            self.thread_ids = threads;
        }
        let descriptors = process.nr_descriptors();
        if descriptors != self.nr_descriptors {
            self.nr_descriptors = descriptors;
            self.taps = process.taps();
        }
    }

    /// Runstates, CPU time and taps, for which libvirt is not needed. False if the counters of a
    /// thread cannot be read.
    pub(super) fn threads(&mut self) -> bool {
        self.look_for_plugged();
        let Some(slots) = &mut self.slots else { return false };
        let runs = self.state.is_none_or(state::runs);
        let process = self.process.as_ref();
        let complete = slots.threads(&self.cpus, process, runs, now(Clock::Boottime));
        let mut samples = self.other_nets.clone();
        if let Some(process) = process {
            if let Some((cpu, as_of)) = process.cpu() {
                slots.dom.write::<CpuGroup>(&cpu, as_of);
            }
            if let Some(threads) =
                process.roles(&mut self.thread_times, &self.cpus, &self.iothreads)
            {
                slots.dom.write::<Threads>(&threads, now(Clock::Boottime));
            }
            process.write_cgroup(&mut self.cgroup, &mut slots.dom);
            if !self.taps.is_empty() {
                let named = self.taps.iter().cloned().zip(process.interfaces(&self.taps));
                samples.extend(named.filter_map(|(name, sample)| Some((name, sample?))));
            }
        }
        slots.interfaces(&samples);
        complete
    }

    /// Takes what libvirt says.
    pub(super) fn take(&mut self, look: &Look) {
        let asked = look.asked_ns;
        if look.has_rest && (self.has_process() || !look.stats.vcpus.is_empty()) {
            self.find_threads(look);
        }
        self.take_state(look);
        if let Some(slots) = &mut self.slots {
            if let (None, Some(cpu)) = (&self.process, &look.stats.cpu) {
                slots.dom.write::<CpuGroup>(cpu, asked);
            }
            if let Some(memory) = &look.stats.memory {
                let own = self.process.as_ref().and_then(QemuProcess::rss_bytes);
                let rss_bytes = own.map_or(memory.rss_bytes, Word::new);
                slots.dom.write::<Memory>(&Memory { rss_bytes, ..*memory }, asked);
                let reported = look.stats.balloon.as_ref();
                let balloon = reported.map(|reported| reported.group(asked, look.asked_s));
                match &balloon {
                    Some(balloon) => slots.dom.write::<Balloon>(balloon, asked),
                    None if self.has_balloon => slots.dom.deactivate::<Balloon>(),
                    None => {}
                }
                self.has_balloon = balloon.is_some();
            }
            if let Some((kind, params)) = &look.migration {
                let migration = self.migration.take(*kind, params, asked);
                slots.dom.write::<Migration>(&migration, asked);
            }
            self.described.write(slots, &look.stats, asked);
            for (index, vcpu) in look.stats.vcpus.iter().filter(|_| self.process.is_none()) {
                let at = usize::try_from(*index).unwrap_or(usize::MAX);
                let Some(slot) = slots.vcpus.get_mut(at) else { continue };
                let sched = Sched {
                    time_ns: vcpu.time.into(),
                    wait_ns: Word::NOT_PRODUCED,
                    delay_ns: vcpu.delay.into(),
                    timeslices: Word::NOT_PRODUCED,
                };
                if vcpu.time.is_some() {
                    slot.sink.write::<Sched>(&sched, asked);
                }
            }
        }
        if let Some(nets) = &look.stats.nets {
            let others = nets.iter().filter(|(name, _)| !self.taps.contains(name));
            self.other_nets = others.map(|(name, io)| (name.clone(), (*io, asked))).collect();
        }
        if let Some(images) = &look.stats.images {
            self.take_images(images.clone(), look);
        }
        self.is_outgrown |= self.described.is_outgrown(&look.stats);
        self.take_jobs(look);
    }

    fn take_state(&mut self, look: &Look) {
        let Some((number, libvirt_reason)) = look.stats.state else { return };
        let (state, mut reason) = state::status(number, libvirt_reason);
        let error = self.io_error.as_ref().filter(|_| state == State::IoError);
        if error.is_some_and(|(_, no_space)| *no_space) {
            reason = crate::status::Reason::NoSpace;
        }
        let device = error.and_then(|(disk, _)| self.slots.as_ref()?.blk_index(disk));
        let has_changed = self.state.is_some_and(|known| known != state);
        self.state = Some(state);
        // Of the state that it is found in it is not known since when.
        let status = self.status.get_or_insert(DomainStatus::new(state, reason, None));
        status.see(state, reason, device, look.asked_ns);
        if has_changed {
            let (state, reason) = status.words();
            let disk = error.map(|(disk, _)| disk.clone());
            let (state, reason) = (state.to_owned(), reason.map(str::to_owned));
            self.reports.push(Report::Event(Event::State { state, reason, disk }));
        }
        self.answered = look.asked_ns;
        let status = status.group();
        let Some(slots) = &mut self.slots else { return };
        slots.dom.write_arch(0, &libvirt_state::words(number, libvirt_reason), look.asked_ns);
        slots.dom.write::<Status>(&status, look.asked_ns);
    }

    /// libvirt does not answer: in what state the domain is, is not known until it does.
    pub(super) fn fall_silent(&mut self) {
        let status = DomainStatus::unanswered(self.answered).group();
        if let Some(slots) = &mut self.slots {
            slots.dom.write::<Status>(&status, now(Clock::Boottime));
        }
    }

    /// Gives every image a slot, writes its numbers, and learns of thresholds.
    fn take_images(&mut self, images: Vec<Image>, look: &Look) {
        let asked = look.asked_ns;
        self.images = images;
        let arrived = Instant::now();
        for image in self.images.iter().filter(|image| image.is_answered) {
            let (key, level) = (image.key(), image.threshold.unwrap_or(0));
            let Some(change) = self.levels.level(&key, level, look.asked, arrived) else {
                continue;
            };
            if let Change::Replaced { before } = change {
                self.reports.push(Report::Event(Event::ThresholdReplaced {
                    disk: image.name.clone(),
                    node: key,
                    threshold_bytes: before,
                    new_bytes: level,
                }));
            }
        }
        let keys: BTreeSet<String> = self.images.iter().map(Image::key).collect();
        for (key, threshold_bytes) in self.levels.retain(|key| keys.contains(key)) {
            let known = self.remembered.armed.iter().find(|armed| armed.node == key);
            let disk = known.map_or_else(|| key.clone(), |armed| armed.disk.clone());
            let armed = Armed { disk, node: key, threshold_bytes, ..Armed::default() };
            self.report_lost(armed, LossReason::NodeRemoved);
        }
        // A disk's counters are those of its device, whatever image it has.
        let tenant = |image: &Image| match image.depth {
            0 => (image.name.clone(), String::new()),
            _ => (image.name.clone(), image.path.clone().unwrap_or_default()),
        };
        let tenants: Vec<(String, String)> = self.images.iter().map(tenant).collect();
        let Some(slots) = &mut self.slots else { return };
        self.is_outgrown = slots.place(&tenants, asked) > 0;
        self.limits
            .extend(look.limits.iter().map(|(disk, limits)| (disk.clone(), (*limits, asked))));
        self.limits.retain(|disk, _| self.images.iter().any(|image| image.disk == *disk));
        for image in self.images.iter().filter(|image| image.is_answered) {
            let Some(slot) = slots.blk(&image.name) else { continue };
            slot.io(&image.io, &image.times, asked);
            slot.extent = BlkExtent {
                allocation_bytes: image.allocation.into(),
                capacity_bytes: image.capacity.into(),
                physical_bytes: image.physical.into(),
                threshold_bytes: Word::new(self.levels.armed(&image.key()).unwrap_or(0)),
                ..slot.extent
            };
            slot.write_extent(asked);
            if let Some((limits, as_of)) = self.limits.get(&image.name) {
                slot.sink.write::<BlkLimits>(limits, *as_of);
            }
        }
    }

    /// Disks and images for people.
    pub(super) fn disks(&self) -> Vec<DiskInfo> {
        let mut disks = disks(&self.images);
        for (disk, image) in disks.iter_mut().zip(&self.images) {
            disk.threshold_bytes =
                self.levels.armed(&image.key()).or(disk.threshold_bytes.and(Some(0)));
            let Some(slot) = self.slots.as_ref().and_then(|slots| slots.blk_ref(&disk.name)) else {
                continue;
            };
            disk.last_exceeded_bytes = slot.last_exceeded;
            disk.threshold_events = slot.extent.threshold_events.value().unwrap_or(0);
        }
        disks
    }

    pub(super) fn images(&self) -> &[Image] {
        &self.images
    }

    /// The error of a disk stopped the domain.
    pub(super) fn io_error(&mut self, alias: &str, no_space: bool) {
        let disk = self.xml.disks.get(alias).cloned().unwrap_or_else(|| alias.to_owned());
        self.io_error = Some((disk, no_space));
    }

    /// Writes what events changed, wakes waiting readers, and informs subscribers: once for each.
    pub(super) fn deliver(&mut self, publisher: &mut P) {
        for report in std::mem::take(&mut self.reports) {
            let event = match report {
                Report::Event(event) => event,
                Report::Firing(key, firing) => self.firing(key, firing),
                Report::JobReady(disk) => self.jobs.ready_event(&disk),
                Report::JobEnded(disk, end) => self.jobs.end_event(&disk, &end),
            };
            if let Some(region) = &self.region {
                publisher.notify(region);
            }
            publisher.event(&self.name, &event);
        }
    }

    /// Slots of the region, while there is one.
    pub(super) fn slots(&mut self) -> Option<&mut Slots<P>> {
        self.slots.as_mut()
    }
}
