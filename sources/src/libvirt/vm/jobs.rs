//! Block jobs of a domain: cancellations, their callers, and the events of each job.
//!
//! libvirt has one job for each disk and calls it by the disk. It sends no event when one begins, and
//! its answers and events come on ways of their own: an answer from before an event says nothing, and
//! an absence is believed when no event has come in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domstat_layout::latest::{BlkJob, JOB_KIND_NAMES, JOB_STATE_NAMES};
use domstat_layout::sink::BlkSink;
use domstat_layout::{Clock, Word};

use super::{Report, Vm};
use crate::contract::{
    ControlError, ErrorCode, Event, JobAborted, JobFlags, JobStatus, Publisher, Reply,
};
use crate::host::now;
use crate::libvirt::levels::GRACE;
use crate::libvirt::sys::JobInfo;
use crate::libvirt::worker::{AbortRefused, Look};
use crate::qemu::job::{AbortError, Action, Answer, End, Job, Outcome, Status};

/// A job that libvirt still lists this long after its event is another one.
const LINGERS: Duration = Duration::from_millis(500);

/// The jobs of one domain, by disk.
#[derive(Default)]
pub(in crate::libvirt) struct Jobs {
    entries: BTreeMap<String, Entry>,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    /// Cancellations that are to be sent.
    pub(in crate::libvirt) cancels: Vec<String>,
}

#[derive(Default)]
struct Entry {
    job: Job,
    /// The number of [`BlkJob::kind`], which is libvirt's.
    kind: u32,
    is_ready: bool,
    /// When its event came.
    ended: Option<Instant>,
    /// Since when libvirt does not list it, without an event.
    absent: Option<Instant>,
    /// The last two looks at it, the newest first.
    seen: [Option<(Instant, JobInfo)>; 2],
}

impl Entry {
    /// The number of [`BlkJob::state`] while the job goes on.
    fn state(&self) -> u64 {
        match (self.job.is_ending(), self.is_ready) {
            (true, _) => 4,
            (false, true) => 3,
            (false, false) => 1,
        }
    }

    /// How fast it went between two looks, in bytes per second. One that goes over the disk again, or
    /// another job of the disk, has no speed.
    fn speed(&self) -> Option<u64> {
        let [Some((now, last)), Some((then, before))] = self.seen else { return None };
        let grown = last.cur.checked_sub(before.cur).filter(|_| last.kind == before.kind)?;
        let span = now.duration_since(then).as_millis();
        u64::try_from((u128::from(grown) * 1000).checked_div(span)?).ok()
    }
}

struct Request {
    disk: String,
    deadline: Option<Instant>,
    reply: Reply<JobAborted>,
}

impl Jobs {
    /// Disks with a job.
    pub(in crate::libvirt) fn disks(&self) -> Vec<String> {
        let live = |(_, e): &(&String, &Entry)| e.job.is_alive() || e.job.is_ending();
        self.entries.iter().filter(live).map(|(disk, _)| disk.clone()).collect()
    }

    /// Whether a job is being canceled, so that its end is looked for often.
    pub(in crate::libvirt) fn is_canceling(&self) -> bool {
        self.entries.values().any(|e| e.job.is_ending())
    }

    /// When the first caller's time is up.
    pub(in crate::libvirt) fn deadline(&self) -> Option<Instant> {
        self.requests.values().filter_map(|r| r.deadline).min()
    }

    /// For people.
    pub(in crate::libvirt) fn list(&self) -> Vec<JobStatus> {
        let live = self.entries.iter().filter(|(_, e)| e.job.is_alive() || e.job.is_ending());
        let job = |(disk, e): (&String, &Entry)| {
            let info = e.seen[0].map(|(_, info)| info);
            let state = usize::try_from(e.state()).ok().and_then(|at| JOB_STATE_NAMES.get(at));
            JobStatus {
                job: disk.clone(),
                disk: Some(disk.clone()),
                kind: kind_name(e.kind),
                ending: e.job.is_ending(),
                state: state.map(|state| (*state).to_owned()),
                cur_bytes: info.map(|info| info.cur),
                end_bytes: info.map(|info| info.end),
                limit_bytes: info.map(|info| info.limit),
                bytes_per_second: e.speed(),
            }
        };
        live.map(job).collect()
    }

    fn kind(&self, disk: &str) -> String {
        kind_name(self.entries.get(disk).map_or(0, |e| e.kind))
    }

    pub(in crate::libvirt) fn ready_event(&self, disk: &str) -> Event {
        let kind = self.kind(disk);
        Event::JobReady { disk: Some(disk.to_owned()), job: disk.to_owned(), kind }
    }

    pub(in crate::libvirt) fn end_event(&self, disk: &str, end: &End) -> Event {
        let (outcome, error) = end.outcome.names();
        Event::JobEnded {
            disk: Some(disk.to_owned()),
            job: disk.to_owned(),
            kind: self.kind(disk),
            outcome,
            error,
            reconciled: end.reconciled,
        }
    }
}

fn kind_name(kind: u32) -> String {
    let name = usize::try_from(kind).ok().and_then(|at| JOB_KIND_NAMES.get(at));
    name.copied().filter(|_| kind > 0).unwrap_or("unknown").to_owned()
}

/// Why a job was not canceled, for the client of the control socket.
fn refused(error: AbortError) -> ControlError {
    let why = match &error {
        AbortError::Refused(why) => format!("libvirt refused: {why}"),
        AbortError::Unanswered => {
            "libvirt has not answered in time; if the job is still canceled, \
                                   an event will report its end"
                .to_owned()
        }
        error => error.to_string(),
    };
    ControlError { message: why, ..ControlError::from(error) }
}

impl<P: Publisher> Vm<P> {
    /// Cancels the job of a disk, which was just looked at; the answer comes when it has ended, or
    /// with ASYNC when libvirt has taken it.
    pub(in crate::libvirt) fn abort(
        &mut self,
        disk: &str,
        flags: u32,
        timeout: Option<Duration>,
        reply: Reply<JobAborted>,
    ) {
        let found = self.jobs.entries.get_mut(disk);
        let Some(entry) = found.filter(|e| e.job.is_alive() || e.job.is_ending()) else {
            let why = format!("there is no block job on {disk}");
            let _ = reply.send(Err(ControlError::new(ErrorCode::NoJob, why)));
            return;
        };
        let request = self.jobs.next_request;
        self.jobs.next_request += 1;
        let is_async = flags & JobFlags::ASYNC != 0;
        // libvirt cancels a ready copy without completing it: always by force.
        let actions = entry.job.abort(request, is_async, true);
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        self.jobs.requests.insert(request, Request { disk: disk.to_owned(), deadline, reply });
        self.act(disk, actions);
    }

    fn act(&mut self, disk: &str, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendCancel { .. } => self.jobs.cancels.push(disk.to_owned()),
                Action::AskStatus => {}
                Action::Answer(request, answer) => {
                    let Some(request) = self.jobs.requests.remove(&request) else { continue };
                    let job = disk.to_owned();
                    let answer = answer.map_err(refused).map(|answer| match answer {
                        Answer::Accepted => JobAborted::Accepted { job, accepted: true },
                        Answer::Ended(end) => {
                            let (outcome, error) = end.outcome.names();
                            JobAborted::Ended { job, outcome, error }
                        }
                    });
                    let _ = request.reply.send(answer);
                }
                Action::Record(end) => self.record_end(disk, &end),
                Action::Emit(end) => self.reports.push(Report::JobEnded(disk.to_owned(), end)),
            }
        }
    }

    /// libvirt answered a cancellation.
    pub(in crate::libvirt) fn aborted(&mut self, disk: &str, result: Result<(), AbortRefused>) {
        let refused = result.as_ref().err();
        if refused.is_some_and(|refused| refused.is_lost) {
            // Sent again over the next connection, if the job is still there.
            return;
        }
        let is_no_job = refused.is_some_and(|refused| refused.is_no_job);
        let Some(entry) = self.jobs.entries.get_mut(disk) else { return };
        let actions = entry.job.replied(result.map_err(|refused| refused.why), is_no_job);
        self.act(disk, actions);
    }

    /// libvirt says that a job ended or is ready.
    pub(in crate::libvirt) fn job_event(&mut self, disk: &str, kind: u32, status: u32) {
        let entry = self.jobs.entries.entry(disk.to_owned()).or_default();
        if kind > 0 {
            entry.kind = kind;
        }
        entry.absent = None;
        let outcome = match status {
            0 => Outcome::Completed,
            1 => Outcome::Failed("libvirt does not say why".to_owned()),
            2 => Outcome::Canceled,
            3 => {
                entry.is_ready = true;
                if entry.ended.is_some() {
                    entry.job.began();
                    entry.ended = None;
                }
                let actions = entry.job.status(Status::Alive { ready: true });
                self.reports.push(Report::JobReady(disk.to_owned()));
                return self.act(disk, actions);
            }
            _ => return,
        };
        entry.ended = Some(Instant::now());
        entry.is_ready = false;
        let actions = entry.job.ended(outcome);
        self.act(disk, actions);
    }

    /// Takes what libvirt says of jobs.
    pub(in crate::libvirt) fn take_jobs(&mut self, look: &Look) {
        for seen in &look.jobs {
            let Some(info) = seen.info else {
                self.job_is_absent(&seen.disk, seen.asked);
                continue;
            };
            let entry = self.jobs.entries.entry(seen.disk.clone()).or_default();
            if let Some(ended) = entry.ended {
                if seen.asked < ended + LINGERS {
                    continue;
                }
                entry.job.began();
                entry.ended = None;
                entry.seen = [None, None];
            }
            (entry.absent, entry.kind) = (None, info.kind);
            entry.seen = [Some((seen.asked, info)), entry.seen[0]];
            let copies = matches!(info.kind, 2 | 4);
            entry.is_ready |= copies && info.end > 0 && info.cur == info.end;
            let ready = entry.is_ready;
            let actions = entry.job.status(Status::Alive { ready });
            let state = entry.state();
            self.act(&seen.disk, actions);
            let Some(slot) = self.slots().and_then(|slots| slots.blk(&seen.disk)) else { continue };
            slot.job = BlkJob {
                kind: Word::new(info.kind.into()),
                state: Word::new(state),
                cur_bytes: Word::new(info.cur),
                end_bytes: Word::new(info.end),
                limit_bytes: Word::new(info.limit),
                ended: slot.job.ended,
            };
            slot.sink.write(&slot.job, look.asked_ns);
        }
        let of_look: Vec<&String> = look.jobs.iter().map(|job| &job.disk).collect();
        self.jobs.entries.retain(|disk, e| !e.job.is_idle() || !of_look.contains(&disk));
    }

    fn job_is_absent(&mut self, disk: &str, asked: Instant) {
        let Some(entry) = self.jobs.entries.get_mut(disk) else { return };
        if entry.ended.is_some_and(|ended| asked > ended) {
            // It ended by its event.
            entry.ended = None;
        } else if entry.job.is_alive() || entry.job.is_ending() {
            let since = *entry.absent.get_or_insert(asked);
            if asked.saturating_duration_since(since) < GRACE {
                return;
            }
        }
        entry.absent = None;
        let actions = entry.job.status(Status::Absent);
        self.act(disk, actions);
    }

    /// There is a new connection: events were missed.
    pub(in crate::libvirt) fn jobs_reconnected(&mut self, look: &Look) {
        let mut all = Vec::new();
        for (disk, entry) in &mut self.jobs.entries {
            let info = look.jobs.iter().find(|job| job.disk == *disk).and_then(|job| job.info);
            let status = match info {
                Some(_) => Status::Alive { ready: entry.is_ready },
                None => Status::Absent,
            };
            (entry.ended, entry.absent) = (None, None);
            all.push((disk.clone(), entry.job.reconnected(status)));
        }
        for (disk, actions) in all {
            self.act(&disk, actions);
        }
    }

    /// Answers callers whose time is up.
    pub(in crate::libvirt) fn time_out(&mut self) {
        let now = Instant::now();
        let due = |r: &Request| r.deadline.is_some_and(|deadline| deadline <= now);
        let over = self.jobs.requests.iter().filter(|(_, r)| due(r));
        let over: Vec<(u64, String)> = over.map(|(n, r)| (*n, r.disk.clone())).collect();
        for (request, disk) in over {
            let entry = self.jobs.entries.get_mut(&disk);
            let actions = entry.map(|e| e.job.timed_out(request)).unwrap_or_default();
            self.act(&disk, actions);
            self.jobs.requests.remove(&request);
        }
    }

    /// The domain has ended: every caller that waits is answered.
    pub(in crate::libvirt) fn jobs_gone(&mut self) {
        let gone = |(disk, e): (&String, &mut Entry)| (disk.clone(), e.job.domain_gone());
        let all: Vec<(String, Vec<Action>)> = self.jobs.entries.iter_mut().map(gone).collect();
        for (disk, actions) in all {
            self.act(&disk, actions);
        }
    }

    /// Writes how the job ended into the record of its disk.
    fn record_end(&mut self, disk: &str, end: &End) {
        let kind = self.jobs.entries.get(disk).map_or(0, |e| e.kind);
        let Some(slot) = self.slots().and_then(|slots| slots.blk(disk)) else { return };
        let ended = slot.job.ended.value().unwrap_or(0);
        slot.job.ended = Word::from(ended.saturating_add(1));
        slot.job.kind = Word::new(kind.into());
        slot.job.state = end.outcome.state();
        slot.sink.write(&slot.job, now(Clock::Boottime));
    }
}
