//! State of one VM, which outlives connections: identity, disks, armed thresholds, block jobs, and
//! events that are not yet delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domstat_layout::{Clock, Ns, Word};
use serde_json::Value;

use super::Options;
use super::balloon::BalloonInterval;
use super::decode::{self, Cpu, Device, DeviceLimits, JobInfo, JobNodes, Node};
use super::job::{End, Job, Outcome, Status};
use super::latency::Histograms;
use super::limits::{MAX_CPUS, MAX_IMAGES, MAX_NODES, MAX_TEXT};
use super::migration::MigrationState;
use super::procfs::QemuProcess;
use super::qmp::{Connection, MAX_DRAINED, MAX_DRAINED_BYTES, Message, QmpError, Refused};
use super::run_state::{Hints, IoError};
use super::schedule::{Polls, Question};
use super::slots::Slots;
use super::stats::StatsSchema;
use super::threshold::{Firing, Thresholds};
use crate::cgroup::Cgroup;
use crate::contract::{Armed, ArmedThresholds, ControlError, Event, JobAborted, Publisher, Reply};
use crate::host::now;
use crate::libvirt_state;
use crate::status::DomainStatus;
use crate::threads::ThreadTimes;
use crate::{Description, Optional, thread_group};

mod arming;
mod disk_lookup;
mod jobs;
mod refresh;
use arming::SetInFlight;
use disk_lookup::Chains;

/// Slots for images beyond those that a VM has when it is published.
const SPARE_BLKS: u32 = 8;
/// Most slots for images: there are no more images.
const MOST_BLKS: u32 = 1024;
const _: () = assert!(MOST_BLKS as usize == MAX_IMAGES);
/// Slots for interfaces beyond those.
const SPARE_NETS: u32 = 4;

/// Identity of a QEMU: it differs from that of the next one at the same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) uuid: Option<[u8; 16]>,
    /// Process id and start, if the process is one of this host.
    pub(super) process: Option<(i32, u64)>,
}

pub(super) struct VmState<P: Publisher> {
    identity: Identity,
    /// Where it is reached.
    address: PathBuf,
    limit: Duration,
    process: Option<QemuProcess>,
    cpus: Vec<Cpu>,
    max_cpus: u32,
    devices: Vec<Device>,
    /// What each device is called.
    names: Vec<String>,
    /// QOM types of devices, by path.
    kinds: BTreeMap<String, String>,
    /// The chains before each recent change, and when it was seen.
    replaced: VecDeque<(Instant, Chains)>,
    /// Whether a job has begun since QEMU was asked for the nodes of jobs.
    job_began: bool,
    /// The nodes of jobs, as QEMU said last.
    job_nodes: JobNodes,
    nodes: BTreeMap<String, Node>,
    taps: Vec<String>,
    /// Threads and descriptors of its process when they were looked at last.
    thread_ids: BTreeSet<i32>,
    nr_descriptors: Option<usize>,
    /// How many of both there were at the last look whether something was plugged.
    counts: Option<(u64, u64)>,
    balloon: Option<String>,
    iothreads: BTreeSet<i32>,
    thread_times: ThreadTimes,
    cgroup: Cgroup,
    /// What QEMU is to keep for us; `None` if it is not to.
    histograms: Option<Histograms>,
    balloon_interval: Option<BalloonInterval>,
    device_limits: DeviceLimits,
    /// The throttle group that was asked for its limits last.
    last_group: Option<String>,
    /// The guest's last report of its balloon: QEMU's time of it, and ours.
    balloon_report: Option<(u64, Ns)>,
    migration: MigrationState,
    status: Option<DomainStatus>,
    vm_stats: StatsSchema,
    vcpu_stats: StatsSchema,
    /// QEMU's word for the state, and whether vCPUs run in it.
    state: String,
    is_running: bool,
    hints: Hints,
    /// When QEMU last answered, if it ever did.
    answered: Option<Ns>,
    /// It does not answer, and the region says so.
    is_silent: bool,
    polls: Polls,
    slots: Option<Slots<P>>,
    region: Option<P::Region>,
    capacity: Capacity,
    thresholds: Thresholds,
    jobs: BTreeMap<String, JobEntry>,
    requests: BTreeMap<u64, JobRequest>,
    next_request: u64,
    /// Cancellations whose replies are among the messages: the job of each.
    cancels: BTreeMap<u64, String>,
    /// Requests whose replies were lost with the connection.
    lost: Vec<SetInFlight>,
    /// What the daemon before had armed, until the first levels.
    recalled: Vec<Armed>,
    /// What the daemon after this one will find, and whether that is all that is armed.
    remembered: ArmedThresholds,
    is_remembered: bool,
    reports: Vec<Report>,
    /// Lists that were longer than what is taken; each is noted once.
    noted: BTreeSet<&'static str>,
}

/// How much of what QEMU has sent was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// All of it.
    All,
    /// As much as is taken at a time; there may be more.
    Some,
}

/// Whether the region has a slot for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capacity {
    Sufficient,
    /// There are more images than slots.
    Outgrown,
}

struct JobEntry {
    job: Job,
    kind: String,
    disk: JobDisk,
    /// How far it was at the last two looks, the newer one first.
    seen: [Option<(Instant, JobInfo)>; 2],
}

/// The disk of a job.
enum JobDisk {
    /// As the job's id suggests; QEMU was not asked for the job's nodes yet.
    Guessed(Option<String>),
    /// As the job's nodes say, or its id where QEMU does not list them.
    Bound(Option<String>),
}

impl JobDisk {
    fn name(&self) -> Option<&str> {
        let (Self::Guessed(name) | Self::Bound(name)) = self;
        name.as_deref()
    }
}

/// Whether a list of jobs comes over the same connection as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It does: no event was missed.
    Same,
    /// QEMU was connected again: events were missed.
    New,
}

struct JobRequest {
    job: String,
    deadline: Option<Instant>,
    reply: Reply<JobAborted>,
}

/// Reports that are not yet delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backlog {
    /// There is at least one.
    pub(super) any: bool,
    /// One of them is a firing, which goes with new extents.
    pub(super) firings: bool,
}

/// Something that happened and is not yet delivered.
enum Report {
    /// A threshold of this node fired.
    Firing(String, Firing),
    /// The job of this id is ready to be completed.
    JobReady(String),
    /// The job of this id has ended; with the chains before, if its disk is inferred from them.
    JobEnded(String, End, Vec<Chains>),
    Event(Event),
    /// A note to the operator.
    Note(String),
}

impl<P: Publisher> VmState<P> {
    pub(super) fn new(
        identity: Identity,
        address: &Path,
        process: Option<QemuProcess>,
        polls: Polls,
        options: &Options,
    ) -> Self {
        Self {
            identity,
            address: address.to_owned(),
            limit: options.limit,
            process,
            cpus: Vec::new(),
            max_cpus: 1,
            devices: Vec::new(),
            names: Vec::new(),
            kinds: BTreeMap::new(),
            replaced: VecDeque::new(),
            job_began: false,
            job_nodes: JobNodes::default(),
            nodes: BTreeMap::new(),
            taps: Vec::new(),
            thread_ids: BTreeSet::new(),
            nr_descriptors: None,
            counts: None,
            balloon: None,
            iothreads: BTreeSet::new(),
            thread_times: ThreadTimes::default(),
            cgroup: Cgroup::default(),
            histograms: options.latency_histograms.then(Histograms::default),
            balloon_interval: options.balloon_interval.map(BalloonInterval::new),
            device_limits: DeviceLimits::new(),
            last_group: None,
            balloon_report: None,
            migration: MigrationState::default(),
            status: None,
            vm_stats: StatsSchema::default(),
            vcpu_stats: StatsSchema::default(),
            state: String::new(),
            is_running: true,
            hints: Hints::default(),
            answered: Some(now(Clock::Boottime)),
            is_silent: false,
            polls,
            slots: None,
            region: None,
            capacity: Capacity::Sufficient,
            thresholds: Thresholds::default(),
            jobs: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            cancels: BTreeMap::new(),
            lost: Vec::new(),
            recalled: Vec::new(),
            remembered: ArmedThresholds::default(),
            is_remembered: true,
            reports: Vec::new(),
            noted: BTreeSet::new(),
        }
    }

    /// A VM that does not answer: what /proc says of its process is all that is known.
    pub(super) fn unanswered(
        identity: Identity,
        address: &Path,
        process: QemuProcess,
        polls: Polls,
        options: &Options,
    ) -> Self {
        let threads = process.named_threads();
        let mut vm = Self::new(identity, address, None, polls, options);
        vm.max_cpus = threads.vcpus.last().map_or(1, |last| last.index.saturating_add(1));
        (vm.cpus, vm.iothreads) = (threads.vcpus, threads.iothreads);
        vm.taps = process.taps();
        vm.process = Some(process);
        vm.answered = None;
        vm
    }

    /// Asks by this schedule from now on.
    pub(super) fn schedule(&mut self, polls: Polls) {
        self.polls = polls;
    }

    /// QEMU has answered.
    pub(super) fn answer(&mut self) {
        self.answered = Some(now(Clock::Boottime));
    }

    /// Whether its region is visible.
    pub(super) const fn is_published(&self) -> bool {
        self.region.is_some()
    }

    /// Whether QEMU has answered since it is known, so that the region has everything.
    pub(super) const fn has_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// It answers for the first time, and is this one, if it is what was known of it.
    pub(super) fn meet(&mut self, identity: &Identity) {
        let is_it =
            self.identity.process == identity.process && self.identity.name == identity.name;
        if !self.has_answered() && is_it {
            self.identity = identity.clone();
        }
    }

    /// The name that it is published under.
    pub(super) fn name(&self) -> &str {
        &self.identity.name
    }

    /// Whether this is the QEMU that was known before.
    pub(super) fn is(&self, identity: &Identity) -> bool {
        self.identity == *identity
    }

    /// Whether its process is one of this host.
    pub(super) const fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// Whether its process is known to have ended.
    pub(super) fn has_exited(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_alive())
    }

    /// When the next question is due; without a connection only of /proc.
    pub(super) fn next_poll(&self, is_connected: bool) -> Option<Instant> {
        self.polls.next(is_connected)
    }

    /// Retires the region, if there is one, which frees its name, and describes the next one: with
    /// room for what there is now and some more.
    pub(super) fn retire(&mut self) -> Description {
        (self.slots, self.region) = (None, None);
        let images = u32::try_from(self.images().count()).unwrap_or(u32::MAX);
        let taps = u32::try_from(self.taps.len()).unwrap_or(u32::MAX);
        let identity = &self.identity;
        Description {
            source: "qemu",
            domid: identity.process.and_then(|(pid, _)| u64::try_from(pid).ok()),
            uuid: identity.uuid,
            name: identity.name.clone(),
            created: self.created(),
            nr_vcpus: self.max_cpus.clamp(1, MAX_CPUS),
            nr_blks: images.saturating_add(SPARE_BLKS).min(MOST_BLKS),
            nr_nets: taps.saturating_add(SPARE_NETS),
            clock: Clock::Boottime,
            arch_dom: [Some(libvirt_state::group()), self.vm_stats.group()]
                .into_iter()
                .flatten()
                .collect(),
            arch_vcpu: std::iter::once(thread_group::group())
                .chain(self.vcpu_stats.group())
                .collect(),
            optional: Optional { blk_hist: self.histograms.is_some(), ..Optional::default() },
            labels: Vec::new(),
        }
    }

    /// Writes to these slots from now on.
    pub(super) fn write_to(&mut self, slots: Slots<P>) {
        self.slots = Some(slots);
    }

    /// The region is visible from now on.
    pub(super) fn published(&mut self, region: P::Region) {
        self.region = Some(region);
    }

    /// Whether there are more images than slots: the region must be replaced. Asked once.
    pub(super) fn take_outgrown(&mut self) -> bool {
        std::mem::replace(&mut self.capacity, Capacity::Sufficient) == Capacity::Outgrown
    }

    /// Takes the messages that are there, but no more than leaves polls and commands their turn.
    pub(super) fn drain(&mut self, qmp: &mut Connection) -> Result<Drained, QmpError> {
        let mut budget = MAX_DRAINED_BYTES;
        for _ in 0..MAX_DRAINED {
            match qmp.next_within(&mut budget)? {
                Some(message) => self.message(qmp, message)?,
                None if budget == 0 => break,
                None => return Ok(Drained::All),
            }
        }
        Ok(Drained::Some)
    }

    /// Takes what came before the last reply, so that the reply is the newest there is.
    pub(super) fn drain_before(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        while let Some(message) = qmp.next_before() {
            self.message(qmp, message)?;
        }
        Ok(())
    }

    fn message(&mut self, qmp: &mut Connection, message: Message) -> Result<(), QmpError> {
        match message {
            Message::Event { name, data } => self.event(qmp, &name, &data),
            Message::Reply { id, result } => self.reply(qmp, id, result),
        }
    }

    fn event(&mut self, qmp: &mut Connection, name: &str, data: &Value) -> Result<(), QmpError> {
        let text =
            |key: &str| data[key].as_str().filter(|t| t.len() <= MAX_TEXT).unwrap_or_default();
        match name {
            "BLOCK_WRITE_THRESHOLD" => {
                let node = text("node-name");
                if self.thresholds.len() >= MAX_NODES && self.thresholds.armed(node).is_none() {
                    return Ok(());
                }
                let threshold = data["write-threshold"].as_u64().unwrap_or(0);
                let excess = data["amount-exceeded"].as_u64();
                self.is_remembered = false;
                let firing = self.thresholds.event(node, threshold, excess);
                self.reports.push(Report::Firing(node.to_owned(), firing));
            }
            "BLOCK_JOB_CANCELLED" | "BLOCK_JOB_COMPLETED" => {
                let outcome = match (name, decode::text(&data["error"])) {
                    ("BLOCK_JOB_CANCELLED", _) => Outcome::Canceled,
                    (_, Some(error)) => Outcome::Failed(error),
                    (_, None) => Outcome::Completed,
                };
                let id = text("device").to_owned();
                let Some(entry) = self.entry(&id, text("type")) else { return Ok(()) };
                let actions = entry.job.ended(outcome);
                self.act(qmp, &id, actions)?;
                self.polls.of(Question::Jobs).hurry();
            }
            "BLOCK_JOB_READY" => {
                let id = text("device").to_owned();
                let Some(entry) = self.entry(&id, text("type")) else { return Ok(()) };
                let actions = entry.job.status(Status::Alive { ready: true });
                self.act(qmp, &id, actions)?;
                self.reports.push(Report::JobReady(id));
                self.polls.of(Question::Jobs).hurry();
            }
            "JOB_STATUS_CHANGE" => {
                if data["status"] == "created" {
                    self.job_began = true;
                    if let Some(entry) = self.jobs.get_mut(text("id")) {
                        entry.job.began();
                    }
                }
                self.polls.of(Question::Jobs).hurry();
            }
            "STOP" | "RESUME" | "SHUTDOWN" | "SUSPEND" | "WAKEUP" | "GUEST_PANICKED" | "RESET" => {
                if name == "RESUME" {
                    self.hints.has_resumed = true;
                    // The state is that from before.
                    self.hints.has_arrived = self.state == "inmigrate";
                }
                if name == "SHUTDOWN" {
                    self.hints.guest_shuts_down = data["guest"].as_bool().unwrap_or(false);
                }
                self.polls.of(Question::Status).hurry();
            }
            "MIGRATION" | "MIGRATION_PASS" => self.polls.of(Question::Migration).hurry(),
            // Of a system in the VM that has taken what was plugged, a vCPU for example.
            "ACPI_DEVICE_OST" => self.polls.of(Question::Topology).hurry(),
            "DEVICE_DELETED" | "DEVICE_TRAY_MOVED" | "BLOCK_IO_ERROR" => {
                if name == "BLOCK_IO_ERROR" && data["action"] == "stop" {
                    self.hints.io_error = Some(IoError {
                        device: text("device").to_owned(),
                        node: text("node-name").to_owned(),
                        no_space: data["nospace"].as_bool().unwrap_or(false),
                    });
                }
                self.polls.of(Question::Topology).hurry();
                self.polls.of(Question::Status).hurry();
            }
            "BALLOON_CHANGE" => self.polls.of(Question::Memory).hurry(),
            _ => {}
        }
        Ok(())
    }

    fn reply(
        &mut self,
        qmp: &mut Connection,
        id: u64,
        result: Result<Value, Refused>,
    ) -> Result<(), QmpError> {
        let Some(job) = self.cancels.remove(&id) else { return Ok(()) };
        let gone = result.as_ref().is_err_and(|r| r.class == "DeviceNotActive");
        let result = result.map(|_| ()).map_err(|r| r.desc);
        let actions = self.jobs.get_mut(&job).map(|e| e.job.replied(result, gone));
        self.act(qmp, &job, actions.unwrap_or_default())
    }

    /// The connection broke. What it brought is taken already.
    pub(super) fn cut(&mut self) {
        self.thresholds.cut();
        self.cancels.clear();
    }

    /// Takes back what QEMU was asked to keep for us.
    ///
    /// # Errors
    /// [`QmpError`] of the connection.
    pub(super) fn take_back(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if let Some(histograms) = &mut self.histograms {
            histograms.take_back(qmp)?;
        }
        match &mut self.balloon_interval {
            Some(interval) => interval.take_back(qmp),
            None => Ok(()),
        }
    }

    /// The VM has ended: every caller that waits is answered.
    pub(super) fn end(&mut self, publisher: &mut P) {
        for set in self.lost.drain(..) {
            set.answer(Err(ControlError::gone()));
        }
        self.cancels.clear();
        let ids: Vec<String> = self.jobs.keys().cloned().collect();
        for id in ids {
            let actions = self.jobs.get_mut(&id).map(|e| e.job.domain_gone());
            actions
                .unwrap_or_default()
                .into_iter()
                .for_each(|action| self.report_action(&id, action));
        }
        self.report(Event::Gone);
        self.deliver(publisher);
    }

    /// The domain is published: its first event, whatever happened until now.
    pub(super) fn report_published(&mut self) {
        self.reports.insert(0, Report::Event(Event::Published));
    }

    pub(super) fn report(&mut self, event: Event) {
        self.reports.push(Report::Event(event));
    }

    /// Notes that QEMU lists more of something than is taken.
    fn note_omitted(&mut self, what: &'static str, omitted: usize) {
        if omitted > 0 && self.noted.insert(what) {
            let text = format!("QEMU lists more {what} than are taken: {omitted} are left out");
            self.reports.push(Report::Note(text));
        }
    }

    /// What there is to deliver.
    pub(super) fn backlog(&self) -> Backlog {
        let is_firing = |r: &Report| matches!(r, Report::Firing(..));
        Backlog { any: !self.reports.is_empty(), firings: self.reports.iter().any(is_firing) }
    }

    /// Asks for what belongs to the reports: the numbers that a firing speaks of, the disk of a job.
    pub(super) fn complete_reports(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if self.backlog().firings {
            self.extents(qmp)?;
        }
        if self.has_unbound_jobs() {
            self.look_at_jobs(qmp, Link::Same)?;
        }
        if self.has_unbound_ends() {
            self.blocks(qmp)?;
            self.bind_ends();
        }
        Ok(())
    }

    /// Writes what events changed, wakes waiting readers, and informs subscribers: once for each.
    pub(super) fn deliver(&mut self, publisher: &mut P) {
        for report in std::mem::take(&mut self.reports) {
            let event = match report {
                Report::Event(event) => event,
                Report::Firing(node, firing) => self.firing(node, firing),
                Report::JobReady(job) => self.job_ready(job),
                Report::JobEnded(job, end, _) => self.job_end(job, &end),
                Report::Note(text) => {
                    publisher.note(&format!("{}: {text}", self.identity.name));
                    continue;
                }
            };
            if let Some(region) = &self.region {
                publisher.notify(region);
            }
            publisher.event(&self.identity.name, &event);
        }
        // Last: what the next daemon does not find is reported.
        self.remember(publisher);
    }

    fn firing(&mut self, node: String, firing: Firing) -> Event {
        let disk = self.disk_of_node(&node);
        if let Some(slot) = self.slots.as_mut().and_then(|r| r.blk(&disk)) {
            let count = slot.extent.threshold_events.value().unwrap_or(0);
            slot.extent.threshold_events = Word::from(count.saturating_add(1));
            slot.extent.threshold_excess_bytes = firing.excess.into();
            slot.extent.threshold_bytes = self.thresholds.armed(&node).unwrap_or(0).into();
            slot.last_exceeded = Some(firing.threshold);
            let as_of = slot.extent_as_of.unwrap_or_else(|| now(Clock::Boottime));
            slot.write_extent(as_of);
        }
        Event::WriteThreshold {
            disk,
            node,
            threshold_bytes: firing.threshold,
            excess_bytes: firing.excess,
            reconciled: firing.reconciled,
        }
    }
}
