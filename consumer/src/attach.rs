//! Attachments: regions together with the liveness of their producers.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_layout::State;
use rustix::event::PollFlags;

use crate::error::AttachError;
use crate::handover::Connection;
use crate::read::Snapshot;
use crate::region::file::{FileId, id_at, id_of};
use crate::region::{Backing, MappedFile, Region};

mod liveness;
pub(crate) mod pidfd;
mod producer_handle;
pub(crate) mod time_namespace;
pub(crate) mod truncation;

pub use liveness::{Limits, Liveness, StalledRecord};
pub use truncation::Truncated;

use liveness::Looks;
use producer_handle::ProducerHandle;

pub(crate) use producer_handle::Processes;

/// An attached region, and a handle of its producer.
///
/// ```no_run
/// use domstat_consumer::{Attachment, Reading};
/// use domstat_layout::latest::Cpu;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut web1 = Attachment::connect("/run/domstat.sock", "web1")?.reattaching();
/// loop {
///     match web1.read_live(|region| region.dom().read::<Cpu>()) {
///         Ok(cpu) => println!("{:?}", cpu?), // a value of now
///         Err(state) => println!("{}", state.name()),
///     }
///     if let Some(reattached) = web1.refresh().reattached {
///         println!("reattached: {reattached:?}");
///     }
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Attachment {
    region: Arc<Region>,
    producer: ProducerHandle,
    origin: Origin,
    limits: Limits,
    looks: Looks,
    retry: Option<Retry>,
}

/// Where a region was found, and is looked for again.
enum Origin {
    Path(PathBuf),
    Socket {
        path: PathBuf,
        name: String,
        deadline: Duration,
    },
    /// It cannot be found again.
    Given,
}

/// When a producer that has exited is looked for again.
struct Retry {
    pause: Duration,
    next: Instant,
}

/// Pause between two looks at a group in mid-update.
const AGAIN: Duration = Duration::from_millis(1);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a daemon may take to say welcome to who looks for it again, and to hand the region over.
const ANSWER: Duration = Duration::from_millis(500);

/// What was found when a region was reattached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reattached {
    /// The same memory: the producer lives.
    Same,
    /// Other memory of the same incarnation: the producer was started again and goes on, counters
    /// continue.
    Continued,
    /// A new incarnation: counters start over.
    Restarted,
}

/// What [`Attachment::refresh`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// How the region stands now.
    pub liveness: Liveness,
    /// What was attached instead, if something was.
    pub reattached: Option<Reattached>,
}

impl Attachment {
    /// Attaches to the region at `path`: a producer's file, or an entry made by
    /// `domstat_producer`'s `announce`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        let path = path.as_ref();
        let (mapped, producer) = producer_handle::open(path, &mut Processes::default())?;
        let region = mapped.attach()?;
        // Now, while the lock's holder is certainly that of the file that was found.
        producer.lock_holder(&region);
        Ok(Self::new(region, producer, Origin::Path(path.to_owned())))
    }

    /// As [`Attachment::open`], for one of many regions whose producers share descriptors.
    pub(crate) fn open_with(path: &Path, processes: &mut Processes) -> Result<Self, AttachError> {
        let (mapped, producer) = producer_handle::open(path, processes)?;
        Ok(Self::new(mapped.attach()?, producer, Origin::Path(path.to_owned())))
    }

    /// Attaches to a region that was mapped before, so that it need not be mapped again after a
    /// look at it.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_mapped(mapped: MappedFile) -> Result<Self, AttachError> {
        Self::from_mapped_with(mapped, &mut Processes::default())
    }

    /// As [`Attachment::from_mapped`], for one of many regions whose producers share descriptors.
    pub(crate) fn from_mapped_with(
        mapped: MappedFile,
        processes: &mut Processes,
    ) -> Result<Self, AttachError> {
        match mapped.path().map(Path::to_owned) {
            Some(path) => Self::from_mapped_at(path, mapped, processes),
            None => Ok(Self::from_region(mapped.attach()?, None)),
        }
    }

    fn from_mapped_at(
        path: PathBuf,
        mapped: MappedFile,
        processes: &mut Processes,
    ) -> Result<Self, AttachError> {
        match producer_handle::find(&path, &mapped, processes)? {
            Some(producer) => {
                let region = mapped.attach()?;
                producer.lock_holder(&region);
                Ok(Self::new(region, producer, Origin::Path(path)))
            }
            // The path leads to another file by now.
            None => Self::open(path),
        }
    }

    /// Attaches to the region of the domain called `name` that the daemon at `socket` serves.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn connect(socket: impl AsRef<Path>, name: &str) -> Result<Self, AttachError> {
        Self::from_connection(&Arc::new(Connection::connect(socket)?), name)
    }

    /// As [`Attachment::connect`], on a connection that serves many.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_connection(connection: &Arc<Connection>, name: &str) -> Result<Self, AttachError> {
        Ok(Self::from_handover(connection.attach(name)?, connection, name))
    }

    /// A region that was handed over on `connection`.
    pub(crate) fn from_handover(region: Region, connection: &Arc<Connection>, name: &str) -> Self {
        let (path, deadline) = (connection.path().to_owned(), ANSWER);
        let origin = Origin::Socket { path, name: name.to_owned(), deadline };
        Self::new(region, ProducerHandle::Connection(Arc::clone(connection)), origin)
    }

    /// A region from elsewhere, of whose producer nothing is known but `pidfd`, if given.
    #[must_use]
    pub fn from_region(region: Region, pidfd: Option<OwnedFd>) -> Self {
        Self::new(
            region,
            pidfd.map_or(ProducerHandle::Unknown, |fd| ProducerHandle::Process(Arc::new(fd))),
            Origin::Given,
        )
    }

    fn new(region: Region, producer: ProducerHandle, origin: Origin) -> Self {
        let (limits, looks) = (Limits::default(), Looks::default());
        let region = region.with_clocks(producer.clocks());
        Self { region: Arc::new(region), producer, origin, limits, looks, retry: None }
    }

    /// Sets from when on a silence means something.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets from when on a silence means something.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// From when on a silence means something.
    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Has [`Attachment::refresh`] reattach when the producer has exited or was restarted.
    #[must_use]
    pub fn reattaching(mut self) -> Self {
        self.retry = Some(Retry { pause: FIRST_PAUSE, next: Instant::now() });
        self
    }

    /// The region, whatever its state: its values may be old ones. [`Attachment::read_live`] gives
    /// those of now.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn shared_region(&self) -> Arc<Region> {
        Arc::clone(&self.region)
    }

    /// What becomes ready when the producer exits, and the events to wait for.
    pub(crate) fn producer_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        self.producer.fds(&self.region)
    }

    /// Whether the producer has exited.
    pub(crate) fn has_no_producer(&self) -> bool {
        self.producer.is_over(&self.region)
    }

    /// Whether a producer took a lock on the file after it was attached without one.
    pub(crate) fn is_held_by_now(&self) -> bool {
        matches!(self.producer, ProducerHandle::NoLock) && self.region.is_held() == Some(true)
    }

    /// How the region stands now. A look at every group's `seq`, and a few system calls; it never
    /// waits.
    ///
    /// That a writer stands in mid-update is only known from the second look on, by how long the
    /// first was ago: [`Limits::stalled_after`].
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let region = &self.region;
        let over = self.producer.is_over(region);
        // In this order: a producer that ends says so in the region first.
        let status = region.status();
        if let Err(lost) = region.intact() {
            return Liveness::Lost(lost);
        }
        if status.state == Some(State::Retired) {
            return Liveness::Retired;
        }
        if !status.same_incarnation || self.is_replaced() {
            return Liveness::Restarted;
        }
        if over {
            return Liveness::Dead;
        }
        // Stale or stalled would say that the producer lives.
        if matches!(self.producer, ProducerHandle::NoLock) {
            return Liveness::Unheld;
        }
        self.looks.judge(region, &self.limits)
    }

    /// The records of which a group has been in mid-update for longer than [`Limits::stalled_after`], as of the
    /// last [`Attachment::liveness`]: their writers were stopped or died, as a device process does while its VMM
    /// lives. All others are read as ever.
    #[must_use]
    pub fn stalled(&self) -> Vec<StalledRecord> {
        self.looks.stalled(&self.limits)
    }

    /// Looks at the region until each group that is in mid-update is known to be stalled or was written on: a
    /// moment next to writers that live, else [`Limits::stalled_after`]. For a program that looks once, before its
    /// snapshot.
    pub fn settle(&self) {
        let until = Instant::now() + self.limits.stalled_after + AGAIN;
        while self.liveness().is_up() && self.looks.is_open(&self.limits) && Instant::now() <= until
        {
            std::thread::sleep(AGAIN);
        }
    }

    /// As [`Region::snapshot`], and then how the region stands. A group of a record that is
    /// stalled ([`Attachment::stalled`]) and that was not written since is an error in the snapshot, not an old
    /// value, also where a second copy of it can be read; what names the record can be read.
    pub fn snapshot(&self, snapshot: &mut Snapshot) -> Liveness {
        self.region.snapshot(snapshot);
        // Read after the copy: a region that is live now was live during the whole copy.
        let liveness = self.liveness();
        snapshot.withhold(self.stalled());
        liveness
    }

    /// What `read` makes of the region, if the region is live after it was read.
    ///
    /// # Errors
    /// The region's state, if it is any other.
    pub fn read_live<T>(&self, read: impl FnOnce(&Region) -> T) -> Result<T, Liveness> {
        let value = read(&self.region);
        let liveness = self.liveness();
        if liveness.is_live() { Ok(value) } else { Err(liveness) }
    }

    /// As [`Attachment::liveness`]; if the producer has exited or was restarted, or a record is stalled whose memory a
    /// daemon may have replaced, and [`Attachment::reattaching`] was asked for, also tries to reattach, less and
    /// less often, and says what it found. Never waits longer than a second.
    pub fn refresh(&mut self) -> Refreshed {
        let liveness = self.liveness();
        let now = Instant::now();
        let has_to = liveness.is_over() || self.may_be_replaced();
        let Some(retry) = self.retry.as_mut().filter(|_| has_to) else {
            return Refreshed { liveness, reattached: None };
        };
        if now < retry.next {
            return Refreshed { liveness, reattached: None };
        }
        retry.next = now + retry.pause;
        retry.pause = (retry.pause * 2).min(LONGEST_PAUSE);
        let was_over = liveness.is_over();
        let found = self.reattach();
        let liveness = self.liveness();
        // The same file without its producer is not news, nor is the same file of one that lives.
        let is_news =
            |found: &Reattached| *found != Reattached::Same || (was_over && !liveness.is_over());
        Refreshed { liveness, reattached: found.ok().filter(is_news) }
    }

    /// Looks for the region where it was found, and attaches to what is there.
    ///
    /// # Errors
    /// [`AttachError`]; the attachment is as it was.
    pub fn reattach(&mut self) -> Result<Reattached, AttachError> {
        let mut new = match &self.origin {
            Origin::Path(path) => Self::open(path)?,
            Origin::Socket { path, name, deadline } => Self::from_connection(
                &Arc::new(Connection::connect_within(path, *deadline)?),
                name,
            )?,
            Origin::Given => return Err(AttachError::CannotReattach),
        };
        let incarnation = |a: &Self| a.region.header().incarnation;
        let found = if self.has_files_of(&new) {
            Reattached::Same
        } else if incarnation(&new) == incarnation(self) {
            Reattached::Continued
        } else {
            Reattached::Restarted
        };
        // Reopening the same file loses the knowledge that a producer existed, so the attachment
        // stays as it is.
        let no_producer = |a: &Self| a.liveness().is_over() || a.liveness() == Liveness::Unheld;
        if found == Reattached::Same && self.liveness().is_over() && no_producer(&new) {
            return Ok(found);
        }
        new.limits = self.limits;
        new.retry = self.retry.take().map(|_| Retry { pause: FIRST_PAUSE, next: Instant::now() });
        if found == Reattached::Same && self.may_be_replaced() {
            // It was not, and what was seen of the record so far is still so.
            self.retry = new.retry;
            return Ok(found);
        }
        *self = new;
        Ok(found)
    }

    /// Whether a record's memory may have been replaced, which the owner of a region does for a new
    /// device process.
    pub(crate) fn may_be_replaced(&self) -> bool {
        self.region.backing() == Backing::Frames
            && matches!(self.origin, Origin::Socket { .. })
            && !self.stalled().is_empty()
    }

    /// Whether both are of the same memory, all of it.
    pub(crate) fn has_files_of(&self, other: &Self) -> bool {
        let ids = |a: &Self| a.region.files().map(id_of).collect::<Option<Vec<_>>>();
        ids(self).is_some_and(|own| !own.is_empty() && ids(other) == Some(own))
    }

    /// Whether the path that the region was found at leads to another file now.
    fn is_replaced(&self) -> bool {
        let Origin::Path(path) = &self.origin else { return false };
        match (id_at(path), inode(&self.region)) {
            (Ok(now), Some(mapped)) => now != mapped,
            // It leads nowhere: it was removed, or the producer has exited, which its handle says.
            _ => false,
        }
    }
}

/// The first of the region's files.
fn inode(region: &Region) -> Option<FileId> {
    id_of(region.files().next()?)
}
