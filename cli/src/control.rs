//! The daemon's control socket: requests and answers as lines of JSON.
//!
//! A request is `{"op": ..., "domain": ..., ...}`; its answer is `{"ok": ...}` or `{"error":
//! {"code": ..., "message": ...}}`. After `{"op": "subscribe"}` each event is a line of its own.
//!
//! Who may connect is for the socket's permissions to say: its owner, and its group for reading.
//! What changes a VM is for root and the daemon's own user alone, by the credentials that the
//! kernel vouches for.

#![allow(
    clippy::indexing_slicing,
    reason = "a serde_json::Value that is read by a key that it lacks is Null, not a panic"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use domstat_layout::directory::CONTROL_SOCKET;
use domstat_sources::qemu::{Command, ControlError, Event, Fleet, SetRequest};
use serde_json::{Value, json};

use crate::error::Failure;

pub(crate) mod client;

/// Events that a subscriber may lag behind before it is dropped.
const BACKLOG: usize = 4096;
/// Clients that are served at one time.
const MAX_CLIENTS: usize = 256;
/// Longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// How long an answer may take that waits for nothing but QEMU's.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Where the control socket is unless told otherwise.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join(CONTROL_SOCKET)
}

pub(crate) fn write(fleet: &RwLock<Fleet>) -> RwLockWriteGuard<'_, Fleet> {
    fleet.write().unwrap_or_else(PoisonError::into_inner)
}

fn read(fleet: &RwLock<Fleet>) -> RwLockReadGuard<'_, Fleet> {
    fleet.read().unwrap_or_else(PoisonError::into_inner)
}

/// Takes events to whoever has subscribed, each once and in order.
#[derive(Default)]
pub(crate) struct Hub {
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    list: BTreeMap<u64, (Option<String>, SyncSender<String>)>,
    closed: bool,
}

impl Hub {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every subscriber of the domain. One that does not keep up is dropped, which it sees:
    /// its connection ends.
    pub(crate) fn tell(&self, domain: &str, event: &Event) {
        let mut line = json!(event);
        line["domain"] = json!(domain);
        let line = line.to_string();
        self.lock().list.retain(|_, (wanted, to)| {
            wanted.as_ref().is_some_and(|w| w != domain) || to.try_send(line.clone()).is_ok()
        });
    }

    fn subscribe(&self, domain: Option<String>) -> (u64, Receiver<String>) {
        let (to, from) = sync_channel(BACKLOG);
        let mut subscribers = self.lock();
        let number = subscribers.next;
        subscribers.next += 1;
        if !subscribers.closed {
            subscribers.list.insert(number, (domain, to));
        }
        (number, from)
    }

    fn unsubscribe(&self, number: u64) {
        self.lock().list.remove(&number);
    }

    /// Ends every subscription once its last event is taken.
    pub(crate) fn close(&self) {
        let mut subscribers = self.lock();
        subscribers.closed = true;
        subscribers.list.clear();
    }
}

/// The listening socket; dropping it takes it away.
pub(crate) struct Server {
    path: PathBuf,
}

struct Shared {
    fleet: Arc<RwLock<Fleet>>,
    hub: Arc<Hub>,
    clients: Mutex<usize>,
}

impl Server {
    /// Listens at `path`, for the owner and, with `group`, for its members.
    pub(crate) fn start(
        path: &Path,
        group: Option<&str>,
        fleet: Arc<RwLock<Fleet>>,
        hub: Arc<Hub>,
    ) -> Result<Self, Failure> {
        let os = |action: &str| {
            let action = format!("{action} the control socket {}", path.display());
            move |source| Failure::Control { action, source }
        };
        if UnixStream::connect(path).is_ok() {
            return Err(Failure::ControlInUse { path: path.to_owned() });
        }
        // Left by a daemon that was killed.
        let _ = std::fs::remove_file(path);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(os("make the directory of"))?;
        }
        let listener = UnixListener::bind(path).map_err(os("make"))?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        if let Some(group) = group {
            let id = group_id(group).ok_or_else(|| {
                os("set the group of")(std::io::Error::other(format!("there is no group {group}")))
            })?;
            std::os::unix::fs::chown(path, None, Some(id)).map_err(os("set the group of"))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(os("set the permissions of"))?;
        let shared = Arc::new(Shared { fleet, hub, clients: Mutex::new(0) });
        std::thread::Builder::new()
            .name("domstat-control".to_owned())
            .spawn(move || accept(&listener, &shared))
            .map_err(os("start a thread for"))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process ends after this, and its threads with it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn group_id(name: &str) -> Option<u32> {
    if let Ok(id) = name.parse() {
        return Some(id);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let fields = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.into_iter().find(|f| f.first() == Some(&name)).and_then(|f| f.get(2)?.parse().ok())
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, for example: not at once again.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let count = |by: isize| {
            let mut clients = shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
            *clients = clients.saturating_add_signed(by);
            *clients
        };
        if count(1) > MAX_CLIENTS {
            count(-1);
            continue;
        }
        let mine = Arc::clone(shared);
        let started =
            std::thread::Builder::new().name("domstat-client".to_owned()).spawn(move || {
                let _ = serve(&stream, &mine);
                let mut clients = mine.clients.lock().unwrap_or_else(PoisonError::into_inner);
                *clients = clients.saturating_sub(1);
            });
        if started.is_err() {
            count(-1);
        }
    }
}

/// One client, until it goes.
fn serve(stream: &UnixStream, shared: &Shared) -> std::io::Result<()> {
    // Not rustix's, whose process id is never 0, as that of a client outside a container is.
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    let may_control = peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw();
    let mut input = BufReader::new(stream);
    let mut output = stream;
    loop {
        let mut line = String::new();
        if input.by_ref().take(MAX_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request: Value = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(e) => {
                let error = ControlError::new("invalid", format!("not a line of JSON: {e}"));
                return writeln!(output, "{}", json!({ "error": error }));
            }
        };
        if request["op"] == "subscribe" {
            return subscribe(stream, shared, request["domain"].as_str());
        }
        let answer = match handle(&request, may_control, shared) {
            Ok(ok) => json!({ "ok": ok }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(output, "{answer}")?;
    }
}

/// Events, until the client goes, lags too far behind, or the daemon ends.
fn subscribe(
    mut stream: &UnixStream,
    shared: &Shared,
    domain: Option<&str>,
) -> std::io::Result<()> {
    let (number, events) = shared.hub.subscribe(domain.map(str::to_owned));
    let mut send = || -> std::io::Result<()> {
        writeln!(stream, "{}", json!({ "ok": { "subscribed": domain } }))?;
        stream.set_nonblocking(false)?;
        loop {
            match events.recv_timeout(Duration::from_secs(5)) {
                Ok(line) => writeln!(stream, "{line}")?,
                // A client that went without a word is noticed.
                Err(RecvTimeoutError::Timeout) if is_gone(stream) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    };
    let result = send();
    shared.hub.unsubscribe(number);
    let _ = stream.shutdown(std::net::Shutdown::Both);
    result
}

fn is_gone(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
}

fn handle(request: &Value, may_control: bool, shared: &Shared) -> Result<Value, ControlError> {
    let text = |key: &str| {
        let missing = || ControlError::new("invalid", format!("the request lacks {key:?}"));
        request[key].as_str().map(str::to_owned).ok_or_else(missing)
    };
    let flags = || u32::try_from(request["flags"].as_u64().unwrap_or(0)).unwrap_or(u32::MAX);
    let op = text("op")?;
    let controls = matches!(op.as_str(), "block-threshold" | "block-job-abort");
    if controls && !may_control {
        let why = "only root and the user who runs the daemon may change a domain";
        return Err(ControlError::new("refused", why));
    }
    let (reply, answer) = channel();
    let mut limit = Some(ANSWER_LIMIT);
    let command = match op.as_str() {
        "domains" => return Ok(domains(shared)),
        "block-list" => Command::Disks(reply),
        "block-jobs" => Command::Jobs(reply),
        "block-threshold" => {
            let missing = || ControlError::new("invalid", "the request lacks \"threshold\"");
            let threshold = request["threshold"].as_u64().ok_or_else(missing)?;
            let request = SetRequest { disk: text("disk")?, threshold, flags: flags() };
            Command::SetThreshold(request, reply)
        }
        "block-job-abort" => {
            let timeout = request["timeout_ms"].as_u64().map(Duration::from_millis);
            // As long as it takes, unless the caller says how long.
            limit = None;
            Command::AbortJob { disk: text("disk")?, flags: flags(), timeout, reply }
        }
        _ => return Err(ControlError::new("invalid", format!("there is no operation {op:?}"))),
    };
    let domain = text("domain")?;
    let fleet = read(&shared.fleet);
    let unknown = || ControlError::new("not_found", format!("no domain {domain} is observed here"));
    fleet.by_domain(&domain).ok_or_else(unknown)?.command(command);
    drop(fleet);
    let gone = || ControlError::new("gone", format!("{domain} is no longer observed"));
    match limit {
        None => answer.recv().map_err(|_| gone())?,
        Some(limit) => match answer.recv_timeout(limit) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                let why = "QEMU has not answered; the request may still take effect";
                Err(ControlError::new("timed_out", why))
            }
        },
    }
}

fn domains(shared: &Shared) -> Value {
    let fleet = read(&shared.fleet);
    let vm = |vm: &domstat_sources::qemu::Vm| {
        let status = vm.status();
        let path = vm.path().display().to_string();
        json!({ "domain": status.domain, "connected": status.connected, "qmp": path })
    };
    fleet.vms().map(vm).collect()
}
