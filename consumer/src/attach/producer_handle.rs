//! Handles of producers: what the kernel says of a producer's life.
//!
//! Neither a process id that was used again nor one of another namespace is taken for a producer.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use domstat_layout::directory::RegionLink;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pidfd::{is_over, number, pid_of};
use super::time_namespace::ProducerClocks;
use crate::error::AttachError;
use crate::handover::Connection;
use crate::region::file::{is_held, is_same_file};
use crate::region::{Backing, MappedFile, Region};

/// What ends with the producer.
pub(crate) enum ProducerHandle {
    /// The connection on which the region was handed over.
    Connection(Arc<Connection>),
    /// The process to whose descriptor the region's entry leads.
    Process(Arc<OwnedFd>),
    /// An entry that leads to a process of another process id namespace, which this process cannot
    /// name. It leads nowhere when that process has exited.
    Entry(PathBuf),
    /// The lock that the producer keeps on its file, and the process that took it, once that was
    /// looked for and if it was found: its exit is noticed without polling.
    Lock(OnceLock<Option<OwnedFd>>),
    /// No handle: no process held a lock on the file when it was attached.
    NoLock,
    /// No handle: the caller gave pages, or a descriptor from elsewhere.
    Unknown,
}

impl ProducerHandle {
    /// Whether the producer has exited.
    pub(crate) fn is_over(&self, region: &Region) -> bool {
        match self {
            Self::Connection(connection) => connection.is_over(),
            Self::Process(pidfd) => is_over([(pidfd.as_fd(), PollFlags::IN)]),
            Self::Lock(_) => region.is_held() == Some(false),
            Self::Entry(path) => is_dangling(path),
            Self::NoLock | Self::Unknown => false,
        }
    }

    /// The producer's clocks; this process's where the producer is not known as a process.
    pub(crate) fn clocks(&self) -> ProducerClocks {
        let of = |pidfd: BorrowedFd<'_>| {
            let pid = pid_of(pidfd).ok().flatten()?;
            let clocks = ProducerClocks::of(pid);
            // Its number was its own meanwhile if it has not exited.
            (!is_over([(pidfd, PollFlags::IN)])).then_some(clocks)
        };
        match self {
            Self::Connection(connection) => connection.clocks(of),
            Self::Process(pidfd) => of(pidfd.as_fd()).unwrap_or_default(),
            Self::Lock(holder) => {
                let holder = holder.get().and_then(Option::as_ref);
                holder.and_then(|pidfd| of(pidfd.as_fd())).unwrap_or_default()
            }
            Self::Entry(_) | Self::NoLock | Self::Unknown => ProducerClocks::Own,
        }
    }

    /// What becomes ready when the producer exits, and the events to wait for.
    pub(crate) fn fds(&self, region: &Region) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let process = match self {
            Self::Connection(connection) => return connection.fds().collect(),
            Self::Process(pidfd) => Some(pidfd.as_fd()),
            Self::Lock(_) => self.lock_holder(region),
            Self::NoLock | Self::Entry(_) | Self::Unknown => None,
        };
        process.map(|pidfd| (pidfd, PollFlags::IN)).into_iter().collect()
    }

    /// The process that holds the lock, looked for at the first call.
    pub(crate) fn lock_holder(&self, region: &Region) -> Option<BorrowedFd<'_>> {
        let Self::Lock(holder) = self else { return None };
        let holder = holder.get_or_init(|| find_lock_holder(region.files().next()?));
        holder.as_ref().map(AsFd::as_fd)
    }
}

/// Whether the path leads nowhere. One that cannot be looked at now may lead somewhere.
fn is_dangling(path: &Path) -> bool {
    matches!(rustix::fs::stat(path), Err(Errno::NOENT | Errno::NOTDIR))
}

/// Descriptors of processes: one for each process, however many regions it produces.
#[derive(Default)]
pub(crate) struct Processes(HashMap<Pid, Weak<OwnedFd>>);

impl Processes {
    /// The process that has this number now.
    fn open(&mut self, pid: Pid) -> Result<Arc<OwnedFd>, Errno> {
        // A process that has not exited still has its number.
        if let Some(pidfd) = self.0.get(&pid).and_then(Weak::upgrade)
            && !is_over([(pidfd.as_fd(), PollFlags::IN)])
        {
            return Ok(pidfd);
        }
        let pidfd = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        self.0.insert(pid, Arc::downgrade(&pidfd));
        Ok(pidfd)
    }

    /// Forgets processes that produce no attached region.
    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|_, pidfd| pidfd.strong_count() > 0);
    }
}

/// Maps the region at `path` and finds its producer.
pub(crate) fn open(
    path: &Path,
    processes: &mut Processes,
) -> Result<(MappedFile, ProducerHandle), AttachError> {
    // A bounded number of attempts: an entry may be replaced again and again.
    for _ in 0..10 {
        let mapped = MappedFile::open(path)?;
        if let Some(producer) = find(path, &mapped, processes)? {
            return Ok((mapped, producer));
        }
    }
    Err(AttachError::ProducerExited { path: path.to_owned() })
}

/// Finds the producer of what was mapped at `path`; `None` if the path leads to another file now.
pub(crate) fn find(
    path: &Path,
    mapped: &MappedFile,
    processes: &mut Processes,
) -> Result<Option<ProducerHandle>, AttachError> {
    let link = std::fs::read_link(path).ok();
    let Some(pid) = link.as_deref().and_then(pid_in).or_else(|| pid_in(path)) else {
        // A lock that cannot be asked for says no more of a producer than one that nobody holds.
        let is_file = mapped.backing() == Backing::File;
        let held = is_held(mapped.backing(), mapped.file()).unwrap_or(!is_file);
        let lock = || ProducerHandle::Lock(OnceLock::new());
        return Ok(Some(if held { lock() } else { ProducerHandle::NoLock }));
    };
    let entry = || Ok(Some(ProducerHandle::Entry(path.to_owned())));
    let pidfd = match processes.open(pid) {
        Ok(pidfd) => pidfd,
        Err(e @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
            let action = format!("open process {}", pid.as_raw_nonzero());
            return Err(AttachError::os(action, e));
        }
        // It has exited, unless the entry means a number of another namespace.
        Err(_) => return entry(),
    };
    // A process that has not exited after this has had its number since the pidfd was opened. So
    // what was mapped is a descriptor of that process if the path leads to it in between.
    if std::fs::read_link(path).ok() != link || !is_same_file(path, mapped.file()) {
        return Ok(None);
    }
    if is_over([(pidfd.as_fd(), PollFlags::IN)]) {
        return Err(AttachError::ProducerExited { path: path.to_owned() });
    }
    let same = pid_of(pidfd.as_fd()).is_ok_and(|found| found == Some(pid));
    if same { Ok(Some(ProducerHandle::Process(pidfd))) } else { entry() }
}

/// The process in `/proc/PID/fd/N`.
fn pid_in(link: &Path) -> Option<Pid> {
    let link = RegionLink::parse(link.to_str()?)?;
    Pid::from_raw(i32::try_from(link.pid).ok()?)
}

/// Looks at the kernel's list of locks.
const HOLDER_ATTEMPTS: u32 = 16;

/// The process that holds the lock on a plain file, if it can be found. The kernel's list can leave
/// out a lock when others come and go while it is read.
fn find_lock_holder(file: BorrowedFd<'_>) -> Option<OwnedFd> {
    let file = std::fs::File::from(file.try_clone_to_owned().ok()?);
    let meta = file.metadata().ok()?;
    (0..HOLDER_ATTEMPTS).find_map(|_| try_lock_holder(&meta))
}

fn try_lock_holder(meta: &std::fs::Metadata) -> Option<OwnedFd> {
    let pid = lock_holder_pid(meta.dev(), meta.ino())?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // The lock is held under that number after the pidfd was opened, too, and its process lives.
    let still = lock_holder_pid(meta.dev(), meta.ino()) == Some(pid)
        && !is_over([(pidfd.as_fd(), PollFlags::IN)])
        && pid_of(pidfd.as_fd()).is_ok_and(|found| found == Some(pid));
    still.then_some(pidfd)
}

/// The process that holds the exclusive lock on a file, as `/proc/locks` says.
fn lock_holder_pid(device: u64, inode: u64) -> Option<Pid> {
    let file =
        format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut parts = line.split_whitespace().skip(1);
        let is_lock = parts.next()? == "FLOCK" && parts.nth(1)? == "WRITE";
        let pid = parts.next()?;
        if is_lock && parts.next()? == file { number(pid) } else { None }
    })
}
