//! The server's thread: accepts, and gives each client its turn.

use std::collections::{HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use domstat_layout::handover::{Refusal, Reply};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::client::{Client, Turn, packet};
use super::{Peer, ServeError, ServerBuilder, Shared, os};

const LISTENER: u64 = 0;
const BELL: u64 = 1;
const FIRST_CLIENT: u64 = 2;
/// Connections that are accepted before it is the clients' turn.
const AT_ONCE: usize = 64;
/// How long nothing is accepted after the process ran out of descriptors or memory, and how long no
/// descriptors are sent after too many of them were not read.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Daemon {
    options: ServerBuilder,
    listener: OwnedFd,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    /// Tells consumers of this process's end, whatever their process id namespace. `None` before
    /// Linux 5.3: the connection's end tells, too.
    pidfd: Option<OwnedFd>,
    clients: HashMap<u64, Client>,
    per_user: HashMap<u32, usize>,
    next: u64,
    /// When to accept again.
    paused: Option<Instant>,
    /// Clients whose turn did not depend on them, and when to try again.
    later: HashSet<u64>,
    again: Option<Instant>,
}

impl Daemon {
    pub(super) fn new(
        options: ServerBuilder,
        listener: OwnedFd,
        shared: Arc<Shared>,
    ) -> Result<Self, ServeError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(os("create an epoll"))?;
        let at_first = if options.from_first { EventFlags::empty() } else { EventFlags::IN };
        for (fd, key, flags) in
            [(&listener, LISTENER, at_first), (&shared.bell, BELL, EventFlags::IN)]
        {
            epoll::add(&epoll, fd, EventData::new_u64(key), flags)
                .map_err(os("wait for a socket"))?;
        }
        Ok(Self {
            options,
            listener,
            shared,
            epoll,
            pidfd: pidfd_open(getpid(), PidfdFlags::empty()).ok(),
            clients: HashMap::new(),
            per_user: HashMap::new(),
            next: FIRST_CLIENT,
            paused: None,
            later: HashSet::new(),
            again: None,
        })
    }

    pub(super) fn run(mut self) {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; 64];
        loop {
            let until = [self.paused, self.again].into_iter().flatten().min();
            let timeout = until.map(|until| {
                let left = until.saturating_duration_since(Instant::now());
                Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) }
            });
            let ready: Vec<_> = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((events, _)) => events.iter().map(|e| (e.data.u64(), e.flags)).collect(),
                Err(Errno::INTR) => Vec::new(),
                Err(_) => return,
            };
            if self.paused.is_some_and(|until| Instant::now() >= until) {
                self.pause(false);
            }
            if self.again.is_some_and(|at| Instant::now() >= at) {
                self.again = None;
                for key in std::mem::take(&mut self.later) {
                    self.turn(key);
                }
            }
            for (key, flags) in ready {
                match key {
                    LISTENER => self.accept(),
                    BELL => self.pass_on_changes(),
                    // It can be sent nothing more. Told whatever is waited for, until it is closed.
                    gone if flags.intersects(EventFlags::HUP | EventFlags::ERR) => self.part(gone),
                    client => self.turn(client),
                }
            }
            // After the bell was read: who rings it for the end may do so together with others.
            // ORDERING: relaxed; see the store.
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..AT_ONCE {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(fd) => self.welcome(fd),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    // The connection stays in the backlog, and the socket readable: asking at once
                    // again would do nothing else.
                    return self.pause(true);
                }
                Err(Errno::AGAIN) => return,
                // That one has closed already; the next may not have.
                Err(_) => {}
            }
        }
    }

    fn pause(&mut self, pause: bool) {
        self.paused = pause.then(|| Instant::now() + PAUSE);
        let flags = if pause { EventFlags::empty() } else { EventFlags::IN };
        let _ = epoll::modify(&self.epoll, &self.listener, EventData::new_u64(LISTENER), flags);
    }

    fn welcome(&mut self, fd: OwnedFd) {
        // Not rustix's, whose process id is never 0.
        let Ok(cred) = getsockopt(&fd, PeerCredentials) else { return };
        let (uid, gid, pid) = (cred.uid(), cred.gid(), cred.pid());
        let of_user = self.per_user.get(&uid).copied().unwrap_or(0);
        let refusal = if !(self.options.admit)(&Peer { uid, gid, pid }) {
            Some(Refusal::NotAdmitted)
        } else if !self.has_place(uid, of_user) {
            Some(Refusal::Busy)
        } else {
            None
        };
        if let Some(why) = refusal {
            let _ = packet(fd.as_fd(), 0, Reply::Error(why), &[]);
            return;
        }
        let key = self.next;
        if epoll::add(&self.epoll, &fd, EventData::new_u64(key), EventFlags::IN).is_err() {
            return;
        }
        self.next += 1;
        self.clients.insert(key, Client::new(fd, uid));
        *self.per_user.entry(uid).or_default() += 1;
        self.turn(key);
    }

    fn has_place(&self, uid: u32, of_user: usize) -> bool {
        let options = &self.options;
        let own = uid == 0 || uid == rustix::process::geteuid().as_raw();
        let (all, of_one) = match own {
            true => (options.max_clients, options.max_per_user.saturating_add(options.reserved)),
            false => (options.max_clients - options.reserved, options.max_per_user),
        };
        self.clients.len() < all && of_user < of_one
    }

    fn turn(&mut self, key: u64) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let pidfd = self.pidfd.as_ref().map(AsFd::as_fd);
        let turn = client.turn(&self.shared.state(), pidfd);
        let flags = match turn {
            Turn::Reads => EventFlags::IN,
            Turn::Writes => EventFlags::OUT,
            Turn::Later => {
                self.later.insert(key);
                self.again.get_or_insert_with(|| Instant::now() + PAUSE);
                EventFlags::empty()
            }
            Turn::Over => return self.part(key),
        };
        if epoll::modify(&self.epoll, &client.fd, EventData::new_u64(key), flags).is_err() {
            self.part(key);
        }
    }

    fn part(&mut self, key: u64) {
        let Some(client) = self.clients.remove(&key) else { return };
        self.later.remove(&key);
        let _ = epoll::delete(&self.epoll, &client.fd);
        if let Some(of_user) = self.per_user.get_mut(&client.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                self.per_user.remove(&client.uid);
            }
        }
    }

    fn pass_on_changes(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.bell, &mut count[..]);
        let changes = std::mem::take(&mut self.shared.state().changes);
        if changes.is_empty() {
            return;
        }
        if std::mem::take(&mut self.options.from_first) {
            self.pause(false);
        }
        let keys: Vec<u64> = self.clients.keys().copied().collect();
        for key in keys {
            let Some(client) = self.clients.get_mut(&key) else { continue };
            if changes.iter().all(|change| client.tell(change)) {
                self.turn(key);
            } else {
                self.part(key);
            }
        }
    }
}
