//! Files behind regions: kind, length, seals and locks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, SealFlags, Stat};
use rustix::io::Errno;

use crate::error::AttachError;

/// What a region's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file that is sealed against shrinking: reads cannot fault.
    Sealed,
    /// A file that its owner can truncate: every read asks whether it did.
    File,
    /// One sealed file for each record.
    Frames,
    /// Pages that the caller mapped.
    Pages,
    /// Frames of the hypervisor's, which only it writes.
    Resource,
}

/// Whether a producer holds a lock on a plain file; `None` also where that is not known, as on a
/// filesystem without locks.
pub(crate) fn is_held(backing: Backing, file: BorrowedFd<'_>) -> Option<bool> {
    use rustix::fs::{FlockOperation, flock};
    if backing != Backing::File {
        return None;
    }
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock);
            Some(false)
        }
        Err(Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}

/// Seals and status of a file, from one system call each.
#[derive(Clone, Copy)]
pub(crate) struct FileState {
    seals: SealFlags,
    stat: Stat,
}

impl FileState {
    /// # Errors
    /// [`AttachError::Os`] if the kernel does not say how long the file is.
    pub(crate) fn of(file: impl AsFd, what: &str) -> Result<Self, AttachError> {
        // Seals first: they cannot be taken off, so what the status says of sealed memory stays so.
        let seals = rustix::fs::fcntl_get_seals(&file).unwrap_or(SealFlags::empty());
        Ok(Self { seals, stat: status(file, what)? })
    }

    /// Whether nobody can shorten the file.
    pub(crate) fn is_sealed(&self) -> bool {
        self.seals.contains(SealFlags::SHRINK)
    }

    /// Whether nobody can write to the file or punch a hole into it but through mappings that exist.
    pub(crate) fn is_unwritable(&self) -> bool {
        self.seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
    }

    /// Whether no access to the file's memory can fail: all of it is there, and nobody can take it away,
    /// neither by shortening it nor by a hole in it. Nor can it grow, which would add what has no memory
    /// yet before its length is looked at. A hole that was there before it was sealed is
    /// filled when it is read, and where there is no memory for that, the read is a SIGBUS.
    pub(crate) fn is_lasting(&self) -> bool {
        self.is_unwritable()
            && self.seals.contains(SealFlags::SHRINK | SealFlags::GROW)
            && is_allocated(self.stat.st_size, self.stat.st_blocks)
    }

    /// As [`length`].
    pub(crate) fn length(&self, what: &str) -> Result<u64, AttachError> {
        length_in(&self.stat, what)
    }

    /// When the file was written or got its length.
    pub(crate) const fn modified(&self) -> Modified {
        modified(&self.stat)
    }
}

/// A time of last change: seconds and nanoseconds.
pub(crate) type Modified = (i64, u64);

/// When what `stat` is of was changed.
pub(crate) const fn modified(stat: &Stat) -> Modified {
    (stat.st_mtime, stat.st_mtime_nsec)
}

/// As [`FileState::is_lasting`]; false for what is not known.
pub(crate) fn is_lasting(file: impl AsFd) -> bool {
    FileState::of(file, "the memory").is_ok_and(|state| state.is_lasting())
}

/// Whether so many blocks, of 512 bytes whatever the filesystem, are the whole file.
fn is_allocated(len: i64, blocks: i64) -> bool {
    blocks.saturating_mul(512) >= len
}

pub(crate) fn duplicate(fd: &impl AsFd) -> Result<OwnedFd, AttachError> {
    fd.as_fd().try_clone_to_owned().map_err(|e| AttachError::os("duplicate a descriptor", e))
}

/// Identity of a file: its device and inode.
pub(crate) type FileId = (u64, u64);

/// The file that a path leads to.
///
/// # Errors
/// That of stat(2).
pub(crate) fn id_at(path: &Path) -> Result<FileId, Errno> {
    rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Which file a descriptor is of.
pub(crate) fn id_of(file: BorrowedFd<'_>) -> Option<FileId> {
    rustix::fs::fstat(file).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Whether the path leads to the file now.
pub(crate) fn is_same_file(path: &Path, file: BorrowedFd<'_>) -> bool {
    id_at(path).ok().is_some_and(|id| id_of(file) == Some(id))
}

fn status(file: impl AsFd, what: &str) -> Result<Stat, AttachError> {
    rustix::fs::fstat(file).map_err(|e| AttachError::os(format!("look at {what}"), e))
}

/// Length of a file that can be mapped.
pub(crate) fn length(file: impl AsFd, what: &str) -> Result<u64, AttachError> {
    length_in(&status(file, what)?, what)
}

fn length_in(stat: &Stat, what: &str) -> Result<u64, AttachError> {
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Symlink | FileType::Unknown => "special file",
    };
    Err(AttachError::NotMappable { what: what.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn only_a_lock_that_is_held_says_that_a_file_is() {
        // No lock can be asked for through such a descriptor.
        let path = rustix::fs::open("/proc/self/exe", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(is_held(Backing::File, path.as_fd()), None);
        let exe = File::open("/proc/self/exe").unwrap();
        assert_eq!(is_held(Backing::File, exe.as_fd()), Some(false));
    }
}
