//! What QEMU and /proc are asked for, each at its own interval.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domstat_layout::latest::{Cpu, Exits, Memory};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns, Word};
use serde_json::{Value, json};

use super::disk::names;
use super::domain::Domain;
use super::publish::Event;
use super::qmp::{Connection, QmpError, Version};
use super::reply::{self, list, text};
use super::schedule::Poll;
use super::stats::{StatsSchema, exits, has_exits};
use super::{Options, Publisher};
use crate::ArchGroup;
use crate::host::now;

/// The first QEMU whose query-stats leaves the vCPUs alone.
const QUIET_STATS: Version = Version { major: 8, minor: 1 };
/// How often query-stats is asked before that.
const OLD_STATS_INTERVAL: Duration = Duration::from_secs(30);
/// How often the end of a job is looked for that is being canceled.
const ENDING_INTERVAL: Duration = Duration::from_millis(100);

/// When each question is due.
#[derive(Debug)]
pub(super) struct Polls {
    pub(super) threads: Poll,
    pub(super) blocks: Poll,
    pub(super) extents: Poll,
    pub(super) jobs: Poll,
    pub(super) memory: Poll,
    pub(super) status: Poll,
    pub(super) topology: Poll,
    pub(super) stats: Poll,
}

impl Polls {
    pub(super) fn new(options: &Options, version: Version) -> Self {
        let old = if version < QUIET_STATS { OLD_STATS_INTERVAL } else { options.interval };
        let slow = options.interval.saturating_mul(5);
        Self {
            threads: Poll::every(options.interval),
            blocks: Poll::every(options.interval),
            extents: Poll::every(slow),
            jobs: Poll::every(options.interval),
            memory: Poll::every(slow),
            status: Poll::every(slow),
            topology: Poll::every(slow.saturating_mul(4)),
            stats: Poll::every(options.stats_interval.unwrap_or(old.max(options.interval))),
        }
    }

    /// When the first is due; without a connection only what /proc answers.
    pub(super) fn next(&self, connected: bool) -> Option<Instant> {
        let of_qemu = [
            &self.blocks,
            &self.extents,
            &self.jobs,
            &self.memory,
            &self.status,
            &self.topology,
            &self.stats,
        ];
        let of_qemu = of_qemu.into_iter().filter(|_| connected);
        of_qemu.chain([&self.threads]).filter_map(Poll::due).min()
    }
}

/// The group of the domain's state, with libvirt's numbers.
pub(super) fn state_group() -> ArchGroup {
    let field = |name: &str| crate::ArchField {
        name: name.to_owned(),
        shape: domstat_layout::schema::FieldShape::PLAIN,
    };
    ArchGroup { name: "libvirt_state".to_owned(), fields: vec![field("state"), field("reason")] }
}

impl<P: Publisher> Domain<P> {
    /// Asks for whatever is due. Of QEMU only if it can answer.
    pub(super) fn run_due(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        type Ask<P> = fn(&mut Domain<P>, &mut Connection) -> Result<(), QmpError>;
        type Which = fn(&mut Polls) -> &mut Poll;
        let questions: [(Which, Ask<P>); 7] = [
            (|p| &mut p.topology, Self::topology),
            (|p| &mut p.status, Self::status),
            (|p| &mut p.blocks, Self::blocks),
            (|p| &mut p.extents, Self::extents),
            (|p| &mut p.jobs, Self::jobs),
            (|p| &mut p.memory, Self::memory),
            (|p| &mut p.stats, Self::stats),
        ];
        self.run_threads();
        for (which, ask) in questions {
            let began = Instant::now();
            if !which(&mut self.polls).is_due(began) || qmp.is_stuck() {
                continue;
            }
            let result = ask(self, qmp);
            which(&mut self.polls).done(began.elapsed(), result.is_ok());
            match result {
                Err(error) if !error.is_of_the_command() => return Err(error),
                _ => {}
            }
        }
        if self.is_canceling() {
            self.polls.jobs.within(ENDING_INTERVAL);
        }
        Ok(())
    }

    /// Runstates and CPU time, if they are due: QEMU is not needed for them.
    pub(super) fn run_threads(&mut self) {
        let began = Instant::now();
        if self.polls.threads.is_due(began) {
            let complete = self.threads();
            self.polls.threads.done(began.elapsed(), complete);
        }
    }

    /// Asks, and takes what came before the answer, which is then the newest there is.
    fn ask(
        &mut self,
        qmp: &mut Connection,
        command: &str,
        with: &Value,
    ) -> Result<Value, QmpError> {
        let answer = qmp.execute(command, with, self.limit)?;
        self.drain_before(qmp)?;
        Ok(answer)
    }

    /// As `ask`; `Null` if QEMU refuses.
    fn ask_lenient(
        &mut self,
        qmp: &mut Connection,
        command: &str,
        with: &Value,
    ) -> Result<Value, QmpError> {
        match self.ask(qmp, command, with) {
            Err(QmpError::Refused { .. }) => Ok(Value::Null),
            other => other,
        }
    }

    fn threads(&mut self) -> bool {
        let Some(records) = &mut self.records else { return false };
        let (process, cpus) = (self.process.as_ref(), &self.cpus);
        let complete = records.threads(cpus, process, self.runs, now(Clock::Boottime));
        if let Some((cpu, as_of)) = process.and_then(|p| p.cpu()) {
            records.dom.write::<Cpu>(&cpu, as_of);
        }
        let mut samples = BTreeMap::new();
        if let Some(process) = process.filter(|_| !self.taps.is_empty()) {
            let found = process.interfaces(&self.taps);
            let named = self.taps.iter().cloned().zip(found);
            samples.extend(named.filter_map(|(name, sample)| Some((name, sample?))));
        }
        records.interfaces(&samples);
        complete
    }

    /// vCPUs, balloon, interfaces: what changes when something is plugged.
    pub(super) fn topology(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let cpus = self.ask(qmp, "query-cpus-fast", &Value::Null)?;
        self.cpus = reply::cpus(&cpus);
        let most = self.ask_lenient(qmp, "query-hotpluggable-cpus", &Value::Null)?;
        let index = self.cpus.iter().map(|c| c.index.saturating_add(1)).max().unwrap_or(1);
        self.max_cpus = reply::max_cpus(&most).max(index);
        self.balloon = None;
        for path in ["/machine/peripheral", "/machine/peripheral-anon"] {
            let children = self.ask_lenient(qmp, "qom-list", &json!({ "path": path }))?;
            let balloon = list(&children)
                .find(|c| c["type"].as_str().is_some_and(|t| t.contains("virtio-balloon")));
            if let Some(name) = balloon.and_then(|b| text(&b["name"])) {
                self.balloon = Some(format!("{path}/{name}"));
            }
        }
        self.taps = self.process.as_ref().map(|p| p.taps()).unwrap_or_default();
        Ok(())
    }

    /// Which state the VM is in.
    pub(super) fn status(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let status = self.ask(qmp, "query-status", &Value::Null)?;
        let state = text(&status["status"]).unwrap_or_else(|| "unknown".to_owned());
        self.runs = status["running"].as_bool().unwrap_or(true);
        let known = !self.state.is_empty();
        if known && state != self.state {
            self.report(Event::State { state: state.clone() });
            // What the threads do counts differently from here on.
            self.polls.threads.hurry();
        }
        self.state = state;
        let (state, reason) = libvirt_state(&self.state, self.resumed);
        if let Some(records) = &mut self.records {
            records.dom.write_arch(0, &[Word::new(state), Word::new(reason)], asked);
        }
        Ok(())
    }

    /// What was read and written.
    pub(super) fn blocks(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = self.ask(qmp, "query-blockstats", &Value::Null)?;
        let devices = reply::devices(&answer);
        let same = devices.len() == self.devices.len()
            && devices
                .iter()
                .zip(&self.devices)
                .all(|(a, b)| (&a.device, &a.qdev) == (&b.device, &b.qdev));
        if !same {
            self.learn_kinds(qmp, &devices)?;
            self.names = names(&devices, |qdev| self.kinds.get(qdev).cloned());
        }
        self.devices = devices;
        let keys = self.keys();
        let images: Vec<_> = self.images().map(|(.., l)| (l.io, l.times)).collect();
        let Some(records) = &mut self.records else { return Ok(()) };
        self.outgrown = records.place(&keys, asked) > 0;
        for ((name, _), (io, times)) in keys.iter().zip(images) {
            if let Some(slot) = records.blk(name) {
                slot.io(&io, &times, asked);
            }
        }
        Ok(())
    }

    /// The QOM types of devices that are new.
    fn learn_kinds(
        &mut self,
        qmp: &mut Connection,
        devices: &[reply::Device],
    ) -> Result<(), QmpError> {
        for device in devices.iter().filter(|d| !d.qdev.is_empty()) {
            if self.kinds.contains_key(&device.qdev) {
                continue;
            }
            let path = device.qdev.trim_end_matches("/virtio-backend");
            let kind =
                self.ask_lenient(qmp, "qom-get", &json!({ "path": path, "property": "type" }))?;
            self.kinds.insert(device.qdev.clone(), text(&kind).unwrap_or_default());
        }
        Ok(())
    }

    /// How far the storage is filled, and what is armed.
    pub(super) fn extents(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        self.blocks(qmp)?;
        let asked = now(Clock::Boottime);
        let answer = match self.ask(qmp, "query-named-block-nodes", &json!({ "flat": true })) {
            // QEMU before 5.0 does not know `flat`.
            Err(QmpError::Refused { .. }) => {
                self.ask(qmp, "query-named-block-nodes", &Value::Null)?
            }
            other => other?,
        };
        self.levels(reply::nodes(&answer));
        self.place_extents();
        for slot in self.records.iter_mut().flat_map(|r| &mut r.blks) {
            if slot.key.is_some() {
                slot.write_extent(asked);
            }
        }
        Ok(())
    }

    fn jobs(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        self.look_at_jobs(qmp, false)
    }

    /// Which jobs there are.
    pub(super) fn look_at_jobs(
        &mut self,
        qmp: &mut Connection,
        reconnected: bool,
    ) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let answer = self.ask(qmp, "query-block-jobs", &Value::Null)?;
        let jobs = reply::jobs(&answer);
        let graph = match self.knows_jobs(&jobs) {
            true => Value::Null,
            false => self.ask_lenient(qmp, "x-debug-query-block-graph", &Value::Null)?,
        };
        self.job_list(qmp, &jobs, &graph, asked, reconnected)
    }

    fn memory(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        let asked = now(Clock::Boottime);
        let size = self.ask_lenient(qmp, "query-memory-size-summary", &Value::Null)?;
        let base = size["base-memory"].as_u64();
        let plugged = size["plugged-memory"].as_u64().unwrap_or(0);
        let maximum = base.and_then(|b| b.checked_add(plugged));
        let mut memory = Memory {
            current_bytes: maximum.into(),
            maximum_bytes: maximum.into(),
            rss_bytes: self.process.as_ref().and_then(|p| p.rss_bytes()).into(),
            ..Memory::NOT_PRODUCED
        };
        if let Some(path) = self.balloon.clone() {
            let balloon = self.ask_lenient(qmp, "query-balloon", &Value::Null)?;
            if let Some(actual) = balloon["actual"].as_u64() {
                memory.current_bytes = actual.into();
            }
            let arguments = json!({ "path": path, "property": "guest-stats" });
            let guest = self.ask_lenient(qmp, "qom-get", &arguments)?;
            reply::guest_memory(&guest, &mut memory);
        }
        if let Some(records) = &mut self.records {
            records.dom.write::<Memory>(&memory, asked);
        }
        Ok(())
    }

    /// Learns what query-stats will say.
    pub(super) fn describe_stats(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if self.polls.stats.due().is_none() {
            return Ok(());
        }
        let schemas = self.ask_lenient(qmp, "query-stats-schemas", &Value::Null)?;
        for target in ["vm", "vcpu"] {
            let sample = self.ask_lenient(qmp, "query-stats", &json!({ "target": target }))?;
            let schema = StatsSchema::new(&schemas, &sample, target);
            match target {
                "vm" => self.vm_stats = schema,
                _ => self.vcpu_stats = schema,
            }
        }
        Ok(())
    }

    fn stats(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if self.vm_stats.is_empty() && self.vcpu_stats.is_empty() {
            return Ok(());
        }
        let asked = now(Clock::Boottime);
        let of_vm = self.ask(qmp, "query-stats", &json!({ "target": "vm" }))?;
        let of_vcpus = self.ask(qmp, "query-stats", &json!({ "target": "vcpu" }))?;
        let Some(records) = &mut self.records else { return Ok(()) };
        let of_kvm = |v: &&Value| v["provider"] == "kvm";
        if let Some(vm) = list(&of_vm).find(of_kvm) {
            records.dom.write_arch(1, &self.vm_stats.words(&vm["stats"]), asked);
        }
        for vcpu in list(&of_vcpus).filter(of_kvm) {
            // QEMU lists vCPUs in an order of its own.
            let cpu = self.cpus.iter().find(|c| vcpu["qom-path"] == c.qom_path.as_str());
            let index = cpu.and_then(|c| usize::try_from(c.index).ok());
            let Some(slot) = index.and_then(|i| records.vcpus.get_mut(i)) else { continue };
            let exits = exits(&vcpu["stats"]);
            if has_exits(&exits) {
                slot.sink.write::<Exits>(&exits, asked);
            }
            slot.sink.write_arch(0, &self.vcpu_stats.words(&vcpu["stats"]), asked);
        }
        Ok(())
    }

    /// Everything once, in the order in which one thing needs the other.
    pub(super) fn run_all(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        self.status(qmp)?;
        self.extents(qmp)?;
        self.look_at_jobs(qmp, false)?;
        self.memory(qmp)?;
        self.stats(qmp)?;
        let _ = self.threads();
        Ok(())
    }

    /// As of now nothing is older than the start of the domain.
    pub(super) fn created(&self) -> Option<Ns> {
        self.process.as_ref().map(|p| p.started())
    }
}

/// libvirt's virDomainState and reason for QEMU's word.
fn libvirt_state(state: &str, resumed: bool) -> (u64, u64) {
    match state {
        "running" if resumed => (1, 5),
        "running" => (1, 1),
        "paused" => (3, 1),
        "finish-migrate" | "postmigrate" => (3, 2),
        "save-vm" => (3, 3),
        "io-error" => (3, 5),
        "watchdog" => (3, 6),
        "guest-panicked" => (3, 10),
        "prelaunch" | "inmigrate" => (3, 11),
        "shutdown" => (4, 1),
        "suspended" => (7, 0),
        "restore-vm" | "internal-error" | "debug" | "colo" => (3, 0),
        _ => (0, 0),
    }
}
