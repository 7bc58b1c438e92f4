//! Refresh of a VM's state: each question that is due is asked and its answer applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use domstat_layout::latest::{Balloon, BlkLimits, Cpu, Exits, Memory, Migration, Status, Threads};
use domstat_layout::sink::{BlkSink, DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};
use serde_json::Value;

use super::{Capacity, Link, VmState};
use crate::contract::{Event, Publisher};
use crate::host::now;
use crate::qemu::decode::{Device, Layer, list, tightest};
use crate::qemu::disk::{names, needs_kind};
use crate::qemu::limits::MAX_DEVICES;
use crate::qemu::qmp::{Connection, QmpError};
use crate::qemu::queries::{self, Topology};
use crate::qemu::run_state;
use crate::qemu::schedule::Question;
use crate::qemu::stats::{exits, has_exits};
use crate::status::{DomainStatus, State};
use crate::thread_group;

/// How often the end of a job is looked for that is being canceled.
const ENDING_INTERVAL: Duration = Duration::from_millis(100);

/// How often a migration is looked at that is under way.
const MIGRATING_INTERVAL: Duration = Duration::from_millis(500);

/// Time after which a round asks no further question. A slow QEMU takes at most that and one
/// question, of at most four exchanges, before its commands are looked at.
const ROUND: Duration = Duration::from_secs(1);
/// Time for the kinds of new devices in one round, and for the limits of throttle groups; the others
/// are learned in the next ones.
const LEARNING: Duration = Duration::from_millis(500);

impl<P: Publisher> VmState<P> {
    /// Asks for whatever is due. Of QEMU only if it can answer.
    pub(in crate::qemu) fn run_due(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let round = Instant::now();
        for question in Question::ALL {
            self.run_threads();
            let began = Instant::now();
            if !self.polls.of(question).is_due(began) || qmp.is_stuck() {
                continue;
            }
            // What is left is asked in the next round, after commands have had their turn.
            if began.duration_since(round) > ROUND {
                break;
            }
            let result = self.ask(question, qmp);
            let took = began.elapsed();
            if result.is_ok() {
                self.answered = Some(now(Clock::Boottime));
            }
            self.polls.of(question).done(took, result.is_ok());
            if question == Question::Extents {
                self.polls.of(Question::Blocks).done(took, result.is_ok());
            }
            match result {
                Err(error) if !error.is_of_the_command() => return Err(error),
                _ => {}
            }
        }
        self.run_threads();
        if self.is_canceling() {
            self.polls.of(Question::Jobs).within(ENDING_INTERVAL);
        }
        Ok(())
    }

    fn ask(&mut self, question: Question, qmp: &mut Connection) -> Result<(), QmpError> {
        match question {
            Question::Topology => self.topology(qmp),
            Question::Status => self.status(qmp),
            Question::Blocks => self.blocks(qmp),
            Question::Extents => self.extents(qmp),
            Question::Jobs => self.look_at_jobs(qmp, Link::Same),
            Question::Memory => self.memory(qmp),
            Question::Migration => self.migration(qmp),
            Question::Stats => self.stats(qmp),
        }
    }

    /// Runstates and CPU time, if they are due: QEMU is not needed for them.
    pub(in crate::qemu) fn run_threads(&mut self) {
        let began = Instant::now();
        if self.polls.plugs().is_due(began) {
            let counts = self.process.as_ref().and_then(|process| process.counts());
            if counts != self.counts {
                self.counts = counts;
                self.look_for_plugged();
            }
            self.polls.plugs().done(began.elapsed(), true);
        }
        let began = Instant::now();
        if self.polls.threads().is_due(began) {
            let complete = self.threads();
            self.polls.threads().done(began.elapsed(), complete);
        }
    }

    /// Looks whether something was plugged or unplugged: QEMU has no event for a vCPU or interface that
    /// is new, but it has another thread or descriptor then.
    fn look_for_plugged(&mut self) {
        let Some(process) = &self.process else { return };
        let threads = process.thread_ids(&self.thread_ids);
        if threads != self.thread_ids {
            // At first QEMU was just asked.
            if !self.thread_ids.is_empty() {
                self.polls.of(Question::Topology).hurry();
            }
            self.thread_ids = threads;
        }
        let descriptors = process.nr_descriptors();
        if descriptors != self.nr_descriptors {
            self.nr_descriptors = descriptors;
            let taps = process.taps();
            if taps != self.taps {
                self.taps = taps;
                self.polls.threads().hurry();
            }
        }
    }

    fn threads(&mut self) -> bool {
        self.look_for_plugged();
        let Some(slots) = &mut self.slots else { return false };
        let (process, cpus) = (self.process.as_ref(), &self.cpus);
        let complete = slots.threads(cpus, process, self.is_running, now(Clock::Boottime));
        if let Some((cpu, as_of)) = process.and_then(|p| p.cpu()) {
            slots.dom.write::<Cpu>(&cpu, as_of);
        }
        if let Some(process) = process {
            if let Some(threads) = process.roles(&mut self.thread_times, cpus, &self.iothreads) {
                slots.dom.write::<Threads>(&threads, now(Clock::Boottime));
            }
            process.write_cgroup(&mut self.cgroup, &mut slots.dom);
        }
        let mut samples = BTreeMap::new();
        if let Some(process) = process.filter(|_| !self.taps.is_empty()) {
            let found = process.interfaces(&self.taps);
            let named = self.taps.iter().cloned().zip(found);
            samples.extend(named.filter_map(|(name, sample)| Some((name, sample?))));
        }
        slots.interfaces(&samples);
        complete
    }

    /// vCPUs, balloon, interfaces: what changes when something is plugged.
    pub(in crate::qemu) fn topology(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let answer = queries::topology(qmp);
        self.drain_before(qmp)?;
        let Topology { cpus, max_cpus, balloon, iothreads } = answer?;
        self.note_omitted("vCPUs", cpus.omitted);
        if cpus.items != self.cpus {
            // At once: a vCPU that is new is not shown before.
            self.polls.threads().hurry();
        }
        (self.cpus, self.max_cpus, self.balloon) = (cpus.items, max_cpus, balloon);
        self.iothreads = iothreads;
        if let Some(interval) = &mut self.balloon_interval {
            let result = interval.set(qmp, self.balloon.as_deref());
            self.drain_before(qmp)?;
            result?;
        }
        self.taps = self.process.as_ref().map(|p| p.taps()).unwrap_or_default();
        Ok(())
    }

    /// Which state the VM is in.
    fn status(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = queries::status(qmp);
        self.drain_before(qmp)?;
        let queries::Status { state, is_running } = answer?;
        self.is_running = is_running;
        let has_changed = !self.state.is_empty() && state != self.state;
        self.state = state;
        let (number, libvirt_reason) = run_state::libvirt(&self.state, &self.hints);
        let (state, reason) = run_state::status(&self.state, &self.hints);
        let disk = self.disk_of_error().filter(|_| state == State::IoError);
        let device = disk.as_ref().and_then(|disk| self.slots.as_ref()?.blk_index(disk));
        // Of the state that it is found in it is not known since when.
        let status = self.status.get_or_insert(DomainStatus::new(state, reason, None));
        status.see(state, reason, device, asked);
        let (words, status) = (status.words(), status.group());
        self.is_silent = false;
        if let Some(slots) = &mut self.slots {
            slots.dom.write_arch(0, &[Word::new(number), Word::new(libvirt_reason)], asked);
            slots.dom.write::<Status>(&status, asked);
        }
        if has_changed {
            let (state, reason) = words;
            let (state, reason) = (state.to_owned(), reason.map(str::to_owned));
            self.report(Event::State { state, reason, disk });
            // What the threads do counts differently from here on.
            self.polls.threads().hurry();
        }
        Ok(())
    }

    /// QEMU does not answer: in what state the VM is, is not known until it does.
    pub(in crate::qemu) fn fall_silent(&mut self) {
        if std::mem::replace(&mut self.is_silent, true) {
            return;
        }
        let mut status = DomainStatus::unanswered(self.answered.unwrap_or(Ns(0))).group();
        if self.answered.is_none() {
            status.since_ns = Word::NOT_PRODUCED;
        }
        if let Some(slots) = &mut self.slots {
            slots.dom.write::<Status>(&status, now(Clock::Boottime));
        }
    }

    /// Everything that there is without QEMU's answers.
    pub(in crate::qemu) fn run_without_qemu(&mut self) {
        self.fall_silent();
        let as_of = now(Clock::Boottime);
        let rss_bytes = self.process.as_ref().and_then(|process| process.rss_bytes()).into();
        if let Some(slots) = &mut self.slots {
            slots.dom.write::<Memory>(&Memory { rss_bytes, ..Memory::NOT_PRODUCED }, as_of);
        }
        let _ = self.threads();
    }

    /// QEMU answers again.
    pub(in crate::qemu) fn speak(&mut self) {
        self.polls.of(Question::Status).hurry();
    }

    /// The disk whose error stopped the VM last.
    fn disk_of_error(&self) -> Option<String> {
        let error = self.hints.io_error.as_ref()?;
        let is_its = |device: &Device, n: usize, layer: &Layer| {
            let by_node = !error.node.is_empty() && layer.nodes().any(|node| node == error.node);
            by_node || (n == 0 && !error.device.is_empty() && device.device == error.device)
        };
        let (name, ..) = self.images().find(|(_, device, n, layer)| is_its(device, *n, layer))?;
        Some(name)
    }

    /// What was read and written.
    pub(in crate::qemu) fn blocks(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = queries::devices(qmp);
        self.drain_before(qmp)?;
        let devices = answer?;
        self.note_omitted("images", devices.omitted);
        let devices = devices.items;
        self.learn_kinds(qmp, &devices)?;
        let is_same = |(a, b): (&Device, &Device)| (&a.device, &a.qdev) == (&b.device, &b.qdev);
        let same = devices.len() == self.devices.len()
            && devices.iter().zip(&self.devices).all(is_same)
            && !self.names.iter().any(String::is_empty);
        if !same {
            self.name_devices(&devices);
        }
        let nodes = |d: &Device| d.layers.iter().map(|l| l.storage.clone()).collect::<Vec<_>>();
        if !same || !devices.iter().map(nodes).eq(self.devices.iter().map(nodes)) {
            // Sizes and thresholds are those of the images that were there before.
            self.polls.of(Question::Extents).hurry();
            self.note_replaced();
        }
        self.devices = devices;
        self.place_images(asked);
        self.set_histograms(qmp)
    }

    /// Has QEMU keep histograms of devices that are new.
    fn set_histograms(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let Some(histograms) = &mut self.histograms else { return Ok(()) };
        // QEMU takes the path of a device only.
        let attached = self.devices.iter().filter(|device| !device.qdev.is_empty());
        let devices: Vec<_> = attached
            .filter_map(|device| Some((device.qdev.as_str(), &device.layers.first()?.latencies)))
            .collect();
        let result = histograms.set(qmp, &devices);
        self.drain_before(qmp)?;
        result
    }

    /// Limits of each disk: those of its device, and of the throttle nodes above its image.
    fn limits(&mut self, qmp: &mut Connection, asked: Ns) -> Result<(), QmpError> {
        let answer = queries::limits(qmp);
        self.drain_before(qmp)?;
        self.device_limits = answer?;
        let groups = self.group_limits(qmp)?;
        let mut all = Vec::new();
        for (name, device, _, layer) in self.images().filter(|(_, _, n, _)| *n == 0) {
            let key = (device.device.clone(), device.qdev.clone());
            let own = self.device_limits.get(&key).copied();
            let throttles = || layer.filters.iter().filter_map(|node| self.throttle(node));
            if throttles().flatten().any(|group| !groups.contains_key(group)) {
                continue;
            }
            // One whose limits are not known may be the tightest.
            let limits = throttles().fold(own, |limits, group| {
                let of_group = groups.get(group?).copied().flatten()?;
                Some(tightest(&limits?, &of_group))
            });
            all.push((name, limits));
        }
        for (name, limits) in all {
            let Some(slot) = self.slots.as_mut().and_then(|slots| slots.blk(&name)) else {
                continue;
            };
            match limits {
                Some(limits) => slot.sink.write::<BlkLimits>(&limits, asked),
                None => slot.sink.deactivate::<BlkLimits>(),
            }
        }
        Ok(())
    }

    /// Limits of throttle groups, as many as a slow QEMU tells in time: those that were not asked for
    /// come first in the next round.
    fn group_limits(
        &mut self,
        qmp: &mut Connection,
    ) -> Result<BTreeMap<String, Option<BlkLimits>>, QmpError> {
        let began = Instant::now();
        let groups = self.throttle_groups();
        let last = self.last_group.take().unwrap_or_default();
        let (before, after): (Vec<_>, Vec<_>) = groups.into_iter().partition(|g| *g <= last);
        let mut limits = BTreeMap::new();
        for group in after.into_iter().chain(before) {
            if began.elapsed() > LEARNING {
                break;
            }
            let answer = queries::group_limits(qmp, &group);
            self.drain_before(qmp)?;
            self.last_group = Some(group.clone());
            limits.insert(group, answer?);
        }
        Ok(limits)
    }

    /// The group of a node, if that is a throttle node; `Some(None)` if QEMU does not tell it.
    fn throttle(&self, node: &str) -> Option<Option<&String>> {
        let node = self.nodes.get(node)?;
        (node.driver.as_deref() == Some("throttle")).then_some(node.throttle_group.as_ref())
    }

    /// The throttle groups of all disks.
    fn throttle_groups(&self) -> BTreeSet<String> {
        let layers = self.images().filter(|(_, _, n, _)| *n == 0).map(|(_, _, _, layer)| layer);
        let filters = layers.flat_map(|layer| &layer.filters);
        filters.filter_map(|node| self.throttle(node)?.cloned()).take(MAX_DEVICES).collect()
    }

    /// Names devices; those that were there keep their names.
    fn name_devices(&mut self, devices: &[Device]) {
        let known = self.devices.iter().zip(&self.names).filter(|(_, name)| !name.is_empty());
        let had: BTreeMap<(&str, &str), &String> =
            known.map(|(d, name)| ((d.device.as_str(), d.qdev.as_str()), name)).collect();
        self.names = names(
            devices,
            |d| had.get(&(d.device.as_str(), d.qdev.as_str())).map(|name| (*name).clone()),
            |d| match needs_kind(d) {
                true => self.kinds.get(&d.qdev).cloned(),
                false => Some(String::new()),
            },
        );
    }

    /// Gives every image a slot and writes what was read and written.
    fn place_images(&mut self, asked: Ns) {
        let keys = self.keys();
        let distributions = |device: &Device, n: usize, layer: &Layer| {
            let histograms = self.histograms.as_ref().filter(|_| n == 0)?;
            Some(histograms.distributions(&device.qdev, &layer.latencies))
        };
        let images: Vec<_> = self
            .images()
            .map(|(_, d, n, l)| (l.io, l.times, l.discards, l.failures, distributions(d, n, l)))
            .collect();
        let Some(slots) = &mut self.slots else { return };
        // A region with room for the most that are taken is not replaced by another one.
        self.capacity = match slots.place(&keys, asked) {
            0 => Capacity::Sufficient,
            _ => Capacity::Outgrown,
        };
        for ((name, _), image) in keys.iter().zip(images) {
            let Some(slot) = slots.blk(name) else { continue };
            let (io, times, discards, failures, distributions) = image;
            slot.io(&io, &times, asked);
            slot.write_more(&discards, &failures, asked);
            if let Some(distributions) = distributions {
                slot.distributions(&distributions, asked);
            }
        }
    }

    /// The QOM types of devices that are new, as far as time allows. Those of others are forgotten.
    fn learn_kinds(&mut self, qmp: &mut Connection, devices: &[Device]) -> Result<(), QmpError> {
        let began = Instant::now();
        let wanted: BTreeSet<&String> =
            devices.iter().filter(|d| needs_kind(d)).map(|d| &d.qdev).collect();
        self.kinds.retain(|qdev, _| wanted.contains(qdev));
        for qdev in wanted {
            if self.kinds.contains_key(qdev) {
                continue;
            }
            if began.elapsed() > LEARNING {
                break;
            }
            let kind = queries::device_kind(qmp, qdev);
            self.drain_before(qmp)?;
            self.kinds.insert(qdev.clone(), kind?);
        }
        Ok(())
    }

    /// How far the storage is filled, and what is armed; the chains first.
    pub(in crate::qemu) fn extents(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        self.blocks(qmp)?;
        let asked = now(Clock::Boottime);
        let answer = queries::nodes(qmp);
        self.drain_before(qmp)?;
        let nodes = answer?;
        self.note_omitted("block nodes", nodes.omitted);
        self.levels(nodes.items);
        self.place_extents();
        if let Some(slots) = &mut self.slots {
            slots.write_extents(asked);
        }
        let result = self.limits(qmp, asked);
        self.polls.of(Question::Extents).postpone();
        match result {
            // Sizes are there all the same.
            Err(error) if !error.is_of_the_command() => Err(error),
            _ => Ok(()),
        }
    }

    /// Which jobs there are. The disk of a job that is new is learned before anything of it is
    /// delivered.
    pub(in crate::qemu) fn look_at_jobs(
        &mut self,
        qmp: &mut Connection,
        after: Link,
    ) -> Result<(), QmpError> {
        let begins = std::mem::take(&mut self.job_began);
        if begins {
            // First: a short job has nodes for a moment only.
            self.learn_job_nodes(qmp)?;
        }
        let asked = now(Clock::Boottime);
        let answer = queries::jobs(qmp);
        self.drain_before(qmp)?;
        let jobs = answer?;
        self.note_omitted("block jobs", jobs.omitted);
        self.job_list(qmp, &jobs.items, after)?;
        if self.has_unbound_jobs() {
            // The job's nodes may be of an image that was added a moment ago.
            self.blocks(qmp)?;
            let known = self.knows_job_nodes();
            let can_list = known || self.learn_job_nodes(qmp)?;
            self.bind_jobs(can_list);
        }
        self.write_jobs(&jobs.items, asked);
        Ok(())
    }

    /// Asks for the nodes of jobs. Whether QEMU can list them.
    fn learn_job_nodes(&mut self, qmp: &mut Connection) -> Result<bool, QmpError> {
        let answer = queries::job_nodes(qmp);
        self.drain_before(qmp)?;
        let nodes = answer?;
        let can_list = nodes.is_some();
        self.job_nodes = nodes.unwrap_or_default();
        Ok(can_list)
    }

    fn memory(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = queries::memory(qmp, self.balloon.as_deref());
        self.drain_before(qmp)?;
        let (mut memory, balloon) = answer?;
        memory.rss_bytes = self.process.as_ref().and_then(|p| p.rss_bytes()).into();
        let had_balloon = self.balloon_report.is_some();
        let balloon = balloon.map(|(balloon, stamp)| self.date(balloon, stamp, asked));
        if let Some(slots) = &mut self.slots {
            slots.dom.write::<Memory>(&memory, asked);
            match &balloon {
                Some((balloon, as_of)) => slots.dom.write::<Balloon>(balloon, *as_of),
                None if had_balloon => slots.dom.deactivate::<Balloon>(),
                None => {}
            }
        }
        if balloon.is_none() {
            self.balloon_report = None;
        }
        Ok(())
    }

    /// The balloon's numbers, which are as of the guest's last report, not of the question. QEMU's
    /// `stamp` of that counts seconds: a report has one time, however often it is asked for.
    fn date(&mut self, mut balloon: Balloon, stamp: u64, asked: Ns) -> (Balloon, Ns) {
        let before = self.balloon_report;
        if let Some((_, at)) = before.filter(|(last, _)| *last == stamp) {
            balloon.last_update_ns = Word::new(at.0);
            return (balloon, at);
        }
        let at = balloon.last_update_ns.value().map_or(asked, Ns);
        // The host's clock may have been set back.
        let at = before.map_or(at, |(_, before)| before.max(at));
        self.balloon_report = Some((stamp, at));
        (balloon, at)
    }

    /// How the last migration goes, or went.
    fn migration(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = queries::migration(qmp);
        self.drain_before(qmp)?;
        let migration = self.migration.answer(&answer?, asked);
        if let Some(slots) = &mut self.slots {
            slots.dom.write::<Migration>(&migration, asked);
        }
        if self.migration.is_under_way() {
            self.polls.of(Question::Migration).within(MIGRATING_INTERVAL);
        }
        Ok(())
    }

    /// Learns what query-stats reports.
    pub(in crate::qemu) fn describe_stats(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if self.polls.of(Question::Stats).due().is_none() {
            return Ok(());
        }
        let answer = queries::stats_schemas(qmp);
        self.drain_before(qmp)?;
        let schemas = answer?;
        self.note_omitted("statistics", schemas.vm.omitted() + schemas.vcpu.omitted());
        (self.vm_stats, self.vcpu_stats) = (schemas.vm, schemas.vcpu);
        Ok(())
    }

    fn stats(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if self.vm_stats.is_empty() && self.vcpu_stats.is_empty() {
            return Ok(());
        }
        let asked = now(Clock::Boottime);
        let answer = queries::stats(qmp);
        self.drain_before(qmp)?;
        let stats = answer?;
        let Some(slots) = &mut self.slots else { return Ok(()) };
        let of_kvm = |v: &&Value| v["provider"] == "kvm";
        if let Some(vm) = list(&stats.vm).find(of_kvm) {
            slots.dom.write_arch(1, &self.vm_stats.words(&vm["stats"]), asked);
        }
        // QEMU lists vCPUs in an order of its own.
        let indices: BTreeMap<&str, u32> =
            self.cpus.iter().map(|c| (c.qom_path.as_str(), c.index)).collect();
        for vcpu in list(&stats.vcpus).filter(of_kvm).take(self.cpus.len()) {
            let index = vcpu["qom-path"].as_str().and_then(|path| indices.get(path));
            let index = index.and_then(|index| usize::try_from(*index).ok());
            let Some(slot) = index.and_then(|i| slots.vcpus.get_mut(i)) else { continue };
            let exits = exits(&vcpu["stats"]);
            if has_exits(&exits) {
                slot.sink.write::<Exits>(&exits, asked);
            }
            slot.sink.write_arch(
                thread_group::INDEX + 1,
                &self.vcpu_stats.words(&vcpu["stats"]),
                asked,
            );
        }
        Ok(())
    }

    /// Everything once, in the order in which one thing needs the other.
    pub(in crate::qemu) fn run_all(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        self.extents(qmp)?;
        // It names the disk whose error stopped the VM.
        self.status(qmp)?;
        self.look_at_jobs(qmp, Link::Same)?;
        self.memory(qmp)?;
        self.migration(qmp)?;
        self.stats(qmp)?;
        let _ = self.threads();
        Ok(())
    }

    /// The start of the process: nothing is older than it.
    pub(in crate::qemu) fn created(&self) -> Option<Ns> {
        self.process.as_ref().map(|p| p.started())
    }
}
