//! State machine of a block job and its cancellation. Pure: its inputs are what came, in order; its
//! outputs are what to do.
//!
//! How QEMU ends a job that is canceled differs: a mirror answers first and emits
//! BLOCK_JOB_CANCELLED when it has really ended, a backup emits it before it answers, a READY mirror
//! ends in BLOCK_JOB_COMPLETED, and QEMU before 1.1 stopped the job before it answered and emitted
//! nothing. A [`Job`] takes reply, event and status in whatever order and gives exactly one end.

use domstat_layout::Word;

use crate::contract::JobOutcome;

/// What to do. The number of an answer is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send block-job-cancel.
    SendCancel {
        /// Whether to cancel a paused job, or a ready one without completing it.
        force: bool,
    },
    /// Ask for the job's status.
    AskStatus,
    /// Answer a request.
    Answer(u64, Result<Answer, AbortError>),
    /// The job has ended: once for each job, however that is reported.
    Record(End),
    /// Tell every subscriber that the job has ended.
    Emit(End),
}

/// A request was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The job has ended.
    Ended(End),
    /// The cancellation is under way; one event follows.
    Accepted,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// In which way.
    pub outcome: Outcome,
    /// Whether QEMU's event was missed and the end concluded from the job's absence.
    pub reconciled: bool,
}

/// In which way a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was canceled.
    Canceled,
    /// It did what it was for; a READY mirror that is canceled ends so, too.
    Completed,
    /// It failed, with QEMU's reason.
    Failed(String),
    /// It ended while nobody was connected.
    Unknown,
    /// The VM ended before it.
    DomainGone,
}

impl Outcome {
    /// The number of [`domstat_layout::latest::BlkJob::state`]; not produced if nobody knows.
    pub(crate) const fn state(&self) -> Word {
        match self {
            Self::Completed => Word::new(5),
            Self::Failed(_) | Self::DomainGone => Word::new(6),
            Self::Canceled => Word::new(7),
            Self::Unknown => Word::NOT_PRODUCED,
        }
    }

    /// Its name in events and answers, and why it failed.
    pub(crate) fn names(&self) -> (JobOutcome, Option<String>) {
        match self {
            Self::Canceled => (JobOutcome::Canceled, None),
            Self::Completed => (JobOutcome::Completed, None),
            Self::Failed(why) => (JobOutcome::Failed, Some(why.clone())),
            Self::Unknown => (JobOutcome::Unknown, None),
            Self::DomainGone => (JobOutcome::DomainGone, None),
        }
    }
}

/// Why a job was not canceled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortError {
    /// There is no job.
    #[error("there is no block job on it")]
    NoJob,
    /// QEMU refused.
    #[error("QEMU refused: {0}")]
    Refused(String),
    /// The caller's time is up; the job still ends, and an event reports it.
    #[error(
        "the job has not ended in time; it is still being canceled, and an event will report its end"
    )]
    TimedOut,
    /// The caller's time is up, and QEMU has not even answered.
    #[error(
        "QEMU has not answered in time; if it still cancels the job, an event will report its end"
    )]
    Unanswered,
    /// The VM ended.
    #[error("the domain has ended meanwhile, or is no longer observed")]
    DomainGone,
}

/// What is known of a job at a point of the message stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is there; whether it is ready to be completed.
    Alive {
        /// A mirror that is in sync.
        ready: bool,
    },
    /// It has ended and waits to be dismissed; QEMU's error.
    Concluded(Option<String>),
    /// There is no such job.
    Absent,
}

/// One job of one VM, by its id.
#[derive(Debug, Default)]
pub struct Job {
    alive: bool,
    ready: bool,
    cancel: Option<Cancel>,
    /// It ended by its event; a status may still list it.
    lingers: bool,
    /// It ended without its event, which may still come.
    event_owed: bool,
}

#[derive(Debug)]
struct Cancel {
    force: bool,
    was_ready: bool,
    replied: bool,
    /// An end that came before the reply.
    end: Option<End>,
    waiting: Vec<u64>,
    /// Callers of asynchronous requests that are to be answered with the reply.
    accepting: Vec<u64>,
    /// Somebody was promised an event.
    promised: bool,
}

impl Job {
    /// Whether there is a job, as far as is known.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        self.alive
    }

    /// Whether it is being canceled.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        self.cancel.is_some()
    }

    /// Whether it may be forgotten.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        !self.alive && self.cancel.is_none() && !self.event_owed && !self.lingers
    }

    /// Somebody wants it canceled. A second request joins the first.
    pub fn abort(&mut self, request: u64, is_async: bool, force: bool) -> Vec<Action> {
        let first = self.cancel.is_none();
        let was_ready = self.ready;
        let cancel = self.cancel.get_or_insert_with(|| Cancel {
            force,
            was_ready,
            replied: false,
            end: None,
            waiting: Vec::new(),
            accepting: Vec::new(),
            promised: false,
        });
        let mut actions = Vec::new();
        match (is_async, cancel.replied) {
            (true, false) => cancel.accepting.push(request),
            (true, true) => {
                cancel.promised = true;
                actions.push(Action::Answer(request, Ok(Answer::Accepted)));
            }
            (false, _) => cancel.waiting.push(request),
        }
        if first {
            actions.push(Action::SendCancel { force });
        }
        actions
    }

    /// QEMU answered block-job-cancel: done, or why not; `gone` if there is no such job.
    pub fn replied(&mut self, result: Result<(), String>, gone: bool) -> Vec<Action> {
        let Some(cancel) = &mut self.cancel else { return Vec::new() };
        if cancel.replied {
            return Vec::new();
        }
        cancel.replied = true;
        let mut actions = Vec::new();
        // An end that came first is the answer, whatever the reply says.
        if let Some(end) = cancel.end.take() {
            Self::accept(cancel, &mut actions);
            self.finish(end, &mut actions);
            return actions;
        }
        match result {
            Ok(()) => {
                Self::accept(cancel, &mut actions);
                actions.push(Action::AskStatus);
            }
            Err(why) => {
                let error = if gone { AbortError::NoJob } else { AbortError::Refused(why) };
                let requests = cancel.waiting.drain(..).chain(cancel.accepting.drain(..));
                actions.extend(requests.map(|r| Action::Answer(r, Err(error.clone()))));
                self.cancel = None;
                if gone && self.alive {
                    self.alive = false;
                    self.event_owed = true;
                    let end = End { outcome: Outcome::Unknown, reconciled: true };
                    actions.extend([Action::Record(end.clone()), Action::Emit(end)]);
                }
            }
        }
        actions
    }

    fn accept(cancel: &mut Cancel, actions: &mut Vec<Action>) {
        for request in cancel.accepting.drain(..) {
            cancel.promised = true;
            actions.push(Action::Answer(request, Ok(Answer::Accepted)));
        }
    }

    /// QEMU says that the job has ended.
    pub fn ended(&mut self, outcome: Outcome) -> Vec<Action> {
        if std::mem::take(&mut self.event_owed) {
            return Vec::new();
        }
        let mut actions = Vec::new();
        let end = End { outcome, reconciled: false };
        self.alive = false;
        self.lingers = true;
        match &mut self.cancel {
            // The request is answered before anything is reported.
            Some(cancel) if !cancel.replied => cancel.end = Some(end),
            _ => self.finish(end, &mut actions),
        }
        actions
    }

    /// QEMU says that a job of this id begins.
    pub fn began(&mut self) {
        self.alive = true;
        self.ready = false;
        self.lingers = false;
        self.event_owed = false;
    }

    /// QEMU says where the job stands.
    pub fn status(&mut self, status: Status) -> Vec<Action> {
        let mut actions = Vec::new();
        match status {
            Status::Alive { ready } => {
                if !self.lingers {
                    self.alive = true;
                    self.ready = ready;
                    self.event_owed = false;
                }
            }
            Status::Concluded(error) => {
                if !self.lingers && (self.alive || self.cancel.is_some()) {
                    self.lingers = self.absent(Some(error), &mut actions);
                }
            }
            Status::Absent => {
                if !std::mem::take(&mut self.lingers) {
                    let _ = self.absent(None, &mut actions);
                }
            }
        }
        actions
    }

    /// The job is not there, and no event has reported its end. False if the reply decides that.
    fn absent(&mut self, concluded: Option<Option<String>>, actions: &mut Vec<Action>) -> bool {
        let was_alive = std::mem::take(&mut self.alive);
        let outcome = match (concluded, &self.cancel) {
            // Before the reply an absence proves nothing; the reply will.
            (_, Some(cancel)) if !cancel.replied || cancel.end.is_some() => {
                self.alive = was_alive;
                return false;
            }
            (Some(Some(error)), _) if error.contains("canceled") => Outcome::Canceled,
            (Some(Some(error)), _) => Outcome::Failed(error),
            (Some(None), _) => Outcome::Completed,
            (None, Some(cancel)) if cancel.was_ready && !cancel.force => Outcome::Completed,
            (None, Some(_)) => Outcome::Canceled,
            (None, None) if was_alive => Outcome::Unknown,
            (None, None) => return false,
        };
        self.event_owed = true;
        self.finish(End { outcome, reconciled: true }, actions);
        true
    }

    /// Reports an end: callers that wait are answered, and an event is emitted unless all callers
    /// got the end as their answer.
    fn finish(&mut self, end: End, actions: &mut Vec<Action>) {
        actions.push(Action::Record(end.clone()));
        let emit = match self.cancel.take() {
            None => true,
            Some(cancel) => {
                let waited = cancel.waiting.iter();
                actions.extend(waited.map(|r| Action::Answer(*r, Ok(Answer::Ended(end.clone())))));
                cancel.promised || cancel.waiting.is_empty()
            }
        };
        if emit {
            actions.push(Action::Emit(end));
        }
    }

    /// The time of a caller is up: an event reports what it did not wait for.
    pub fn timed_out(&mut self, request: u64) -> Vec<Action> {
        let Some(cancel) = &mut self.cancel else { return Vec::new() };
        let before = cancel.waiting.len() + cancel.accepting.len();
        cancel.waiting.retain(|r| *r != request);
        cancel.accepting.retain(|r| *r != request);
        if cancel.waiting.len() + cancel.accepting.len() == before {
            return Vec::new();
        }
        cancel.promised = true;
        let replied = cancel.replied;
        let error = if replied { AbortError::TimedOut } else { AbortError::Unanswered };
        vec![Action::Answer(request, Err(error))]
    }

    /// There is a new connection: a cancellation without a reply is sent again, and everything
    /// else is decided by the status.
    pub fn reconnected(&mut self, status: Status) -> Vec<Action> {
        let resend = match &mut self.cancel {
            Some(cancel) if !cancel.replied => {
                if cancel.end.is_none() && matches!(status, Status::Alive { .. }) {
                    Some(cancel.force)
                } else {
                    // It arrived, or the job ended by itself: either way there is nothing to cancel.
                    return self.replied_by(status);
                }
            }
            _ => None,
        };
        // No event of before can come on this connection.
        self.event_owed = false;
        self.lingers = false;
        let mut actions = self.status(status);
        self.event_owed = false;
        actions.extend(resend.map(|force| Action::SendCancel { force }));
        actions
    }

    /// The job's absence stands for the reply that was lost.
    fn replied_by(&mut self, status: Status) -> Vec<Action> {
        let mut actions = self.replied(Ok(()), false);
        actions.retain(|a| *a != Action::AskStatus);
        self.lingers = false;
        actions.extend(self.status(status));
        self.event_owed = false;
        actions
    }

    /// The VM has ended, and with it the job.
    pub fn domain_gone(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let was_alive = std::mem::take(&mut self.alive);
        let gone = End { outcome: Outcome::DomainGone, reconciled: false };
        if let Some(mut cancel) = self.cancel.take() {
            let end = cancel.end.take();
            Self::accept(&mut cancel, &mut actions);
            for request in cancel.waiting {
                let answer = end.clone().map(Answer::Ended).ok_or(AbortError::DomainGone);
                actions.push(Action::Answer(request, answer));
            }
            if cancel.promised {
                actions.push(Action::Emit(end.unwrap_or(gone)));
            }
        } else if was_alive {
            actions.push(Action::Emit(gone));
        }
        *self = Self::default();
        actions
    }
}

#[cfg(test)]
mod tests;
