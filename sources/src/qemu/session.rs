//! Session loop of one VM's thread: connects to QEMU, observes it, and connects again.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domstat_layout::Name;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::procfs::QemuProcess;
use super::qmp::{Connection, Peer, QmpError, StopFlag, Version};
use super::queries;
use super::schedule::{Polls, Retry};
use super::slots::Slots;
use super::unix_sockets::bound;
use super::vm_state::{Drained, Identity, Link, VmState};
use super::{Names, Options};
use crate::SourceError;
use crate::contract::{Command, ControlError, Event, ObserverStatus, Publisher, Sinks};

/// How long to sleep at most: a safety net, since everything that matters wakes.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Least time between two rounds, and that after a round that left messages: a QEMU that sends
/// without pause takes a small part of one CPU.
const PACE: Duration = Duration::from_millis(1);
const FLOODED_PACE: Duration = Duration::from_millis(20);
/// A session that lasts this long, or that was cut, was of use: the next attempt to connect comes
/// soon.
const USEFUL_SESSION: Duration = Duration::from_secs(10);
/// How long QEMU may take to answer each of the last questions of a daemon that ends.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often it is looked whether a QEMU that hangs has taken the connection that waits for it.
const HUNG_INTERVAL: Duration = Duration::from_millis(250);
/// Longest note to the operator, in characters.
const MAX_NOTE: usize = 1000;
/// How often the rest of a closed connection is taken, each time as much as is taken at a time.
const LAST_DRAINS: u32 = 16;

/// What the thread of a VM is given by its owner.
pub(super) struct Channels {
    pub(super) inbox: Receiver<Command>,
    /// Readable when a command was sent.
    pub(super) wake: Arc<OwnedFd>,
    pub(super) stop: StopFlag,
    pub(super) status: Arc<Mutex<ObserverStatus>>,
}

struct Observer<P: Publisher> {
    path: PathBuf,
    options: Options,
    publisher: P,
    channels: Channels,
    domain: Option<VmState<P>>,
    peer: PeerKind,
    contact: Contact,
    /// When the last connection ended.
    down_since: Option<Instant>,
    /// The last note to the operator, so that it is written once.
    noted: String,
    noted_once: BTreeSet<&'static str>,
}

/// How QEMU is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contact {
    /// It answers.
    Answers,
    /// It is connected and owes an answer.
    Stuck,
    /// It is not connected.
    Down,
}

/// What listens at the socket, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerKind {
    /// It has never greeted.
    Unknown,
    /// It has greeted as QEMU does.
    Qemu,
}

/// Why a domain is no longer published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is not observed any more, or not as this region, and may live on.
    Stopped,
    VmEnded,
}

/// Why a session ended.
enum Left {
    /// The thread is to end.
    Stop,
    Qmp(QmpError),
    Publish(SourceError),
}

impl From<QmpError> for Left {
    fn from(error: QmpError) -> Self {
        match error {
            QmpError::Stopped => Self::Stop,
            error => Self::Qmp(error),
        }
    }
}

impl From<SourceError> for Left {
    fn from(error: SourceError) -> Self {
        Self::Publish(error)
    }
}

/// Observes until it is asked to stop.
pub(super) fn run<P: Publisher>(path: PathBuf, options: Options, publisher: P, channels: Channels) {
    let noted = String::new();
    let peer = PeerKind::Unknown;
    let noted_once = BTreeSet::new();
    let mut observer = Observer {
        path,
        options,
        publisher,
        channels,
        domain: None,
        peer,
        contact: Contact::Down,
        down_since: None,
        noted,
        noted_once,
    };
    let mut retry = Retry::default();
    loop {
        let left = match observer.connect() {
            Ok(mut qmp) => {
                observer.peer = PeerKind::Qemu;
                let began = Instant::now();
                let left = observer.session(&mut qmp);
                if let (Left::Stop, Some(domain)) = (&left, &mut observer.domain) {
                    give_back(domain, &mut qmp);
                }
                observer.left_session(&mut qmp);
                let is_cut = matches!(left, Left::Qmp(QmpError::Closed | QmpError::Os { .. }));
                if is_cut || began.elapsed() >= USEFUL_SESSION {
                    retry.reset();
                }
                left
            }
            Err(left) => {
                if let Left::Qmp(error) = &left {
                    observer.not_connected(error);
                }
                left
            }
        };
        match &left {
            Left::Stop => break,
            Left::Qmp(error) => observer.note(&error.to_string()),
            Left::Publish(error) => observer.note(&error.with_causes()),
        }
        if observer.pause(observer.time_to_retry(&left, &mut retry)) {
            break;
        }
    }
    observer.end_domain(Ending::Stopped);
}

/// Text that may come from QEMU, for the operator: without control characters and not too long.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(MAX_NOTE).collect()
}

impl<P: Publisher> Observer<P> {
    fn connect(&mut self) -> Result<Connection, Left> {
        if is_libvirts_monitor(&self.path) {
            return Err(QmpError::NotQmp(
                "it is libvirt's own monitor, which serves one client: give the VM a second QMP \
                 socket"
                    .to_owned(),
            )
            .into());
        }
        let (limit, stop) = (self.options.limit, Some(self.channels.stop.clone()));
        let mut qmp = match Connection::dial(&self.path, limit, stop) {
            Err(error) if error.is_full() => {
                // It takes none of those that wait already.
                if let Some(process) = self.hung_process(None).filter(|_| self.domain.is_none()) {
                    self.begin_hung(process)?;
                }
                return Err(error.into());
            }
            other => other?,
        };
        let began = Instant::now();
        loop {
            let silence = match qmp.negotiate() {
                Err(error @ QmpError::Silent { .. }) => error,
                other => return Ok(other.map(|()| qmp)?),
            };
            // The connection waits where it is: another one would wait behind it.
            while !qmp.is_readable() {
                match &self.domain {
                    Some(domain) if domain.has_answered() => return Err(silence.into()),
                    Some(_) => {}
                    None => match self.hung_process(qmp.peer()) {
                        None => return Err(silence.into()),
                        Some(_) if began.elapsed() < limit => {}
                        Some(process) => self.begin_hung(process)?,
                    },
                }
                if self.pause(HUNG_INTERVAL) {
                    return Err(Left::Stop);
                }
            }
        }
    }

    /// The QEMU that listens but takes no connection, though it has no other client: it hangs or was
    /// stopped. One that has another client answers that one; what has taken the connection and says
    /// nothing speaks something else.
    fn hung_process(&self, peer: Option<Peer>) -> Option<QemuProcess> {
        let process = QemuProcess::listening(&self.path, peer)?;
        let waits = || bound(&self.path).is_ok_and(|bound| bound.listens && !bound.serves);
        let is_vm = || process.is_qemu() || !process.named_threads().vcpus.is_empty();
        ((process.is_stopped() || waits()) && is_vm()).then_some(process)
    }

    /// Publishes what /proc says of a QEMU that does not answer.
    fn begin_hung(&mut self, process: QemuProcess) -> Result<(), Left> {
        let (name, uuid) = process.arguments();
        let name = self.name(name);
        let identity = Identity { name, uuid, process: Some((process.pid, process.start_ticks)) };
        let polls = Polls::new(&self.options, Version::default());
        let mut domain = VmState::unanswered(identity, &self.path, process, polls, &self.options);
        domain.recall(self.publisher.recall(&self.path));
        let description = domain.retire();
        let Sinks { dom, vcpus, blks, nets, unpublished } = self.publisher.create(&description)?;
        domain.write_to(Slots::new(dom, vcpus, blks, nets));
        domain.run_without_qemu();
        domain.published(self.publisher.publish(domain.name(), unpublished)?);
        domain.report_published();
        domain.report(Event::Disconnected);
        domain.deliver(&mut self.publisher);
        self.domain = Some(domain);
        self.set_status(false);
        self.note("QEMU does not answer: what /proc says of it is published");
        Ok(())
    }

    /// A VM that was published without an answer has answered: its region is replaced by a whole one.
    fn complete_hung(&mut self, qmp: &mut Connection) -> Result<(), Left> {
        let Some(mut domain) = self.domain.take() else { return Ok(()) };
        domain.schedule(Polls::new(&self.options, qmp.version()));
        let result = self.publish_domain(qmp, &mut domain);
        if result.is_err() {
            give_back(&mut domain, qmp);
        } else {
            domain.answer();
            domain.report(Event::Connected);
        }
        let is_published = domain.is_published();
        self.domain = Some(domain);
        if !is_published {
            self.end_domain(Ending::Stopped);
        }
        result
    }

    /// The pause before the next attempt to connect: minutes where nothing has ever spoken QMP,
    /// since a serial console or a guest agent has other clients to serve.
    fn time_to_retry(&self, left: &Left, retry: &mut Retry) -> Duration {
        match (self.peer, left) {
            (PeerKind::Unknown, Left::Qmp(QmpError::Silent { .. } | QmpError::NotQmp(_))) => {
                retry.long_pause()
            }
            _ => retry.pause(),
        }
    }

    /// One connection, from its beginning to its end.
    fn session(&mut self, qmp: &mut Connection) -> Left {
        if let Err(left) = self.begin(qmp) {
            return left;
        }
        loop {
            if self.channels.stop.is_raised() {
                return Left::Stop;
            }
            if let Err(left) = self.step(qmp) {
                return left;
            }
        }
    }

    /// Learns whom it speaks to: a domain that is known goes on, another one is new.
    fn begin(&mut self, qmp: &mut Connection) -> Result<(), Left> {
        let cpus = match queries::cpus(qmp) {
            Err(QmpError::Refused { source, .. }) if source.class == "CommandNotFound" => {
                return Err(QmpError::TooOld.into());
            }
            other => other?,
        };
        let tid = cpus.items.iter().find_map(|c| c.tid);
        let of_thread = |tid| QemuProcess::of_thread(tid, qmp.peer(), &self.path, qmp.connected());
        let process = tid.and_then(of_thread);
        let identity = Identity {
            name: self.name(queries::name(qmp)?),
            uuid: queries::uuid(qmp)?,
            process: process.as_ref().map(|p| (p.pid, p.start_ticks)),
        };
        if let Some(domain) = &mut self.domain {
            domain.meet(&identity);
            if !domain.is(&identity) {
                let ending = match domain.has_answered() {
                    true => Ending::VmEnded,
                    false => Ending::Stopped,
                };
                self.end_domain(ending);
            }
        }
        match &mut self.domain {
            Some(domain) if !domain.has_answered() => self.complete_hung(qmp)?,
            Some(domain) => {
                domain.extents(qmp)?;
                domain.look_at_jobs(qmp, Link::New)?;
                domain.topology(qmp)?;
                domain.speak();
                domain.report(Event::Connected);
            }
            None => self.begin_domain(qmp, identity, process)?,
        }
        self.noted.clear();
        self.set_status(true);
        self.contact = Contact::Answers;
        Ok(())
    }

    /// The name of the domain; `own` is QEMU's.
    fn name(&mut self, own: Option<String>) -> String {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let of_socket = publishable(&stem.unwrap_or_default());
        let Some(own) = own.map(|own| publishable(&own)) else { return of_socket };
        match self.options.names {
            Names::OfQemu => own,
            Names::OfSocket => {
                if own != of_socket {
                    self.note_once(
                        "the domain is named after its socket, not as QEMU says",
                        &format!(" ({own})"),
                    );
                }
                of_socket
            }
        }
    }

    fn begin_domain(
        &mut self,
        qmp: &mut Connection,
        identity: Identity,
        process: Option<QemuProcess>,
    ) -> Result<(), Left> {
        let polls = Polls::new(&self.options, qmp.version());
        if process.is_none() {
            self.note_once(
                "QEMU's threads are not seen in /proc, or are not those of a process that has the \
                 socket open: no runstates, no CPU time, no interfaces",
                "",
            );
        }
        let mut domain = VmState::new(identity, &self.path, process, polls, &self.options);
        domain.recall(self.publisher.recall(&self.path));
        if let Err(left) = self.publish_domain(qmp, &mut domain) {
            give_back(&mut domain, qmp);
            return Err(left);
        }
        domain.report_published();
        self.domain = Some(domain);
        Ok(())
    }

    fn publish_domain(
        &mut self,
        qmp: &mut Connection,
        domain: &mut VmState<P>,
    ) -> Result<(), Left> {
        domain.topology(qmp)?;
        domain.blocks(qmp)?;
        domain.describe_stats(qmp)?;
        self.open_region(qmp, domain)
    }

    /// Makes a region with room for what there is, writes everything once, and publishes it.
    fn open_region(&mut self, qmp: &mut Connection, domain: &mut VmState<P>) -> Result<(), Left> {
        let description = domain.retire();
        let Sinks { dom, vcpus, blks, nets, unpublished } = self.publisher.create(&description)?;
        domain.write_to(Slots::new(dom, vcpus, blks, nets));
        domain.run_all(qmp)?;
        domain.published(self.publisher.publish(domain.name(), unpublished)?);
        Ok(())
    }

    /// Reports a QEMU that owes an answer as disconnected, until it answers.
    fn watch_contact(&mut self, qmp: &Connection) {
        let (contact, event) = match (self.contact, qmp.is_stuck()) {
            (Contact::Answers, true) => (Contact::Stuck, Event::Disconnected),
            (Contact::Stuck, false) => (Contact::Answers, Event::Connected),
            _ => return,
        };
        if contact == Contact::Stuck {
            self.note(&format!("QEMU does not answer within {:?}", self.options.limit));
        } else {
            self.noted.clear();
        }
        self.set_status(contact == Contact::Answers);
        self.contact = contact;
        if let Some(domain) = &mut self.domain {
            match contact {
                Contact::Answers => domain.speak(),
                Contact::Stuck | Contact::Down => domain.fall_silent(),
            }
            domain.report(event);
        }
    }

    fn step(&mut self, qmp: &mut Connection) -> Result<(), Left> {
        let Some(domain) = &mut self.domain else { return Err(QmpError::Closed.into()) };
        let began = Instant::now();
        domain.time_out();
        // An event may make a question due at once: a job that began may end soon.
        domain.drain(qmp)?;
        domain.run_due(qmp)?;
        // What came behind a reply wakes nobody.
        let mut drained = domain.drain(qmp)?;
        self.watch_contact(qmp);
        let Some(domain) = &mut self.domain else { return Err(QmpError::Closed.into()) };
        if !qmp.is_stuck() {
            match domain.complete_reports(qmp) {
                Err(error) if !error.is_of_the_command() => return Err(error.into()),
                _ => {}
            }
        }
        domain.deliver(&mut self.publisher);
        if domain.take_outgrown() {
            if let Some(mut domain) = self.domain.take() {
                let result = self.open_region(qmp, &mut domain);
                self.domain = Some(domain);
                if let Err(left) = result {
                    if let Some(domain) = &mut self.domain {
                        give_back(domain, qmp);
                    }
                    // Nobody sees it any more; the next session begins again.
                    self.end_domain(Ending::Stopped);
                    return Err(left);
                }
            }
            return Ok(());
        }
        if self.take_commands(Some(qmp))? {
            return Err(Left::Stop);
        }
        let Some(domain) = &mut self.domain else { return Ok(()) };
        if drained == Drained::All {
            drained = domain.drain(qmp)?;
        }
        if drained == Drained::Some || qmp.has_input() {
            self.sleep(None, Some(began + FLOODED_PACE));
        } else if domain.backlog().any {
            // Delivered by the next round.
        } else {
            self.sleep(None, Some(began + PACE));
            self.sleep(Some(qmp), None);
        }
        Ok(())
    }

    /// The connection has ended: what came last is reported, and what needs no connection goes on.
    fn left_session(&mut self, qmp: &mut Connection) {
        self.set_status(false);
        if let Some(domain) = &mut self.domain {
            // A connection that cannot be written to any more may still hold events.
            for _ in 0..LAST_DRAINS {
                if !matches!(domain.drain(qmp), Ok(Drained::Some)) {
                    break;
                }
            }
            domain.cut();
            if self.contact == Contact::Answers {
                domain.report(Event::Disconnected);
            }
            domain.deliver(&mut self.publisher);
        }
        self.contact = Contact::Down;
        self.down_since = Some(Instant::now());
    }

    /// A QEMU listens for as long as it lives: if nobody does, it has ended. Where its process is
    /// seen, that says so more reliably.
    fn not_connected(&mut self, error: &QmpError) {
        let QmpError::Os { source, .. } = error else { return };
        let nobody = matches!(source.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        if nobody && self.domain.as_ref().is_some_and(|d| !d.has_process()) {
            self.end_domain(Ending::VmEnded);
        }
    }

    /// Waits before the next attempt to connect; true if the thread is to end.
    fn pause(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.domain.as_ref().is_some_and(VmState::has_exited) {
                self.end_domain(Ending::VmEnded);
            }
            if let Some(domain) = &mut self.domain {
                domain.run_threads();
                domain.time_out();
                if self.down_since.is_some_and(|since| since.elapsed() >= self.options.limit) {
                    domain.fall_silent();
                }
            }
            match self.take_commands(None) {
                Ok(false) if Instant::now() < until => self.sleep(None, Some(until)),
                Ok(stop) => return stop,
                Err(_) => return false,
            }
        }
    }

    fn end_domain(&mut self, ending: Ending) {
        if let Some(mut domain) = self.domain.take() {
            domain.end(&mut self.publisher);
            if ending == Ending::VmEnded {
                domain.forget(&mut self.publisher);
            }
            let name = domain.name().to_owned();
            // Retired before the note.
            drop(domain);
            self.publisher.note(&format!("{name} is no longer published"));
        }
        self.set_status(false);
    }

    /// Takes every command that is there; true if the thread is to end.
    fn take_commands(&mut self, mut qmp: Option<&mut Connection>) -> Result<bool, QmpError> {
        let _ = rustix::io::read(&*self.channels.wake, &mut [0u8; 8]);
        if self.channels.stop.is_raised() {
            return Ok(true);
        }
        loop {
            let command = match self.channels.inbox.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
                Ok(command) => command,
            };
            let Some(domain) = &mut self.domain else {
                command.refuse(&ControlError::gone());
                continue;
            };
            match (command, qmp.as_deref_mut()) {
                (Command::Disks(reply), _) => {
                    let _ = reply.send(Ok(domain.disks()));
                }
                (Command::Jobs(reply), qmp) => {
                    if let Some(qmp) = qmp.filter(|qmp| !qmp.is_stuck()) {
                        match domain.look_at_jobs(qmp, Link::Same) {
                            Err(error) if !error.is_of_the_command() => return Err(error),
                            _ => {}
                        }
                    }
                    let _ = reply.send(Ok(domain.jobs_now()));
                }
                (command, None) => command.refuse(&ControlError::disconnected()),
                (command, Some(qmp)) if qmp.is_stuck() => {
                    command.refuse(&ControlError::stuck());
                }
                (Command::SetThreshold(request, reply), Some(qmp)) => {
                    domain.set_threshold(qmp, &request, reply, &mut self.publisher)?;
                }
                (Command::AbortJob { disk, flags, timeout, reply }, Some(qmp)) => {
                    // A job that began just now is to be known.
                    match domain.look_at_jobs(qmp, Link::Same) {
                        Err(error) if !error.is_of_the_command() => return Err(error),
                        _ => domain.abort(qmp, &disk, flags, timeout, reply)?,
                    }
                }
                (Command::Stop, _) => return Ok(true),
            }
        }
    }

    /// Sleeps until something comes or is due.
    fn sleep(&mut self, qmp: Option<&Connection>, until: Option<Instant>) {
        let connected = qmp.is_some_and(|q| !q.is_stuck());
        let due = self.domain.as_ref().and_then(|d| d.next_poll(connected));
        let deadline = self.domain.as_ref().and_then(VmState::deadline);
        let first = [due, deadline, until].into_iter().flatten().min();
        let left = first.map_or(MAX_SLEEP, |at| at.saturating_duration_since(Instant::now()));
        let time = Timespec::try_from(left.min(MAX_SLEEP)).ok();
        let wake = PollFd::new(&*self.channels.wake, PollFlags::IN);
        let stop = PollFd::new(&self.channels.stop, PollFlags::IN);
        let mut fds = vec![wake, stop];
        fds.extend(qmp.map(|qmp| PollFd::from_borrowed_fd(qmp.as_fd(), PollFlags::IN)));
        // An error is a signal, or makes the next read fail.
        let _ = rustix::event::poll(&mut fds, time.as_ref());
    }

    fn set_status(&self, connected: bool) {
        let domain = self.domain.as_ref().map(|d| d.name().to_owned());
        *self.channels.status.lock().unwrap_or_else(PoisonError::into_inner) =
            ObserverStatus { domain, connected };
    }

    fn note(&mut self, text: &str) {
        if self.noted != text {
            self.publisher.note(&format!("{}: {}", self.path.display(), printable(text)));
            text.clone_into(&mut self.noted);
        }
    }

    /// Notes something that holds for good: once, however often QEMU is connected.
    fn note_once(&mut self, what: &'static str, details: &str) {
        if self.noted_once.insert(what) {
            let text = format!("{}: {what}{}", self.path.display(), printable(details));
            self.publisher.note(&text);
        }
    }
}

/// A name that can be that of a file.
pub(crate) fn publishable(name: &str) -> String {
    let legal = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let name: String = name.chars().map(legal).collect();
    let name = name.trim_start_matches('.');
    let cut = name.floor_char_boundary(100.min(Name::MAX_LEN));
    match name.get(..cut) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "qemu".to_owned(),
    }
}

/// Whether libvirt keeps the VM's only monitor at this path. Whoever takes it when libvirt restarts
/// leaves libvirt without a connection to the VM.
fn is_libvirts_monitor(path: &Path) -> bool {
    let of_domain = path.parent().and_then(Path::file_name);
    path.file_name().is_some_and(|name| name == "monitor.sock")
        && of_domain.is_some_and(|name| name.to_string_lossy().starts_with("domain-"))
}

/// Has QEMU keep nothing for us any more. What it does not answer in time stays as it is.
fn give_back<P: Publisher>(domain: &mut VmState<P>, qmp: &mut Connection) {
    qmp.last_words(LAST_WORDS);
    let _ = domain.take_back(qmp);
}
