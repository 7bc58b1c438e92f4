//! Mapped files, not validated yet.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use domstat_layout::directory::{Entry, RegionLink};
use domstat_layout::{CopyWidth, MAX_REGION_LEN, ReadMem};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::file::{Backing, FileState, Modified, is_held, length, modified};
use super::mapping::Mapping;
use crate::attach::truncation::{Shrinkable, Truncated};
use crate::error::AttachError;

/// Whether an entry was made, at `entry`, before the memory that it leads to got its length. Then
/// its producer has exited, and another has its process id and descriptor number.
///
/// Both times are of the same clock, and nothing changes that of the memory once no one can write to
/// it but through mappings that exist already. Of other files nothing is known.
fn is_older_than(entry: Modified, memory: &FileState) -> bool {
    memory.is_unwritable() && entry < memory.modified()
}

/// Whether the path is that of an entry, as producers make them in a directory.
fn is_entry(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name.and_then(Entry::of), Some(Entry::Region(_)))
}

/// An opened path that is a link.
struct Link {
    made: Modified,
    /// `None` for one that leads elsewhere than producers' links do.
    to: Option<RegionLink>,
}

impl Link {
    /// The link that was opened, if it is one.
    fn of(found: &OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(found).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return None;
        }
        let target = rustix::fs::readlinkat(found, "", Vec::new()).ok();
        let to = target.and_then(|target| RegionLink::parse(target.to_str().ok()?));
        Some(Self { made: modified(&stat), to })
    }
}

/// A file mapped read-only, before anything in it is believed. For tools that judge what a
/// [`Region`](super::Region) would refuse.
pub struct MappedFile {
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    backing: Backing,
    file: File,
    /// Where it was found; `None` for a descriptor.
    path: Option<PathBuf>,
    what: String,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        let refused = |e: Errno| match e.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => {
                AttachError::ProducerExited { path: owned() }
            }
            io::ErrorKind::NotFound => AttachError::NotFound { path: owned() },
            io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path: owned() },
            _ => AttachError::os(format!("open {}", path.display()), e),
        };
        // To open a FIFO or a device has effects, so the file is looked at first.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = |path: &Path, flags| rustix::fs::open(path, flags, Mode::empty());
        let found = open(path, flags | OFlags::NOFOLLOW).map_err(refused)?;
        let (found, made) = match Link::of(&found) {
            None => (found, None),
            Some(Link { to: Some(link), made }) => {
                (open(Path::new(&link.to_string()), flags).map_err(refused)?, Some(made))
            }
            Some(Link { to: None, .. }) if is_entry(path) => {
                let (what, found) = (path.display().to_string(), "link that no producer makes");
                return Err(AttachError::NotMappable { what, found });
            }
            Some(Link { to: None, .. }) => (open(path, flags).map_err(refused)?, None),
        };
        let what = path.display().to_string();
        length(&found, &what)?;
        let again = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(again, flags, Mode::empty()).map_err(refused)?);
        let state = FileState::of(&file, &what)?;
        if made.is_some_and(|made| is_older_than(made, &state)) {
            return Err(AttachError::ProducerExited { path: owned() });
        }
        Self::from_file(file, &state, Some(owned()), what)
    }

    /// Maps the file behind `fd`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        let (file, what) = (File::from(fd.into()), "the descriptor".to_owned());
        let state = FileState::of(&file, &what)?;
        Self::from_file(file, &state, None, what)
    }

    fn from_file(
        file: File,
        state: &FileState,
        path: Option<PathBuf>,
        what: String,
    ) -> Result<Self, AttachError> {
        let found = state.length(&what)?;
        if found == 0 {
            return Err(AttachError::Empty { what });
        }
        // Whoever made the file says how long it is, and addresses are not without end.
        let most = MAX_REGION_LEN as u64;
        let len = usize::try_from(found).ok().filter(|len| *len <= MAX_REGION_LEN);
        let Some(len) = len else { return Err(AttachError::TooLong { what, found, most }) };
        let mapping =
            Mapping::map_file(&file, len).map_err(|e| AttachError::os(format!("map {what}"), e))?;
        let backing = if state.is_sealed() { Backing::Sealed } else { Backing::File };
        let shrinkable =
            if state.is_lasting() { None } else { mapping.shrinkable(vec![len as u64])? };
        let mapped = Self { shrinkable, mapping, backing, file, path, what };
        mapped.intact().map_err(AttachError::Truncated)?;
        Ok(mapped)
    }

    /// What was mapped in another way.
    pub(crate) fn from_mapping(
        mapping: Mapping,
        backing: Backing,
        file: File,
        what: String,
    ) -> Self {
        Self { shrinkable: None, mapping, backing, file, path: None, what }
    }

    /// The raw shared memory. If the file can be truncated, ask [`MappedFile::intact`] after what was
    /// read.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(CopyWidth::BASELINE)
    }

    /// Whether everything read so far was the file's.
    ///
    /// # Errors
    /// [`Truncated`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Truncated> {
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

    /// Whether a producer holds the file; `None` where that is not known, as for a memfd.
    #[must_use]
    pub fn is_held(&self) -> Option<bool> {
        is_held(self.backing, self.file.as_fd())
    }

    /// Where it was found; `None` for a descriptor.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The mapping, what its bytes come from, and a name for them.
    pub(crate) fn into_parts(self) -> (Mapping, Option<Shrinkable>, Backing, File, String) {
        (self.mapping, self.shrinkable, self.backing, self.file, self.what)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate};

    use super::*;

    fn memfd(len: u64, allocated: u64) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        file.set_len(len).unwrap();
        if allocated > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, allocated).unwrap();
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn memory_that_can_grow_is_guarded() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        fallocate(&file, FallocateFlags::empty(), 0, 4096).unwrap();
        let seals = SealFlags::SHRINK | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals).unwrap();
        let mapped = MappedFile::from_fd(file.try_clone().unwrap()).unwrap();
        assert!(mapped.shrinkable.is_some(), "what it grows by has no memory yet");
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        assert!(MappedFile::from_fd(file).unwrap().shrinkable.is_none());
    }

    #[test]
    fn sealed_memory_with_a_hole_is_guarded() {
        for (len, allocated, lasting) in
            [(8192, 8192, true), (5000, 5000, true), (8192, 4096, false), (8192, 0, false)]
        {
            let mapped = MappedFile::from_fd(memfd(len, allocated)).unwrap();
            assert_eq!(mapped.shrinkable.is_none(), lasting, "{allocated} of {len} bytes");
            assert_eq!(mapped.backing(), Backing::Sealed);
        }
    }

    #[test]
    fn an_entry_that_is_another_link_than_producers_make_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("domstat-links-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("file");
        std::fs::write(&file, [0; 64]).unwrap();
        let held = File::open(&file).unwrap();
        let own = format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd());
        let open = |name: &str, target: &Path| {
            let link = dir.join(name);
            std::os::unix::fs::symlink(target, &link).unwrap();
            MappedFile::open(&link).map(drop)
        };
        let elsewhere = open("a.domstat", &file);
        let producers = open("b.domstat", Path::new(&own));
        // What a user names by its path may be a link.
        let by_path = open("c", &file);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(elsewhere, Err(AttachError::NotMappable { .. })), "{elsewhere:?}");
        assert!(producers.is_ok() && by_path.is_ok(), "{producers:?} {by_path:?}");
    }

    #[test]
    fn what_is_longer_than_any_region_is_not_mapped() {
        let most = MAX_REGION_LEN as u64;
        assert!(MappedFile::from_fd(memfd(most, 0)).is_ok());
        for len in [most + 1, 27 << 40] {
            let Err(AttachError::TooLong { found, .. }) = MappedFile::from_fd(memfd(len, 0)) else {
                panic!("{len} bytes were mapped");
            };
            assert_eq!(found, len);
        }
    }
}
