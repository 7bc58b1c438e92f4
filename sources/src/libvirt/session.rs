//! Session loop of one domain's observer: takes what libvirt says through its worker, reads /proc,
//! answers commands, and waits for nothing longer than its limit.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::link::{End, Link};
use self::requests::{Current, Doing};
use super::Options;
use super::sys::VirEvent;
use super::vm::{Report, Vm};
use super::worker::{Ask, Look, LookFor, Message, Target, Told};
use crate::contract::{
    Command, ControlError, Event, ObserverStatus, Publisher, Reply, ThresholdSet,
};
use crate::qemu::schedule::jittered;

mod link;
mod requests;

/// How long to sleep at most: a safety net, since everything that matters wakes.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// How often the end of a job is looked for that is being canceled.
const ENDING_INTERVAL: Duration = Duration::from_millis(250);
/// Memory and jobs are asked for in every look of this many.
const REST: u32 = 5;
/// KVM's statistics are asked for in every look of this many.
const KVM: u32 = 30;
/// Limits of disks are asked for in every look of this many: libvirt sends an event when they change.
const LIMITS: u32 = 60;

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
    /// Whether libvirt says that the domain is being migrated.
    migrates: bool,
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
            migrates: false,
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
            VirEvent::Migrates => self.migrates = true,
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

    /// Takes what libvirt says; a region with too few slots is replaced.
    fn look(&mut self, look: &Look) {
        let Some(vm) = &mut self.vm else { return };
        if vm.is_outgrown && vm.is_published() {
            if !look.is_whole {
                return self.look_soon();
            }
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
        let [rest, kvm, limits] = [REST, KVM, LIMITS].map(|n| self.looks.is_multiple_of(n));
        self.looks = (self.looks + 1) % LIMITS;
        let migration = std::mem::take(&mut self.migrates) || vm.migration.is_under_way();
        let (nets, jobs) = (vm.needs_nets(), vm.jobs.disks());
        let want = match rest {
            true => LookFor { kvm, limits, ..LookFor::all(!vm.has_process()) },
            false => LookFor { migration, nets, jobs, ..LookFor::default() },
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

    fn note(&mut self, text: &str) {
        if self.noted != text {
            let name = self.vm.as_ref().map_or("a domain", |vm| &vm.name);
            let uuid = uuid::Uuid::from_bytes(self.target.uuid);
            self.publisher.note(&format!("{name} ({uuid}): {text}"));
            text.clone_into(&mut self.noted);
        }
    }
}
