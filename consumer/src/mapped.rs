//! Files that hold regions, mapped and not yet believed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::{CopyWidth, MAX_REGION_LEN, ReadMem};
use rustix::fs::{FileType, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::intact::Shrinkable;
use crate::mapping::Mapping;
use crate::{AttachError, Backing, Lost, Region};

/// A file mapped read-only, before anything in it is believed. For tools that judge what a
/// [`Region`] would refuse.
pub struct Mapped {
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    backing: Backing,
    file: File,
    what: String,
}

impl Mapped {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        // NONBLOCK: opening a FIFO without a writer would wait for one.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => {
                AttachError::ProducerGone { path: owned() }
            }
            io::ErrorKind::NotFound => AttachError::NotFound { path: owned() },
            io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path: owned() },
            _ => AttachError::Os { action: format!("open {}", path.display()), source: e.into() },
        })?;
        Self::from_file(File::from(fd), path.display().to_string())
    }

    /// Maps the file behind `fd`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        Self::from_file(File::from(fd.into()), "the descriptor".to_owned())
    }

    fn from_file(file: File, what: String) -> Result<Self, AttachError> {
        // Before its length is looked at: a seal cannot be taken off.
        let (sealed, lasting) = (is_sealed(&file), is_lasting(&file));
        let found = length(&file, &what)?;
        if found == 0 {
            return Err(AttachError::Empty { what });
        }
        // Whoever made the file says how long it is, and addresses are not without end.
        let most = MAX_REGION_LEN as u64;
        let len = usize::try_from(found).ok().filter(|len| *len <= MAX_REGION_LEN);
        let Some(len) = len else { return Err(AttachError::TooLong { what, found, most }) };
        let mapping = Mapping::of_file(&file, len)
            .map_err(|source| AttachError::Os { action: format!("map {what}"), source })?;
        let backing = if sealed { Backing::Sealed } else { Backing::File };
        let shrinkable = if lasting { None } else { guard(&mapping, vec![len as u64])? };
        let mapped = Self { shrinkable, mapping, backing, file, what };
        mapped.intact().map_err(AttachError::Lost)?;
        Ok(mapped)
    }

    /// What was mapped in another way.
    pub(crate) fn of_mapping(mapping: Mapping, backing: Backing, file: File, what: String) -> Self {
        Self { shrinkable: None, mapping, backing, file, what }
    }

    /// The raw shared memory. If the file can be truncated, ask [`Mapped::intact`] after what was
    /// read.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(CopyWidth::BASELINE)
    }

    /// Whether everything read so far was the file's.
    ///
    /// # Errors
    /// [`Lost`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Lost> {
        self.shrinkable.as_ref().map_or(Ok(()), |s| s.check([&self.file]))
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Validates the header.
    ///
    /// # Errors
    /// [`AttachError::Geometry`] if it does not describe a usable region.
    pub fn attach(self) -> Result<Region, AttachError> {
        let Self { shrinkable, mapping, backing, file, what } = self;
        Region::validate(mapping, shrinkable, backing, vec![file.into()], &what)
    }

    /// The mapping, what its bytes come from, and a name for them.
    pub(crate) fn into_parts(self) -> (Mapping, Option<Shrinkable>, Backing, File, String) {
        (self.mapping, self.shrinkable, self.backing, self.file, self.what)
    }
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

pub(crate) fn guard(mapping: &Mapping, lens: Vec<u64>) -> Result<Option<Shrinkable>, AttachError> {
    let guard = mapping.guard().map_err(|source| AttachError::Os {
        action: "catch accesses to a file that is truncated (SIGBUS)".into(),
        source,
    })?;
    Ok(guard.map(|guard| Shrinkable::new(guard, lens)))
}

/// Whether no access to the file's memory can fail: all of it is there, and nobody can take it away,
/// neither by shortening it nor by a hole in it. A hole that was there before it was sealed is
/// filled by whoever reads it, and where there is no memory for that, the read is a SIGBUS.
pub(crate) fn is_lasting(file: impl AsFd) -> bool {
    let file = file.as_fd();
    let is_kept = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| {
        let no_holes = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
        no_holes && seals.contains(SealFlags::SHRINK)
    });
    // After the seals: what is there now stays.
    is_kept && rustix::fs::fstat(file).is_ok_and(|stat| is_allocated(stat.st_size, stat.st_blocks))
}

/// Whether so many blocks, of 512 bytes whatever the filesystem, are the whole file.
fn is_allocated(len: i64, blocks: i64) -> bool {
    blocks.saturating_mul(512) >= len
}

/// Whether nobody can shorten the file.
pub(crate) fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

pub(crate) fn duplicate(fd: &impl AsFd) -> Result<OwnedFd, AttachError> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| AttachError::Os { action: "duplicate a descriptor".into(), source })
}

/// Length of a file that can be mapped.
pub(crate) fn length(file: &File, what: &str) -> Result<u64, AttachError> {
    let stat = rustix::fs::fstat(file)
        .map_err(|e| AttachError::Os { action: format!("look at {what}"), source: e.into() })?;
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
    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate};

    use super::*;

    fn memfd(len: u64, allocated: u64) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        file.set_len(len).unwrap();
        if allocated > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, allocated).unwrap();
        }
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::WRITE).unwrap();
        file
    }

    #[test]
    fn sealed_memory_with_a_hole_is_guarded() {
        for (len, allocated, lasting) in
            [(8192, 8192, true), (5000, 5000, true), (8192, 4096, false), (8192, 0, false)]
        {
            let mapped = Mapped::from_fd(memfd(len, allocated)).unwrap();
            assert_eq!(mapped.shrinkable.is_none(), lasting, "{allocated} of {len} bytes");
            assert_eq!(mapped.backing(), Backing::Sealed);
        }
    }

    #[test]
    fn what_is_longer_than_any_region_is_not_mapped() {
        let most = MAX_REGION_LEN as u64;
        assert!(Mapped::from_fd(memfd(most, 0)).is_ok());
        for len in [most + 1, 27 << 40] {
            let Err(AttachError::TooLong { found, .. }) = Mapped::from_fd(memfd(len, 0)) else {
                panic!("{len} bytes were mapped");
            };
            assert_eq!(found, len);
        }
    }

    #[test]
    fn only_a_lock_that_is_held_says_that_a_file_is() {
        // No lock can be asked for through such a descriptor.
        let path = rustix::fs::open("/proc/self/exe", OFlags::PATH, Mode::empty()).unwrap();
        assert_eq!(is_held(Backing::File, path.as_fd()), None);
        let exe = File::open("/proc/self/exe").unwrap();
        assert_eq!(is_held(Backing::File, exe.as_fd()), Some(false));
    }
}
