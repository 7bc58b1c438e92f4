//! Block jobs of a VM: cancellations, their callers, and the events of each job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use domstat_layout::latest::{BlkJob, JOB_STATE_NAMES};
use domstat_layout::sink::BlkSink;
use domstat_layout::{Clock, Group, Ns, Word};
use serde_json::json;

use super::disk_lookup::{Chains, disk_of_change, disk_of_id, disk_of_nodes};
use super::{JobDisk, JobEntry, JobRequest, Link, Report, VmState};
use crate::contract::{
    ControlError, ErrorCode, Event, JobAborted, JobFlags, JobStatus, Publisher, Reply, check_flags,
};
use crate::host::now;
use crate::qemu::decode::JobInfo;
use crate::qemu::job::{AbortError, Action, Answer, End, Job, Outcome, Status};
use crate::qemu::limits::MAX_JOBS;
use crate::qemu::qmp::{Connection, QmpError};
use crate::qemu::schedule::Question;

/// Least time between two looks that say how fast a job goes.
const LEAST_SPAN: Duration = Duration::from_millis(200);
/// Most jobs of one round whose disks are inferred from what changed.
const MAX_INFERRED: usize = 16;
/// Most changes of chains that are remembered to infer such a disk.
const MAX_REPLACED: usize = 8;
/// How long after an image was replaced the job that did so may be reported to have ended.
const JUST_REPLACED: Duration = Duration::from_secs(1);

impl JobEntry {
    /// Takes how far it is. A look right behind the last one is no measure of speed.
    fn see(&mut self, info: &JobInfo) {
        let [last, before] = &mut self.seen;
        if last.as_ref().is_some_and(|(at, _)| at.elapsed() >= LEAST_SPAN) {
            *before = last.take();
        }
        *last = Some((Instant::now(), info.clone()));
    }

    /// How fast it went between two looks, in bytes per second. One of another job with its id, or that
    /// goes over the disk again, has no speed.
    fn speed(&self) -> Option<u64> {
        let [Some((now, last)), Some((then, before))] = &self.seen else { return None };
        let grown = last.offset?.checked_sub(before.offset?)?;
        let span = now.duration_since(*then).as_millis();
        u64::try_from((u128::from(grown) * 1000).checked_div(span)?).ok()
    }

    /// How far it was at the last look.
    fn info(&self) -> Option<&JobInfo> {
        self.seen[0].as_ref().map(|(_, info)| info)
    }

    /// Whether QEMU was not asked for its disk.
    fn is_unbound(&self) -> bool {
        matches!(self.disk, JobDisk::Guessed(_))
    }
}

impl Report {
    /// The job that it is about.
    const fn job(&self) -> Option<&String> {
        match self {
            Self::JobReady(id) | Self::JobEnded(id, ..) => Some(id),
            Self::Firing(..) | Self::Event(_) | Self::Note(_) => None,
        }
    }
}

impl<P: Publisher> VmState<P> {
    /// Cancels a job; the answer comes when it has ended, or with ASYNC when QEMU has taken it.
    pub(in crate::qemu) fn abort(
        &mut self,
        qmp: &mut Connection,
        disk: &str,
        flags: u32,
        timeout: Option<Duration>,
        reply: Reply<JobAborted>,
    ) -> Result<(), QmpError> {
        let found = check_flags(flags, JobFlags::ALL).and_then(|()| self.find_job(disk));
        let id = match found {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(error));
                return Ok(());
            }
        };
        let request = self.next_request;
        self.next_request += 1;
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        self.requests.insert(request, JobRequest { job: id.clone(), deadline, reply });
        let is_async = flags & JobFlags::ASYNC != 0;
        let force = flags & JobFlags::FORCE != 0;
        // It is there: it was just found.
        let actions = self.entry(&id, "").map(|entry| entry.job.abort(request, is_async, force));
        self.act(qmp, &id, actions.unwrap_or_default())
    }

    /// The one job of a disk, or the job of that id.
    fn find_job(&self, asked: &str) -> Result<String, ControlError> {
        let live = |e: &&JobEntry| e.job.is_alive() || e.job.is_ending();
        if self.jobs.get(asked).filter(live).is_some() {
            return Ok(asked.to_owned());
        }
        let disks = self.disks();
        let disk = crate::qemu::find(&disks, asked)?;
        let of_disk = |e: &JobEntry| e.disk.name() == Some(disk.name.as_str());
        let ids: Vec<&String> =
            self.jobs.iter().filter(|(_, e)| live(e) && of_disk(e)).map(|(id, _)| id).collect();
        match ids.as_slice() {
            [id] => Ok((*id).clone()),
            [] => Err(ControlError::new(
                ErrorCode::NoJob,
                format!("there is no block job on {}", disk.name),
            )),
            several => Err(ControlError::invalid(format!(
                "there are several jobs on {}, name one: {several:?}",
                disk.name
            ))),
        }
    }

    pub(super) fn act(
        &mut self,
        qmp: &mut Connection,
        id: &str,
        actions: Vec<Action>,
    ) -> Result<(), QmpError> {
        for action in actions {
            match action {
                Action::SendCancel { force } => {
                    let mut arguments = json!({ "device": id });
                    if force {
                        arguments["force"] = json!(true);
                    }
                    let sent = qmp.send("block-job-cancel", &arguments, self.limit)?;
                    self.cancels.insert(sent, id.to_owned());
                    self.polls.of(Question::Jobs).hurry();
                }
                Action::AskStatus => self.polls.of(Question::Jobs).hurry(),
                report => self.report_action(id, report),
            }
        }
        Ok(())
    }

    /// Answers and events, which need no connection.
    pub(super) fn report_action(&mut self, id: &str, action: Action) {
        match action {
            Action::Answer(request, answer) => {
                let Some(request) = self.requests.remove(&request) else { return };
                let answer = answer.map_err(ControlError::from).map(|answer| match answer {
                    Answer::Accepted => JobAborted::Accepted { job: id.to_owned(), accepted: true },
                    Answer::Ended(end) => {
                        let (outcome, error) = end.outcome.names();
                        JobAborted::Ended { job: id.to_owned(), outcome, error }
                    }
                });
                let _ = request.reply.send(answer);
            }
            Action::Record(end) => self.record_end(id, &end),
            Action::Emit(end) => {
                let is_unbound = self.jobs.get(id).is_some_and(JobEntry::is_unbound);
                let has_chains =
                    |r: &&Report| matches!(r, Report::JobEnded(_, _, c) if !c.is_empty());
                let is_inferable = is_unbound
                    && end.outcome == Outcome::Completed
                    && self.reports.iter().filter(has_chains).count() < MAX_INFERRED;
                let chains = if is_inferable { self.chains_before() } else { Vec::new() };
                self.reports.push(Report::JobEnded(id.to_owned(), end, chains));
            }
            Action::SendCancel { .. } | Action::AskStatus => {}
        }
    }

    /// The job of this id, which is new if it was not known; `None` if that were too many.
    pub(super) fn entry(&mut self, id: &str, kind: &str) -> Option<&mut JobEntry> {
        if !self.jobs.contains_key(id) {
            if self.jobs.len() >= MAX_JOBS {
                self.note_omitted("block jobs", 1);
                return None;
            }
            let disk = JobDisk::Guessed(disk_of_id(id, &self.names, &self.devices));
            let (job, seen) = (Job::default(), [None, None]);
            let entry = JobEntry { job, kind: kind.to_owned(), disk, seen };
            self.jobs.insert(id.to_owned(), entry);
        }
        self.jobs.get_mut(id)
    }

    /// Whether there is a job whose disk QEMU was not asked for.
    pub(in crate::qemu) fn has_unbound_jobs(&self) -> bool {
        self.jobs.values().any(|e| e.is_unbound() && e.job.is_alive())
    }

    /// Whether there is a job that ended before QEMU was asked for its disk, and may have changed
    /// that.
    pub(super) fn has_unbound_ends(&self) -> bool {
        let is_unbound = |report: &Report| match report {
            Report::JobEnded(id, _, chains)
                if !chains.is_empty() || self.job_nodes.contains_key(id) =>
            {
                self.jobs.get(id).is_some_and(JobEntry::is_unbound)
            }
            _ => false,
        };
        self.reports.iter().any(is_unbound)
    }

    /// Remembers the chains that are about to be replaced.
    pub(super) fn note_replaced(&mut self) {
        self.replaced.truncate(MAX_REPLACED - 1);
        self.replaced.push_front((Instant::now(), self.chains()));
    }

    /// The chains before a job that just ended: those that are known, and those before them if they
    /// were replaced a moment ago, since QEMU reports a job's end after it has replaced an image.
    /// Other disks may have changed meanwhile. The newest first.
    fn chains_before(&self) -> Vec<Chains> {
        let recent = self.replaced.iter().filter(|(at, _)| at.elapsed() < JUST_REPLACED);
        std::iter::once(self.chains()).chain(recent.map(|(_, chains)| chains.clone())).collect()
    }

    /// Binds jobs that ended too soon: to the disks that have their nodes, or that they changed. The
    /// chains are new.
    pub(super) fn bind_ends(&mut self) {
        let after = self.chains();
        let mut bound = Vec::new();
        for report in &self.reports {
            let Report::JobEnded(id, end, chains) = report else { continue };
            let Some(entry) = self.jobs.get_mut(id).filter(|e| e.is_unbound()) else { continue };
            let kind = &entry.kind;
            let nodes = self.job_nodes.get(id);
            let disk = nodes
                .and_then(|nodes| disk_of_nodes(nodes, &self.names, &self.devices))
                .or_else(|| chains.iter().find_map(|before| disk_of_change(kind, before, &after)));
            if let Some(disk) = disk {
                entry.disk = JobDisk::Bound(Some(disk));
                bound.push((id.clone(), end.clone()));
            }
        }
        for (id, end) in bound {
            self.record_end(&id, &end);
        }
    }

    /// Whether the nodes of every job without a disk are known.
    pub(super) fn knows_job_nodes(&self) -> bool {
        let has_nodes = |id| self.job_nodes.get(id).is_some_and(|nodes| !nodes.is_empty());
        self.jobs.iter().all(|(id, e)| !e.is_unbound() || !e.job.is_alive() || has_nodes(id))
    }

    /// Binds jobs to the disks that have their nodes; where QEMU cannot list nodes, to those that
    /// their ids suggest. A job without nodes is about to end.
    pub(super) fn bind_jobs(&mut self, can_list: bool) {
        for (id, entry) in &mut self.jobs {
            let JobDisk::Guessed(guess) = &mut entry.disk else { continue };
            let nodes = self.job_nodes.get(id).filter(|nodes| !nodes.is_empty());
            let disk = match nodes {
                None if can_list => continue,
                Some(nodes) => disk_of_nodes(nodes, &self.names, &self.devices),
                None => None,
            };
            entry.disk = JobDisk::Bound(disk.or_else(|| guess.take()));
        }
    }

    /// Takes what query-block-jobs reports.
    pub(in crate::qemu) fn job_list(
        &mut self,
        qmp: &mut Connection,
        list: &[JobInfo],
        link: Link,
    ) -> Result<(), QmpError> {
        for info in list {
            if let Some(entry) = self.entry(&info.id, &info.kind) {
                entry.see(info);
            }
        }
        let infos: BTreeMap<&str, &JobInfo> =
            list.iter().map(|info| (info.id.as_str(), info)).collect();
        let ids: Vec<String> = self.jobs.keys().cloned().collect();
        for id in ids {
            let info = infos.get(id.as_str());
            let status = match info {
                None => Status::Absent,
                Some(info) if info.status == "concluded" => Status::Concluded(info.error.clone()),
                Some(info) => Status::Alive { ready: info.ready },
            };
            let Some(entry) = self.jobs.get_mut(&id) else { continue };
            let actions = match link {
                Link::New => entry.job.reconnected(status),
                Link::Same => entry.job.status(status),
            };
            self.act(qmp, &id, actions)?;
        }
        let is_listed = |id: &String| infos.contains_key(id.as_str());
        let reported: BTreeSet<String> =
            self.reports.iter().filter_map(Report::job).cloned().collect();
        self.jobs.retain(|id, e| !e.job.is_idle() || is_listed(id) || reported.contains(id));
        Ok(())
    }

    /// Writes the jobs that go on into the records of their disks.
    pub(super) fn write_jobs(&mut self, list: &[JobInfo], asked: Ns) {
        for info in list.iter().filter(|info| info.status != "concluded") {
            let Some(entry) = self.jobs.get(&info.id).filter(|e| e.job.is_alive()) else {
                continue;
            };
            let Some(name) = entry.disk.name() else { continue };
            let Some(slot) = self.slots.as_mut().and_then(|s| s.blk(name)) else { continue };
            slot.job = BlkJob { ended: slot.job.ended, ..job_group(info, entry.job.is_ending()) };
            slot.sink.write(&slot.job, asked);
        }
    }

    /// The jobs there are, for people.
    pub(in crate::qemu) fn jobs_now(&self) -> Vec<JobStatus> {
        let live = self.jobs.iter().filter(|(_, e)| e.job.is_alive() || e.job.is_ending());
        let job = |(id, e): (&String, &JobEntry)| JobStatus {
            job: id.clone(),
            disk: e.disk.name().map(str::to_owned),
            kind: e.kind.clone(),
            ending: e.job.is_ending(),
            state: e.info().and_then(|info| state_name(info, e.job.is_ending())),
            cur_bytes: e.info().and_then(|info| info.offset),
            end_bytes: e.info().and_then(|info| info.len),
            limit_bytes: e.info().and_then(|info| info.speed),
            bytes_per_second: e.speed(),
        };
        live.map(job).collect()
    }

    /// Whether a job is being canceled, so that its end is looked for often.
    pub(in crate::qemu) fn is_canceling(&self) -> bool {
        self.jobs.values().any(|e| e.job.is_ending())
    }

    /// When the first caller's time is up.
    pub(in crate::qemu) fn deadline(&self) -> Option<Instant> {
        self.requests.values().filter_map(|r| r.deadline).min()
    }

    /// Answers callers whose time is up.
    pub(in crate::qemu) fn time_out(&mut self) {
        let now = Instant::now();
        let due = |r: &JobRequest| r.deadline.is_some_and(|d| d <= now);
        let over: Vec<(u64, String)> = self
            .requests
            .iter()
            .filter(|(_, r)| due(r))
            .map(|(n, r)| (*n, r.job.clone()))
            .collect();
        for (request, id) in over {
            let actions = self.jobs.get_mut(&id).map(|e| e.job.timed_out(request));
            actions
                .unwrap_or_default()
                .into_iter()
                .for_each(|action| self.report_action(&id, action));
            self.requests.remove(&request);
        }
    }

    /// Writes how the job ended into the record of its disk.
    fn record_end(&mut self, id: &str, end: &End) {
        let Some(entry) = self.jobs.get(id) else { return };
        let Some(disk) = entry.disk.name() else { return };
        let Some(slot) = self.slots.as_mut().and_then(|s| s.blk(disk)) else { return };
        let ended = slot.job.ended.value().unwrap_or(0);
        slot.job.ended = Word::from(ended.saturating_add(1));
        // While it ran it was known whether a commit is of the active image.
        if slot.job.kind.value().is_none_or(|kind| kind == 0) {
            slot.job.kind = Word::new(kind_number(&entry.kind, false));
        }
        slot.job.state = end.outcome.state();
        slot.sink.write(&slot.job, now(Clock::Boottime));
    }

    pub(super) fn job_ready(&self, id: String) -> Event {
        let (disk, kind) = self.disk_and_kind(&id);
        Event::JobReady { disk, job: id, kind }
    }

    fn disk_and_kind(&self, id: &str) -> (Option<String>, String) {
        match self.jobs.get(id) {
            Some(entry) => (entry.disk.name().map(str::to_owned), entry.kind.clone()),
            None => (disk_of_id(id, &self.names, &self.devices), String::new()),
        }
    }

    pub(super) fn job_end(&self, id: String, end: &End) -> Event {
        let (outcome, error) = end.outcome.names();
        let (disk, kind) = self.disk_and_kind(&id);
        let reconciled = end.reconciled;
        Event::JobEnded { disk, job: id, kind, outcome, error, reconciled }
    }
}

/// What query-block-jobs says, as a group.
fn job_group(info: &JobInfo, ending: bool) -> BlkJob {
    let state = match info.status.as_str() {
        _ if ending => 4,
        "aborting" => 4,
        _ if info.paused => 2,
        "ready" | "standby" => 3,
        _ if info.ready => 3,
        _ => 1,
    };
    BlkJob {
        kind: Word::new(kind_number(&info.kind, info.ready)),
        state: Word::new(state),
        cur_bytes: info.offset.into(),
        end_bytes: info.len.into(),
        limit_bytes: info.speed.into(),
        ..BlkJob::NOT_PRODUCED
    }
}

/// The word of the group for the job's state.
fn state_name(info: &JobInfo, ending: bool) -> Option<String> {
    let state = usize::try_from(job_group(info, ending).state.value()?).ok()?;
    JOB_STATE_NAMES.get(state).map(|name| (*name).to_owned())
}

/// The number of [`BlkJob::kind`] for QEMU's type of job.
fn kind_number(kind: &str, ready: bool) -> u64 {
    match kind {
        "stream" => 1,
        "mirror" => 2,
        // Only the active image's commit becomes ready.
        "commit" if ready => 4,
        "commit" => 3,
        "backup" => 5,
        _ => 6,
    }
}

impl From<AbortError> for ControlError {
    fn from(error: AbortError) -> Self {
        let code = match error {
            AbortError::NoJob => ErrorCode::NoJob,
            AbortError::Refused(_) => ErrorCode::Refused,
            AbortError::TimedOut | AbortError::Unanswered => ErrorCode::TimedOut,
            AbortError::DomainGone => ErrorCode::Gone,
        };
        Self::new(code, error.to_string())
    }
}
