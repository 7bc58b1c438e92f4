//! Stop flag that every wait of a connection notices.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

/// A request to stop. It is raised once and stays so.
#[derive(Clone, Debug)]
pub struct StopFlag(Arc<OwnedFd>);

impl StopFlag {
    /// A flag that is not raised.
    ///
    /// # Errors
    /// The host has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Self(Arc::new(rustix::event::eventfd(0, flags)?)))
    }

    /// Raises it.
    pub fn raise(&self) {
        // Fails only if it was raised 2^64 times.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for StopFlag {
    /// Becomes readable when the flag is raised; never read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
