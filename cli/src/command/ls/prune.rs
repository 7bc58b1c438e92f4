//! Removal of what producers left behind in the directory when they exited.

use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use domstat_consumer::AttachError;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::Failure;
use crate::locate::{Places, directory};
use crate::output::printable;

/// A socket younger than this may be of a daemon that is about to listen at it.
const YOUNG: Duration = Duration::from_secs(10);

/// What was found at a path, to recognize it again.
#[derive(PartialEq, Eq)]
enum Leftover {
    /// A link to a descriptor of a process that has exited or closed it.
    Link(PathBuf),
    /// A socket, by device and inode, at which nobody listens.
    Socket(u64, u64),
}

pub(super) fn run(places: Places<'_>) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let mut refused = false;
    let mut removed = 0;
    for entry in places.all_and_behind()? {
        let is_left_over = matches!(
            entry.attachment,
            Err(AttachError::ProducerExited { .. } | AttachError::NoDaemon { .. })
        );
        if !is_left_over || places.socket.is_some() {
            continue;
        }
        let path = entry.place;
        let shown = printable(&path.display().to_string());
        match leftover(&path).map_or(Ok(false), |found| remove(&path, &found)) {
            Ok(true) => {
                removed += 1;
                writeln!(out, "removed {shown}")?;
            }
            Ok(false) => writeln!(out, "kept {shown}: its producer may still run")?,
            Err(e) => {
                refused = true;
                writeln!(out, "cannot remove {shown}: {e}")?;
            }
        }
    }
    if removed == 0 && !refused {
        let dir = directory(places.dir)?;
        writeln!(out, "nothing was left behind in {}", printable(&dir.display().to_string()))?;
    }
    Ok(if refused { ExitCode::from(4) } else { ExitCode::SUCCESS })
}

/// What lies at `path`, if nobody can be behind it any more.
fn leftover(path: &Path) -> Option<Leftover> {
    let metadata = path.symlink_metadata().ok()?;
    if metadata.file_type().is_symlink() {
        let target = std::fs::read_link(path).ok()?;
        let is_descriptor = target.starts_with("/proc") && target.iter().any(|part| part == "fd");
        let is_dangling = matches!(path.metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
        return (is_descriptor && is_dangling).then_some(Leftover::Link(target));
    }
    let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
    let nobody = || matches!(UnixStream::connect(path), Err(e) if e.kind() == io::ErrorKind::ConnectionRefused);
    (metadata.file_type().is_socket() && age >= YOUNG && nobody())
        .then(|| Leftover::Socket(metadata.dev(), metadata.ino()))
}

/// Removes it, unless something else took its place meanwhile: it is moved aside, looked at again
/// and only then removed. False if it was put back.
fn remove(path: &Path, found: &Leftover) -> io::Result<bool> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    let mut hidden = std::ffi::OsString::from(format!(".pruned-{}-", std::process::id()));
    hidden.push(name);
    let aside = dir.join(hidden);
    renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE)?;
    if leftover(&aside).as_ref() == Some(found) {
        std::fs::remove_file(&aside)?;
        return Ok(true);
    }
    // A newer one that came meanwhile is the one that counts.
    if renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE).is_err() {
        std::fs::remove_file(&aside)?;
    }
    Ok(false)
}
