//! Unix sockets that are bound to a path, as the kernel lists them (sock_diag(7)): whether a process
//! listens there, and whether it serves a client. /proc/net/unix does not say which connections have been
//! closed by their other end, as that of a daemon that was killed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::procfs::is_same;

/// How long each part of the list may take, which the kernel makes as it is asked.
const PART: Duration = Duration::from_secs(1);
/// Most parts of the list, each of some hundreds of sockets.
const MAX_PARTS: usize = 4096;
/// Bytes of a part.
const PART_LEN: usize = 32 << 10;

/// Type of a request for sockets, and of a message about one.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const HEADER: usize = 16;
/// Length of `struct unix_diag_msg`.
const UNIX_MSG: usize = 16;
const AF_UNIX: u8 = 1;
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
const SHOW_NAME: u32 = 1;
/// Attributes of a socket: its path, and which directions are shut down.
const ATTRIBUTE_NAME: u16 = 0;
const ATTRIBUTE_SHUTDOWN: u16 = 6;

/// The sockets of this network namespace that are bound to one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// One of them listens.
    pub(super) listens: bool,
    /// One of them was accepted, and nobody has closed its other end.
    pub(super) serves: bool,
}

/// Looks which sockets are bound to `path`.
///
/// # Errors
/// The kernel does not list sockets.
pub(super) fn bound(path: &Path) -> io::Result<Bound> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PART))?;
    rustix::net::send(&socket, &request(), SendFlags::empty())?;
    let mut bound = Bound::default();
    for _ in 0..MAX_PARTS {
        if take_part(&socket, path, &mut bound)? {
            return Ok(bound);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn request() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(40u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    // Sequence number, port; then `struct unix_diag_req`.
    bytes.extend([0; 8]);
    bytes.extend([AF_UNIX, 0, 0, 0]);
    bytes.extend((1u32 << ESTABLISHED | 1 << LISTEN).to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(SHOW_NAME.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// Takes a part of the list; true if it was the last one.
fn take_part(socket: &OwnedFd, path: &Path, bound: &mut Bound) -> io::Result<bool> {
    let mut buffer = vec![0; PART_LEN];
    let (len, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?;
    let mut rest = buffer.get(..len).unwrap_or_default();
    while let Some((len, kind)) = word(rest, 0).zip(half(rest, 4)) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(message) = rest.get(HEADER..len) else { break };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
            SOCK_DIAG_BY_FAMILY => take_socket(message, path, bound),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn take_socket(message: &[u8], path: &Path, bound: &mut Bound) {
    let state = message.get(2).copied().unwrap_or(0);
    let (mut is_its, mut is_shut) = (false, false);
    let mut rest = message.get(UNIX_MSG..).unwrap_or_default();
    while let Some((len, kind)) = half(rest, 0).zip(half(rest, 2)) {
        let Some(value) = rest.get(4..usize::from(len)) else { break };
        match kind {
            ATTRIBUTE_NAME => {
                let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                let name = value.get(..end).unwrap_or_default();
                is_its = is_same(Path::new(OsStr::from_bytes(name)), path);
            }
            ATTRIBUTE_SHUTDOWN => is_shut = value.first().is_some_and(|how| *how != 0),
            _ => {}
        }
        rest = rest.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    bound.listens |= is_its && state == LISTEN;
    bound.serves |= is_its && state == ESTABLISHED && !is_shut;
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_connection_is_served_from_accept_until_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.qmp");
        assert_eq!(bound(&path).unwrap(), Bound::default());
        let listener = UnixListener::bind(&path).unwrap();
        let waits = Bound { listens: true, serves: false };
        assert_eq!(bound(&path).unwrap(), waits);
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(bound(&path).unwrap(), waits, "it is not accepted");
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(bound(&path).unwrap(), Bound { listens: true, serves: true });
        assert_eq!(bound(&dir.path().join("other.qmp")).unwrap(), Bound::default());
        drop(client);
        assert_eq!(bound(&path).unwrap(), waits, "the one that serves it does not know yet");
        drop((accepted, listener));
        assert_eq!(bound(&path).unwrap(), Bound::default());
    }
}
