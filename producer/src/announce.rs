//! Entries of the directory in which regions are found.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::AnnounceError;

/// What a region's entry in the directory ends in, after the domain's name.
pub const REGION_SUFFIX: &str = ".domstat";

/// An entry in the directory in which regions are found; dropping it removes the entry.
#[derive(Debug)]
pub struct Announcement {
    path: PathBuf,
    target: PathBuf,
}

impl Announcement {
    pub(crate) fn create(
        dir: &Path,
        name: &str,
        pid: u32,
        fd: RawFd,
    ) -> Result<Self, AnnounceError> {
        if name.is_empty()
            || name.len() > 100
            || name.starts_with('.')
            || name.contains(['/', '\0'])
        {
            return Err(AnnounceError::BadName { name: name.to_owned() });
        }
        let os = |action: String| move |source| AnnounceError::Os { action, source };
        std::fs::create_dir_all(dir).map_err(os(format!("create {}", dir.display())))?;
        let path = dir.join(format!("{name}{REGION_SUFFIX}"));
        let target = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
        let action = || format!("announce the region at {}", path.display());
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
