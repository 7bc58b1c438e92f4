//! The suite for the contract of [`Observer`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::{Log, RecordingBlk, RecordingDom, RecordingNet, RecordingVcpu};
use super::{Violation, WATCH, judge};
use crate::contract::{
    Command, ControlError, Description, Event, Observation, Observer, Publisher, Reply, Sinks,
    SourceError,
};

/// How long a domain may take to be published, and a command to be answered: the observer's own
/// limit is shorter.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon an observer ends: rule 17 says a second, and a busy machine has another.
const END: Duration = Duration::from_secs(2);

/// What an observer that keeps the contract was seen to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverReport {
    /// How it described its domain when it created each region.
    pub descriptions: Vec<Description>,
    /// The events, in order.
    pub events: Vec<Event>,
    /// How often a group of a vCPU record was written, in all regions.
    pub vcpu_writes: u64,
    /// How often a group of a device's record was written.
    pub device_writes: u64,
}

/// Checks that an observer keeps the contract of [`Observer`], rules 11 to 17, and what it writes
/// rules 4 to 8 of [`crate::Source`]: it is observed until it is published and for `run_for` more,
/// asked for lists and for a disk that does not exist, and asked to stop.
///
/// # Errors
/// [`Violation`] with the first broken rule.
pub fn check_observer(
    observer: impl Observer,
    run_for: Duration,
) -> Result<ObserverReport, Violation> {
    check_observer_within(observer, run_for, PATIENCE)
}

/// As [`check_observer`], with another limit than 30 s for the answer to a command.
///
/// # Errors
/// [`Violation`] with the first broken rule.
pub fn check_observer_within(
    observer: impl Observer,
    run_for: Duration,
    limit: Duration,
) -> Result<ObserverReport, Violation> {
    let seen = Seen::default();
    let observation = observer.observe(Recorder { seen: seen.clone() })?;
    wait("a domain to be published", || observation.status().domain.is_some())?;
    let name = observation.status().domain.unwrap_or_default();
    answered("the list of disks", &*observation, limit, Command::Disks)?;
    answered("the list of jobs", &*observation, limit, Command::Jobs)?;
    let abort = |reply| Command::AbortJob {
        disk: "no disk is called so".to_owned(),
        flags: 0,
        timeout: None,
        reply,
    };
    if let Some(Ok(_)) = answered("a cancellation", &*observation, limit, abort)? {
        return Err(Violation::of(15, "a job of a disk that does not exist was canceled"));
    }
    let until = Instant::now() + run_for;
    while Instant::now() < until {
        if observation.status().domain.is_none() {
            return Err(Violation::of(16, format!("{name} is no longer published")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = Instant::now();
    observation.ask_to_stop();
    if began.elapsed() > END {
        return Err(Violation::of(17, "ask_to_stop waited"));
    }
    while !observation.has_ended() {
        if began.elapsed() > END {
            return Err(Violation::of(17, format!("it did not end within {END:?}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    seen.judge(&name)?;
    let last = seen.lengths();
    // After the end a command is refused, or its reply dropped.
    answered("a command after the end", &*observation, limit, Command::Disks)?;
    drop(observation);
    std::thread::sleep(WATCH);
    if seen.lengths() != last {
        return Err(Violation::of(17, "something was written after the end"));
    }
    seen.report()
}

/// Gives a command and waits for its answer; `None` if the reply was dropped.
fn answered<T>(
    what: &str,
    observation: &dyn Observation,
    limit: Duration,
    make: impl FnOnce(Reply<T>) -> Command,
) -> Result<Option<Result<T, ControlError>>, Violation> {
    let (reply, answer) = channel();
    observation.command(make(reply));
    let first = match answer.recv_timeout(limit) {
        Ok(answer) => Some(answer),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            return Err(Violation::of(15, format!("{what} was not answered")));
        }
    };
    if answer.try_recv().is_ok() {
        return Err(Violation::of(15, format!("{what} was answered twice")));
    }
    Ok(first)
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) -> Result<(), Violation> {
    let began = Instant::now();
    while !ready() {
        if began.elapsed() > PATIENCE {
            return Err(Violation::of(11, format!("waited too long for {what}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Calls of a publisher, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    regions: Vec<(Description, Log)>,
    events: Vec<(String, Event)>,
    /// Calls of `notify` that no event has followed.
    notified: u64,
    broken: Option<Violation>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first broken rule is the one that is reported.
    fn broken(&self, rule: u8, seen: impl Into<String>) {
        self.lock().broken.get_or_insert_with(|| Violation::of(rule, seen));
    }

    fn lengths(&self) -> (Vec<usize>, usize) {
        let state = self.lock();
        (state.regions.iter().map(|(_, log)| log.len()).collect(), state.events.len())
    }

    fn judge(&self, name: &str) -> Result<(), Violation> {
        if let Some(violation) = self.lock().broken.take() {
            return Err(violation);
        }
        let state = self.lock();
        let of_domain = || state.events.iter().filter(|(of, _)| of == name).map(|(_, e)| e);
        if of_domain().next() != Some(&Event::Published) {
            return Err(Violation::of(14, "the first event is not `published`"));
        }
        if of_domain().next_back() != Some(&Event::Gone) {
            return Err(Violation::of(14, "the last event is not `gone`"));
        }
        Ok(())
    }

    fn report(&self) -> Result<ObserverReport, Violation> {
        let state = self.lock();
        let (mut vcpu_writes, mut device_writes) = (0, 0);
        for (description, log) in &state.regions {
            let created = description.created;
            let counts = log.with(|events| judge::judge(events, log.began(), created))?;
            vcpu_writes += counts.vcpu_writes;
            device_writes += counts.device_writes;
        }
        Ok(ObserverReport {
            descriptions: state.regions.iter().map(|(d, _)| d.clone()).collect(),
            events: state.events.iter().map(|(_, event)| event.clone()).collect(),
            vcpu_writes,
            device_writes,
        })
    }
}

/// A publisher whose sinks record.
struct Recorder {
    seen: Seen,
}

/// Regions that exist, of all recorders' kinds: unpublished and visible.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        // ORDERING: a count that is looked at by the same thread, or after that thread has ended.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A region that is being recorded.
struct Recorded {
    log: Log,
    _held: Held,
}

impl Publisher for Recorder {
    type Dom = RecordingDom;
    type Vcpu = RecordingVcpu;
    type Blk = RecordingBlk;
    type Net = RecordingNet;
    type Unpublished = Recorded;
    type Region = Recorded;

    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError> {
        let log = Log::new(description.clock);
        let mut state = self.seen.lock();
        let alive = state.regions.last().is_some_and(|(_, log)| log.is_held());
        state.regions.push((description.clone(), log.clone()));
        drop(state);
        if alive {
            self.seen.broken(12, "a region was created before the one before was dropped");
        }
        let (vcpus, blks, nets) = (description.nr_vcpus, description.nr_blks, description.nr_nets);
        Ok(Sinks {
            dom: RecordingDom::new(&log),
            vcpus: (0..vcpus).map(|i| RecordingVcpu::new(&log, i)).collect(),
            blks: (0..blks).map(|i| RecordingBlk::new(&log, i)).collect(),
            nets: (0..nets).map(|i| RecordingNet::new(&log, i)).collect(),
            unpublished: Recorded { _held: Held(log.hold()), log },
        })
    }

    fn publish(&mut self, name: &str, new: Recorded) -> Result<Recorded, SourceError> {
        let described = self.seen.lock().regions.last().map(|(d, _)| d.name.clone());
        if described.as_deref() != Some(name) {
            self.seen.broken(11, format!("{described:?} was described, and published is {name}"));
        }
        if new.log.len() == 0 {
            self.seen.broken(11, "nothing was written before the region was published");
        }
        new.log.mark_started();
        Ok(new)
    }

    fn notify(&self, _: &Recorded) {
        self.seen.lock().notified += 1;
    }

    fn event(&mut self, domain: &str, event: &Event) {
        let mut state = self.seen.lock();
        let visible = state.regions.last().is_some_and(|(_, log)| log.is_held());
        let notified = std::mem::take(&mut state.notified);
        state.events.push((domain.to_owned(), event.clone()));
        drop(state);
        if visible && notified != 1 {
            self.seen.broken(13, format!("{notified} notifications before {event:?}"));
        }
    }

    fn note(&mut self, _: &str) {}
}
