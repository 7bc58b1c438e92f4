//! Process descriptors: which process, and whether it has exited.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

/// Whether one of the descriptors is ready.
pub(crate) fn is_over<'a>(fds: impl IntoIterator<Item = (BorrowedFd<'a>, PollFlags)>) -> bool {
    let mut fds: Vec<_> =
        fds.into_iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
    !fds.is_empty() && poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|n| n > 0)
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

/// Whether a descriptor is that of a process, whatever its number is here: one of something else
/// could be ready at any time.
pub(crate) fn is_pidfd(fd: BorrowedFd<'_>) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
    info.is_ok_and(|info| info.lines().any(|line| line.starts_with("Pid:")))
}

/// The number that `/proc` knows a pidfd's process by, which may be that of another namespace than
/// this process's; `None` if the descriptor is no pidfd, or its process has no number there.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    Ok(pid.and_then(|pid| number(pid.trim())))
}

/// A process id; a negative one or 0 is none.
pub(crate) fn number(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse::<i32>().ok().filter(|pid| *pid > 0)?)
}
