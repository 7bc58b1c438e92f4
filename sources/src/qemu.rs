//! QEMU through its machine protocol (QMP) and through /proc: vCPUs, disks, write thresholds and
//! block jobs of each VM, on a thread of its own. `docs/qemu.md` has the table of groups, with what
//! each comes from and how often it is asked.
//!
//! Every group's `updated_ns` is when QEMU was asked, or the file read, not when it was written.
//! A QEMU that does not answer is not asked again until it does: its groups grow old, and say so,
//! while what comes from /proc goes on.
//!
//! A QEMU may be hostile: its guest may have taken it over. Time, memory and what it may list are
//! bounded ([`qmp`], [`limits`]), which process is its own is the kernel's word, and its thread
//! stops whatever it does.

#![allow(
    clippy::indexing_slicing,
    reason = "a serde_json::Value that is read by a key that it lacks is Null, not a panic"
)]

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::EventfdFlags;

use self::qmp::StopFlag;
use crate::SourceError;
use crate::contract::{Command, Observation, Observer, ObserverStatus, Publisher};

mod balloon;
pub(crate) mod decode;
mod discovery;
mod disk;
#[doc(hidden)]
pub mod fuzzing;
pub mod job;
mod latency;
pub mod limits;
mod migration;
pub(crate) mod procfs;
pub mod qmp;
mod queries;
mod run_state;
pub(crate) mod schedule;
mod session;
pub(crate) mod slots;
mod stats;
pub mod threshold;
mod unix_sockets;
mod vm_state;

pub use discovery::Discovery;
pub use disk::{NoDisk, find};
#[cfg(feature = "libvirt")]
pub(crate) use session::publishable;

/// How VMs are observed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time between two looks at what moves all the time.
    pub interval: Duration,
    /// Time between two query-stats; zero is never. `None`: `interval`, but 30 s before QEMU 8.1,
    /// which interrupts every vCPU for each query.
    pub stats_interval: Option<Duration>,
    /// How long QEMU may take to answer.
    pub limit: Duration,
    /// What domains are called.
    pub names: Names,
    /// Whether QEMU is to keep histograms of latencies, which costs it a little for each request.
    pub latency_histograms: bool,
    /// How often the balloon is to ask its driver in the guest; `None` leaves it as it is.
    pub balloon_interval: Option<Duration>,
}

/// What domains are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As their QMP sockets, without the extension: the operator names them.
    #[default]
    OfSocket,
    /// As QEMU says; a hostile QEMU may take the name of another VM that is not published yet.
    OfQemu,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            stats_interval: None,
            limit: Duration::from_secs(2),
            names: Names::OfSocket,
            latency_histograms: false,
            balloon_interval: None,
        }
    }
}

/// The QEMU that listens on a QMP socket, now or later.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The QMP socket.
    pub path: PathBuf,
    /// How it is observed.
    pub options: Options,
}

impl Observer for Qemu {
    fn observe<P: Publisher>(self, publisher: P) -> Result<Box<dyn Observation>, SourceError> {
        Ok(Box::new(Vm::start(&self.path, &self.options, publisher)?))
    }
}

/// One VM that is observed. Dropping it asks its thread to end, and does not wait for it.
#[derive(Debug)]
pub struct Vm {
    path: PathBuf,
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    stop: StopFlag,
    status: Arc<Mutex<ObserverStatus>>,
    thread: JoinHandle<()>,
}

impl Vm {
    /// Starts to observe the QEMU that listens on `path`, now or later.
    ///
    /// # Errors
    /// [`SourceError::Os`] if the host has no thread or descriptor left.
    pub fn start<P: Publisher>(
        path: &Path,
        options: &Options,
        publisher: P,
    ) -> Result<Self, SourceError> {
        let os = |action: &str| {
            let action = format!("{action} for {}", path.display());
            move |source| SourceError::Os { action, source }
        };
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let wake = rustix::event::eventfd(0, flags)
            .map_err(|e| os("make an event descriptor")(e.into()))?;
        let wake = Arc::new(wake);
        let status = Arc::new(Mutex::new(ObserverStatus::default()));
        let (commands, inbox) = channel();
        let (options, at) = (options.clone(), path.to_owned());
        let stop = StopFlag::new().map_err(os("make an event descriptor"))?;
        let channels = session::Channels {
            inbox,
            wake: Arc::clone(&wake),
            stop: stop.clone(),
            status: Arc::clone(&status),
        };
        let thread = std::thread::Builder::new()
            .name("domstat-qmp".to_owned())
            .spawn(move || session::run(at, options, publisher, channels))
            .map_err(os("start a thread"))?;
        Ok(Self { path: path.to_owned(), commands, wake, stop, status, thread })
    }
}

impl Observation for Vm {
    fn address(&self) -> &Path {
        &self.path
    }

    fn status(&self) -> ObserverStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(&self, command: Command) {
        // Without the thread the command is dropped, which its caller sees.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn ask_to_stop(&self) {
        self.stop.raise();
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}
