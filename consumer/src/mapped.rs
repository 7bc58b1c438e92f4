//! Files that hold regions, mapped and not yet believed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::{Form, MAX_DEVICES, MAX_VCPUS, ReadMem};
use rustix::fs::{FileType, Mode, OFlags, SealFlags};

use crate::intact::Shrinkable;
use crate::mapping::Mapping;
use crate::{AttachError, Backing, Lost, Region};

/// No region is longer: what the largest strides that the header can express would need.
const MAX_LEN: u64 = u32::MAX as u64 * (MAX_VCPUS as u64 + 2 * MAX_DEVICES as u64 + 3);

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
        let len = usize::try_from(found.min(MAX_LEN)).unwrap_or(usize::MAX);
        let mapping = Mapping::of_file(&file, len)
            .map_err(|source| AttachError::Os { action: format!("map {what}"), source })?;
        let backing = if sealed { Backing::Sealed } else { Backing::File };
        let shrinkable = if lasting { None } else { guard(&mapping, vec![len as u64])? };
        let mapped = Self { shrinkable, mapping, backing, file, what };
        mapped.intact().map_err(AttachError::Lost)?;
        Ok(mapped)
    }

    /// The raw shared memory. If the file can be truncated, ask [`Mapped::intact`] after what was
    /// read.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(Form::BASELINE)
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

/// Whether a producer holds a lock on a plain file.
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
        Err(_) => Some(true),
    }
}

pub(crate) fn guard(mapping: &Mapping, lens: Vec<u64>) -> Result<Option<Shrinkable>, AttachError> {
    let guard = mapping.guard().map_err(|source| AttachError::Os {
        action: "catch accesses to a file that is truncated (SIGBUS)".into(),
        source,
    })?;
    Ok(guard.map(|guard| Shrinkable::new(guard, lens)))
}

/// Whether nobody can take the file's memory away, neither by shortening it nor by a hole in it.
pub(crate) fn is_lasting(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| {
        let no_holes = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
        no_holes && seals.contains(SealFlags::SHRINK)
    })
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
