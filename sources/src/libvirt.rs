//! libvirt: the domains of a connection, through libvirt's own library and through /proc. A VM needs
//! no second QMP socket and no restart, and libvirt's monitor is not touched. `docs/libvirt.md` has
//! the table of groups.
//!
//! [`Host`] follows which domains run. Each has an observer, a thread that waits for nothing longer
//! than its limit, and a [`worker`], a thread that makes its calls of libvirt and may hang in one: a
//! VM that does not answer costs only itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use self::session::{Channels, Observer as DomainObserver};
use self::sys::{Connect, Take, Uuid, VirError};
use self::worker::{Message, Target};
use crate::SourceError;
use crate::contract::{Command, Fleet, Observation, Observer, ObserverStatus, Publisher};
use crate::qemu::procfs::QemuProcess;
use crate::qemu::schedule::Retry;

mod described;
mod levels;
mod measured;
mod migration;
mod params;
mod session;
mod state;
mod stats;
mod sys;
mod vm;
mod worker;
pub(crate) mod xml;

/// How often the domains that run are listed, whatever events say.
const RELIST: Duration = Duration::from_secs(5);
/// How long after an event they are listed: a domain that is started again has stopped and started.
const SETTLE: Duration = Duration::from_millis(100);

/// How the domains of a connection are observed.
#[derive(Clone, Debug)]
pub struct Options {
    /// libvirt's URI.
    pub uri: String,
    /// Whether to connect read-only: nothing can be changed then.
    pub read_only: bool,
    /// Time between two looks at what moves all the time.
    pub interval: Duration,
    /// How long libvirt may take to answer for a domain.
    pub limit: Duration,
    /// Where libvirt keeps the pid files of its QEMUs; `None`: they are not of this host.
    pub pid_dir: Option<PathBuf>,
}

impl Options {
    /// The defaults for this URI.
    #[must_use]
    pub fn new(uri: &str) -> Self {
        Self {
            uri: uri.to_owned(),
            read_only: false,
            interval: Duration::from_secs(1),
            limit: Duration::from_secs(2),
            pid_dir: pid_dir(uri),
        }
    }
}

/// Where libvirt keeps pid files, if the connection is to the QEMU driver of this host.
fn pid_dir(uri: &str) -> Option<PathBuf> {
    let of_host = uri.strip_prefix("qemu:///").or_else(|| uri.strip_prefix("qemu+unix:///"))?;
    match of_host.split('?').next()? {
        "system" => Some(PathBuf::from("/run/libvirt/qemu")),
        "session" => {
            let dir = std::env::var_os("XDG_RUNTIME_DIR")?;
            Some(Path::new(&dir).join("libvirt/qemu/run"))
        }
        _ => None,
    }
}

/// The QEMU of a domain, if libvirt's pid file names a process of this host that was started for it.
fn process_of(options: &Options, name: &str, uuid: &Uuid) -> Option<QemuProcess> {
    let dir = options.pid_dir.as_ref().filter(|_| !name.contains('/'))?;
    let mut text = String::new();
    let file = std::fs::File::open(dir.join(format!("{name}.pid"))).ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    let uuid = uuid::Uuid::from_bytes(*uuid).to_string();
    QemuProcess::with_word(text.trim().parse().ok()?, &uuid)
}

/// A domain of libvirt, which runs now or later.
#[derive(Clone, Debug)]
pub struct LibvirtDomain {
    /// Its UUID, in textual byte order.
    pub uuid: [u8; 16],
    /// How it is observed.
    pub options: Options,
}

impl LibvirtDomain {
    fn address(&self) -> PathBuf {
        Path::new(&self.options.uri).join(uuid::Uuid::from_bytes(self.uuid).to_string())
    }
}

impl Observer for LibvirtDomain {
    fn observe<P: Publisher>(self, publisher: P) -> Result<Box<dyn Observation>, SourceError> {
        let address = self.address();
        let os = |source| SourceError::Os {
            action: format!("start a thread for {}", address.display()),
            source,
        };
        let status = Arc::new(Mutex::new(ObserverStatus::default()));
        let (sender, inbox) = channel();
        let (asks, asked) = channel();
        let target = Target {
            uri: self.options.uri.clone(),
            read_only: self.options.read_only,
            uuid: self.uuid,
            is_of_host: self.options.pid_dir.is_some(),
        };
        let (to_worker, told) = (target.clone(), sender.clone());
        // Nobody waits for it: it may hang in a call when the daemon ends.
        let worker = std::thread::Builder::new().name("domstat-virt-io".to_owned());
        worker.spawn(move || worker::run(&to_worker, &asked, &told)).map_err(os)?;
        let channels = Channels { inbox, asks, status: Arc::clone(&status) };
        let observer =
            DomainObserver::new(address.clone(), target, self.options, publisher, channels);
        let thread = std::thread::Builder::new().name("domstat-virt".to_owned());
        let thread = thread.spawn(move || observer.run()).map_err(os)?;
        Ok(Box::new(Observed { address, sender, status, thread }))
    }
}

/// One domain that is observed. Dropping it asks its thread to end, and does not wait for it.
struct Observed {
    address: PathBuf,
    sender: Sender<Message>,
    status: Arc<Mutex<ObserverStatus>>,
    thread: JoinHandle<()>,
}

impl Observation for Observed {
    fn address(&self) -> &Path {
        &self.address
    }

    fn status(&self) -> ObserverStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn command(&self, command: Command) {
        // Without the thread the command is dropped, which its caller sees.
        let _ = self.sender.send(Message::Command(command));
    }

    fn ask_to_stop(&self) {
        let _ = self.sender.send(Message::Stop);
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// Follows which domains of a connection run, and has each observed. Dropping it ends that, and leaves
/// the domains to their fleet.
#[derive(Debug)]
pub struct Host {
    stopped: Arc<AtomicBool>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // ORDERING: a flag that guards no other data; a domain that is added once more is harmless.
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl Host {
    /// Starts to follow, on a thread of its own, and has every domain that runs observed in `fleet`. A
    /// libvirt that is not there now is connected to later.
    ///
    /// # Errors
    /// [`SourceError`] if the host has no thread left.
    pub fn start<P: Publisher>(
        options: Options,
        fleet: Arc<Fleet>,
        publisher: impl FnMut() -> P + Send + 'static,
    ) -> Result<Self, SourceError> {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut follower = Follower {
            options,
            fleet,
            publisher,
            stopped: Arc::clone(&stopped),
            noted: String::new(),
        };
        std::thread::Builder::new()
            .name("domstat-virt-fl".to_owned())
            .spawn(move || follower.run())
            .map_err(|source| SourceError::Os { action: "start a thread".to_owned(), source })?;
        Ok(Self { stopped })
    }
}

struct Follower<F> {
    options: Options,
    fleet: Arc<Fleet>,
    publisher: F,
    stopped: Arc<AtomicBool>,
    /// The last note to the operator, so that it is written once.
    noted: String,
}

impl<P: Publisher, F: FnMut() -> P> Follower<F> {
    fn run(&mut self) {
        let mut retry = Retry::default();
        while !self.is_stopped() {
            match Connect::open(&self.options.uri, self.options.read_only) {
                Ok(connect) => {
                    retry.reset();
                    self.noted.clear();
                    if let Err(error) = self.follow(&Arc::new(connect)) {
                        self.note(&error.to_string());
                    }
                }
                Err(error) => self.note(&error.to_string()),
            }
            std::thread::sleep(retry.pause());
        }
    }

    fn is_stopped(&self) -> bool {
        // ORDERING: a flag that guards no other data.
        self.stopped.load(Ordering::Relaxed)
    }

    /// Follows until the connection is lost.
    fn follow(&mut self, connect: &Arc<Connect>) -> Result<(), VirError> {
        let (sender, changes) = channel();
        let take: Take = Arc::new(move |_, _| {
            let _ = sender.send(());
        });
        let _listener = connect.listen(None, take)?;
        while !self.is_stopped() {
            let running = connect.running()?;
            self.observe(running.into_iter().map(|listed| listed.uuid).collect());
            match changes.recv_timeout(RELIST) {
                Ok(()) => {
                    std::thread::sleep(SETTLE);
                    while changes.try_recv().is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// Has these domains observed and no other ones.
    fn observe(&mut self, running: BTreeSet<Uuid>) {
        let of = |uuid| LibvirtDomain { uuid, options: self.options.clone() };
        let wanted: BTreeMap<PathBuf, LibvirtDomain> =
            running.into_iter().map(of).map(|domain| (domain.address(), domain)).collect();
        let observed: BTreeSet<PathBuf> = self.fleet.addresses().into_iter().collect();
        for address in observed.iter().filter(|address| !wanted.contains_key(*address)) {
            self.fleet.remove(address);
        }
        for (address, domain) in wanted {
            if observed.contains(&address) || self.is_stopped() {
                continue;
            }
            match domain.observe((self.publisher)()) {
                Ok(observation) => self.fleet.add(observation),
                Err(error) => self.note(&error.with_causes()),
            }
        }
    }

    fn note(&mut self, text: &str) {
        if self.noted != text {
            (self.publisher)().note(&format!("{}: {text}", self.options.uri));
            text.clone_into(&mut self.noted);
        }
    }
}
