//! Descriptors that a service manager stores for a daemon while it is down: listening sockets and
//! the memory of regions (systemd's socket activation and file descriptor store).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{SocketType, sockopt};
use sd_notify::NotifyState;

use crate::Region;

/// What was passed to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The listening sockets, for [`crate::ServerBuilder::on`].
    pub listeners: Vec<OwnedFd>,
    /// The memory of regions of an earlier process, for
    /// [`crate::RegionBuilder::continue_memfd`], and the names it is kept by.
    pub regions: Vec<(String, OwnedFd)>,
}

/// What the names of kept regions begin with.
const PREFIX: &str = "domstat-";

/// Takes what was passed to this process (`LISTEN_FDS`); nothing the second time.
///
/// # Errors
/// What the operating system says of the descriptors.
pub fn inherited() -> io::Result<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let mut inherited = Inherited::default();
    // ORDERING: relaxed; only who is first counts.
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(inherited);
    }
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: passed to this process by the process that started it, for the first caller; nobody does so twice,
        // and nothing else in the process knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if sockopt::socket_type(&fd) == Ok(SocketType::SEQPACKET) {
            inherited.listeners.push(fd);
        } else if name.starts_with(PREFIX) {
            inherited.regions.push((name, fd));
        }
    }
    Ok(inherited)
}

/// The name under which a region's memory is kept: that of its inode, so that no two are alike.
fn name_of(memfd: BorrowedFd<'_>) -> io::Result<String> {
    Ok(format!("{PREFIX}{}", rustix::fs::fstat(memfd)?.st_ino))
}

/// Whether there is a service manager that can keep anything.
#[must_use]
pub fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Has the service manager keep a region's memory, so that the next process can go on with it.
/// Nothing without a service manager.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::Unsupported`] for a region that is not in one
/// memfd.
pub fn keep(region: &Region) -> io::Result<()> {
    let memfd = region.as_fd().ok_or(io::ErrorKind::Unsupported)?;
    let name = name_of(memfd)?;
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name)], &[memfd])
}

/// Has the service manager forget memory that it passed on.
///
/// # Errors
/// What the operating system says.
pub fn forget(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}

/// As [`forget`], of a region that was [`keep`]t by this process: its domain has ended.
///
/// # Errors
/// What the operating system says.
pub fn forget_region(region: &Region) -> io::Result<()> {
    let memfd = region.as_fd().ok_or(io::ErrorKind::Unsupported)?;
    forget(&name_of(memfd.as_fd())?)
}

/// Tells the service manager that consumers can connect.
///
/// # Errors
/// What the operating system says.
pub fn ready() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}
