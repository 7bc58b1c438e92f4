//! Runstate of a vCPU from the kernel's books of its thread.
//!
//! With its interrupt controller in the kernel, a VMM does not see its vCPUs halt or wait for a CPU: both
//! happen inside of `KVM_RUN`. The kernel accounts what the thread did.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[cfg(feature = "thread-clock")]
use domstat_layout::Word;
use domstat_layout::latest::{Runstate, Sched};
use domstat_layout::runstate_estimator::{Activity, Reading, RunstateEstimator};
use domstat_layout::{Clock, Group, Ns};
#[cfg(feature = "thread-clock")]
use nix::time::{ClockId, clock_gettime};

use crate::now;

mod kvm_exits;
#[cfg(test)]
mod tests;

pub use kvm_exits::KvmExits;

/// Bytes that are read of a file in `/proc`: as many as the part that is used can take. Three numbers of
/// 64 bits, or a number, a name of at most 63 bytes and a letter.
const READ_LEN: usize = 128;
#[cfg(feature = "thread-clock")]
/// Largest id of a thread (PID_MAX_LIMIT of 64-bit kernels): a larger one would be another clock's.
const MAX_TID: u32 = 1 << 22;

/// The times of one vCPU's thread, for the group `runstate` and `sched`.
///
/// Descriptors are opened once, before a sandbox forbids it; a sample reads each with one `pread64`
/// and allocates nothing. Times count from [`ThreadTimes::open`] on, never decrease, and sum to the time
/// since then. Where `/proc` is missing, as in a jail, the thread's CPU clock remains: it says how long the
/// thread ran, and everything else is not produced (feature `thread-clock`; without it, an error).
///
/// ```
/// use domstat_layout::Clock;
/// use domstat_producer::{RegionBuilder, ThreadTimes};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut created = RegionBuilder::new("web1").clock(Clock::Monotonic).create_memfd()?;
/// # let vcpu = &mut created.vcpus[0];
/// // In the vCPU's thread, before it is confined.
/// let mut times = ThreadTimes::of_current_thread(Clock::Monotonic)?;
/// // In any thread, several times a second: it moves there.
/// let sample = times.sample()?;
/// vcpu.write(&sample.runstate, sample.now);
/// vcpu.write(&sample.sched, sample.now);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ThreadTimes {
    clock: Clock,
    books: Books,
}

/// What a thread did, as of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSample {
    /// Its state and times. When the state was entered is not produced: sampling does not see it.
    pub runstate: Runstate,
    /// The scheduler's counters, since the thread began.
    pub sched: Sched,
    /// The moment, on the region's clock: what the groups are written as of.
    pub now: Ns,
}

/// Where the times come from.
#[derive(Debug)]
enum Books {
    /// The scheduler's statistics and the thread's state.
    Scheduler { files: Files, at_open: Reading, estimator: RunstateEstimator },
    /// The time on a CPU alone: of which clock, and what it said at first.
    #[cfg(feature = "thread-clock")]
    CpuClock { id: ClockId, at_open: u64 },
}

/// Open files of a thread in `/proc`.
#[derive(Debug)]
struct Files {
    schedstat: File,
    stat: File,
}

impl ThreadTimes {
    /// Of the thread `tid` of this process, in a region whose clock is `clock`.
    ///
    /// # Errors
    /// What the system says: there is no such thread, or the clock cannot be read here.
    pub fn open(tid: u32, clock: Clock) -> io::Result<Self> {
        Self::of(tid, Files::open(&format!("/proc/self/task/{tid}")), clock)
    }

    /// Of the calling thread: a vCPU's thread opens its own and hands it to a sampler.
    ///
    /// # Errors
    /// As for [`ThreadTimes::open`].
    pub fn of_current_thread(clock: Clock) -> io::Result<Self> {
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        Self::of(tid, Files::open("/proc/thread-self"), clock)
    }

    /// Of the thread `tid` of this process, by its CPU clock alone, whatever `/proc` has: how long it ran.
    /// No descriptor is opened.
    ///
    /// # Errors
    /// As for [`ThreadTimes::open`].
    #[cfg(feature = "thread-clock")]
    pub fn of_cpu_clock(tid: u32, clock: Clock) -> io::Result<Self> {
        let _ = now(clock).ok_or_else(unknown_clock)?;
        if tid > MAX_TID {
            return Err(rustix::io::Errno::SRCH.into());
        }
        let id = cpu_clock(tid);
        Ok(Self { clock, books: Books::CpuClock { id, at_open: read_clock(id)? } })
    }

    fn of(tid: u32, files: io::Result<Files>, clock: Clock) -> io::Result<Self> {
        // A kernel without scheduler statistics has no such file, or only zeros in it.
        let usable = files.and_then(|files| Ok((files.read()?, files)));
        if let Ok((at_open, files)) = usable
            && (at_open.run_ns, at_open.timeslices) != (0, 0)
        {
            let now = now(clock).ok_or_else(unknown_clock)?;
            let estimator = RunstateEstimator::new(now, since(at_open, at_open), now);
            return Ok(Self { clock, books: Books::Scheduler { files, at_open, estimator } });
        }
        Self::without_proc(tid, clock)
    }

    #[cfg(feature = "thread-clock")]
    fn without_proc(tid: u32, clock: Clock) -> io::Result<Self> {
        Self::of_cpu_clock(tid, clock)
    }

    #[cfg(not(feature = "thread-clock"))]
    fn without_proc(_: u32, _: Clock) -> io::Result<Self> {
        let why = "/proc has no scheduler statistics of the thread";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    /// Whether waiting and blocked time are known, and not only how long the thread ran.
    #[must_use]
    pub const fn sees_steal(&self) -> bool {
        matches!(self.books, Books::Scheduler { .. })
    }

    /// What the thread did up to now.
    ///
    /// # Errors
    /// What the system says: `ESRCH` once the thread has exited.
    pub fn sample(&mut self) -> io::Result<ThreadSample> {
        match &mut self.books {
            Books::Scheduler { files, at_open, estimator } => {
                let reading = files.read()?;
                // After the counters, so that they cannot say more than has passed.
                let now = now(self.clock).unwrap_or_default();
                estimator.advance(since(reading, *at_open), now);
                let sched = Sched {
                    time_ns: reading.run_ns.into(),
                    delay_ns: reading.wait_ns.into(),
                    timeslices: reading.timeslices.into(),
                    ..Sched::NOT_PRODUCED
                };
                Ok(ThreadSample { runstate: estimator.runstate(), sched, now })
            }
            #[cfg(feature = "thread-clock")]
            Books::CpuClock { id, at_open } => {
                let ran = read_clock(*id)?;
                let now = now(self.clock).unwrap_or_default();
                let running_ns = Word::from(ran.saturating_sub(*at_open));
                let runstate = Runstate { running_ns, ..Runstate::NOT_PRODUCED };
                let sched = Sched { time_ns: ran.into(), ..Sched::NOT_PRODUCED };
                Ok(ThreadSample { runstate, sched, now })
            }
        }
    }
}

fn unknown_clock() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the clock cannot be read here")
}

impl Files {
    fn open(dir: &str) -> io::Result<Self> {
        let open = |name: &str| File::open(format!("{dir}/{name}"));
        Ok(Self { schedstat: open("schedstat")?, stat: open("stat")? })
    }

    fn read(&self) -> io::Result<Reading> {
        let mut buffers = [[0; READ_LEN]; 2];
        let [counters, state] = &mut buffers;
        let counters = read(&self.schedstat, counters)?;
        let state = read(&self.stat, state)?;
        parse(counters, state).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn read<'b>(file: &File, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let len = file.read_at(buffer, 0)?;
    Ok(buffer.get(..len).unwrap_or_default())
}

/// `schedstat` is "RUN WAIT TIMESLICES"; `stat` is "TID (NAME) STATE ...", of which the name can hold
/// anything, parentheses too.
fn parse(schedstat: &[u8], stat: &[u8]) -> Option<Reading> {
    let mut numbers = str::from_utf8(schedstat).ok()?.split_ascii_whitespace();
    let mut number = || numbers.next()?.parse().ok();
    let (run_ns, wait_ns, timeslices) = (number()?, number()?, number()?);
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let letter = stat.get(name_end + 2)?;
    let activity = Activity::from_letter(char::from(*letter));
    Some(Reading { run_ns, wait_ns, timeslices, activity })
}

/// The counters since an earlier reading.
const fn since(reading: Reading, earlier: Reading) -> Reading {
    Reading {
        run_ns: reading.run_ns.saturating_sub(earlier.run_ns),
        wait_ns: reading.wait_ns.saturating_sub(earlier.wait_ns),
        ..reading
    }
}

/// The clock of a thread's time on a CPU, as the kernel encodes it: the complement of its id, and bits
/// for "of one thread" and "as the scheduler counts".
#[cfg(feature = "thread-clock")]
const fn cpu_clock(tid: u32) -> ClockId {
    ClockId::from_raw((!tid.cast_signed() << 3) | 0b110)
}

#[cfg(feature = "thread-clock")]
fn read_clock(id: ClockId) -> io::Result<u64> {
    let time = clock_gettime(id).map_err(io::Error::from)?;
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
