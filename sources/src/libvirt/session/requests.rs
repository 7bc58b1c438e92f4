//! Requests of clients: their queue, the one that is under way, and their answers.

use std::time::{Duration, Instant};

use super::{Link, Observer};
use crate::contract::{
    Command, ControlError, ErrorCode, Event, JobAborted, JobFlags, JobStatus, Publisher, Reply,
    ThresholdSet, check_flags,
};
use crate::libvirt::worker::{Ask, LookFor, find_disk};

/// Most commands that wait for their turn; more are refused.
const MAX_QUEUE: usize = 256;

/// What the worker was asked for and has not done.
pub(super) struct Current {
    pub(super) deadline: Instant,
    pub(super) doing: Doing,
}

pub(super) enum Doing {
    Look,
    /// A look before a cancellation.
    BeforeAbort(Cancel),
    Arm(Reply<ThresholdSet>),
    Abort,
    /// A look before jobs are listed: libvirt does not report that one begins.
    BeforeJobs(Reply<Vec<JobStatus>>),
    /// Its caller was answered that it takes too long.
    Answered,
}

pub(super) struct Cancel {
    disk: String,
    flags: u32,
    timeout: Option<Duration>,
    reply: Reply<JobAborted>,
}

impl<P: Publisher> Observer<P> {
    /// The caller of the request that is under way.
    pub(super) fn take_arm(&mut self) -> Option<Reply<ThresholdSet>> {
        let current = self.current.as_mut()?;
        match std::mem::replace(&mut current.doing, Doing::Answered) {
            Doing::Arm(reply) => Some(reply),
            doing => {
                current.doing = doing;
                None
            }
        }
    }

    /// The worker has done what it was asked for.
    pub(super) fn done(&mut self) {
        if self.link == Link::Stuck {
            self.set_link(Link::Up);
            self.report(Event::Connected);
            self.noted.clear();
            self.look_soon();
        }
        let Some(current) = self.current.take() else { return };
        match (current.doing, &mut self.vm) {
            (Doing::BeforeAbort(cancel), Some(vm)) => {
                vm.abort(&cancel.disk, cancel.flags, cancel.timeout, cancel.reply);
            }
            (Doing::BeforeJobs(reply), Some(vm)) => {
                let _ = reply.send(Ok(vm.jobs.list()));
            }
            _ => {}
        }
    }

    /// The request that is under way is not waited for any longer: its caller is answered.
    pub(super) fn give_up(&mut self, unsent: &ControlError, sent: &ControlError) {
        let Some(current) = &mut self.current else { return };
        match std::mem::replace(&mut current.doing, Doing::Answered) {
            Doing::Arm(reply) => {
                let _ = reply.send(Err(sent.clone()));
            }
            Doing::BeforeAbort(cancel) => {
                let _ = cancel.reply.send(Err(unsent.clone()));
            }
            Doing::BeforeJobs(reply) => {
                let list = self.vm.as_ref().map(|vm| vm.jobs.list());
                let _ = reply.send(list.ok_or_else(ControlError::gone));
            }
            Doing::Look | Doing::Abort | Doing::Answered => {}
        }
    }

    /// Answers requests whose answers were lost: libvirt's next answer shows what is armed.
    pub(super) fn answer_lost(&mut self) {
        let Some(vm) = &self.vm else { return };
        for (set, reply) in self.lost.drain(..) {
            let is_own = vm.images().iter().any(|i| i.name == set.disk && i.key() == set.node);
            let level = vm.levels.armed(&set.node).unwrap_or(0);
            let answer = match is_own && level == set.threshold_bytes {
                true => Ok(set),
                false => Err(ControlError::new(
                    ErrorCode::UnknownOutcome,
                    format!(
                        "the connection broke before libvirt answered, and {} has no such \
                         threshold now: either the request never arrived, or it did and fired; set \
                         it again",
                        set.disk
                    ),
                )),
            };
            let _ = reply.send(answer);
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        let Some(vm) = &self.vm else { return command.refuse(&ControlError::gone()) };
        match command {
            Command::Disks(reply) => {
                let _ = reply.send(Ok(vm.disks()));
            }
            Command::Jobs(reply) if self.link != Link::Up => {
                let _ = reply.send(Ok(vm.jobs.list()));
            }
            Command::Jobs(reply) if self.queue.len() < MAX_QUEUE => {
                self.queue.push_back(Command::Jobs(reply));
            }
            command if self.target.read_only && !matches!(command, Command::Jobs(_)) => {
                command.refuse(&read_only())
            }
            command => match self.link {
                Link::Down => command.refuse(&not_connected()),
                Link::Stuck => command.refuse(&ControlError::stuck()),
                Link::Up if self.queue.len() >= MAX_QUEUE => {
                    let why = "too many requests wait for the domain";
                    command.refuse(&ControlError::new(ErrorCode::Busy, why));
                }
                Link::Up => self.queue.push_back(command),
            },
        }
    }

    /// Begins what a command wants.
    pub(super) fn begin(&mut self, command: Command) {
        let Some(vm) = &self.vm else { return command.refuse(&ControlError::gone()) };
        match command {
            Command::SetThreshold(request, reply) => {
                self.ask(Ask::Arm(request), Doing::Arm(reply));
            }
            Command::AbortJob { disk, flags, timeout, reply } => {
                let disks = vm.disks();
                let found = check_flags(flags, JobFlags::ALL)
                    .and_then(|()| find_disk(&disks, vm.images(), &disk));
                match found {
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                    Ok(found) => {
                        let disk = found.name.clone();
                        // A job that began just now is to be known.
                        let want = LookFor { jobs: vec![disk.clone()], ..LookFor::default() };
                        let cancel = Cancel { disk, flags, timeout, reply };
                        self.ask(Ask::Look(want), Doing::BeforeAbort(cancel));
                    }
                }
            }
            Command::Jobs(reply) => {
                let want = LookFor { all_jobs: true, ..LookFor::default() };
                self.ask(Ask::Look(want), Doing::BeforeJobs(reply));
            }
            command => self.command(command),
        }
    }

    pub(super) fn refuse_all(&mut self, error: &ControlError) {
        self.queue.drain(..).for_each(|command| command.refuse(error));
    }
}

pub(super) fn not_connected() -> ControlError {
    ControlError::new(ErrorCode::Disconnected, "libvirt is not connected now: try again")
}

fn read_only() -> ControlError {
    let why = "the daemon runs with --read-only, which changes nothing: no thresholds, no jobs";
    ControlError::new(ErrorCode::Refused, why)
}
