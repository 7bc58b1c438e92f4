//! A region's file: made next to its path, put there when it is published.
//!
//! A producer holds a lock on its file for as long as it lives, also while the file has a temporary
//! name. So a file without a lock is one that a producer left behind, and the process that gets its lock may
//! replace or remove it.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domstat_layout::DOM_MAGIC;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use crate::dir_lock::same_file;
use crate::memfd::{allocate, os};
use crate::pieces::{GuardedMap, Mapping, Piece};
use crate::{CreateError, RegionTruncated};

/// What temporary names start with, and how long they are: as nobody else names a file.
const PREFIX: &str = ".domstat-region-";
const NAME_LEN: usize = PREFIX.len() + 6;

/// Of a region's file: everyone may read it, and only its producer write.
const MODE: u32 = 0o644;

/// Attempts to win a race against others for the same path; each lost attempt is another's success.
const ATTEMPTS: u32 = 10;
/// Attempts to get a lock, so far apart: a consumer that looks whether a file is locked has a lock
/// of its own for a moment.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// A region's file: under a temporary name until it is published, then at its path, and locked for as
/// long as this producer lives.
pub(crate) struct RegionFile {
    temp: Option<NamedTempFile>,
    published: Option<File>,
    path: PathBuf,
    map: Arc<GuardedMap>,
}

impl RegionFile {
    /// A file of `len` bytes for `path`, mapped.
    pub(crate) fn create(path: &Path, len: usize) -> Result<(Piece, Self), CreateError> {
        refuse_to_replace(path)?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        sweep(dir);
        let temp = temporary(dir)?;
        let in_dir = || format!("allocate {len} bytes in {}", dir.display());
        allocate(temp.as_file(), len).map_err(os(in_dir))?;
        let (whole, map) = Mapping::new(temp.as_file(), len)
            .and_then(Piece::of_file)
            .map_err(os(|| "map the region".to_owned()))?;
        Ok((whole, Self { temp: Some(temp), published: None, path: path.to_owned(), map }))
    }

    /// Puts the file at its path.
    pub(crate) fn publish(&mut self) -> Result<(), CreateError> {
        if let Some(temp) = self.temp.take() {
            self.published = Some(put(temp, &self.path)?);
        }
        Ok(())
    }

    /// Checks that the file has all of the `mapped_len` bytes that are written.
    pub(crate) fn check(&self, mapped_len: u64) -> Result<(), RegionTruncated> {
        let Some(file) = &self.published else { return Ok(()) };
        let file_len = file.metadata().map_or(0, |meta| meta.len());
        if file_len < mapped_len || self.map.is_lost() {
            return Err(RegionTruncated { path: self.path.clone(), mapped_len, file_len });
        }
        Ok(())
    }

    /// Removes the published file, unless its path names another one by now.
    pub(crate) fn remove(&self) {
        if self.published.as_ref().is_some_and(|file| same_file(file, &self.path)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A new file in `dir` under a temporary name, locked.
fn temporary(dir: &Path) -> Result<NamedTempFile, CreateError> {
    let action = || format!("create a region in {}", dir.display());
    for _ in 0..ATTEMPTS {
        let temp = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(NAME_LEN - PREFIX.len())
            // Who can read it could lock it first: nobody else until it is locked.
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(dir)
            .map_err(os(action))?;
        if !try_lock(temp.as_file()).map_err(os(action))? {
            let held = "others hold the lock on its temporary file";
            return Err(os(action)(io::Error::new(io::ErrorKind::WouldBlock, held)));
        }
        let mode = Permissions::from_mode(MODE);
        temp.as_file().set_permissions(mode).map_err(os(action))?;
        // Someone may have taken it for left behind before it was locked.
        if same_file(temp.as_file(), temp.path()) {
            return Ok(temp);
        }
    }
    Err(os(action)(io::ErrorKind::Interrupted.into()))
}

/// Removes files under temporary names whose producers have exited. What cannot be removed stays.
fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let temporary =
            name.len() == NAME_LEN && name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let ours = |meta: std::fs::Metadata| meta.is_file() && meta.uid() == geteuid().as_raw();
        if temporary && entry.metadata().is_ok_and(ours) {
            let _ = remove_left_behind(&entry.path());
        }
    }
}

fn remove_left_behind(path: &Path) -> io::Result<()> {
    let mut file = open(path)?;
    let mut magic = [0; 4];
    // Its magic is stored last: zero, or not even there.
    let ours = match file.read(&mut magic)? {
        0 => true,
        _ => [0, DOM_MAGIC].contains(&u32::from_le_bytes(magic)),
    };
    if ours && file.try_lock().is_ok() && same_file(&file, path) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Opens what is at `path`, if it is no link, without waiting for anyone.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Fails if `path` holds anything but a region whose producer has exited.
fn refuse_to_replace(path: &Path) -> Result<(), CreateError> {
    claim(path).map(|_| ())
}

/// The region at `path` whose producer has exited, locked, so that nobody else replaces it; `None` if
/// nothing is there.
fn claim(path: &Path) -> Result<Option<File>, CreateError> {
    let not_a_region = || CreateError::NotARegion { path: path.to_owned() };
    let os = |source| CreateError::Os { action: format!("look at {}", path.display()), source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(os(e)),
        Ok(meta) if !meta.is_file() => return Err(not_a_region()),
        Ok(_) => {}
    }
    let mut file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(os(e)),
    };
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Ok(()) if u32::from_le_bytes(magic) == DOM_MAGIC => {}
        Ok(()) => return Err(not_a_region()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(not_a_region()),
        Err(e) => return Err(os(e)),
    }
    match try_lock(&file).map_err(os)? {
        true => Ok(Some(file)),
        false => Err(CreateError::InUse { path: path.to_owned() }),
    }
}

/// Whether the file could be locked, in some attempts.
fn try_lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(false)
}

/// Puts the file at `path`: where nothing is, or in place of a region whose producer has exited. Of
/// several that try, one gets the path, and the others find it in use.
fn put(mut temp: NamedTempFile, path: &Path) -> Result<File, CreateError> {
    let action = || format!("put the region at {}", path.display());
    for _ in 0..ATTEMPTS {
        let Some(left) = claim(path)? else {
            match temp.persist_noclobber(path) {
                Ok(file) => return Ok(file),
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => temp = e.file,
                Err(e) => return Err(os(action)(e.error)),
            }
            continue;
        };
        // Whoever had the lock before may have replaced it. From here on only we can.
        if same_file(&left, path) {
            return temp.persist(path).map_err(|e| os(action)(e.error));
        }
    }
    Err(CreateError::InUse { path: path.to_owned() })
}
