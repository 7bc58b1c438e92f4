//! Which thread is shown in which vCPU slot.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use domstat_layout::latest::{Memory, Runstate, Threads as ThreadGroup};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Ns};

use super::ProcessProbe;
use super::reader::{Reader, ThreadSample, Threads};
use super::runstate_estimator::RunstateEstimator;
use crate::cgroup::Cgroup;
use crate::host::now;
use crate::status::{DomainStatus, Reason, State};
use crate::threads::{ThreadKey, ThreadTimes};
use crate::{Progress, Running, SourceError, thread_group};

/// One vCPU slot.
struct Slot<V> {
    sink: V,
    /// The thread shown in it.
    estimator: Option<RunstateEstimator>,
    /// The thread's name as it was published.
    name: Option<String>,
    /// Whether it has shown a thread before.
    used: bool,
    /// The last sample that found its thread alive.
    seen: u64,
}

/// Samples a process until it ends.
pub(super) struct Sampler<D, V> {
    reader: Reader,
    created: Ns,
    interval: Duration,
    probe: ProcessProbe,
    dom: D,
    slots: Vec<Slot<V>>,
    free: BTreeSet<usize>,
    shown: HashMap<ThreadKey, usize>,
    times: ThreadTimes,
    cgroup: Cgroup,
    status: Option<DomainStatus>,
    samples: u64,
    ended: bool,
}

impl<D: DomSink, V: VcpuSink> Sampler<D, V> {
    /// Takes the first sample.
    pub(super) fn start(
        reader: Reader,
        created: Ns,
        interval: Duration,
        probe: ProcessProbe,
        dom: D,
        vcpus: Vec<V>,
    ) -> Result<Self, SourceError> {
        let pid = reader.pid;
        let free = (0..vcpus.len()).collect();
        let slots = vcpus
            .into_iter()
            .map(|sink| Slot { sink, estimator: None, name: None, used: false, seen: 0 })
            .collect();
        let shown = HashMap::new();
        let mut sampler = Self {
            reader,
            created,
            interval,
            probe,
            dom,
            slots,
            free,
            shown,
            times: ThreadTimes::default(),
            cgroup: Cgroup::default(),
            status: None,
            samples: 0,
            ended: false,
        };
        match sampler.sample()? {
            Progress::Continue | Progress::Outgrown | Progress::Renamed => Ok(sampler),
            Progress::Ended => Err(SourceError::NoSuchProcess { pid }),
        }
    }

    fn sample(&mut self) -> Result<Progress, SourceError> {
        let Threads::Alive(threads) = self.reader.threads()? else {
            return Ok(self.end());
        };
        let Some((memory, letter, now)) = self.reader.memory()? else {
            return Ok(self.end());
        };
        self.samples = self.samples.wrapping_add(1);
        self.dom.write::<Memory>(&memory, now);
        let (state, reason) = state_of(letter);
        self.write_status(state, reason, now);
        self.write_roles(&threads);
        self.cgroup.write(&self.reader.process, &mut self.dom, Clock::Boottime);

        let mut fresh = Vec::new();
        for thread in threads.into_iter().filter(|thread| thread.is_shown) {
            match self.shown.get(&thread.key).and_then(|&index| self.slots.get_mut(index)) {
                Some(slot) => show(slot, &thread, self.created, self.samples),
                None => fresh.push(thread),
            }
        }
        self.retire();
        let mut not_shown = 0usize;
        for thread in fresh {
            let index = self.free.pop_first();
            match index.and_then(|index| Some((index, self.slots.get_mut(index)?))) {
                Some((index, slot)) => {
                    show(slot, &thread, self.created, self.samples);
                    self.shown.insert(thread.key, index);
                }
                None => not_shown = not_shown.saturating_add(1),
            }
        }
        self.probe.set(self.shown.len(), not_shown);
        Ok(Progress::Continue)
    }

    /// Writes the state. Since when the process is in the one that is seen first is not known.
    fn write_status(&mut self, state: State, reason: Reason, now: Ns) {
        let status = self.status.get_or_insert(DomainStatus::new(state, reason, None));
        status.see(state, reason, None, now);
        self.dom.write(&status.group(), now);
    }

    /// Writes CPU time and number of threads by role.
    fn write_roles(&mut self, threads: &[ThreadSample]) {
        let now = threads.last().map_or_else(|| now(Clock::Boottime), |thread| thread.now);
        let mut look = self.times.look();
        for thread in threads {
            look.thread(thread.key, thread.role, thread.reading.run_ns);
        }
        self.dom.write(&ThreadGroup::from(look.done(self.reader.pid)), now);
    }

    /// Frees the slots whose threads the last sample did not find.
    fn retire(&mut self) {
        let (slots, free, samples) = (&mut self.slots, &mut self.free, self.samples);
        let now = now(Clock::Boottime);
        self.shown.retain(|_, &mut index| {
            let Some(slot) = slots.get_mut(index) else { return false };
            if slot.seen == samples {
                return true;
            }
            slot.sink.deactivate::<Runstate>();
            slot.sink.write_arch(thread_group::INDEX, &thread_group::NO_THREAD, now);
            (slot.estimator, slot.name) = (None, None);
            free.insert(index);
            false
        });
    }

    /// The process has ended, and with it its vCPUs and its memory.
    fn end(&mut self) -> Progress {
        self.samples = self.samples.wrapping_add(1);
        self.retire();
        if self.samples > 1 {
            self.dom.deactivate::<Memory>();
            self.write_status(State::Dying, Reason::Unknown, now(Clock::Boottime));
        }
        self.probe.set(0, 0);
        self.ended = true;
        Progress::Ended
    }
}

/// The state that the kernel's letter of a process shows.
const fn state_of(letter: char) -> (State, Reason) {
    match letter {
        'T' => (State::Paused, Reason::User),
        't' => (State::Paused, Reason::Debug),
        'Z' | 'X' => (State::Dying, Reason::Unknown),
        _ => (State::Running, Reason::Unknown),
    }
}

/// Publishes a thread in its slot.
fn show<V: VcpuSink>(slot: &mut Slot<V>, thread: &ThreadSample, created: Ns, sample: u64) {
    let estimator = if let Some(estimator) = &mut slot.estimator {
        estimator.advance(thread.reading, thread.now);
        estimator
    } else {
        if slot.used {
            slot.sink.renew();
        }
        slot.used = true;
        // No thread is older than its process; the kernel rounds both down.
        slot.estimator.insert(RunstateEstimator::new(
            thread.began.max(created),
            thread.reading,
            thread.now,
        ))
    };
    slot.seen = sample;
    slot.sink.write(&estimator.runstate(), thread.now);
    // A thread may be renamed.
    if slot.name.as_ref() != Some(&thread.name) {
        let words = thread_group::words(thread.key.tid, &thread.name);
        slot.sink.write_arch(thread_group::INDEX, &words, thread.now);
        slot.name = Some(thread.name.clone());
    }
}

impl<D: DomSink, V: VcpuSink> Running for Sampler<D, V> {
    fn interval(&self) -> Duration {
        self.interval
    }

    fn tick(&mut self) -> Result<Progress, SourceError> {
        if self.ended {
            return Ok(Progress::Ended);
        }
        let result = self.sample();
        self.ended |= result.as_ref().is_err_and(|error| !error.is_transient());
        result
    }

    fn stop(self: Box<Self>) {}
}
