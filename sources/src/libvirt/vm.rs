//! State of one domain while it is published: its region's slots, its images and thresholds, and
//! events that are not yet delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use domstat_layout::latest::Threads;
use domstat_layout::latest::{Balloon, BlkExtent, Cpu as CpuGroup, Memory, NetIo, Sched, Status};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Ns, Word};

use super::levels::{Change, Firing, Levels};
use super::state;
use super::stats::{Image, disk_and_index, image_key};
use super::worker::{Found, Look, disks};
use super::xml::Description as Xml;
use crate::Optional;
use crate::cgroup::Cgroup;
use crate::contract::{
    Armed, ArmedThresholds, Description, DiskInfo, Event, LossReason, Publisher, Sinks,
    SourceError, ThresholdSet,
};
use crate::host::now;
use crate::libvirt_state;
use crate::qemu::decode::Cpu;
use crate::qemu::job::End;
use crate::qemu::limits::{MAX_CPUS, MAX_IMAGES};
use crate::qemu::procfs::QemuProcess;
use crate::qemu::slots::Slots;
use crate::status::{DomainStatus, State};
use crate::thread_group;
use crate::threads::ThreadTimes;

mod jobs;
use jobs::Jobs;

/// Slots for images beyond those that a domain has when it is published.
const SPARE_BLKS: u32 = 8;
/// Slots for interfaces beyond those.
const SPARE_NETS: u32 = 4;
/// How long an event that names a disk is held for the one that names its image.
const TWIN: Duration = Duration::from_millis(200);

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

/// A firing whose event names a disk. libvirt sends a second one that names the image.
struct Held {
    disk: String,
    threshold: u64,
    excess: u64,
    at: Instant,
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
    max_cpus: u32,
    thread_times: ThreadTimes,
    cgroup: Cgroup,
    taps: Vec<String>,
    /// Interfaces that are not taps, as libvirt counts them.
    other_nets: BTreeMap<String, (NetIo, Ns)>,
    images: Vec<Image>,
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
            max_cpus: 1,
            thread_times: ThreadTimes::default(),
            cgroup: Cgroup::default(),
            taps: Vec::new(),
            other_nets: BTreeMap::new(),
            images: Vec::new(),
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
            arch_dom: vec![libvirt_state::group()],
            arch_vcpu: vec![thread_group::group()],
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
            self.taps = process.taps();
        }
        if self.cpus.is_empty() {
            let vcpus = look.stats.vcpus.keys();
            self.cpus =
                vcpus.map(|i| Cpu { index: *i, tid: None, qom_path: String::new() }).collect();
        }
    }

    /// Runstates, CPU time and taps, for which libvirt is not needed. False if the counters of a
    /// thread cannot be read.
    pub(super) fn threads(&mut self) -> bool {
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
        if !look.stats.vcpus.is_empty() {
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

    fn report_lost(&mut self, armed: Armed, reason: LossReason) {
        let Armed { disk, node, threshold_bytes, .. } = armed;
        let event = Event::ThresholdLost { disk, node, threshold_bytes, reason };
        self.reports.push(Report::Event(event));
    }

    /// Takes up what the daemon before had armed. What has fired since shows in the first levels, if
    /// this is still the same process.
    pub(super) fn recall(&mut self, publisher: &mut P) {
        let before = publisher.recall(&self.address);
        let own = self.identity.process;
        let reason = match before.process.and(own) {
            Some(_) => LossReason::VmRestarted,
            None => LossReason::VmNotKnown,
        };
        self.remembered = before.clone();
        for armed in before.armed.into_iter().take(MAX_IMAGES) {
            if own.is_some() && before.process == own {
                self.levels.remember(armed.node, armed.threshold_bytes);
            } else {
                self.report_lost(armed, reason);
            }
        }
    }

    /// Hands over what is armed, for the daemon after this one, if it has changed.
    pub(super) fn remember(&mut self, publisher: &mut P) {
        let image = |key: &str| self.images.iter().find(|image| image.key() == key);
        let armed = |(node, threshold_bytes): (String, u64)| Armed {
            disk: image(&node).map_or_else(|| node.clone(), |image| image.name.clone()),
            source: image(&node).and_then(|image| image.path.clone()),
            threshold_bytes,
            node,
            intended_bytes: None,
        };
        let armed = self.levels.remembered().into_iter().map(armed).collect();
        let domain = self.name.clone();
        let now = ArmedThresholds { domain, process: self.identity.process, armed };
        if now != self.remembered && !(now.armed.is_empty() && self.remembered.armed.is_empty()) {
            publisher.remember(&self.address, &now);
        }
        self.remembered = now;
    }

    /// The domain has ended, and its thresholds with it.
    pub(super) fn forget(&mut self, publisher: &mut P) {
        if !std::mem::take(&mut self.remembered).armed.is_empty() {
            publisher.remember(&self.address, &ArmedThresholds::default());
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

    /// The name of an image by its key.
    fn name_of(&self, key: &str) -> String {
        let image = self.images.iter().find(|image| image.key() == key);
        image.map_or_else(|| key.to_owned(), |image| image.name.clone())
    }

    /// A threshold is about to be sent.
    pub(super) fn sending(&mut self, image: &str, threshold: u64) {
        if let (None, Some(armed)) = (&self.before, self.levels.armed(image)) {
            self.before = Some((image.to_owned(), armed));
        }
        self.levels.sent(image, threshold);
    }

    /// A request to arm is done: what it replaced is reported, unless that has fired.
    pub(super) fn armed(&mut self, set: Option<&ThresholdSet>) {
        let before = self.before.take();
        let Some((set, (node, threshold_bytes))) = set.zip(before) else { return };
        if threshold_bytes != set.threshold_bytes && node == set.node {
            let (disk, new_bytes) = (set.disk.clone(), set.threshold_bytes);
            let event = Event::ThresholdReplaced { disk, node, threshold_bytes, new_bytes };
            self.reports.push(Report::Event(event));
        }
        // The region has it by the answer.
        let armed = self.levels.armed(&set.node).unwrap_or(0);
        if let Some(slot) = self.slots.as_mut().and_then(|slots| slots.blk(&set.disk)) {
            slot.extent.threshold_bytes = Word::new(armed);
            slot.write_extent(slot.extent_as_of.unwrap_or_else(|| now(Clock::Boottime)));
        }
    }

    /// libvirt says that a threshold fired. It does so twice where images have numbers: for the disk,
    /// then for the image.
    pub(super) fn threshold(&mut self, name: &str, threshold: u64, excess: u64) {
        let (disk, index) = disk_and_index(name);
        let now = Instant::now();
        if index.is_none() {
            self.release_held(None);
            self.held = Some(Held { disk: disk.to_owned(), threshold, excess, at: now });
            return;
        }
        let is_twin = |held: &mut Held| {
            held.disk == disk && (held.threshold, held.excess) == (threshold, excess)
        };
        if self.held.take_if(is_twin).is_none() {
            self.release_held(None);
        }
        self.fired(image_key(disk, index), threshold, excess, now);
    }

    /// Takes an event that was held for a second one that has not come: at all, or in time.
    pub(super) fn release_held(&mut self, now: Option<Instant>) {
        let is_over = |held: &mut Held| now.is_none_or(|now| now.duration_since(held.at) >= TWIN);
        let Some(held) = self.held.take_if(is_over) else { return };
        let own = self.images.iter().find(|image| image.depth == 0 && image.disk == held.disk);
        let key = own.map_or(held.disk, Image::key);
        self.fired(key, held.threshold, held.excess, held.at);
    }

    /// When that is due.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|held| held.at.checked_add(TWIN))
    }

    fn fired(&mut self, key: String, threshold: u64, excess: u64, now: Instant) {
        if self.before.as_ref().is_some_and(|before| *before == (key.clone(), threshold)) {
            self.before = None;
        }
        if let Some(firing) = self.levels.event(&key, threshold, excess, now) {
            self.reports.push(Report::Firing(key, firing));
        }
    }

    /// The error of a disk stopped the domain.
    pub(super) fn io_error(&mut self, alias: &str, no_space: bool) {
        let disk = self.xml.disks.get(alias).cloned().unwrap_or_else(|| alias.to_owned());
        self.io_error = Some((disk, no_space));
    }

    /// Firings whose events have not come in time.
    pub(super) fn reconcile(&mut self) {
        let now = Instant::now();
        self.release_held(Some(now));
        let due = self.levels.due(now);
        self.reports.extend(due.into_iter().map(|(key, firing)| Report::Firing(key, firing)));
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

    fn firing(&mut self, node: String, firing: Firing) -> Event {
        let disk = self.name_of(&node);
        let armed = self.levels.armed(&node).unwrap_or(0);
        if let Some(slot) = self.slots.as_mut().and_then(|slots| slots.blk(&disk)) {
            let count = slot.extent.threshold_events.value().unwrap_or(0);
            slot.extent.threshold_events = Word::from(count.saturating_add(1));
            slot.extent.threshold_excess_bytes = firing.excess.into();
            slot.extent.threshold_bytes = Word::new(armed);
            slot.last_exceeded = Some(firing.threshold);
            slot.write_extent(slot.extent_as_of.unwrap_or_else(|| now(Clock::Boottime)));
        }
        Event::WriteThreshold {
            disk,
            node,
            threshold_bytes: firing.threshold,
            excess_bytes: firing.excess,
            reconciled: firing.excess.is_none(),
        }
    }

    /// Slots of the region, while there is one.
    pub(super) fn slots(&mut self) -> Option<&mut Slots<P>> {
        self.slots.as_mut()
    }
}
