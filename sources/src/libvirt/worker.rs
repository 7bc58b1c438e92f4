//! Worker of one domain: the thread that makes its calls of libvirt, one after the other, over a
//! connection of its own.
//!
//! A call to a VM that does not answer returns when that VM answers or its QEMU ends, and meanwhile
//! holds one of libvirtd's workers. It holds nothing else: the domain's observer waits for the
//! worker with a limit, and other domains have other connections, since libvirtd serves five calls
//! of one connection at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Instant, SystemTime};

use domstat_layout::latest::BlkLimits;
use domstat_layout::{Clock, Ns};
use virt_sys as sys;

use super::stats::{Image, Stats, disk_and_index, limits};
use super::sys::{Connect, Domain, JobInfo, Listener, Param, Take, Uuid, VirError, VirEvent};
use super::xml::Description;
use crate::contract::{ControlError, DiskInfo, ErrorCode, SetRequest, ThresholdSet};
use crate::host::now;
use crate::qemu::find;
use crate::qemu::schedule::Retry;

/// How often a request begins again while the disk's images change.
const MAX_ATTEMPTS: u32 = 5;

/// Where a domain is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) uri: String,
    pub(super) read_only: bool,
    pub(super) uuid: Uuid,
    /// Whether its process is looked for on this host.
    pub(super) is_of_host: bool,
}

/// What the observer wants.
#[derive(Debug)]
pub(super) enum Ask {
    Look(LookFor),
    /// Arm or disarm a threshold.
    Arm(SetRequest),
    /// Cancel the job of this disk.
    Abort(String),
    /// Find the domain again, which may be another one of its UUID by now.
    Find,
}

/// What a look is for. Images and the state belong to every one.
#[derive(Clone, Debug, Default)]
pub(super) struct LookFor {
    /// Memory, IOThreads, the dirty rate.
    pub(super) rest: bool,
    /// CPU times. libvirtd needs seconds for the first ones that it is asked for, because it asks every
    /// QEMU that is installed for its capabilities.
    pub(super) cpus: bool,
    /// KVM's statistics. Before QEMU 8.1 they cost every vCPU an exit.
    pub(super) kvm: bool,
    /// Limits of disks.
    pub(super) limits: bool,
    /// The job of the domain itself.
    pub(super) migration: bool,
    /// Interfaces.
    pub(super) nets: bool,
    /// Jobs of these disks.
    pub(super) jobs: Vec<String>,
    /// Jobs of every disk.
    pub(super) all_jobs: bool,
}

impl LookFor {
    /// Everything, with CPU times only if they are wanted.
    pub(super) const fn all(cpus: bool) -> Self {
        Self {
            rest: true,
            cpus,
            kvm: true,
            limits: true,
            migration: true,
            nets: true,
            jobs: Vec::new(),
            all_jobs: true,
        }
    }
}

/// What libvirt says, as of a moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) asked: Instant,
    pub(super) asked_ns: Ns,
    /// The same moment in seconds since 1970.
    pub(super) asked_s: u64,
    pub(super) stats: Stats,
    pub(super) jobs: Vec<JobLook>,
    /// Limits of disks, by their names.
    pub(super) limits: Vec<(String, BlkLimits)>,
    /// The job of the domain itself: virDomainJobType, and its statistics.
    pub(super) migration: Option<(u32, Vec<(String, Param)>)>,
    /// Whether everything but CPU times was asked for.
    pub(super) is_whole: bool,
    /// Whether memory and the like were.
    pub(super) has_rest: bool,
}

/// The job of a disk, as of a moment.
#[derive(Clone, Debug)]
pub(super) struct JobLook {
    pub(super) disk: String,
    pub(super) asked: Instant,
    pub(super) info: Option<JobInfo>,
}

/// What a connection begins with.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) description: Description,
    pub(super) look: Look,
}

/// What the worker tells the observer.
#[derive(Debug)]
pub(super) enum Told {
    /// It is connected, and the domain runs.
    Connected(Box<Found>),
    /// libvirt has no such domain, or it does not run.
    NoDomain,
    /// It is not connected, and why.
    Down(String),
    /// What libvirt says now.
    Look(Box<Look>),
    /// A look failed though the connection stands, and why.
    NoLook(String),
    /// A threshold is about to be sent.
    Sending { image: String, threshold: u64 },
    /// It was taken or refused.
    Sent { image: String, accepted: bool },
    /// A request to arm one is done.
    Armed(Result<ThresholdSet, ControlError>),
    /// The connection broke before libvirt answered the request.
    ArmLost(ThresholdSet),
    /// libvirt answered a cancellation: whether it is under way, or why not.
    Aborted { disk: String, result: Result<(), AbortRefused> },
    /// What was asked for last is done.
    Done,
}

/// Why a job is not canceled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AbortRefused {
    pub(super) why: String,
    /// There is no job.
    pub(super) is_no_job: bool,
    /// The connection broke before libvirt answered.
    pub(super) is_lost: bool,
}

/// What comes to an observer.
#[derive(Debug)]
pub(super) enum Message {
    Command(crate::contract::Command),
    Event(VirEvent),
    Worker(Told),
    Stop,
}

/// Works until nobody asks any more.
pub(super) fn run(target: &Target, asks: &Receiver<Ask>, inbox: &Sender<Message>) {
    let mut retry = Retry::default();
    loop {
        match Session::open(target, inbox) {
            Ok(session) => {
                retry.reset();
                match session.serve(asks) {
                    Served::Asker => return,
                    Served::Find => continue,
                    Served::Connection => {}
                }
                if session.tell(Told::Down("the connection to libvirt is lost".to_owned())) {
                    return;
                }
            }
            Err(error) if error.is_no_domain() => {
                if inbox.send(Message::Worker(Told::NoDomain)).is_err() {
                    return;
                }
            }
            Err(error) => {
                let why = format!("cannot reach it through libvirt: {error}");
                if inbox.send(Message::Worker(Told::Down(why))).is_err() {
                    return;
                }
            }
        }
        let until = Instant::now() + retry.pause();
        loop {
            match asks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                // Nothing is asked while nothing is connected.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// Nobody asks any more.
    Asker,
    /// The domain is to be found again.
    Find,
    /// The connection is lost.
    Connection,
}

/// One connection.
struct Session<'i> {
    inbox: &'i Sender<Message>,
    // In the order in which they must be dropped.
    _listener: Listener,
    domain: Domain,
    connect: Arc<Connect>,
}

/// What became of a threshold that was sent.
enum SetEnd {
    Taken,
    Refused(VirError),
    Lost,
}

impl<'i> Session<'i> {
    fn open(target: &Target, inbox: &'i Sender<Message>) -> Result<Self, VirError> {
        let connect = Arc::new(Connect::open(&target.uri, target.read_only)?);
        let domain = connect.domain(&target.uuid)?;
        let events = inbox.clone();
        let take: Take = Arc::new(move |_, event| {
            // Without an observer nobody is to be told.
            let _ = events.send(Message::Event(event));
        });
        // Events first: what fires from here on is told.
        let listener = connect.listen(Some(&domain), take)?;
        let session = Self { inbox, _listener: listener, domain, connect };
        let no_domain = || VirError::no_domain();
        let id = session.domain.id().ok_or_else(no_domain)?;
        let name = session.domain.listed().map(|listed| listed.name).ok_or_else(no_domain)?;
        let description = Description::new(&session.domain.xml()?);
        let look = session.look(&LookFor::all(!target.is_of_host))?;
        session.tell(Told::Connected(Box::new(Found { id, name, description, look })));
        Ok(session)
    }

    /// Tells the observer something; true if there is none any more.
    fn tell(&self, told: Told) -> bool {
        self.inbox.send(Message::Worker(told)).is_err()
    }

    /// Answers until the connection is lost or nobody asks any more.
    fn serve(&self, asks: &Receiver<Ask>) -> Served {
        /// How often a connection that nobody uses is looked at.
        const LOOK: std::time::Duration = std::time::Duration::from_millis(500);
        loop {
            match asks.recv_timeout(LOOK) {
                Ok(Ask::Find) => return Served::Find,
                Ok(ask) => {
                    self.answer(ask);
                    if self.tell(Told::Done) {
                        return Served::Asker;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Served::Asker,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !self.connect.is_alive() {
                return Served::Connection;
            }
        }
    }

    fn answer(&self, ask: Ask) {
        let told = match ask {
            Ask::Look(want) => match self.look(&want) {
                Ok(look) => Told::Look(Box::new(look)),
                Err(error) => self.no_look(&error),
            },
            Ask::Arm(request) => self.arm(&request),
            Ask::Find => return,
            Ask::Abort(disk) => {
                let result = self.domain.abort_job(&disk).map_err(|error| AbortRefused {
                    is_no_job: error.is_invalid_now(),
                    is_lost: !self.connect.is_alive(),
                    why: error.to_string(),
                });
                Told::Aborted { disk, result }
            }
        };
        self.tell(told);
    }

    fn no_look(&self, error: &VirError) -> Told {
        if error.is_no_domain() { Told::NoDomain } else { Told::NoLook(error.to_string()) }
    }

    /// Asks for what is wanted. A VM that another client waits for is not waited for.
    fn look(&self, want: &LookFor) -> Result<Look, VirError> {
        let mut groups = sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_BLOCK;
        if want.rest {
            groups |= sys::VIR_DOMAIN_STATS_BALLOON | sys::VIR_DOMAIN_STATS_IOTHREAD;
            groups |= sys::VIR_DOMAIN_STATS_DIRTYRATE;
        }
        if want.cpus {
            groups |= sys::VIR_DOMAIN_STATS_CPU_TOTAL | sys::VIR_DOMAIN_STATS_VCPU;
        }
        if want.kvm {
            groups |= sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_VM;
        }
        if want.nets {
            groups |= sys::VIR_DOMAIN_STATS_INTERFACE;
        }
        let (asked, asked_ns) = (Instant::now(), now(Clock::Boottime));
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let asked_s = since_1970.map_or(0, |time| time.as_secs());
        let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING
            | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
        let stats = Stats::new(&self.domain.stats(groups, flags)?);
        let is_whole = want.rest && want.kvm && want.nets && want.all_jobs;
        let mut look = Look {
            asked,
            asked_ns,
            asked_s,
            stats,
            jobs: Vec::new(),
            limits: Vec::new(),
            migration: None,
            is_whole,
            has_rest: want.rest,
        };
        if (want.cpus || want.kvm) && look.stats.vcpus.is_empty() {
            // A driver with few statistics knows this much.
            look.stats.complete(self.domain.info()?);
        }
        if want.migration {
            // A driver without such jobs, or a domain that arrives, has none to show.
            look.migration = self.domain.job_stats().ok();
        }
        let images = look.stats.images.iter().flatten();
        let own: Vec<&String> = images.filter(|i| i.depth == 0).map(|i| &i.disk).collect();
        if want.limits {
            // As above; a drive without a medium has none either.
            let tune =
                |disk: &&String| Some(((*disk).clone(), limits(&self.domain.io_tune(disk).ok()?)));
            look.limits = own.iter().filter_map(tune).collect();
        }
        let disks: Vec<String> = match want.all_jobs {
            true => own.into_iter().cloned().collect(),
            false => want.jobs.clone(),
        };
        for disk in disks {
            let asked = Instant::now();
            // A driver without jobs, or a disk that was unplugged meanwhile, has none to show.
            let Ok(info) = self.domain.job(&disk) else { continue };
            look.jobs.push(JobLook { disk, asked, info });
        }
        Ok(look)
    }

    /// Asks for the images and tells the observer, too.
    fn look_at_images(&self) -> Result<Vec<Image>, VirError> {
        let look = self.look(&LookFor::default())?;
        let images = look.stats.images.clone().unwrap_or_default();
        self.tell(Told::Look(Box::new(look)));
        Ok(images)
    }

    /// Arms a threshold on the image that the disk has now. If a snapshot, a pivot or a commit has
    /// replaced it meanwhile, what was armed is disarmed, and the request begins again.
    fn arm(&self, request: &SetRequest) -> Told {
        for _ in 0..MAX_ATTEMPTS {
            match self.try_to_arm(request) {
                Ok(Some(told)) => return told,
                Ok(None) => {}
                Err(error) => return Told::Armed(Err(error)),
            }
        }
        let why = format!("the images of {} change all the time: try again", request.disk);
        Told::Armed(Err(ControlError::new(ErrorCode::Busy, why)))
    }

    /// One attempt; `None` if the image was replaced.
    fn try_to_arm(&self, request: &SetRequest) -> Result<Option<Told>, ControlError> {
        let images = self.look_at_images().map_err(refused)?;
        let disks = disks(&images);
        let disk = find_disk(&disks, &images, &request.disk)?;
        let threshold = request.bytes(disk.capacity_bytes, disk.physical_bytes)?;
        let image = images.iter().find(|image| image.name == disk.name).ok_or_else(|| {
            ControlError::new(ErrorCode::NotFound, format!("there is no {}", disk.name))
        })?;
        let (name, key) = (image.name.clone(), image.key());
        let set =
            ThresholdSet { disk: name.clone(), node: key.clone(), threshold_bytes: threshold };
        // Set over itself it would leave open which of the two an event speaks of.
        let is_armed = threshold > 0 && image.threshold == Some(threshold);
        for threshold in is_armed.then_some(0).into_iter().chain([threshold]) {
            match self.set(&key, &name, threshold) {
                SetEnd::Taken => {}
                SetEnd::Lost => return Ok(Some(Told::ArmLost(set))),
                SetEnd::Refused(error) => {
                    return if self.is_replaced(&name, &key)? {
                        Ok(None)
                    } else {
                        Err(refused(error))
                    };
                }
            }
        }
        let after = self.look_at_images().map_err(refused)?;
        let now = after.iter().find(|image| image.name == name);
        if now.is_none_or(|now| now.key() != key) {
            // By its number: the name is that of another image by now. One that was removed has no
            // threshold.
            if let SetEnd::Lost = self.set(&key, &key, 0) {
                return Ok(Some(Told::ArmLost(set)));
            }
            return Ok(None);
        }
        match now.and_then(|now| now.threshold) {
            Some(level) if level != threshold => {
                let why = format!(
                    "{name} has a threshold of {level} bytes now: another client has replaced the \
                     one of {threshold} bytes"
                );
                Err(ControlError::new(ErrorCode::Busy, why))
            }
            // With none it has fired, which is reported.
            _ => Ok(Some(Told::Armed(Ok(set)))),
        }
    }

    fn is_replaced(&self, name: &str, key: &str) -> Result<bool, ControlError> {
        let images = self.look_at_images().map_err(refused)?;
        Ok(images.iter().find(|image| image.name == name).is_none_or(|image| image.key() != key))
    }

    /// Sends a threshold. The observer learns of it first, so that no event overtakes that.
    fn set(&self, key: &str, name: &str, threshold: u64) -> SetEnd {
        let image = key.to_owned();
        self.tell(Told::Sending { image: image.clone(), threshold });
        match self.domain.set_threshold(name, threshold) {
            Ok(()) => {
                self.tell(Told::Sent { image, accepted: true });
                SetEnd::Taken
            }
            Err(_) if !self.connect.is_alive() => SetEnd::Lost,
            Err(error) => {
                self.tell(Told::Sent { image, accepted: false });
                SetEnd::Refused(error)
            }
        }
    }
}

/// libvirt's refusal, for the client of the control socket.
fn refused(error: VirError) -> ControlError {
    let code = match &error {
        error if error.is_no_domain() => ErrorCode::Gone,
        _ => ErrorCode::Refused,
    };
    let hint =
        if error.is_denied() { "; the connection to libvirt may not change VMs" } else { "" };
    ControlError::new(code, format!("libvirt refused: {error}{hint}"))
}

/// The images as users see them.
pub(super) fn disks(images: &[Image]) -> Vec<DiskInfo> {
    let disk = |image: &Image| DiskInfo {
        name: image.name.clone(),
        backing_index: image.depth,
        source: image.path.clone(),
        node: image.index.map(|_| image.key()),
        storage_node: image.index.map(|_| image.key()),
        device: None,
        qdev: None,
        read_only: None,
        capacity_bytes: image.capacity,
        physical_bytes: image.physical,
        threshold_bytes: image.threshold,
        last_exceeded_bytes: None,
        threshold_events: 0,
    };
    images.iter().map(disk).collect()
}

/// The disk that is meant: by its name, by libvirt's number of its own image, or by its source.
pub(super) fn find_disk<'d>(
    disks: &'d [DiskInfo],
    images: &[Image],
    asked: &str,
) -> Result<&'d DiskInfo, ControlError> {
    let own =
        |image: &&Image| image.depth == 0 && disk_and_index(asked) == (&*image.disk, image.index);
    let own = images.iter().find(own).map_or(asked, |image| &image.name);
    Ok(find(disks, own)?)
}
