//! Futex waits for a region's notify word, which its producer bumps on discrete events: a change of
//! state, a threshold, a job's end.

use std::time::{Duration, Instant};

use domstat_layout::header::dom;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::thread::futex::{self, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::{ClockId, clock_gettime};

use crate::attach::truncation::Truncated;
use crate::region::Region;

/// Between two looks on kernels that cannot wait for several words at once (before Linux 5.16).
const POLL: Duration = Duration::from_millis(5);

/// What a wait for the notify word ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The word is no longer what was seen; this is what it is now.
    Notified(u32),
    /// Nothing happened in that time.
    TimedOut,
}

impl Region {
    /// The number of events so far, for [`Region::wait`].
    #[must_use]
    pub fn notify_count(&self) -> u32 {
        self.mem().load_published(dom::NOTIFY).unwrap_or(0)
    }

    /// Waits, without polling, until the producer announces an event after the `seen`th, or for
    /// `timeout` (`None`: without end). Returns at once if it has already.
    ///
    /// A producer that is killed announces nothing: to be woken by that, too, use
    /// [`Events`](super::Events), or wait with a timeout.
    ///
    /// # Errors
    /// [`Truncated`] if the memory went away.
    pub fn wait(&self, seen: u32, timeout: Option<Duration>) -> Result<Waited, Truncated> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let now = self.notify_count();
            self.intact()?;
            if now != seen {
                return Ok(Waited::Notified(now));
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Waited::TimedOut);
            }
            let Some(word) = self.mem().notify_word() else { return Ok(Waited::TimedOut) };
            wait_for(&[region_wait(word, seen)], until);
        }
    }
}

/// A wait for a word of a region's: by what is mapped, not by where, since its writer is another
/// process.
pub(crate) fn region_wait(word: *const u32, seen: u32) -> futex::Wait {
    let mut wait = futex::Wait::new();
    // As it lies in memory: the kernel compares in its own byte order.
    wait.val = u64::from(seen.to_le());
    wait.uaddr = WaitPtr::new(word.cast_mut().cast());
    wait.flags = WaitFlags::SIZE_U32;
    wait
}

/// Waits until one of the words changes, is announced or the deadline passes. May return for no
/// reason: the caller checks.
pub(crate) fn wait_for(words: &[futex::Wait], until: Option<Instant>) {
    let deadline = until.map(on_the_clock);
    let waited = futex::waitv(words, WaitvFlags::empty(), deadline.as_ref(), ClockId::Monotonic);
    match waited {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        // ENOSYS: an older kernel. EFAULT: a file that was truncated, which the caller asks about, or
        // pages on which the kernel cannot wait.
        Err(_) => {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            std::thread::sleep(left.unwrap_or(POLL).min(POLL));
        }
    }
}

/// An instant as the system call takes it.
fn on_the_clock(until: Instant) -> Timespec {
    let left = until.saturating_duration_since(Instant::now());
    let now = clock_gettime(ClockId::Monotonic);
    let nanos = i64::from(left.subsec_nanos()) + now.tv_nsec;
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec: now.tv_sec.saturating_add(seconds).saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}
