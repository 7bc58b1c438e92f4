//! How long something took, and for how much of that this thread had no CPU.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A time that passed; the longest is the one that took longest by the clock on the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Took {
    /// By the clock on the wall.
    pub wall: Duration,
    /// How long the thread was runnable meanwhile and had no CPU: what it yielded, and the
    /// machine's doing.
    pub without_cpu: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}", self.wall)?;
        if self.without_cpu > Duration::from_millis(1) {
            write!(f, " ({:.1?} without a CPU)", self.without_cpu)?;
        }
        Ok(())
    }
}

/// Measures from its start on.
pub struct Timer {
    since: Instant,
    delay_ns: u64,
}

impl Timer {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self { since: Instant::now(), delay_ns: delay_ns() }
    }

    /// What passed since.
    #[must_use]
    pub fn took(&self) -> Took {
        self.of(self.since.elapsed())
    }

    /// What passed in a part of the time since the start, that long by the clock on the wall.
    #[must_use]
    pub fn of(&self, wall: Duration) -> Took {
        let without_cpu = Duration::from_nanos(delay_ns().saturating_sub(self.delay_ns));
        Took { wall, without_cpu: without_cpu.min(wall) }
    }
}

/// Time that this thread spent in the run queue without a CPU; 0 where the kernel does not say.
fn delay_ns() -> u64 {
    thread_local! {
        static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
    }
    let mut line = [0; 80];
    let len = SCHEDSTAT.with(|file| file.as_ref()?.read_at(&mut line, 0).ok()).unwrap_or(0);
    let line = line.get(..len).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("");
    line.split(' ').nth(1).and_then(|delay| delay.parse().ok()).unwrap_or(0)
}
