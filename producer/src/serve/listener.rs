//! The socket that consumers connect to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_to, connect, listen,
    socket_with, sockopt,
};

use super::{ServeError, os};
use crate::dir_lock::DirLock;

/// Connections that wait to be accepted; the kernel has a limit of its own.
const BACKLOG: i32 = 4096;

/// A socket's entry in the filesystem; dropping it removes the entry.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn socket(kind: SocketType) -> Result<OwnedFd, ServeError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, kind, flags, None).map_err(os("create a socket"))
}

/// Listens with a non-blocking socket of this type at `path`: it appears there whole, with its mode
/// and group. A socket that a dead process left there is replaced, and nothing else.
///
/// # Errors
/// [`ServeError`]; nothing is left behind.
pub fn listen_at(
    path: &Path,
    kind: SocketType,
    mode: u32,
    group: Option<u32>,
) -> Result<(OwnedFd, SocketFile), ServeError> {
    let at = |what: &str| format!("{what} {}", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // From the look at what is there to the new socket: of two daemons at one path, the second is
    // refused.
    let _lock = DirLock::take(dir)
        .map_err(|source| ServeError::Os { action: format!("lock {}", dir.display()), source })?;
    refuse_to_replace(path, kind)?;
    let listener = socket(kind)?;
    // Whom the mode does not admit cannot connect in the meantime either.
    rustix::fs::fchmod(&listener, Mode::from_raw_mode(0)).map_err(os("set a socket's mode"))?;
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(os("draw a name"))?;
    let first = dir.join(format!(".{:x}", u32::from_ne_bytes(random)));
    let address = SocketAddrUnix::new(&first).map_err(os(at("listen at")))?;
    SocketAddrUnix::new(path).map_err(os(at("listen at")))?;
    bind_to(&listener, &address).map_err(os(at("listen at")))?;
    let place = || {
        // Not by its name, which others may have given to something else in a directory that they
        // can write.
        let pinned = pin(&first)?;
        let by_fd = format!("/proc/self/fd/{}", pinned.as_raw_fd());
        rustix::fs::chmod(&by_fd, Mode::from_raw_mode(mode & 0o777)).map_err(os(at("chmod")))?;
        if let Some(gid) = group {
            rustix::fs::chown(&by_fd, None, Some(Gid::from_raw(gid))).map_err(os(at("chgrp")))?;
        }
        listen(&listener, BACKLOG).map_err(os(at("listen at")))?;
        let inode = pinned.metadata().map(|meta| (meta.dev(), meta.ino()))?;
        std::fs::rename(&first, path)?;
        Ok(SocketFile { path: path.to_owned(), inode })
    };
    match place() {
        Ok(place) => Ok((listener, place)),
        Err(Failed(error)) => {
            let _ = std::fs::remove_file(&first);
            Err(error)
        }
    }
}

/// Opens the socket at `path`, which this process has bound, so that it can be named without its
/// path. Fails if something else is there by now.
fn pin(path: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    let ours = meta.file_type().is_socket()
        && meta.nlink() == 1
        && meta.uid() == rustix::process::geteuid().as_raw();
    if ours { Ok(file) } else { Err(io::ErrorKind::AlreadyExists.into()) }
}

struct Failed(ServeError);

impl From<ServeError> for Failed {
    fn from(error: ServeError) -> Self {
        Self(error)
    }
}

impl From<io::Error> for Failed {
    fn from(source: io::Error) -> Self {
        Self(ServeError::Os { action: "put the socket in its place".into(), source })
    }
}

/// Fails if `path` holds anything but a socket at which nobody listens.
fn refuse_to_replace(path: &Path, kind: SocketType) -> Result<(), ServeError> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ServeError::Os { action: format!("look at {}", path.display()), source });
        }
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ServeError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = socket(kind)?;
    let address = SocketAddrUnix::new(path).map_err(os("look at the socket"))?;
    match connect(&probe, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        _ => Err(ServeError::InUse { path: path.to_owned() }),
    }
}

/// Fails unless `fd` is a socket as a server listens with.
pub(super) fn check(fd: &impl AsFd) -> Result<(), ServeError> {
    let fits = sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(fd) == Ok(SocketType::SEQPACKET)
        && sockopt::socket_acceptconn(fd) == Ok(true);
    if !fits {
        return Err(ServeError::NotListening);
    }
    rustix::io::ioctl_fionbio(fd, true).map_err(os("make a socket non-blocking"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

    use super::*;

    #[test]
    fn only_a_socket_of_ours_gets_a_mode_and_a_group() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (_listener, socket) =
            listen_at(&at("s.sock"), SocketType::SEQPACKET, 0o640, None).unwrap();
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(socket.path()), 0o640);
        pin(socket.path()).unwrap();
        // What somebody who can write the directory could put in its place.
        std::fs::write(at("file"), []).unwrap();
        std::os::unix::fs::symlink(at("file"), at("to-file")).unwrap();
        std::os::unix::fs::symlink(at("s.sock"), at("to-socket")).unwrap();
        for other in ["file", "to-file", "to-socket", "nothing"] {
            assert!(pin(&at(other)).is_err(), "{other}");
        }
        std::fs::hard_link(at("s.sock"), at("other-name")).unwrap();
        assert!(pin(&at("s.sock")).is_err(), "a socket that has another name");
    }
}
