//! Server that hands regions to consumers over a Unix socket, as [`domstat_layout::handover`]
//! specifies.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use domstat_layout::handover::is_name;
use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags};
use rustix::net::SocketType;
use rustix::process::{Resource, getrlimit};

use crate::Region;

mod client;
mod daemon;
mod listener;

pub use listener::{SocketFile, listen_at};

/// Who is at the other end of a connection, as the kernel knows it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id at the time of connecting, in this process's namespace; 0 if it is not known
    /// there, as of a process outside a container. It can be used again: for messages, not for
    /// decisions.
    pub pid: i32,
}

/// Connections that only root and the process's own user can take, so that others do not keep the
/// operator out.
const RESERVED: usize = 64;

type Admit = Box<dyn Fn(&Peer) -> bool + Send>;

/// Says who may read, then serves.
pub struct ServerBuilder {
    mode: u32,
    group: Option<u32>,
    max_clients: usize,
    max_per_user: usize,
    /// How many of these are for root and the process's own user only.
    reserved: usize,
    from_first: bool,
    admit: Admit,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            mode: 0o600,
            group: None,
            max_clients: 4096,
            max_per_user: 2048,
            reserved: 0,
            from_first: false,
            admit: Box::new(|_| true),
        }
    }
}

/// Serves regions at a socket, in a thread of its own, until it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    place: Option<SocketFile>,
    thread: Option<JoinHandle<()>>,
}

/// A region that is served; dropping it takes it away. Consumers that are attached keep their
/// mapping and see the region's own `state`.
pub struct Served {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

/// Why regions cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Another daemon listens there.
    #[error("{} is in use by another daemon: stop it or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The path names something else, which will not be replaced.
    #[error("{} exists and is not a socket: remove it or choose another path", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The descriptor that was passed is not such a socket.
    #[error("the socket that was passed is not a listening Unix socket of type SOCK_SEQPACKET")]
    NotListening,
    /// A domain of that name is served already.
    #[error("a domain named {name} is served already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The name cannot be said in a message.
    #[error("{name:?} cannot be handed over: a name is 1 to 255 bytes of text")]
    BadName {
        /// The name.
        name: String,
    },
    /// The region is not in memfds.
    #[error("only a region in memfds can be handed over")]
    NoDescriptor,
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Os {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
}

fn os(action: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> ServeError {
    let action = action.into();
    move |e| ServeError::Os { action, source: e.into() }
}

impl ServerBuilder {
    /// Permission bits of the socket: who may connect. Default 0600.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Group of the socket, for a mode that lets a group connect.
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Most connections at one time; default 4096. Further ones get the answer "busy".
    /// Half of the files that the process may open when the server starts are left to the rest of
    /// it, whatever is set here. Some places are for root and the process's own user only.
    #[must_use]
    pub fn max_clients(mut self, max: usize) -> Self {
        self.max_clients = max;
        self
    }

    /// Most connections of one user at one time; default 2048.
    #[must_use]
    pub fn max_per_user(mut self, max: usize) -> Self {
        self.max_per_user = max;
        self
    }

    /// Accepts nobody until the first region is served: who connects to a socket that was there
    /// before its daemon waits, and finds the region instead of nothing. For daemons of one domain.
    #[must_use]
    pub fn from_first_region(mut self) -> Self {
        self.from_first = true;
        self
    }

    /// Decides about each connection, beyond what the socket's mode does. It is called in the
    /// server's thread and must not wait.
    #[must_use]
    pub fn admit(mut self, admit: impl Fn(&Peer) -> bool + Send + 'static) -> Self {
        self.admit = Box::new(admit);
        self
    }

    /// Listens at `path`. A socket that a dead daemon left there is replaced.
    ///
    /// # Errors
    /// [`ServeError`]; nothing is left behind.
    pub fn bind(self, path: impl AsRef<Path>) -> Result<Server, ServeError> {
        let (listener, place) =
            listen_at(path.as_ref(), SocketType::SEQPACKET, self.mode, self.group)?;
        self.start(listener, Some(place))
    }

    /// Serves at a socket that listens already, as a service manager passes it
    /// ([`crate::systemd`]). Its mode and group are those it has.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn on(self, listener: OwnedFd) -> Result<Server, ServeError> {
        listener::check(&listener)?;
        self.start(listener, None)
    }

    fn start(mut self, listener: OwnedFd, place: Option<SocketFile>) -> Result<Server, ServeError> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
        if self.max_clients > half {
            self.max_clients = half;
            self.max_per_user = self.max_per_user.min(half.div_ceil(2));
        }
        self.reserved = RESERVED.min(self.max_clients / 4);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags).map_err(os("create an eventfd"))?;
        let shared =
            Arc::new(Shared { state: Mutex::default(), bell, stop: AtomicBool::new(false) });
        let daemon = daemon::Daemon::new(self, listener, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("domstat-serve".into())
            .spawn(move || daemon.run())
            .map_err(|source| ServeError::Os { action: "start a thread".into(), source })?;
        Ok(Server { shared, place, thread: Some(thread) })
    }
}

/// What the server's thread and everyone else share.
struct Shared {
    state: Mutex<State>,
    /// An eventfd: something changed.
    bell: OwnedFd,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Arc<Entry>>,
    /// Changes that followers have not received yet.
    changes: Vec<Change>,
}

/// A domain that is served.
struct Entry {
    brief: Brief,
    /// Opened for reading only.
    fds: Vec<OwnedFd>,
}

/// A domain as followers see it, without its memory.
#[derive(Clone)]
struct Brief {
    name: Arc<str>,
    incarnation: u64,
    len: u64,
    nr_fds: u32,
}

#[derive(Clone)]
enum Change {
    Added(Brief),
    Gone(Brief),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // Full only if it rang already.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

impl Server {
    /// To be filled in.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves `region` as `name` for as long as the result lives.
    ///
    /// # Errors
    /// [`ServeError`], for example if the name is taken.
    pub fn serve(&self, region: &Region, name: &str) -> Result<Served, ServeError> {
        if !is_name(name) {
            return Err(ServeError::BadName { name: name.to_owned() });
        }
        let fds = match region.as_fd() {
            Some(fd) => vec![fd],
            None => region.frame_fds(),
        };
        if fds.is_empty() {
            return Err(ServeError::NoDescriptor);
        }
        let brief = Brief {
            name: name.into(),
            incarnation: region.incarnation(),
            len: region.len() as u64,
            nr_fds: u32::try_from(fds.len()).unwrap_or(u32::MAX),
        };
        let entry = Arc::new(Entry {
            brief: brief.clone(),
            fds: fds.into_iter().map(for_reading).collect::<Result<_, _>>()?,
        });
        let mut state = self.shared.state();
        if state.entries.contains_key(name) {
            return Err(ServeError::NameTaken { name: name.to_owned() });
        }
        state.entries.insert(name.to_owned(), Arc::clone(&entry));
        state.changes.push(Change::Added(brief));
        drop(state);
        self.shared.ring();
        Ok(Served { shared: Arc::clone(&self.shared), entry })
    }

    /// The socket's path; `None` for one that was passed.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.place.as_ref().map(SocketFile::path)
    }
}

/// The same memory behind a description of its own, opened for reading: what is handed out can
/// neither be written through nor mapped writable, in any process.
fn for_reading(fd: BorrowedFd<'_>) -> Result<OwnedFd, ServeError> {
    if rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY) {
        return fd
            .try_clone_to_owned()
            .map_err(|source| ServeError::Os { action: "duplicate a descriptor".into(), source });
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(os(format!("open {path} for reading")))
}

impl Served {
    /// Serves what the region's memory is now: after [`Region::replace_frames`]. Who is attached stays so, and finds
    /// the new memory when it asks again.
    ///
    /// # Errors
    /// [`ServeError`]; the memory that was served before is.
    pub fn update(&mut self, region: &Region) -> Result<(), ServeError> {
        let fds = match region.as_fd() {
            Some(fd) => vec![fd],
            None => region.frame_fds(),
        };
        let fds: Vec<_> = fds.into_iter().map(for_reading).collect::<Result<_, _>>()?;
        let brief = self.entry.brief.clone();
        if fds.len() as u64 != u64::from(brief.nr_fds) || region.incarnation() != brief.incarnation
        {
            return Err(ServeError::NoDescriptor);
        }
        self.entry = Arc::new(Entry { brief, fds });
        let mut state = self.shared.state();
        state.entries.insert(self.entry.brief.name.to_string(), Arc::clone(&self.entry));
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.entries.remove(&*self.entry.brief.name);
        state.changes.push(Change::Gone(self.entry.brief.clone()));
        drop(state);
        self.shared.ring();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // ORDERING: relaxed; the eventfd's write and read order it.
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
