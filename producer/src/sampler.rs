//! Thread that samples what is not counted where it happens: threads' times, KVM's exits, shared counters.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use domstat_layout::latest::{Exits, Runstate, Sched};
use domstat_layout::sink::{BlkSink, NetSink};
use domstat_layout::{Clock, Ns};

use crate::{BlkCounters, GroupWriter, KvmExits, NetCounters, ThreadTimes, now};

/// What is done at each sample, until it breaks.
type Task = Box<dyn FnMut(Ns) -> ControlFlow<()> + Send>;

/// A thread that publishes samples several times a second, until it is dropped: then it takes a last sample
/// and ends.
///
/// A sample allocates nothing, and makes the system calls of [`ThreadTimes::sample`] and `futex`. What is
/// sampled can be added at any time: start the thread before a sandbox forbids it.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use domstat_layout::Clock;
/// use domstat_layout::latest::{Exits, Runstate, Sched};
/// use domstat_producer::{BlkCounters, RegionBuilder, Sampler, ThreadTimes};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = RegionBuilder::new("web1").vcpus(1).blks(1).clock(Clock::Monotonic);
/// let mut created = builder.create_memfd()?;
/// let sampler = Sampler::spawn(Clock::Monotonic, Duration::from_millis(100))?;
/// // A vCPU: its thread keeps the writer for what it counts itself.
/// let vcpu = &mut created.vcpus[0];
/// if let (Some(runstate), Some(sched)) = (vcpu.take::<Runstate>(), vcpu.take::<Sched>()) {
///     sampler.vcpu(ThreadTimes::of_current_thread(Clock::Monotonic)?, runstate, sched);
/// }
/// vcpu.set(Exits::exits, 1, domstat_producer::now(Clock::Monotonic).unwrap_or_default());
/// // A disk with several queues: each has a clone of the counters.
/// let disk = Arc::new(BlkCounters::default());
/// sampler.blk(Arc::clone(&disk), created.blks.remove(0));
/// # Ok(())
/// # }
/// ```
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    stop: bool,
}

impl Sampler {
    /// Starts the thread: a sample each time that `every` has passed, as of the time on the region's clock.
    /// Samples that are late are left out.
    ///
    /// # Errors
    /// No thread can be started, or the clock cannot be read here.
    pub fn spawn(clock: Clock, every: Duration) -> io::Result<Self> {
        if now(clock).is_none() {
            let why = "the clock cannot be read here";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("domstat-sample".into())
            .spawn(move || of_thread.run(clock, every))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Samples the times of a vCPU's thread. When the thread has exited, the groups are switched off and their
    /// writers dropped.
    pub fn vcpu(
        &self,
        mut times: ThreadTimes,
        mut runstate: GroupWriter<Runstate>,
        mut sched: GroupWriter<Sched>,
    ) {
        self.each(move |_| {
            let Ok(sample) = times.sample() else {
                runstate.deactivate();
                sched.deactivate();
                return ControlFlow::Break(());
            };
            runstate.write(&sample.runstate, sample.now);
            sched.write(&sample.sched, sample.now);
            ControlFlow::Continue(())
        });
    }

    /// Samples KVM's counters of a vCPU's exits. When they cannot be read any more, the group is switched off
    /// and its writer dropped.
    pub fn exits(&self, mut counters: KvmExits, mut exits: GroupWriter<Exits>) {
        self.each(move |now| {
            let Ok(sample) = counters.sample() else {
                exits.deactivate();
                return ControlFlow::Break(());
            };
            exits.write(&sample, now);
            ControlFlow::Continue(())
        });
    }

    /// Samples a block device's counters. When all others have dropped them, they are published for the last
    /// time and the writer is dropped: a [`crate::Claim`] gives its slot back then.
    pub fn blk(&self, mut counters: Arc<BlkCounters>, mut device: impl BlkSink + 'static) {
        self.each(move |now| {
            let is_last = Arc::get_mut(&mut counters).is_some();
            counters.publish(&mut device, now);
            if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// As [`Sampler::blk`], of a network interface.
    pub fn net(&self, mut counters: Arc<NetCounters>, mut interface: impl NetSink + 'static) {
        self.each(move |now| {
            let is_last = Arc::get_mut(&mut counters).is_some();
            counters.publish(&mut interface, now);
            if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Does `task` at each sample, with the time, until it breaks. It must not wait, nor add to the sampler.
    pub fn each(&self, task: impl FnMut(Ns) -> ControlFlow<()> + Send + 'static) {
        self.shared.state().tasks.push(Box::new(task));
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // The writers come back now, and not when the last of the clones is dropped.
        self.shared.state().tasks.clear();
    }
}

/// How long is waited at once for a sample that is never due.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, clock: Clock, every: Duration) {
        // `None` is later than any clock tells.
        let mut due = Some(Instant::now());
        let mut state = self.state();
        loop {
            let is_last = state.stop;
            let now = now(clock).unwrap_or_default();
            state.tasks.retain_mut(|task| task(now).is_continue());
            if is_last {
                return;
            }
            // Samples that are late are left out: the next one is a whole interval from now.
            let now = Instant::now();
            let next = due.and_then(|due| due.checked_add(every)).filter(|next| *next > now);
            due = next.or_else(|| now.checked_add(every));
            // Others want the tasks, too, however short the interval is.
            drop(state);
            if every.is_zero() {
                std::thread::yield_now();
            }
            state = self.state();
            while !state.stop {
                let left =
                    due.map_or(LONGEST_WAIT, |due| due.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    break;
                }
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}
