//! State of one VM, which outlives connections: identity, disks, armed thresholds, block jobs, and
//! events that are not yet delivered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domstat_layout::{Clock, Word};
use serde_json::{Value, json};

use super::decode::{Cpu, Device, Node};
use super::job::{Job, Outcome, Status};
use super::procfs::QemuProcess;
use super::qmp::{Connection, Message, QmpError, Refused};
use super::schedule::{Polls, Question};
use super::slots::Slots;
use super::stats::StatsSchema;
use super::threshold::{Firing, SetOutcome, Thresholds};
use crate::Description;
use crate::contract::{
    ControlError, ErrorCode, Event, JobAborted, Publisher, Reply, SetRequest, ThresholdSet,
};
use crate::host::now;
use crate::libvirt_state;

mod disk_lookup;
mod jobs;
mod refresh;
use disk_lookup::disk_of_job;

/// Slots for images beyond those that a VM has when it is published.
const SPARE_BLKS: u32 = 8;
/// Slots for interfaces beyond those.
const SPARE_NETS: u32 = 4;

/// What tells one QEMU from the next one at the same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) uuid: Option<[u8; 16]>,
    /// Process id and start, if the process is one of this host.
    pub(super) process: Option<(i32, u64)>,
}

pub(super) struct VmState<P: Publisher> {
    identity: Identity,
    limit: Duration,
    process: Option<QemuProcess>,
    cpus: Vec<Cpu>,
    max_cpus: u32,
    devices: Vec<Device>,
    /// What each device is called.
    names: Vec<String>,
    /// QOM types of devices, by path.
    kinds: BTreeMap<String, String>,
    nodes: Vec<Node>,
    taps: Vec<String>,
    balloon: Option<String>,
    vm_stats: StatsSchema,
    vcpu_stats: StatsSchema,
    /// QEMU's word for the state, and whether vCPUs run in it.
    state: String,
    is_running: bool,
    /// The state was left and entered again.
    has_resumed: bool,
    polls: Polls,
    slots: Option<Slots<P>>,
    region: Option<P::Region>,
    capacity: Capacity,
    thresholds: Thresholds,
    jobs: BTreeMap<String, JobEntry>,
    requests: BTreeMap<u64, JobRequest>,
    next_request: u64,
    /// Commands whose replies are among the messages.
    sent: BTreeMap<u64, Sent>,
    /// Requests whose replies were lost with the connection.
    lost: Vec<SetInFlight>,
    reports: Vec<Report>,
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
    disk: Option<String>,
}

struct JobRequest {
    job: String,
    deadline: Option<Instant>,
    reply: Reply<JobAborted>,
}

enum Sent {
    Set(SetInFlight),
    Cancel(String),
}

/// A threshold on its way to QEMU.
struct SetInFlight {
    disk: String,
    node: String,
    threshold: u64,
    /// It is armed over itself: this request only disarms.
    disarms: bool,
    reply: Reply<ThresholdSet>,
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
    Firing(String, Firing),
    Event(Event),
}

impl<P: Publisher> VmState<P> {
    pub(super) fn new(
        identity: Identity,
        process: Option<QemuProcess>,
        polls: Polls,
        limit: Duration,
    ) -> Self {
        Self {
            identity,
            limit,
            process,
            cpus: Vec::new(),
            max_cpus: 1,
            devices: Vec::new(),
            names: Vec::new(),
            kinds: BTreeMap::new(),
            nodes: Vec::new(),
            taps: Vec::new(),
            balloon: None,
            vm_stats: StatsSchema::default(),
            vcpu_stats: StatsSchema::default(),
            state: String::new(),
            is_running: true,
            has_resumed: false,
            polls,
            slots: None,
            region: None,
            capacity: Capacity::Sufficient,
            thresholds: Thresholds::default(),
            jobs: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            sent: BTreeMap::new(),
            lost: Vec::new(),
            reports: Vec::new(),
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
            nr_vcpus: self.max_cpus.clamp(1, domstat_layout::MAX_VCPUS),
            nr_blks: images.saturating_add(SPARE_BLKS),
            nr_nets: taps.saturating_add(SPARE_NETS),
            clock: Clock::Boottime,
            arch_dom: [Some(libvirt_state::group()), self.vm_stats.group()]
                .into_iter()
                .flatten()
                .collect(),
            arch_vcpu: self.vcpu_stats.group().into_iter().collect(),
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

    /// Takes every message that is there.
    pub(super) fn drain(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        while let Some(message) = qmp.next_message()? {
            self.message(qmp, message)?;
        }
        Ok(())
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
        let text = |key: &str| data[key].as_str().unwrap_or_default();
        match name {
            "BLOCK_WRITE_THRESHOLD" => {
                let node = text("node-name");
                let threshold = data["write-threshold"].as_u64().unwrap_or(0);
                let excess = data["amount-exceeded"].as_u64();
                let firing = self.thresholds.event(node, threshold, excess);
                self.reports.push(Report::Firing(node.to_owned(), firing));
            }
            "BLOCK_JOB_CANCELLED" | "BLOCK_JOB_COMPLETED" => {
                let outcome = match (name, data["error"].as_str()) {
                    ("BLOCK_JOB_CANCELLED", _) => Outcome::Canceled,
                    (_, Some(error)) => Outcome::Failed(error.to_owned()),
                    (_, None) => Outcome::Completed,
                };
                let id = text("device").to_owned();
                let entry = self.entry(&id, text("type"));
                let actions = entry.job.ended(outcome);
                self.act(qmp, &id, actions)?;
                self.polls.of(Question::Jobs).hurry();
            }
            "BLOCK_JOB_READY" => {
                let id = text("device").to_owned();
                let entry = self.entry(&id, text("type"));
                let actions = entry.job.status(Status::Alive { ready: true });
                let (disk, kind) = (entry.disk.clone(), entry.kind.clone());
                self.act(qmp, &id, actions)?;
                self.reports.push(Report::Event(Event::JobReady { disk, job: id, kind }));
                self.polls.of(Question::Jobs).hurry();
            }
            "JOB_STATUS_CHANGE" => {
                if data["status"] == "created"
                    && let Some(entry) = self.jobs.get_mut(text("id"))
                {
                    entry.job.began();
                }
                self.polls.of(Question::Jobs).hurry();
            }
            "STOP" | "RESUME" | "SHUTDOWN" | "SUSPEND" | "WAKEUP" | "GUEST_PANICKED" | "RESET" => {
                self.has_resumed |= name == "RESUME";
                self.polls.of(Question::Status).hurry();
            }
            "DEVICE_DELETED" | "DEVICE_TRAY_MOVED" | "BLOCK_IO_ERROR" => {
                self.polls.of(Question::Topology).hurry();
                self.polls.of(Question::Status).hurry();
            }
            "BALLOON_CHANGE" => self.polls.of(Question::Memory).hurry(),
            _ => {}
        }
        Ok(())
    }

    fn entry(&mut self, id: &str, kind: &str) -> &mut JobEntry {
        let disk = || disk_of_job(id, &self.names, &self.devices, &[]);
        let new = || JobEntry { job: Job::default(), kind: kind.to_owned(), disk: disk() };
        self.jobs.entry(id.to_owned()).or_insert_with(new)
    }

    fn reply(
        &mut self,
        qmp: &mut Connection,
        id: u64,
        result: Result<Value, Refused>,
    ) -> Result<(), QmpError> {
        match self.sent.remove(&id) {
            Some(Sent::Set(set)) => {
                self.thresholds.answered(&set.node, result.is_ok());
                match result {
                    Ok(_) if set.disarms => {
                        self.send_set(qmp, SetInFlight { disarms: false, ..set })?;
                    }
                    Ok(_) => self.set_done(set),
                    Err(refused) => {
                        let _ = set
                            .reply
                            .send(Err(ControlError::new(ErrorCode::Refused, refused.desc)));
                    }
                }
            }
            Some(Sent::Cancel(job)) => {
                let gone = result.as_ref().is_err_and(|r| r.class == "DeviceNotActive");
                let result = result.map(|_| ()).map_err(|r| r.desc);
                let actions = self.jobs.get_mut(&job).map(|e| e.job.replied(result, gone));
                self.act(qmp, &job, actions.unwrap_or_default())?;
            }
            None => {}
        }
        Ok(())
    }

    fn set_done(&mut self, set: SetInFlight) {
        self.polls.of(Question::Extents).hurry();
        let answer =
            ThresholdSet { disk: set.disk, node: set.node, threshold_bytes: set.threshold };
        let _ = set.reply.send(Ok(answer));
    }

    /// Arms or disarms a threshold; the answer comes with QEMU's.
    pub(super) fn set_threshold(
        &mut self,
        qmp: &mut Connection,
        request: &SetRequest,
        reply: Reply<ThresholdSet>,
    ) -> Result<(), QmpError> {
        let planned = self.plan_set(request);
        match planned {
            Err(error) => {
                let _ = reply.send(Err(error));
                Ok(())
            }
            Ok((disk, node, threshold)) => {
                let disarms = self.thresholds.must_disarm_first(&node, threshold);
                self.send_set(qmp, SetInFlight { disk, node, threshold, disarms, reply })
            }
        }
    }

    fn plan_set(&self, request: &SetRequest) -> Result<(String, String, u64), ControlError> {
        let disks = self.disks();
        let disk = super::find(&disks, &request.disk)?;
        let threshold = request.bytes(disk.capacity_bytes, disk.physical_bytes)?;
        let no_node =
            || ControlError::new(ErrorCode::Refused, format!("{} has no medium", disk.name));
        let node = disk.storage_node.clone().ok_or_else(no_node)?;
        if self.thresholds.is_pending(&node) {
            let why = format!("another request for {} is not answered yet", disk.name);
            return Err(ControlError::new(ErrorCode::Busy, why));
        }
        Ok((disk.name.clone(), node, threshold))
    }

    fn send_set(&mut self, qmp: &mut Connection, set: SetInFlight) -> Result<(), QmpError> {
        let threshold = if set.disarms { 0 } else { set.threshold };
        let arguments = json!({ "node-name": set.node, "write-threshold": threshold });
        self.thresholds.sent(&set.node, threshold);
        match qmp.send("block-set-write-threshold", &arguments, self.limit) {
            Ok(id) => {
                self.sent.insert(id, Sent::Set(set));
                Ok(())
            }
            Err(error) => {
                self.lost.push(set);
                Err(error)
            }
        }
    }

    /// Takes what QEMU says of its nodes: thresholds that fired unseen, requests whose answers
    /// were lost.
    pub(super) fn levels(&mut self, nodes: Vec<Node>) {
        for node in &nodes {
            let (firing, outcome) = self.thresholds.level(&node.name, node.threshold);
            if let Some(firing) = firing {
                self.reports.push(Report::Firing(node.name.clone(), firing));
            }
            let Some(outcome) = outcome else { continue };
            let (mine, others) =
                std::mem::take(&mut self.lost).into_iter().partition(|s| s.node == node.name);
            self.lost = others;
            let mine: Vec<SetInFlight> = mine;
            for set in mine {
                if outcome == SetOutcome::Set && !set.disarms {
                    self.set_done(set);
                } else {
                    let why = format!(
                        "the connection broke before QEMU answered, and {} has no threshold now: \
                         either the request never arrived, or it did and fired; set it again",
                        set.disk
                    );
                    let _ = set.reply.send(Err(ControlError::new(ErrorCode::UnknownOutcome, why)));
                }
            }
        }
        self.thresholds.retain(|name| nodes.iter().any(|n| n.name == name));
        self.nodes = nodes;
    }

    /// The connection broke. What it brought is taken already.
    pub(super) fn cut(&mut self) {
        self.thresholds.cut();
        for (_, sent) in std::mem::take(&mut self.sent) {
            if let Sent::Set(set) = sent {
                self.lost.push(set);
            }
        }
    }

    /// The VM has ended: whoever waits is told.
    pub(super) fn end(&mut self, publisher: &mut P) {
        for set in self.lost.drain(..) {
            let _ = set.reply.send(Err(ControlError::gone()));
        }
        for (_, sent) in std::mem::take(&mut self.sent) {
            if let Sent::Set(set) = sent {
                let _ = set.reply.send(Err(ControlError::gone()));
            }
        }
        let ids: Vec<String> = self.jobs.keys().cloned().collect();
        for id in ids {
            let actions = self.jobs.get_mut(&id).map(|e| e.job.domain_gone());
            actions.unwrap_or_default().into_iter().for_each(|action| self.tell(&id, action));
        }
        self.report(Event::Gone);
        self.deliver(publisher);
    }

    pub(super) fn report(&mut self, event: Event) {
        self.reports.push(Report::Event(event));
    }

    /// What there is to deliver.
    pub(super) fn backlog(&self) -> Backlog {
        let is_firing = |r: &Report| matches!(r, Report::Firing(..));
        Backlog { any: !self.reports.is_empty(), firings: self.reports.iter().any(is_firing) }
    }

    /// Writes what events changed, wakes who waits, and tells who has subscribed: once for each.
    pub(super) fn deliver(&mut self, publisher: &mut P) {
        for report in std::mem::take(&mut self.reports) {
            let event = match report {
                Report::Event(event) => event,
                Report::Firing(node, firing) => self.firing(node, firing),
            };
            if let Some(region) = &self.region {
                publisher.notify(region);
            }
            publisher.event(&self.identity.name, &event);
        }
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
