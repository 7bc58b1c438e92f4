//! Lock of a directory, for as long as a name in it is looked at and then taken.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Name of the lock's file, which is there only while somebody has it or waits for it.
const NAME: &str = ".lock";
/// How long the lock is waited for: its owners make one entry and are done.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// Whether `path` is a name of `file`.
pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// The lock; dropping it gives it up.
///
/// Its file can be opened by its owner and by root only, so that nobody else can hold up a producer.
/// Producers of different users do not share it: what one of them left behind, the other replaces
/// only where it may remove the files of others, as root may.
pub(crate) struct DirLock {
    path: PathBuf,
    _file: File,
}

impl DirLock {
    /// Locks `dir`; `None` if this user cannot lock it.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if another process keeps the lock.
    pub(crate) fn take(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(NAME);
        let until = Instant::now() + PATIENCE;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(flags);
        while Instant::now() < until {
            let Ok(file) = options.open(&path) else { return Ok(None) };
            let owner = file.metadata()?.uid();
            if owner != 0 && owner != geteuid().as_raw() {
                return Ok(None);
            }
            match file.try_lock() {
                // Whoever had it before removed the file.
                Ok(()) if !same_file(&file, &path) => {}
                Ok(()) => return Ok(Some(Self { path, _file: file })),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody who opens it later takes it for the lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn one_at_a_time_has_the_lock_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, most, all) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = DirLock::take(dir.path()).unwrap().unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!((most.into_inner(), all.into_inner()), (1, 200));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), dir.path().join(NAME)).unwrap();
        assert!(DirLock::take(dir.path()).unwrap().is_none());
        assert!(!dir.path().join("victim").exists());
    }
}
