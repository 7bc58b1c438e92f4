//! Entries and sockets in a directory of regions.

use std::io;
use std::path::{Path, PathBuf};

use domstat_layout::directory::{CONTROL_SOCKET, Entry};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::AttachError;
use crate::region::file::FileId;

/// What there is in a directory, in order of the names.
#[derive(Default)]
pub(crate) struct Listed {
    /// Names and paths of the entries.
    pub(crate) entries: Vec<(String, PathBuf)>,
    /// Sockets, and which file each of them is.
    pub(crate) sockets: Vec<(PathBuf, FileId)>,
}

/// The entries and sockets in `dir`; a directory that does not exist holds none.
///
/// # Errors
/// [`AttachError::Os`] or [`AttachError::NotPermitted`] if the directory cannot be read.
pub(crate) fn list(dir: &Path) -> Result<Listed, AttachError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path: dir.to_owned() },
        _ => AttachError::os(format!("list {}", dir.display()), e),
    };
    let mut listed = Listed::default();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(listed),
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let Some(file) = path.file_name().and_then(|n| n.to_str()) else { continue };
        match Entry::of(file) {
            Some(Entry::Region(name)) => listed.entries.push((name.to_owned(), path)),
            Some(Entry::Socket(_)) => {
                if let Some(file) = socket(&path).map_err(|e| failed(e.into()))? {
                    listed.sockets.push((path, file));
                }
            }
            None => {}
        }
    }
    listed.entries.sort();
    listed.sockets.sort();
    Ok(listed)
}

/// Which file the socket at `path` is; `None` if there is none, or none that this process may see.
///
/// # Errors
/// That of stat(2), if it says nothing about the path.
pub(crate) fn socket(path: &Path) -> Result<Option<FileId>, Errno> {
    match rustix::fs::stat(path) {
        Ok(stat) => {
            let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
            Ok(is_socket.then_some((stat.st_dev, stat.st_ino)))
        }
        Err(e @ (Errno::NOMEM | Errno::INTR | Errno::IO)) => Err(e),
        Err(_) => Ok(None),
    }
}

/// Whether `error` says that what listens at a socket in a directory hands over no regions, as
/// `control.sock` of `domstat run qemu`, which others than its owner cannot even ask, and which a
/// killed daemon leaves behind.
pub(crate) fn is_no_daemon(path: &Path, error: &AttachError) -> bool {
    let is_control = path.file_name().is_some_and(|name| name == CONTROL_SOCKET);
    match error {
        AttachError::NoDaemon { source, .. } => match source.raw_os_error() {
            Some(code) if code == Errno::PROTOTYPE.raw_os_error() => true,
            Some(code) => is_control && code == Errno::CONNREFUSED.raw_os_error(),
            None => false,
        },
        AttachError::NotPermitted { .. } => is_control,
        _ => false,
    }
}
