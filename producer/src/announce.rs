//! Entries of the directory in which regions are found.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domstat_layout::directory::{Entry, REGION_SUFFIX, RegionLink, is_name};

use crate::AnnounceError;
use crate::dir_lock::DirLock;

/// What this process did in such directories. Held while an entry is made.
static OURS: Mutex<Ours> = Mutex::new(Ours { swept: BTreeSet::new(), made: Vec::new() });

struct Ours {
    /// Directories, by process id, device and inode: a child that was forked has none.
    swept: BTreeSet<(u32, u64, u64)>,
    /// The entries that stand: their names, and where they lead.
    made: Vec<(OsString, PathBuf)>,
}

impl Ours {
    fn lock() -> MutexGuard<'static, Self> {
        OURS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the entries of one that was killed and had our process id, as in a container that was
    /// started again: one of them could lead to another domain's region of ours. What cannot be
    /// removed stays.
    fn sweep(&mut self, dir: &Path, pid: u32) {
        let Ok(meta) = std::fs::metadata(dir) else { return };
        if !self.swept.insert((pid, meta.dev(), meta.ino())) {
            return;
        }
        let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !matches!(name.to_str().and_then(Entry::of), Some(Entry::Region(_))) {
                continue;
            }
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            if target.parent() == Some(&descriptors) && !self.made.contains(&(name, target)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// An entry in the directory in which regions are found; dropping it removes the entry.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    target: PathBuf,
}

impl Announcement {
    pub(crate) fn create(dir: &Path, name: &str, pid: u32, fd: u32) -> Result<Self, AnnounceError> {
        if !is_name(name) {
            return Err(AnnounceError::BadName { name: name.to_owned() });
        }
        let os = |action: String| move |source| AnnounceError::Os { action, source };
        std::fs::create_dir_all(dir).map_err(os(format!("create {}", dir.display())))?;
        let mut all = Ours::lock();
        all.sweep(dir, pid);
        let path = dir.join(format!("{name}{REGION_SUFFIX}"));
        let target = PathBuf::from(RegionLink { pid, fd }.to_string());
        let action = || format!("announce the region at {}", path.display());
        // From the look at what has the name to the new entry: of two producers of one name, the
        // second is refused.
        let lock = DirLock::take(dir).map_err(os(format!("lock {}", dir.display())))?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match symlink(&target, &path) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts < 10 => {
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
        all.made.push((format!("{name}{REGION_SUFFIX}").into(), target.clone()));
        Ok(Self { path, target })
    }

    /// The entry.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let mut all = Ours::lock();
        let name = self.path.file_name();
        let at =
            all.made.iter().position(|(n, t)| Some(n.as_os_str()) == name && *t == self.target);
        if let Some(at) = at {
            all.made.swap_remove(at);
        }
        if std::fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether an entry leads to a region: a descriptor number may have been given to something else
/// since its producer died.
fn points_at_a_region(path: &Path) -> bool {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink()) {
        return true;
    }
    match std::fs::read_link(path).and_then(std::fs::read_link) {
        Ok(target) => target.to_string_lossy().starts_with("/memfd:domstat-"),
        // Another user's process may exist and not be ours to look into.
        Err(e) => e.kind() == io::ErrorKind::PermissionDenied,
    }
}
