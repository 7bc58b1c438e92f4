//! Whether a region's producer lives, as the kernel knows it: neither a process id that was used
//! again nor one of another namespace is taken for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domstat_layout::directory::RegionLink;
use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pidfd::{is_over, number, pid_of};
use crate::error::AttachError;
use crate::handover::Connection;
use crate::region::file::is_held;
use crate::region::{Backing, MappedFile, Region};

/// What ends with the producer.
pub(crate) enum ProducerHandle {
    /// The connection on which the region was handed over.
    Connection(Arc<Connection>),
    /// The process to whose descriptor the region's entry leads.
    Process(OwnedFd),
    /// An entry that leads to a process which this one cannot name: another process id namespace.
    /// It leads nowhere when that process is gone.
    Entry(PathBuf),
    /// The lock that the producer keeps on its file, and the process that took it, if that could
    /// be found: then the end is noticed without asking.
    Lock(Option<OwnedFd>),
    /// Nothing: nobody held a lock on the file when it was attached.
    NoLock,
    /// Nothing: pages of the caller's, a descriptor from somewhere.
    Unknown,
}

impl ProducerHandle {
    /// Whether the producer is gone.
    pub(crate) fn is_over(&self, region: &Region) -> bool {
        match self {
            Self::Lock(_) => region.is_held() == Some(false),
            Self::Entry(path) => !path.exists(),
            _ => is_over(self.fds()),
        }
    }

    /// What becomes ready when the producer is gone, and for which events to wait.
    pub(crate) fn fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Connection(connection) => connection.fds().collect(),
            Self::Process(pidfd) | Self::Lock(Some(pidfd)) => vec![(pidfd.as_fd(), PollFlags::IN)],
            Self::Lock(None) | Self::NoLock | Self::Entry(_) | Self::Unknown => Vec::new(),
        }
    }
}

/// Maps the region at `path` and finds its producer.
pub(crate) fn open(path: &Path) -> Result<(MappedFile, ProducerHandle), AttachError> {
    let gone = || AttachError::ProducerExited { path: path.to_owned() };
    // Some links, then an answer: an entry that changes all the time is not waited for.
    for _ in 0..10 {
        let link = std::fs::read_link(path).ok();
        let Some(pid) = link.as_deref().and_then(pid_in).or_else(|| pid_in(path)) else {
            let mapped = MappedFile::open(path)?;
            // A lock that cannot be asked for tells no more of a producer than one that nobody holds.
            let is_file = mapped.backing() == Backing::File;
            let held = is_held(mapped.backing(), mapped.file()).unwrap_or(!is_file);
            let life =
                if held { ProducerHandle::Lock(holder(&mapped)) } else { ProducerHandle::NoLock };
            return Ok((mapped, life));
        };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            // Gone, unless the entry means a number of another namespace.
            return Ok((MappedFile::open(path)?, ProducerHandle::Entry(path.to_owned())));
        };
        let mapped = MappedFile::open(path)?;
        // A process that lives now has had its number since the pidfd was opened. So what was
        // mapped is its descriptor, if the entry still leads there.
        if std::fs::read_link(path).ok() != link {
            continue;
        }
        if is_over([(pidfd.as_fd(), PollFlags::IN)]) {
            return Err(gone());
        }
        let same = pid_of(pidfd.as_fd()).is_ok_and(|found| found == Some(pid));
        let entry = || ProducerHandle::Entry(path.to_owned());
        return Ok((mapped, if same { ProducerHandle::Process(pidfd) } else { entry() }));
    }
    Err(gone())
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
fn holder(mapped: &MappedFile) -> Option<OwnedFd> {
    let file = std::fs::File::from(mapped.file().try_clone_to_owned().ok()?);
    let meta = file.metadata().ok()?;
    (0..HOLDER_ATTEMPTS).find_map(|_| try_holder(&meta))
}

fn try_holder(meta: &std::fs::Metadata) -> Option<OwnedFd> {
    let pid = lock_holder(meta.dev(), meta.ino())?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // The lock is held under that number after the pidfd was opened, too, and its process lives.
    let still = lock_holder(meta.dev(), meta.ino()) == Some(pid)
        && !is_over([(pidfd.as_fd(), PollFlags::IN)])
        && pid_of(pidfd.as_fd()).is_ok_and(|found| found == Some(pid));
    still.then_some(pidfd)
}

/// Who holds the exclusive lock on a file, as `/proc/locks` says.
fn lock_holder(device: u64, inode: u64) -> Option<Pid> {
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
