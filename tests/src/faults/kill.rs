//! A writer that is killed or stopped at moments that nobody chose, while readers check every value.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::watch::{Event, Events};
use domstat_consumer::{AttachError, Attachment, Liveness, Patience, Region, Snapshot};
use domstat_layout::Ns;
use rustix::process::Signal;

use super::report::Row;
use super::took::Took;
use super::value::{Found, NR_RANKS, Pass, Way};
use super::{Fallible, GRACE, HUNG, Place, Writer, impatient, wait_until};

/// How old the newest value may be before the reader takes its writer for stopped.
const OLD: Duration = Duration::from_millis(25);

/// A moment that one thread sets and others clear when they have noticed.
struct Moment {
    base: Instant,
    ns: AtomicU64,
    longest: AtomicU64,
    /// When it was last noticed.
    noticed: AtomicU64,
}

impl Moment {
    fn new(base: Instant) -> Self {
        Self { base, ns: AtomicU64::new(0), longest: AtomicU64::new(0), noticed: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn set(&self) {
        self.ns.store(self.now(), Ordering::SeqCst);
    }

    fn is_set(&self) -> bool {
        self.ns.load(Ordering::SeqCst) != 0
    }

    fn noticed(&self) {
        let now = self.now();
        self.noticed.store(now, Ordering::SeqCst);
        let since = self.ns.swap(0, Ordering::SeqCst);
        if since != 0 {
            self.longest.fetch_max(now.saturating_sub(since), Ordering::SeqCst);
        }
    }

    /// How long after `ns` it was noticed, if it was after it.
    fn noticed_after(&self, ns: u64) -> Duration {
        Duration::from_nanos(self.noticed.load(Ordering::SeqCst).saturating_sub(ns))
    }

    fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::SeqCst))
    }
}

/// What the threads share.
struct Shared<'a> {
    path: &'a Path,
    done: AtomicBool,
    killed: Moment,
    stopped: Moment,
    /// Kills that were noticed by asking, since no event reported them.
    asked: AtomicU64,
    /// What readers found, added up.
    sum: Mutex<Row>,
}

impl Shared<'_> {
    fn add(&self, tally: Row) {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        sum.values += tally.values;
        sum.wrong += tally.wrong;
        sum.lost += tally.lost;
        sum.stalled += tally.stalled;
        sum.longest = sum.longest.max(tally.longest);
        sum.broken.extend(tally.broken);
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// Attaches to a region whose incarnation is another; `None` when all is done.
    fn attach(&self, not: Option<u64>, tally: &mut Row) -> Option<Region> {
        let since = Instant::now();
        while !self.is_done() {
            match Region::open(self.path) {
                Ok(region) if Some(region.header().incarnation) != not => return Some(region),
                Ok(_) => {}
                Err(error) => tally.broken.push(format!("cannot attach: {error}")),
            }
            if since.elapsed() > HUNG || tally.broken.len() > 10 {
                tally.broken.push("nothing to attach to".to_owned());
                return None;
            }
            thread::sleep(Duration::from_micros(100));
        }
        None
    }

    /// A reader: checks every value until the end, and attaches again when the producer has exited.
    fn read(&self, by_snapshot: bool) {
        let mut tally = Row { longest: Some(Took::default()), ..Row::default() };
        let mut snapshot = Snapshot::new();
        let mut incarnation = None;
        while let Some(region) = self.attach(incarnation, &mut tally) {
            incarnation = Some(region.header().incarnation);
            let mut last = HashMap::with_capacity(NR_RANKS);
            while !self.is_done() && region.is_held() != Some(false) {
                let way = match by_snapshot {
                    true => Way::Snapshot(&region, &mut snapshot),
                    false => Way::Direct(&region),
                };
                let pass = Pass::read(way);
                tally.values += pass.numbers().count() as u64;
                tally.wrong += pass.count(Found::Wrong);
                tally.stalled += pass.count(Found::Stalled);
                tally.longest = tally.longest.max(Some(pass.longest));
                if !by_snapshot {
                    tally.lost += pass.lost();
                    self.look_for_a_stop(&pass, region.now());
                }
                for (rank, n) in pass.numbers() {
                    let before = last.insert(rank, n).unwrap_or(0);
                    tally.lost += u64::from(n < before);
                }
            }
        }
        self.add(tally);
    }

    fn look_for_a_stop(&self, pass: &Pass, now: Option<Ns>) {
        if !self.stopped.is_set() {
            return;
        }
        let age = now.zip(pass.newest()).map(|(now, newest)| now.since(newest));
        if pass.count(Found::Stalled) > 0 || age.is_some_and(|age| u128::from(age) > OLD.as_nanos())
        {
            self.stopped.noticed();
        }
    }

    /// A reader that does nothing but wait for its producer's end, by event.
    fn watch(&self) {
        let mut tally = Row::default();
        let mut incarnation = None;
        while let Some(region) = self.attach(incarnation, &mut tally) {
            incarnation = Some(region.header().incarnation);
            if let Err(error) = self.wait_for_the_end() {
                tally.broken.push(format!("cannot wait: {error}"));
                break;
            }
        }
        self.add(tally);
    }

    fn wait_for_the_end(&self) -> Result<(), AttachError> {
        let attached = Attachment::open(self.path)?;
        let mut events = Events::new()?;
        events.add(0, &attached)?;
        // It may have been killed before this reader attached: then nobody holds the file.
        let is_gone = || attached.liveness().is_over() || attached.liveness() == Liveness::Unheld;
        let mut told = is_gone();
        while !told && !self.is_done() {
            let events = events.wait(Some(Duration::from_millis(500)))?;
            told = is_gone();
            if told && !events.contains(&Event::ProducerExited(0)) {
                self.asked.fetch_add(1, Ordering::Relaxed);
            }
        }
        if told {
            self.killed.noticed();
        }
        Ok(())
    }
}

/// Kills and stops writers, `faults` times in all.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn run(place: &Place, faults: u64, how: &str) -> Fallible<[Row; 2]> {
    let path = place.path("region");
    let base = Instant::now();
    let first = Writer::start(&path, how)?;
    let shared = Shared {
        path: &path,
        done: AtomicBool::new(false),
        killed: Moment::new(base),
        stopped: Moment::new(base),
        asked: AtomicU64::new(0),
        sum: Mutex::new(Row::new("SIGKILL")),
    };
    let (mut stops, mut mid_update, mut after_end) = (0, 0, Duration::ZERO);
    let control = thread::scope(|scope| {
        scope.spawn(|| shared.read(false));
        scope.spawn(|| shared.read(true));
        scope.spawn(|| shared.watch());
        let result = (|| -> Fallible<()> {
            let mut writer = first;
            for fault in 0..faults {
                thread::sleep(Duration::from_micros(fastrand::u64(0..2_000)));
                if fastrand::bool() {
                    stop(&shared, &writer, fault)?;
                    stops += 1;
                } else {
                    let (stalled, noticed) = kill(&shared, writer)?;
                    mid_update += stalled;
                    after_end = after_end.max(noticed);
                    writer = Writer::start(&path, how)?;
                }
                if (fault + 1).is_multiple_of(500) {
                    eprintln!("{} of {faults} faults", fault + 1);
                }
            }
            Ok(())
        })();
        shared.done.store(true, Ordering::Relaxed);
        result
    });
    control?;
    let mut killed = shared.sum.lock().unwrap_or_else(PoisonError::into_inner).clone();
    killed.faults = faults - stops;
    killed.noticed = Some(shared.killed.longest());
    killed.note = format!(
        "left in mid-update: {mid_update}; noticed by event, at most {after_end:.1?} after the end of \
         the process, which comes some time after the signal"
    );
    let asked = shared.asked.into_inner();
    killed.expect(asked == 0, || format!("no event reported {asked} kills"));
    let deadline = Patience::default().yielding + GRACE;
    let longest = killed.longest.unwrap_or_default();
    killed.expect(longest.own() < deadline, || format!("a call took {longest}"));
    let stopped = Row {
        faults: stops,
        noticed: Some(shared.stopped.longest()),
        note: format!("values are those of the row above; old is {OLD:?}"),
        ..Row::new("SIGSTOP")
    };
    Ok([killed, stopped])
}

/// Kills the writer, waits until that was noticed, and looks at what it left: whether a group was
/// in mid-update, and how long after the process's end that was noticed.
fn kill(shared: &Shared<'_>, writer: Writer) -> Fallible<(u64, Duration)> {
    let region = Region::open(shared.path)?.with_patience(impatient());
    shared.killed.set();
    writer.kill()?;
    let ended = shared.killed.now();
    wait_until("noticing a kill", || !shared.killed.is_set())?;
    let noticed = shared.killed.noticed_after(ended);
    let pass = Pass::read(Way::Direct(&region));
    let mut tally =
        Row { wrong: pass.count(Found::Wrong), lost: pass.broken_by_kill(), ..Row::default() };
    tally.expect(tally.lost == 0, || format!("left by a kill: {pass:?}"));
    shared.add(tally);
    Ok((pass.count(Found::Stalled), noticed))
}

/// Stops the writer, for a moment or until that was noticed, and lets it go on.
fn stop(shared: &Shared<'_>, writer: &Writer, fault: u64) -> Fallible<()> {
    let noticed = fault.is_multiple_of(4);
    writer.signal(Signal::STOP)?;
    if noticed {
        shared.stopped.set();
        wait_until("noticing a stop", || !shared.stopped.is_set())?;
    } else {
        thread::sleep(Duration::from_micros(fastrand::u64(0..2_000)));
    }
    writer.signal(Signal::CONT)
}
