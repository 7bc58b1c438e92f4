//! Entries of the directory in which regions are found.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domstat_layout::directory::{Entry, REGION_SUFFIX, RegionLink, is_name, is_region_memfd};

use rustix::fs::CWD;

use crate::AnnounceError;
use crate::dir_lock::DirLock;

/// The entries of this process that stand: their names, and where they lead. Locked while one is made.
static MADE: Mutex<Vec<(OsString, PathBuf)>> = Mutex::new(Vec::new());

fn made() -> MutexGuard<'static, Vec<(OsString, PathBuf)>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Attempts to take a name that others take and give up meanwhile.
const ATTEMPTS: u32 = 10;

/// An entry in the directory in which regions are found; dropping it removes the entry.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    target: PathBuf,
}

impl Announcement {
    /// Has an entry lead to the descriptor `fd` of this process.
    pub(crate) fn of_own(
        dir: &Path,
        name: &str,
        fd: BorrowedFd<'_>,
    ) -> Result<Self, AnnounceError> {
        let pid = std::process::id();
        let link = RegionLink { pid, fd: fd.as_raw_fd().cast_unsigned() };
        let file = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let there = rustix::fs::stat(link.to_string()).map(file).ok();
        if there.is_none() || there != rustix::fs::fstat(fd).map(file).ok() {
            return Err(AnnounceError::NotInProc { pid });
        }
        Self::create(dir, name, link)
    }

    /// Makes the region known that another process writes, for a launcher that knows by which number
    /// consumers see that process: a jailed one cannot know. `link` is its process id here, and the
    /// descriptor of the region's memfd there. The entry dangles as soon as that process has exited.
    ///
    /// # Errors
    /// [`AnnounceError`], for example if a live region has the name.
    pub fn of_process(dir: &Path, name: &str, link: RegionLink) -> Result<Self, AnnounceError> {
        let RegionLink { pid, fd } = link;
        match std::fs::read_link(link.to_string()) {
            Ok(target) if is_region_memfd(target.as_os_str().as_bytes()) => {}
            Ok(_) => return Err(AnnounceError::NotARegion { pid, fd }),
            Err(source) => {
                let action = format!("look at descriptor {fd} of process {pid}");
                return Err(AnnounceError::Os { action, source });
            }
        }
        Self::create(dir, name, link)
    }

    fn create(dir: &Path, name: &str, link: RegionLink) -> Result<Self, AnnounceError> {
        if !is_name(name) {
            return Err(AnnounceError::BadName { name: name.to_owned() });
        }
        let os = |action: String| move |source| AnnounceError::Os { action, source };
        if !dir.is_dir() {
            std::fs::create_dir_all(dir).map_err(os(format!("create {}", dir.display())))?;
        }
        let mut made = made();
        let path = dir.join(format!("{name}{REGION_SUFFIX}"));
        let target = PathBuf::from(link.to_string());
        let action = || format!("announce the region at {}", path.display());
        // From the look at what has the name to the new entry: of two producers of one name, the
        // second is refused.
        let lock = DirLock::take(dir).map_err(os(format!("lock {}", dir.display())))?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match symlink(&target, &path) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts < ATTEMPTS => {
                    // Taken by a live producer, or left by one that was killed.
                    // An entry with our own target is one of a producer that had our process id and
                    // descriptor, as in a container that was started again.
                    let ours = std::fs::read_link(&path).is_ok_and(|was| was == target);
                    if !ours && points_at_a_region(&path) {
                        return Err(AnnounceError::NameTaken { name: name.to_owned() });
                    }
                    match std::fs::remove_file(&path) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => {
                            return Err(os(action())(e));
                        }
                        _ => {}
                    }
                }
                Err(e) => return Err(os(action())(e)),
            }
        }
        drop(lock);
        made.push((format!("{name}{REGION_SUFFIX}").into(), target.clone()));
        Ok(Self { path, target })
    }

    /// The entry.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a signal handler needs to remove it; never `None`, since a link has no such path.
    pub(crate) fn entry_path(&self) -> Option<EntryPath> {
        let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        Some(EntryPath { path: c_string(&self.path)?, target: c_string(&self.target)? })
    }

    /// Leaves the entry where it is, for a sandbox that does not permit removing it: no system call. It
    /// dangles when the process has exited; `domstat ls --prune` or the next producer of the name
    /// removes it.
    pub fn leave(self) {
        let mut this = std::mem::ManuallyDrop::new(self);
        forget(&this.path, &this.target);
        this.path = PathBuf::new();
        this.target = PathBuf::new();
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        forget(&self.path, &self.target);
        if std::fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Bytes of the longest link of an entry: `/proc/`, a process id, `/fd/` and a descriptor's number.
const MAX_LINK_LEN: usize = 64;

/// An entry as a signal handler removes it: nothing is allocated and no lock is taken.
#[derive(Clone)]
pub(crate) struct EntryPath {
    path: CString,
    target: CString,
}

impl EntryPath {
    /// Removes the entry, unless it leads elsewhere by now.
    pub(crate) fn remove(&self) {
        let mut target = [0; MAX_LINK_LEN];
        let found = rustix::fs::readlinkat_raw(CWD, self.path.as_c_str(), &mut target[..]);
        if found.is_ok_and(|len| target.get(..len) == Some(self.target.as_bytes())) {
            let _ = rustix::fs::unlink(self.path.as_c_str());
        }
    }
}

/// Takes an entry from the list of those that stand.
fn forget(path: &Path, target: &Path) {
    let mut made = made();
    let name = path.file_name();
    if let Some(at) = made.iter().position(|(n, t)| Some(n.as_os_str()) == name && t == target) {
        made.swap_remove(at);
    }
}

/// Removes the entries in `dir` that lead to descriptors of this process's number and that it did not
/// make: those of a producer that was killed and had this number, as in a container that was started
/// again. Consumers refuse such entries, but they stay in the way of whoever reads the directory.
/// Returns how many were removed.
///
/// # Errors
/// The directory cannot be read, or an entry cannot be removed.
pub fn remove_stale_entries(dir: &Path) -> io::Result<usize> {
    let made = made();
    let descriptors = PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    let mut removed = 0;
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        if !matches!(name.to_str().and_then(Entry::of), Some(Entry::Region(_))) {
            continue;
        }
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let is_own = made.iter().any(|(n, t)| *n == name && *t == target);
        if target.parent() == Some(&descriptors) && !is_own {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether an entry leads to a region: a descriptor number may have been given to something else
/// since its producer died.
fn points_at_a_region(path: &Path) -> bool {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink()) {
        return true;
    }
    match std::fs::read_link(path).and_then(std::fs::read_link) {
        Ok(target) => is_region_memfd(target.as_os_str().as_bytes()),
        // Another user's process may exist and not be ours to look into.
        Err(e) => e.kind() == io::ErrorKind::PermissionDenied,
    }
}
