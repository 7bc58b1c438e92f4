//! Session loop of one domain's observer: takes what libvirt says through its worker, reads /proc,
//! answers commands, and waits for nothing longer than its limit.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sys::VirEvent;
use super::vm::{Identity, Report, Vm};
use super::worker::{Ask, Found, Look, LookFor, Message, Target, Told, find_disk};
use super::{Options, process_of};
use crate::SourceError;
use crate::contract::{
    Command, ControlError, ErrorCode, Event, JobAborted, JobFlags, JobStatus, ObserverStatus,
    Publisher, Reply, ThresholdSet, check_flags,
};
use crate::qemu::publishable;
use crate::qemu::schedule::jittered;

/// How long to sleep at most: a safety net, since everything that matters wakes.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// How often the end of a job is looked for that is being canceled.
const ENDING_INTERVAL: Duration = Duration::from_millis(250);
/// Memory, vCPUs and the jobs of all disks are asked for in every look of this many.
const REST: u32 = 5;
/// Most commands that wait for their turn; more are refused.
const MAX_QUEUE: usize = 256;
/// The pause before a region is made again that could not be.
const RETRY: Duration = Duration::from_secs(1);

/// How libvirt is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It is not connected.
    Down,
    /// It answers.
    Up,
    /// It is connected and owes an answer.
    Stuck,
}

/// What the worker was asked for and has not done.
struct Current {
    deadline: Instant,
    doing: Doing,
}

enum Doing {
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

struct Cancel {
    disk: String,
    flags: u32,
    timeout: Option<Duration>,
    reply: Reply<JobAborted>,
}

/// What the thread of a domain is given by its owner.
pub(super) struct Channels {
    pub(super) inbox: Receiver<Message>,
    pub(super) asks: Sender<Ask>,
    pub(super) status: Arc<Mutex<ObserverStatus>>,
}

pub(super) struct Observer<P: Publisher> {
    target: Target,
    options: Options,
    publisher: P,
    channels: Channels,
    vm: Option<Vm<P>>,
    address: PathBuf,
    link: Link,
    current: Option<Current>,
    queue: VecDeque<Command>,
    /// Requests whose answers were lost with the connection.
    lost: Vec<(ThresholdSet, Reply<ThresholdSet>)>,
    next_look: Instant,
    looks: u32,
    next_threads: Instant,
    /// When a domain that could not be published is to be found again.
    find_at: Option<Instant>,
    /// The last note to the operator, so that it is written once.
    noted: String,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

impl<P: Publisher> Observer<P> {
    pub(super) fn new(
        address: PathBuf,
        target: Target,
        options: Options,
        publisher: P,
        channels: Channels,
    ) -> Self {
        let now = Instant::now();
        Self {
            address,
            target,
            options,
            publisher,
            channels,
            vm: None,
            link: Link::Down,
            current: None,
            queue: VecDeque::new(),
            lost: Vec::new(),
            next_look: now,
            looks: 0,
            next_threads: now,
            find_at: None,
            noted: String::new(),
        }
    }

    /// Observes until it is asked to stop.
    pub(super) fn run(mut self) {
        loop {
            let wait = self.wake_at().saturating_duration_since(Instant::now()).min(MAX_SLEEP);
            let next = match self.channels.inbox.recv_timeout(wait) {
                Ok(message) => self.message(message),
                Err(RecvTimeoutError::Timeout) => Next::Continue,
                Err(RecvTimeoutError::Disconnected) => Next::Stop,
            };
            if next == Next::Stop {
                break;
            }
            self.step();
        }
        self.end_vm(End::Daemon);
        self.refuse_all(&ControlError::gone());
    }

    /// When something is due.
    fn wake_at(&self) -> Instant {
        let mut wakes = vec![Instant::now() + MAX_SLEEP];
        if let Some(vm) = &self.vm {
            wakes.push(self.next_threads);
            let own = [vm.levels.next_due(), vm.held_until(), vm.jobs.deadline()];
            wakes.extend(own.into_iter().flatten());
            if self.link == Link::Up && self.current.is_none() {
                wakes.push(if self.has_asks(vm) { Instant::now() } else { self.next_look });
            }
        }
        if let (Some(current), Link::Up) = (&self.current, self.link) {
            wakes.push(current.deadline);
        }
        wakes.extend(self.find_at);
        wakes.into_iter().min().unwrap_or_else(Instant::now)
    }

    fn has_asks(&self, vm: &Vm<P>) -> bool {
        !self.queue.is_empty() || !vm.jobs.cancels.is_empty()
    }

    fn message(&mut self, message: Message) -> Next {
        match message {
            Message::Stop | Message::Command(Command::Stop) => return Next::Stop,
            Message::Command(command) => self.command(command),
            Message::Event(event) => self.event(event),
            Message::Worker(told) => self.told(told),
        }
        Next::Continue
    }

    fn event(&mut self, event: VirEvent) {
        if let VirEvent::Lifecycle { event: virt_sys::VIR_DOMAIN_EVENT_STARTED, .. } = event {
            // It was started again under its UUID.
            let _ = self.channels.asks.send(Ask::Find);
            return;
        }
        let Some(vm) = &mut self.vm else { return };
        match event {
            VirEvent::Threshold { image, threshold, excess } => {
                vm.threshold(&image, threshold, excess);
            }
            VirEvent::Job { disk, kind, status } => {
                vm.job_event(&disk, kind, status);
                self.look_soon();
            }
            VirEvent::IoError { alias, no_space } => {
                vm.io_error(&alias, no_space);
                self.look_soon();
            }
            // libvirt has ended it.
            VirEvent::Lifecycle { event, .. } if event == virt_sys::VIR_DOMAIN_EVENT_STOPPED => {
                self.end_vm(End::Domain);
            }
            VirEvent::Lifecycle { .. } | VirEvent::Changed => self.look_soon(),
        }
    }

    /// Has everything looked at next.
    fn look_soon(&mut self) {
        (self.next_look, self.looks) = (Instant::now(), 0);
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Connected(found) => self.connected(*found),
            Told::NoDomain => self.end_vm(End::Domain),
            Told::Down(why) => self.down(&why),
            Told::NoLook(why) => self.note(&why),
            Told::Look(look) => self.look(&look),
            Told::Sending { image, threshold } => {
                let Some(vm) = &mut self.vm else { return };
                vm.sending(&image, threshold);
                vm.remember(&mut self.publisher);
            }
            Told::Sent { image, accepted } => {
                let Some(vm) = &mut self.vm else { return };
                vm.levels.answered(&image, accepted);
                vm.remember(&mut self.publisher);
            }
            Told::Armed(result) => {
                if let Some(vm) = &mut self.vm {
                    vm.armed(result.as_ref().ok());
                }
                if let Some(reply) = self.take_arm() {
                    let _ = reply.send(result);
                }
            }
            Told::ArmLost(set) => {
                if let Some(reply) = self.take_arm() {
                    self.lost.push((set, reply));
                }
            }
            Told::Aborted { disk, result } => {
                if let Some(vm) = &mut self.vm {
                    vm.aborted(&disk, result);
                }
                self.look_soon();
            }
            Told::Done => self.done(),
        }
    }

    /// The caller of the request that is under way.
    fn take_arm(&mut self) -> Option<Reply<ThresholdSet>> {
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
    fn done(&mut self) {
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
    fn give_up(&mut self, unsent: &ControlError, sent: &ControlError) {
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

    fn connected(&mut self, found: Found) {
        let was_up = self.link != Link::Down;
        self.noted.clear();
        self.current = None;
        let process = process_of(&self.options, &found.name, &self.target.uuid);
        let identity = Identity::new(&found, process.as_ref());
        if self.vm.as_ref().is_some_and(|vm| vm.identity() != identity) {
            self.end_vm(End::Domain);
        }
        self.set_link(Link::Up);
        match &mut self.vm {
            Some(vm) => {
                vm.jobs_reconnected(&found.look);
                self.look(&found.look);
                self.answer_lost();
                if !was_up {
                    self.report(Event::Connected);
                }
            }
            None => self.create(&found),
        }
    }

    /// Makes a region for the domain that was found, and has everything asked for.
    fn create(&mut self, found: &Found) {
        let process = process_of(&self.options, &found.name, &self.target.uuid);
        if process.is_none() && self.options.pid_dir.is_some() {
            self.note(
                "its process is not seen through libvirt's pid file: no runstates, and CPU time, \
                 memory and interfaces as libvirt has them",
            );
        }
        let name = publishable(&found.name);
        let mut vm = Vm::new(name, self.target.uuid, found, process, self.address.clone());
        match vm.create(&mut self.publisher, &found.look) {
            Ok(()) => {
                vm.recall(&mut self.publisher);
                self.vm = Some(vm);
                self.look_soon();
            }
            Err(error) => self.not_published(&error),
        }
    }

    /// Nobody sees the domain: it is found again in a while.
    fn not_published(&mut self, error: &SourceError) {
        self.note(&error.with_causes());
        self.end_vm(End::Daemon);
        self.find_at = Some(Instant::now() + RETRY);
    }

    /// Takes what libvirt says; a region with too few slots is replaced.
    fn look(&mut self, look: &Look) {
        let Some(vm) = &mut self.vm else { return };
        if vm.is_outgrown && vm.is_published() {
            match vm.create(&mut self.publisher, look) {
                Ok(()) => self.look_soon(),
                Err(error) => self.not_published(&error),
            }
            return;
        }
        vm.take(look);
        if vm.is_published() && vm.is_outgrown {
            return self.look_soon();
        }
        if !vm.is_published() {
            if !look.is_whole {
                return self.look_soon();
            }
            if let Err(error) = vm.publish(&mut self.publisher) {
                return self.not_published(&error);
            }
            self.set_link(self.link);
        }
        self.after_look();
    }

    fn after_look(&mut self) {
        let Some(vm) = &mut self.vm else { return };
        let interval = match vm.jobs.is_canceling() {
            true => ENDING_INTERVAL.min(self.options.interval),
            false => self.options.interval,
        };
        self.next_look = Instant::now() + jittered(interval);
        vm.remember(&mut self.publisher);
    }

    fn down(&mut self, why: &str) {
        self.note(why);
        let was_up = self.link == Link::Up;
        self.set_link(Link::Down);
        // A request that was not even sent is refused; one that was is decided by the level.
        self.give_up(&not_connected(), &not_connected());
        self.current = None;
        if let Some(vm) = &mut self.vm {
            vm.levels.cut();
            vm.fall_silent();
            if was_up {
                self.report(Event::Disconnected);
            }
        }
        self.refuse_all(&not_connected());
    }

    /// Answers requests whose answers were lost: libvirt's next answer shows what is armed.
    fn answer_lost(&mut self) {
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

    fn command(&mut self, command: Command) {
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

    /// What is due, after every message.
    fn step(&mut self) {
        let now = Instant::now();
        if self.find_at.take_if(|at| *at <= now).is_some() {
            let _ = self.channels.asks.send(Ask::Find);
        }
        if self.vm.as_ref().is_some_and(Vm::has_exited) && self.next_threads <= now {
            self.end_vm(End::Domain);
        }
        if let Some(vm) = &mut self.vm {
            if self.next_threads <= now {
                let _ = vm.threads();
                self.next_threads = Instant::now() + jittered(self.options.interval);
            }
            vm.reconcile();
            vm.time_out();
        }
        self.check_deadline(now);
        self.ask_next(now);
        self.deliver();
    }

    /// A worker that takes too long is not waited for.
    fn check_deadline(&mut self, now: Instant) {
        let is_over = self.current.as_ref().is_some_and(|current| current.deadline <= now);
        if !is_over || self.link != Link::Up {
            return;
        }
        self.set_link(Link::Stuck);
        self.note(&format!("libvirt does not answer for it within {:?}", self.options.limit));
        let why = "libvirt does not answer for the domain: whether the threshold is armed shows when \
                   it does";
        let unknown = ControlError::new(ErrorCode::UnknownOutcome, why);
        self.give_up(&ControlError::stuck(), &unknown);
        self.refuse_all(&ControlError::stuck());
        if let Some(vm) = &mut self.vm {
            vm.fall_silent();
        }
        self.report(Event::Disconnected);
    }

    /// Gives the worker something to do, if it has nothing.
    fn ask_next(&mut self, now: Instant) {
        if self.current.is_some() || self.link != Link::Up {
            return;
        }
        let Some(vm) = &mut self.vm else { return };
        if let Some(disk) = vm.jobs.cancels.pop() {
            return self.ask(Ask::Abort(disk), Doing::Abort);
        }
        if let Some(command) = self.queue.pop_front() {
            return self.begin(command);
        }
        if self.next_look > now {
            return;
        }
        let rest = self.looks == 0;
        self.looks = (self.looks + 1) % REST;
        let want = match rest {
            true => LookFor::all(),
            false => LookFor { nets: vm.needs_nets(), jobs: vm.jobs.disks(), ..LookFor::default() },
        };
        self.ask(Ask::Look(want), Doing::Look);
    }

    fn ask(&mut self, ask: Ask, doing: Doing) {
        // A look that fails is not asked for again at once.
        self.next_look = Instant::now() + jittered(self.options.interval);
        if self.channels.asks.send(ask).is_ok() {
            self.current = Some(Current { deadline: Instant::now() + self.options.limit, doing });
        }
    }

    /// Begins what a command wants.
    fn begin(&mut self, command: Command) {
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

    fn deliver(&mut self) {
        let Some(vm) = &mut self.vm else { return };
        if vm.reports.is_empty() || !vm.is_published() {
            return;
        }
        vm.deliver(&mut self.publisher);
        // Behind the events: what is lost between the two is reported again.
        vm.remember(&mut self.publisher);
    }

    fn report(&mut self, event: Event) {
        if let Some(vm) = &mut self.vm {
            vm.reports.push(Report::Event(event));
        }
    }

    fn end_vm(&mut self, end: End) {
        self.find_at = None;
        if let Some(mut vm) = self.vm.take() {
            vm.reconcile();
            vm.jobs_gone();
            if vm.was_published() {
                vm.reports.push(Report::Event(Event::Gone));
                vm.deliver(&mut self.publisher);
            }
            match end {
                End::Domain => vm.forget(&mut self.publisher),
                End::Daemon => vm.remember(&mut self.publisher),
            }
            let name = vm.was_published().then(|| vm.name.clone());
            // Retired before the note.
            drop(vm);
            if let Some(name) = name {
                self.publisher.note(&format!("{name} is no longer published"));
            }
        }
        for (_, reply) in self.lost.drain(..) {
            let _ = reply.send(Err(ControlError::gone()));
        }
        self.give_up(&ControlError::gone(), &ControlError::gone());
        self.refuse_all(&ControlError::gone());
        self.set_link(self.link);
    }

    fn refuse_all(&mut self, error: &ControlError) {
        self.queue.drain(..).for_each(|command| command.refuse(error));
    }

    fn set_link(&mut self, link: Link) {
        self.link = link;
        let published = self.vm.as_ref().filter(|vm| vm.was_published());
        let domain = published.map(|vm| vm.name.clone());
        *self.channels.status.lock().unwrap_or_else(PoisonError::into_inner) =
            ObserverStatus { domain, connected: link == Link::Up };
    }

    fn note(&mut self, text: &str) {
        if self.noted != text {
            let name = self.vm.as_ref().map_or("a domain", |vm| &vm.name);
            let uuid = uuid::Uuid::from_bytes(self.target.uuid);
            self.publisher.note(&format!("{name} ({uuid}): {text}"));
            text.clone_into(&mut self.noted);
        }
    }
}

/// Why a domain is no longer published.
#[derive(Clone, Copy)]
enum End {
    /// It has ended.
    Domain,
    /// It is no longer observed.
    Daemon,
}

fn not_connected() -> ControlError {
    ControlError::new(ErrorCode::Disconnected, "libvirt is not connected now: try again")
}

fn read_only() -> ControlError {
    let why = "the daemon runs with --read-only, which changes nothing: no thresholds, no jobs";
    ControlError::new(ErrorCode::Refused, why)
}
