//! Session loop of one VM's thread: connects to QEMU, observes it, and connects again.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domstat_layout::Name;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::Options;
use super::procfs::QemuProcess;
use super::qmp::{Connection, QmpError};
use super::queries;
use super::schedule::{Polls, Retry};
use super::slots::Slots;
use super::vm_state::{Identity, VmState};
use crate::SourceError;
use crate::contract::{Command, ControlError, Event, ObserverStatus, Publisher, Reply, Sinks};

/// How long to sleep at most: a safety net, since everything that matters wakes.
const MAX_SLEEP: Duration = Duration::from_secs(60);

struct Observer<P: Publisher> {
    path: PathBuf,
    options: Options,
    publisher: P,
    inbox: Receiver<Command>,
    wake: Arc<OwnedFd>,
    status: Arc<Mutex<ObserverStatus>>,
    domain: Option<VmState<P>>,
    /// What was last said to the operator, so that it is said once.
    noted: String,
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
        Self::Qmp(error)
    }
}

impl From<SourceError> for Left {
    fn from(error: SourceError) -> Self {
        Self::Publish(error)
    }
}

/// Observes until it is told to stop.
pub(super) fn run<P: Publisher>(
    path: PathBuf,
    options: Options,
    publisher: P,
    inbox: Receiver<Command>,
    wake: Arc<OwnedFd>,
    status: Arc<Mutex<ObserverStatus>>,
) {
    let noted = String::new();
    let mut observer =
        Observer { path, options, publisher, inbox, wake, status, domain: None, noted };
    let mut retry = Retry::default();
    loop {
        let left = match Connection::open(&observer.path, observer.options.limit) {
            Ok(mut qmp) => {
                let left = observer.session(&mut qmp, &mut retry);
                observer.left_session(&mut qmp);
                left
            }
            Err(error) => {
                observer.not_connected(&error);
                Left::Qmp(error)
            }
        };
        match left {
            Left::Stop => break,
            Left::Qmp(error) => observer.note(&error.to_string()),
            Left::Publish(error) => observer.note(&error.with_causes()),
        }
        if observer.pause(retry.pause()) {
            break;
        }
    }
    observer.end_domain();
}

impl<P: Publisher> Observer<P> {
    /// One connection, from its beginning to its end.
    fn session(&mut self, qmp: &mut Connection, retry: &mut Retry) -> Left {
        match self.begin(qmp) {
            Ok(()) => retry.reset(),
            Err(left) => return left,
        }
        loop {
            match self.step(qmp) {
                Ok(()) => {}
                Err(left) => return left,
            }
        }
    }

    /// Learns whom it speaks to: a domain that is known goes on, another one is new.
    fn begin(&mut self, qmp: &mut Connection) -> Result<(), Left> {
        let tid = queries::cpus(qmp)?.iter().find_map(|c| c.tid);
        let process = tid.and_then(|tid| QemuProcess::of_thread(tid, qmp.peer_pid()));
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let name = queries::name(qmp)?.or(stem).unwrap_or_default();
        let identity = Identity {
            name: publishable(&name),
            uuid: queries::uuid(qmp)?,
            process: process.as_ref().map(|p| (p.pid, p.start_ticks)),
        };
        if self.domain.as_ref().is_some_and(|d| !d.is(&identity)) {
            self.end_domain();
        }
        match &mut self.domain {
            Some(domain) => {
                domain.extents(qmp)?;
                domain.look_at_jobs(qmp, true)?;
                domain.topology(qmp)?;
                domain.report(Event::Connected);
            }
            None => self.begin_domain(qmp, identity, process)?,
        }
        self.noted.clear();
        self.set_status(true);
        Ok(())
    }

    fn begin_domain(
        &mut self,
        qmp: &mut Connection,
        identity: Identity,
        process: Option<QemuProcess>,
    ) -> Result<(), Left> {
        let polls = Polls::new(&self.options, qmp.version());
        if process.is_none() {
            let why = "QEMU's threads are not seen in /proc: no runstates and no CPU time";
            self.publisher.note(&format!("{}: {why}", self.path.display()));
        }
        let mut domain = VmState::new(identity, process, polls, self.options.limit);
        domain.topology(qmp)?;
        domain.blocks(qmp)?;
        domain.describe_stats(qmp)?;
        self.open_region(qmp, &mut domain)?;
        domain.report(Event::Published);
        self.domain = Some(domain);
        Ok(())
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

    fn step(&mut self, qmp: &mut Connection) -> Result<(), Left> {
        let Some(domain) = &mut self.domain else { return Err(QmpError::Closed.into()) };
        domain.time_out();
        domain.run_due(qmp)?;
        // What came behind a reply wakes nobody.
        domain.drain(qmp)?;
        if domain.backlog().firings && !qmp.is_stuck() {
            // The numbers that a firing speaks of.
            match domain.extents(qmp) {
                Err(error) if !error.is_of_the_command() => return Err(error.into()),
                _ => {}
            }
            domain.drain(qmp)?;
        }
        domain.deliver(&mut self.publisher);
        if domain.take_outgrown() {
            if let Some(mut domain) = self.domain.take() {
                let result = self.open_region(qmp, &mut domain);
                self.domain = Some(domain);
                if let Err(left) = result {
                    // Nobody sees it any more; the next session begins anew.
                    self.end_domain();
                    return Err(left);
                }
            }
            return Ok(());
        }
        if self.take_commands(Some(qmp))? {
            return Err(Left::Stop);
        }
        if let Some(domain) = &mut self.domain {
            domain.drain(qmp)?;
        }
        if !self.domain.as_ref().is_some_and(|d| d.backlog().any) {
            self.sleep(Some(qmp), None);
        }
        Ok(())
    }

    /// The connection is gone: whatever came last is told, and what can go on does.
    fn left_session(&mut self, qmp: &mut Connection) {
        self.set_status(false);
        if let Some(domain) = &mut self.domain {
            // A connection that cannot be written to any more may still hold events.
            let _ = domain.drain(qmp);
            domain.cut();
            domain.report(Event::Disconnected);
            domain.deliver(&mut self.publisher);
        }
    }

    /// A QEMU listens for as long as it lives: if nobody does, it has ended. Where its process is
    /// seen, that says so more reliably.
    fn not_connected(&mut self, error: &QmpError) {
        let QmpError::Os { source, .. } = error else { return };
        let nobody = matches!(source.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
        if nobody && self.domain.as_ref().is_some_and(|d| !d.has_process()) {
            self.end_domain();
        }
    }

    /// Waits before the next attempt to connect; true if the thread is to end.
    fn pause(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            if self.domain.as_ref().is_some_and(VmState::has_exited) {
                self.end_domain();
            }
            if let Some(domain) = &mut self.domain {
                domain.run_threads();
                domain.time_out();
            }
            match self.take_commands(None) {
                Ok(false) if Instant::now() < until => self.sleep(None, Some(until)),
                Ok(stop) => return stop,
                Err(_) => return false,
            }
        }
    }

    fn end_domain(&mut self) {
        if let Some(mut domain) = self.domain.take() {
            domain.end(&mut self.publisher);
            let name = domain.name().to_owned();
            // Retired before it is said to be gone.
            drop(domain);
            self.publisher.note(&format!("{name} is no longer published"));
        }
        self.set_status(false);
    }

    /// Takes every command that is there; true if the thread is to end.
    fn take_commands(&mut self, mut qmp: Option<&mut Connection>) -> Result<bool, QmpError> {
        let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
        loop {
            let command = match self.inbox.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(true),
                Err(TryRecvError::Empty) => return Ok(false),
                Ok(command) => command,
            };
            let Some(domain) = &mut self.domain else {
                answer_all(command, &ControlError::gone());
                continue;
            };
            match (command, qmp.as_deref_mut()) {
                (Command::Disks(reply), _) => {
                    let _ = reply.send(Ok(domain.disks()));
                }
                (Command::Jobs(reply), _) => {
                    let _ = reply.send(Ok(domain.jobs_now()));
                }
                (command, None) => answer_all(command, &ControlError::disconnected()),
                (command, Some(qmp)) if qmp.is_stuck() => {
                    answer_all(command, &ControlError::stuck());
                }
                (Command::SetThreshold(request, reply), Some(qmp)) => {
                    domain.set_threshold(qmp, &request, reply)?;
                }
                (Command::AbortJob { disk, flags, timeout, reply }, Some(qmp)) => {
                    // A job that began just now is to be known.
                    match domain.look_at_jobs(qmp, false) {
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
        let wake = PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN);
        // An error is a signal, or makes the next read fail.
        let _ = match qmp {
            Some(qmp) => {
                let input = PollFd::from_borrowed_fd(qmp.as_fd(), PollFlags::IN);
                rustix::event::poll(&mut [wake, input], time.as_ref())
            }
            None => rustix::event::poll(&mut [wake], time.as_ref()),
        };
    }

    fn set_status(&self, connected: bool) {
        let domain = self.domain.as_ref().map(|d| d.name().to_owned());
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) =
            ObserverStatus { domain, connected };
    }

    fn note(&mut self, text: &str) {
        if self.noted != text {
            self.publisher.note(&format!("{}: {text}", self.path.display()));
            text.clone_into(&mut self.noted);
        }
    }
}

/// A name that can be that of a file.
fn publishable(name: &str) -> String {
    let legal = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let name: String = name.chars().map(legal).collect();
    let name = name.trim_start_matches('.');
    let cut = name.floor_char_boundary(100.min(Name::MAX_LEN));
    match name.get(..cut) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "qemu".to_owned(),
    }
}

/// Gives a command this error for an answer.
fn answer_all(command: Command, error: &ControlError) {
    fn answer<T>(reply: &Reply<T>, error: &ControlError) {
        let _ = reply.send(Err(error.clone()));
    }
    match command {
        Command::SetThreshold(_, reply) => answer(&reply, error),
        Command::AbortJob { reply, .. } => answer(&reply, error),
        Command::Disks(reply) => answer(&reply, error),
        Command::Jobs(reply) => answer(&reply, error),
        Command::Stop => {}
    }
}
