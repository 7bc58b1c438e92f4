//! The daemon's end of the control socket.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domstat_producer::{SocketFile, listen_at};
use domstat_sources::contract::{
    Command, ControlError, ErrorCode, Fleet, JobAborted, JobFlags, Reply, SetRequest,
};
use domstat_sources::control::{
    Answer, Cursor, DomainLine, MAX_REQUEST, Request, Subscribed, line,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketType;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::hub::Next;
use super::lines::{Lines, send};
use super::{ArmedFile, Hub};
use crate::error::Failure;

/// How many clients are served at one time. Each has a thread and a descriptor.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of all users but root and the daemon's own.
    others: usize,
    /// Of one such user: nobody keeps the others out.
    one_user: usize,
    /// Of root and the daemon's user, which no other user can take.
    own: usize,
}

impl Limits {
    const MOST: Self = Self { others: 192, one_user: 64, own: 64 };

    /// A quarter of the files that this process may open at most: the rest is for the domains and
    /// for the server that hands over regions.
    fn of(files: usize) -> Self {
        let most = Self::MOST;
        Self {
            others: most.others.min(files / 8),
            one_user: most.one_user.min(files / 16),
            own: most.own.min(files / 8),
        }
    }
}

/// How long a client may take from its connection to its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long it may take for each further request.
const NEXT_REQUEST: Duration = Duration::from_secs(120);
/// How long a client may take to read an answer.
const SEND: Duration = Duration::from_secs(10);
/// How long a domain may take to answer what waits for nothing but its own answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is looked whether a client that waits is still there.
const LOOK: Duration = Duration::from_secs(1);
/// The stack of a client's thread, which calls nothing deep.
const STACK: usize = 256 << 10;

/// The listening socket; dropping it removes its entry.
pub(crate) struct Server {
    _place: SocketFile,
}

struct Shared {
    fleet: Arc<Fleet>,
    hub: Arc<Hub>,
    armed: Arc<ArmedFile>,
    clients: Mutex<Clients>,
    limits: Limits,
}

/// A socket that listens and whose clients are not answered yet.
pub(crate) struct Listening {
    listener: UnixListener,
    place: SocketFile,
    path: PathBuf,
}

impl Server {
    /// Listens at `path`, for the owner and, with `group`, for its members.
    ///
    /// # Errors
    /// [`Failure`] if another daemon listens there, if what is there is not a dead socket, or if
    /// the host refuses.
    pub(crate) fn listen(path: &Path, group: Option<u32>) -> Result<Listening, Failure> {
        let os = |action: &str| failed(path, action);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(os("make the directory of"))?;
        }
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let (listener, place) = listen_at(path, SocketType::STREAM, mode, group)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(false).map_err(os("prepare"))?;
        Ok(Listening { listener, place, path: path.to_owned() })
    }
}

fn failed(path: &Path, action: &str) -> impl FnOnce(io::Error) -> Failure + use<> {
    let action = format!("{action} the control socket {}", path.display());
    move |source| Failure::Control { action, source }
}

impl Listening {
    /// Answers clients.
    ///
    /// # Errors
    /// [`Failure`] if the host has no thread left.
    pub(crate) fn serve(
        self,
        fleet: Arc<Fleet>,
        hub: Arc<Hub>,
        armed: Arc<ArmedFile>,
    ) -> Result<Server, Failure> {
        let Self { listener, place, path } = self;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limits = Limits::of(usize::try_from(files).unwrap_or(usize::MAX));
        let shared = Arc::new(Shared { fleet, hub, armed, clients: Mutex::default(), limits });
        std::thread::Builder::new()
            .name("domstat-control".to_owned())
            .spawn(move || accept(&listener, &shared))
            .map_err(failed(&path, "start a thread for"))?;
        Ok(Server { _place: place })
    }
}

/// Clients that are connected.
#[derive(Debug, Default)]
struct Clients {
    by_user: BTreeMap<u32, usize>,
    own: usize,
}

/// Who a client is, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    uid: u32,
    /// Root, or the user who runs the daemon.
    own: bool,
}

impl Peer {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        // Not rustix's, whose process id is never 0, as that of a client outside a container is.
        let peer =
            nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
        let own = peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw();
        Ok(Self { uid: peer.uid(), own })
    }
}

impl Clients {
    /// Counts the client, unless there are too many.
    fn admit(&mut self, peer: Peer, limits: Limits) -> bool {
        if peer.own {
            let admitted = self.own < limits.own;
            self.own += usize::from(admitted);
            return admitted;
        }
        let all: usize = self.by_user.values().sum();
        let of_user = self.by_user.entry(peer.uid).or_default();
        let admitted = all < limits.others && *of_user < limits.one_user;
        *of_user += usize::from(admitted);
        if *of_user == 0 {
            self.by_user.remove(&peer.uid);
        }
        admitted
    }

    fn leave(&mut self, peer: Peer) {
        if peer.own {
            self.own = self.own.saturating_sub(1);
            return;
        }
        if let Some(of_user) = self.by_user.get_mut(&peer.uid) {
            *of_user = of_user.saturating_sub(1);
            if *of_user == 0 {
                self.by_user.remove(&peer.uid);
            }
        }
    }
}

/// A client that is counted; dropping it makes room.
struct Admitted {
    shared: Arc<Shared>,
    peer: Peer,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.clients().leave(self.peer);
    }
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, for example: not at once again.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        if !shared.clients().admit(peer, shared.limits) {
            refuse(&stream, "too many clients are connected: try again later");
            continue;
        }
        let client = Admitted { shared: Arc::clone(shared), peer };
        let thread =
            std::thread::Builder::new().name("domstat-client".to_owned()).stack_size(STACK);
        let started = thread.spawn(move || {
            let _ = serve(&stream, &client);
        });
        // Without a thread the client is dropped, which it sees.
        drop(started);
    }
}

/// Sends one error without waiting.
fn refuse(stream: &UnixStream, why: &str) {
    let error = ControlError::new(ErrorCode::Busy, why);
    if stream.set_nonblocking(true).is_ok() {
        let _ = send(stream, &line(&Answer::<()>::Error(error)), LOOK);
    }
}

/// One client, until it goes.
fn serve(stream: &UnixStream, client: &Admitted) -> io::Result<()> {
    let mut lines = Lines::new(stream, MAX_REQUEST);
    let mut limit = FIRST_REQUEST;
    loop {
        let text = match lines.next(limit) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(e) => {
                let why = match e.kind() {
                    ErrorKind::TimedOut => "no request came in time",
                    ErrorKind::InvalidData => "the request is too long",
                    _ => return Err(e),
                };
                let error = ControlError::new(ErrorCode::Invalid, why);
                return send(stream, &line(&Answer::<()>::Error(error)), SEND);
            }
        };
        limit = NEXT_REQUEST;
        match Request::parse(&text) {
            Err(error) => return send(stream, &line(&Answer::<()>::Error(error)), SEND),
            Ok(Request::Subscribe { domain, from }) => {
                return subscribe(stream, &client.shared.hub, domain, from.as_ref());
            }
            Ok(request) => send(stream, &answer(request, stream, client), SEND)?,
        }
    }
}

/// Events, until the client goes or the daemon ends. A client may take them as slowly as it likes: the
/// hub leaves out what does not fit into its queue, and counts that.
fn subscribe(
    stream: &UnixStream,
    hub: &Arc<Hub>,
    domain: Option<String>,
    from: Option<&Cursor>,
) -> io::Result<()> {
    let (mut subscription, next) = hub.subscribe(domain.clone(), from);
    let answer = Subscribed { subscribed: domain, next: Some(next) };
    send(stream, &line(&Answer::Ok(answer)), SEND)?;
    stream.set_write_timeout(None)?;
    let mut output = stream;
    loop {
        match subscription.next(LOOK) {
            Next::Line(text) => output.write_all(text.as_bytes())?,
            Next::Closed => break,
            // A client that went without a word is noticed.
            Next::Nothing if is_gone(stream) => break,
            Next::Nothing => {}
        }
    }
    stream.shutdown(std::net::Shutdown::Both)
}

fn is_gone(stream: &UnixStream) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

/// Answers a request, as a line.
fn answer(request: Request, stream: &UnixStream, client: &Admitted) -> String {
    if request.changes_a_domain() && !client.peer.own {
        let why = "only root and the user who runs the daemon may change a domain";
        return line(&Answer::<()>::Error(ControlError::new(ErrorCode::Refused, why)));
    }
    let fleet = &client.shared.fleet;
    let ask = Ask { fleet, stream };
    match request {
        Request::Domains => line(&Answer::Ok(domains(fleet))),
        Request::BlockList { domain } => ask.domain(&domain, Command::Disks),
        Request::BlockJobs { domain } => ask.domain(&domain, Command::Jobs),
        Request::BlockThreshold { domain, disk, threshold, flags } => {
            // One that is disarmed needs no place.
            if threshold > 0
                && let Some(address) = fleet.address_of(&domain)
                && let Err(error) = client.shared.armed.check_room(&address)
            {
                return line(&Answer::<()>::Error(error));
            }
            let set = SetRequest { disk, threshold, flags };
            ask.domain(&domain, |reply| Command::SetThreshold(set, reply))
        }
        Request::BlockJobAbort { domain, disk, flags, timeout_ms } => {
            // What waits for QEMU's answer alone has an end.
            let accepted = (flags & JobFlags::ASYNC != 0).then_some(ANSWER);
            let timeout = timeout_ms.map(Duration::from_millis).or(accepted);
            let make = |reply: Reply<JobAborted>| Command::AbortJob { disk, flags, timeout, reply };
            // As long as it takes, unless the caller says how long.
            ask.within(&domain, make, None)
        }
        // It was taken before.
        Request::Subscribe { .. } => String::new(),
    }
}

fn domains(fleet: &Fleet) -> Vec<DomainLine> {
    let line = |(path, status): (std::path::PathBuf, domstat_sources::contract::ObserverStatus)| {
        let (domain, connected) = (status.domain, status.connected);
        DomainLine { domain, connected, qmp: path.display().to_string() }
    };
    fleet.statuses().into_iter().map(line).collect()
}

/// A request that is handed to a domain's thread.
struct Ask<'a> {
    fleet: &'a Fleet,
    stream: &'a UnixStream,
}

impl Ask<'_> {
    fn domain<T: Serialize>(&self, domain: &str, make: impl FnOnce(Reply<T>) -> Command) -> String {
        self.within(domain, make, Some(ANSWER))
    }

    fn within<T: Serialize>(
        &self,
        domain: &str,
        make: impl FnOnce(Reply<T>) -> Command,
        limit: Option<Duration>,
    ) -> String {
        line(&Answer::from(self.result(domain, make, limit)))
    }

    fn result<T>(
        &self,
        domain: &str,
        make: impl FnOnce(Reply<T>) -> Command,
        limit: Option<Duration>,
    ) -> Result<T, ControlError> {
        let of = |code, why: fmt::Arguments<'_>| ControlError::new(code, why.to_string());
        let (reply, answer) = channel();
        self.fleet.command(domain, make(reply)).map_err(|_| {
            of(ErrorCode::NotFound, format_args!("no domain {domain} is observed here"))
        })?;
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Disconnected) => {
                    let why = format_args!("{domain} is no longer observed");
                    return Err(of(ErrorCode::Gone, why));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let late = until.is_some_and(|until| Instant::now() >= until);
            if late || is_gone(self.stream) {
                let why = "QEMU has not answered; the request may still take effect";
                return Err(ControlError::new(ErrorCode::TimedOut, why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_the_places_of_others() {
        let (mut clients, limits) = (Clients::default(), Limits::MOST);
        let user = |uid| Peer { uid, own: false };
        let root = Peer { uid: 0, own: true };
        for _ in 0..limits.one_user {
            assert!(clients.admit(user(1), limits));
        }
        assert!(!clients.admit(user(1), limits));
        let mut others = 0;
        while clients.admit(user(1000 + others), limits) {
            others += 1;
        }
        assert_eq!(usize::try_from(others).unwrap(), limits.others - limits.one_user);
        for _ in 0..limits.own {
            assert!(clients.admit(root, limits), "root has places of its own");
        }
        assert!(!clients.admit(root, limits));
        clients.leave(user(1));
        assert!(clients.admit(user(1), limits));
        clients.leave(root);
        assert!(clients.admit(root, limits));
        for _ in 0..limits.one_user {
            clients.leave(user(1));
        }
        (0..others).for_each(|n| clients.leave(user(1000 + n)));
        assert!(clients.by_user.is_empty(), "users that left leave nothing behind");
    }
}
