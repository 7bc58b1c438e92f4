//! Entries and sockets in a directory of regions.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use domstat_layout::directory::{CONTROL_SOCKET, Entry};
use domstat_layout::handover::Refusal;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::daemon::{ANSWER, Daemon};
use super::hear;
use crate::error::AttachError;
use crate::handover::Connection;
use crate::region::file::FileId;

/// Pause between two looks for a domain.
const AGAIN: Duration = Duration::from_millis(10);

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
/// `control.sock` of `domstat run qemu`, which others than its owner cannot even ask.
pub(crate) fn is_no_daemon(path: &Path, error: &AttachError) -> bool {
    match error {
        AttachError::NoDaemon { source, .. } => {
            source.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error())
        }
        AttachError::NotPermitted { .. } => path.file_name().is_some_and(|n| n == CONTROL_SOCKET),
        _ => false,
    }
}

/// Connects to the daemon that serves the domain called `name`: the one at `NAME.sock`, or else the
/// first by its path of those whose sockets are in `dir`; `None` if there is none. All of them are
/// asked at once, and waited for up to `deadline`, together.
///
/// # Errors
/// [`AttachError`]: the directory cannot be read, who lists the domain does not hand it over, or nobody
/// lists it and the daemon after which it may be called (`NAME.sock`) cannot be asked.
pub fn find_daemon(
    dir: &Path,
    name: &str,
    deadline: Duration,
) -> Result<Option<Connection>, AttachError> {
    let began = Instant::now();
    let mut daemons = BTreeMap::new();
    for (path, file) in list(dir)?.sockets {
        let mut daemon = Daemon::new(path.clone());
        daemon.is_at(Some(file));
        daemons.insert(path, daemon);
    }
    loop {
        hear(&mut daemons, false);
        let is_served = daemons.values().any(|daemon| daemon.serves(name));
        let is_awaited = daemons.values().any(Daemon::is_awaited);
        if is_served || !is_awaited || began.elapsed() >= deadline {
            break;
        }
        std::thread::sleep(AGAIN);
    }
    let mut serving: Vec<_> = daemons.values().filter(|daemon| daemon.serves(name)).collect();
    serving.sort_by_key(|daemon| !daemon.is_named(name));
    let mut silent = None;
    for daemon in serving {
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() && silent.is_some() {
            break;
        }
        let asked = Connection::connect_within(daemon.path(), left.max(ANSWER));
        match asked.map(|on| (on.attach(name).map(drop), on)) {
            Ok((Err(e @ (AttachError::TimedOut { .. } | AttachError::Disconnected { .. })), _))
            | Err(e) => silent = silent.or(Some(e)),
            Ok((Err(AttachError::Refused { refusal: Refusal::NoSuchDomain, .. }), _)) => {}
            // It is served there; why it cannot be attached is for the caller to see.
            Ok((_, connection)) => return Ok(Some(connection)),
        }
    }
    let own = daemons.values().find(|daemon| daemon.is_named(name) && !daemon.is_none());
    silent.or_else(|| own.and_then(Daemon::trouble)).map_or(Ok(None), Err)
}
