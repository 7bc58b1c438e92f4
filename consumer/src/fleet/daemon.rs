//! Connection of a fleet to a daemon, which pushes its list of domains: only attaching to new
//! domains waits for an answer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::is_no_daemon;
use crate::error::AttachError;
use crate::handover::{Change, Connection, Follower, MAX_DOMAINS};

/// How long one answer is waited for, once.
pub(super) const ANSWER: Duration = Duration::from_millis(200);
/// Messages that are taken in from one daemon at a refresh, so that one that never stops is no
/// burden on the others: far more than domains come and go between two refreshes.
const MESSAGES: usize = 4096;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// For a socket at which as many wait as it takes: whoever listens there accepts nobody.
const LONGEST_FULL: Duration = Duration::from_secs(30);
/// For a daemon that says welcome and then nothing: to find that out takes an [`ANSWER`].
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

/// A daemon, whether it can be connected to or not.
pub(super) struct Daemon {
    path: PathBuf,
    /// Which file its socket is.
    file: Option<(u64, u64)>,
    /// A connection on which it has not said welcome. It costs nothing to keep it until it does.
    waiting: Option<Connection>,
    follower: Option<Follower>,
    pauses: Pauses,
    /// Where regions are asked for.
    asking: Option<Arc<Connection>>,
    silences: Pauses,
    /// Whether its next answer is waited for.
    patient: bool,
    /// Connections so far on which it said welcome.
    connected: u64,
    /// Whether its list of domains is complete.
    listed: bool,
    /// What it serves, and what it served until it was lost.
    names: BTreeMap<String, Served>,
    error: Option<AttachError>,
    pub(super) seen: bool,
}

/// A domain of a daemon's.
#[derive(Clone, Copy)]
pub(super) struct Served {
    pub(super) incarnation: u64,
    /// Whether the daemon listed it on this connection.
    pub(super) listed: bool,
}

/// When something is tried again.
struct Pauses {
    pause: Duration,
    longest: Duration,
    next: Option<Instant>,
}

impl Pauses {
    fn up_to(longest: Duration) -> Self {
        Self { pause: FIRST_PAUSE, longest, next: None }
    }

    fn is_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    fn failed(&mut self) {
        self.next = Instant::now().checked_add(self.pause.min(self.longest));
        self.pause = (self.pause * 2).min(self.longest);
    }

    fn reset(&mut self) {
        (self.pause, self.next) = (FIRST_PAUSE, None);
    }
}

impl Daemon {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            waiting: None,
            follower: None,
            pauses: Pauses::up_to(LONGEST_PAUSE),
            asking: None,
            silences: Pauses::up_to(LONGEST_SILENCE),
            patient: false,
            connected: 0,
            listed: false,
            names: BTreeMap::new(),
            error: None,
            seen: true,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its socket is called after the domain: it serves that one before others do.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.path.file_stem().is_some_and(|stem| stem == name)
    }

    /// Which of its connections this is; 0 if there was none so far.
    pub(super) fn connected(&self) -> u64 {
        self.connected
    }

    /// Notes which file its socket is now. Another one is another daemon's, or the same one's
    /// that was started again.
    pub(super) fn is_at(&mut self, file: Option<(u64, u64)>) {
        if file.is_some() && file != self.file {
            if self.file.is_some() {
                self.waiting = None;
                self.lose(self.no_daemon(io::ErrorKind::ConnectionReset));
                self.pauses.reset();
            }
            self.file = file;
        }
    }

    /// Begins to connect, if it is not and it is time to try; `now`, also if it is not.
    pub(super) fn dial(&mut self, now: bool) {
        let is_down = self.follower.is_none() && self.waiting.is_none();
        if !is_down || !(now || self.pauses.is_due()) {
            return;
        }
        match Connection::begin(&self.path, None, ANSWER) {
            Ok(connection) => (self.waiting, self.patient) = (Some(connection), true),
            Err(error) => {
                let is_full = matches!(error, AttachError::TimedOut { .. });
                self.pauses.longest = if is_full { LONGEST_FULL } else { LONGEST_PAUSE };
                self.failed(error);
            }
        }
    }

    /// Takes its welcome. One that was just dialed is waited for until `until`.
    pub(super) fn welcome(&mut self, until: Instant) {
        let Some(mut connection) = self.waiting.take() else { return };
        let until = if self.patient { until } else { Instant::now() };
        self.patient = false;
        match connection.welcome(until) {
            Ok(()) => match connection.follow() {
                Ok(follower) => {
                    self.follower = Some(follower);
                    self.connected += 1;
                    self.patient = true;
                    if self.names.is_empty() {
                        self.error = None;
                    }
                    self.names.values_mut().for_each(|served| served.listed = false);
                }
                Err(error) => self.failed(error),
            },
            Err(error @ AttachError::TimedOut { .. }) => {
                self.waiting = Some(connection);
                if self.names.is_empty() {
                    self.error = Some(error);
                }
            }
            Err(error) => self.failed(error),
        }
    }

    /// Whether it has just said welcome.
    pub(super) fn is_new(&self) -> bool {
        self.patient && self.follower.is_some()
    }

    /// Takes in what it has sent since. One that has just said welcome is waited for until
    /// `until`, or until its list is complete.
    pub(super) fn listen(&mut self, until: Instant, end: Instant) {
        let mut budget = MESSAGES;
        while let Some(follower) = &mut self.follower {
            let patient = self.patient && !self.listed;
            let left = until.saturating_duration_since(Instant::now());
            match follower.next(Some(if patient { left } else { Duration::ZERO })) {
                Ok(Some(change)) => self.take(change),
                Ok(None) if follower.is_over() => {
                    self.lose(self.no_daemon(io::ErrorKind::ConnectionReset));
                }
                Ok(None) => break,
                Err(AttachError::Disconnected { .. }) => {
                    self.lose(self.no_daemon(io::ErrorKind::ConnectionReset));
                }
                Err(error) => {
                    self.lose(error);
                    self.pauses.failed();
                }
            }
            // One that never comes to an end is listened to again the next time.
            budget = budget.saturating_sub(1);
            if (budget == 0 && !patient) || Instant::now() > end {
                break;
            }
        }
        self.patient = false;
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Added(offered) => {
                let served = Served { incarnation: offered.incarnation, listed: true };
                self.names.insert(offered.name, served);
                if self.names.len() > MAX_DOMAINS {
                    let why = "its list has no end";
                    self.lose(AttachError::Protocol { path: self.path.clone(), why });
                    self.names.clear();
                    self.pauses.failed();
                }
            }
            Change::Gone { name, incarnation } => {
                if self.names.get(&name).is_some_and(|served| served.incarnation == incarnation) {
                    self.names.remove(&name);
                }
            }
            Change::Listed => {
                (self.listed, self.error) = (true, None);
                self.pauses.reset();
                self.names.retain(|_, served| served.listed);
            }
        }
    }

    /// Its connection is over, and with it what was handed over.
    fn lose(&mut self, error: AttachError) {
        if !self.listed {
            // Before it said what it serves: it may do so again and again.
            self.pauses.failed();
        }
        (self.follower, self.asking, self.listed) = (None, None, false);
        self.names.values_mut().for_each(|served| served.listed = false);
        self.silences.reset();
        self.error = Some(error);
    }

    fn failed(&mut self, error: AttachError) {
        if is_no_daemon(&self.path, &error) {
            self.names.clear();
        }
        self.pauses.failed();
        self.error = Some(match error {
            AttachError::Disconnected { .. } => self.no_daemon(io::ErrorKind::ConnectionReset),
            error => error,
        });
    }

    fn no_daemon(&self, kind: io::ErrorKind) -> AttachError {
        AttachError::NoDaemon { path: self.path.clone(), source: Arc::new(kind.into()) }
    }

    /// Why its list of domains is not known; `None` if it is.
    pub(super) fn trouble(&self) -> Option<AttachError> {
        let silent = || AttachError::TimedOut { path: self.path.clone(), deadline: ANSWER };
        (!self.listed).then(|| self.error.as_ref().map_or_else(silent, AttachError::clone))
    }

    /// Whether it listed this domain.
    pub(super) fn serves(&self, name: &str) -> bool {
        self.names.get(name).is_some_and(|served| served.listed)
    }

    /// Whether it may still list what it serves.
    pub(super) fn is_awaited(&self) -> bool {
        let is_open = self.waiting.is_some() || self.follower.is_some();
        let may_be = matches!(self.error, None | Some(AttachError::TimedOut { .. }));
        !self.listed && (is_open || may_be)
    }

    /// Whether what listens there is something else.
    pub(super) fn is_none(&self) -> bool {
        self.error.as_ref().is_some_and(|error| is_no_daemon(&self.path, error))
    }

    /// What it serves, to be given back.
    pub(super) fn take_names(&mut self) -> BTreeMap<String, Served> {
        std::mem::take(&mut self.names)
    }

    pub(super) fn give_back(&mut self, names: BTreeMap<String, Served>) {
        self.names = names;
    }

    /// What `ask` makes of a connection on which regions can be asked for. If it does not answer,
    /// it is asked less and less often.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub(super) fn ask<T>(
        &mut self,
        ask: impl FnOnce(&Arc<Connection>) -> Result<T, AttachError>,
    ) -> Result<T, AttachError> {
        let connection = match &self.asking {
            Some(connection) => Arc::clone(connection),
            None if !self.silences.is_due() => {
                let (path, deadline) = (self.path.clone(), ANSWER);
                return Err(AttachError::TimedOut { path, deadline });
            }
            None => {
                let connected = Connection::connect_within(&self.path, ANSWER);
                Arc::new(connected.inspect_err(|_| self.silences.failed())?)
            }
        };
        let answer = ask(&connection);
        // After these the next answer could be that to another question.
        let is_out_of_step = matches!(
            answer,
            Err(AttachError::TimedOut { .. }
                | AttachError::Disconnected { .. }
                | AttachError::Message { .. }
                | AttachError::Protocol { .. }
                | AttachError::Os { .. })
        );
        if is_out_of_step {
            self.asking = None;
            self.silences.failed();
        } else {
            self.asking = Some(connection);
            self.silences.reset();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
    };

    use super::*;

    #[test]
    fn a_full_socket_is_tried_less_and_less_often_up_to_the_longest_pause() {
        let path = std::env::temp_dir().join(format!("full-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        let _first = Connection::begin(&path, None, ANSWER).unwrap();
        let mut daemon = Daemon::new(path.clone());
        for _ in 0..20 {
            daemon.dial(true);
            assert!(daemon.waiting.is_none() && daemon.is_awaited());
        }
        assert_eq!(daemon.pauses.pause, LONGEST_FULL);
        // Not tried before it is due.
        let next = daemon.pauses.next;
        daemon.dial(false);
        assert_eq!(daemon.pauses.next, next);
        std::fs::remove_file(path).unwrap();
        daemon.take(Change::Listed);
        assert!(daemon.pauses.is_due() && daemon.pauses.pause == FIRST_PAUSE);
    }
}
