//! All domains of the host, looked at again and again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use domstat_consumer::fleet::Fleet;
use domstat_consumer::{AttachError, Patience, Reading, Region, Snapshot};
use domstat_layout::latest::Identity;
use domstat_layout::{Ns, State};

use super::totals::{Rates, Totals};

/// Rates are over this time, or over one interval if that is longer.
const WINDOW: Duration = Duration::from_secs(1);
/// How often the directory and daemons are looked at; between, only shared memory is.
const REFRESH: Duration = Duration::from_secs(1);
/// Columns of the widest sparkline.
const HISTORY: usize = 64;
/// A screen would rather skip a group than wait for it.
const PATIENCE: Patience = Patience { spins: 64, yielding: Duration::ZERO };

/// What can be said of a domain's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    Live,
    /// Nothing was written for longer than the user accepts.
    Stale,
    /// A group is in mid-update and stays so.
    Stalled,
    /// The domain is gone, the region not yet.
    Retired,
    /// The producer is gone.
    Gone,
    /// It cannot be attached.
    Unreadable,
}

impl Health {
    pub(super) const ALL: [Self; 6] =
        [Self::Live, Self::Stale, Self::Stalled, Self::Retired, Self::Gone, Self::Unreadable];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Stale => "stale",
            Self::Stalled => "stalled",
            Self::Retired => "retired",
            Self::Gone => "gone",
            Self::Unreadable => "error",
        }
    }

    /// Whether its numbers are of now.
    pub(super) const fn is_current(self) -> bool {
        matches!(self, Self::Live | Self::Stalled)
    }
}

/// One domain, as of the last look.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) health: Health,
    /// Why it cannot be attached.
    pub(super) error: Option<String>,
    pub(super) slots: u32,
    pub(super) totals: Totals,
    pub(super) rates: Rates,
    /// Age of the newest write, in nanoseconds.
    pub(super) age: Option<u64>,
    /// Share of its vCPUs' time that they ran, in percent, newest last.
    pub(super) history: VecDeque<u8>,
    window: VecDeque<Totals>,
    incarnation: u64,
    /// As of the last look at the directory.
    held: bool,
    seen: bool,
}

/// Keeps a row for each domain.
pub(super) struct Sampler {
    fleet: Fleet,
    rows: BTreeMap<String, Row>,
    snapshot: Snapshot,
    refreshed: Option<Instant>,
    window: Duration,
    stale: Duration,
}

impl Sampler {
    pub(super) fn new(fleet: Fleet, interval: Duration, stale: Duration) -> Self {
        Self {
            fleet,
            rows: BTreeMap::new(),
            snapshot: Snapshot::new(),
            refreshed: None,
            window: interval.max(WINDOW),
            stale,
        }
    }

    /// Looks at every domain.
    ///
    /// # Errors
    /// If the directory cannot be read, or the daemon was never reached.
    pub(super) fn sample(&mut self) -> Result<(), AttachError> {
        let due = self.refreshed.is_none_or(|then| then.elapsed() >= REFRESH);
        if due {
            self.fleet.refresh()?;
            self.refreshed = Some(Instant::now());
            for (_, member) in self.fleet.iter() {
                if let Ok(region) = member.region() {
                    region.set_patience(PATIENCE);
                }
            }
        }
        self.rows.values_mut().for_each(|row| row.seen = false);
        for (entry, member) in self.fleet.iter() {
            if !self.rows.contains_key(entry) {
                self.rows.insert(entry.to_owned(), Row::new(entry));
            }
            let Some(row) = self.rows.get_mut(entry) else { continue };
            row.seen = true;
            match member.region() {
                Ok(region) => {
                    if due {
                        row.held = region.is_held() != Some(false);
                    }
                    row.look(region, &mut self.snapshot, self.window, self.stale);
                }
                Err(error) => row.fail(error),
            }
        }
        self.rows.retain(|_, row| row.seen);
        Ok(())
    }

    /// Every domain, by the name of its entry.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.rows.iter().map(|(entry, row)| (entry.as_str(), row))
    }

    /// The region of the domain with this entry.
    pub(super) fn region(&self, entry: &str) -> Option<&Region> {
        self.fleet.get(entry)?.region().ok()
    }

    pub(super) fn row(&self, entry: &str) -> Option<&Row> {
        self.rows.get(entry)
    }
}

impl Row {
    fn new(entry: &str) -> Self {
        Self {
            name: entry.to_owned(),
            uuid: None,
            health: Health::Unreadable,
            error: None,
            slots: 0,
            totals: Totals::default(),
            rates: Rates::default(),
            age: None,
            history: VecDeque::new(),
            window: VecDeque::new(),
            incarnation: 0,
            held: true,
            seen: true,
        }
    }

    fn fail(&mut self, error: &AttachError) {
        let gone = matches!(
            error,
            AttachError::ProducerExited { .. }
                | AttachError::NotFound { .. }
                | AttachError::NoDaemon { .. }
                | AttachError::Disconnected { .. }
        );
        self.forget(if gone { Health::Gone } else { Health::Unreadable });
        if self.error.is_none() {
            self.error = Some(error.to_string());
        }
    }

    /// Lets go of numbers that are nobody's any more.
    fn forget(&mut self, health: Health) {
        self.health = health;
        (self.rates, self.age) = (Rates::default(), None);
        (self.totals, self.slots) = (Totals::default(), 0);
        self.window.clear();
    }

    /// vCPUs that there are, if that is known.
    pub(super) fn vcpus(&self) -> Option<u32> {
        let known = matches!(self.health, Health::Live | Health::Stale | Health::Stalled);
        known.then_some(self.totals.now.vcpus)
    }

    fn look(
        &mut self,
        region: &Region,
        snapshot: &mut Snapshot,
        window: Duration,
        stale: Duration,
    ) {
        let incarnation = region.header().incarnation;
        region.snapshot(snapshot);
        self.error = None;
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.window.clear();
            self.history.clear();
            let identity = region.dom().read::<Identity>().ok().and_then(Reading::active);
            if let Some(name) = identity.and_then(|i| i.name.as_str().map(str::to_owned)) {
                self.name = crate::output::printable(&name);
            }
            self.uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
        }
        let status = region.status();
        if status.state != Some(State::Live) || !status.same_incarnation {
            return self.forget(Health::Retired);
        }
        if !self.held {
            return self.forget(Health::Gone);
        }
        self.slots = snapshot.nr_vcpus();
        let now = snapshot.taken();
        self.totals = Totals::of(snapshot, now.unwrap_or(Ns(0)));
        self.age = self.totals.now.newest.and_then(|newest| Some(now?.since(newest)));
        self.health = match self.age {
            _ if self.totals.now.stalled > 0 => Health::Stalled,
            Some(age) if u128::from(age) > stale.as_nanos() => Health::Stale,
            _ => Health::Live,
        };
        self.rate(window);
    }

    fn rate(&mut self, window: Duration) {
        let now = self.totals.taken();
        let long = |then: &Totals| u128::from(now.since(then.taken())) >= window.as_nanos();
        // The oldest that is kept is the youngest that is a whole window old.
        while self.window.get(1).is_some_and(long) {
            self.window.pop_front();
        }
        self.rates = match self.window.front() {
            Some(then) => self.totals.since(then),
            None => Rates::default(),
        };
        self.window.push_back(self.totals);
        if let Some(running) = self.rates.running {
            let share = running / f64::from(self.totals.now.vcpus.max(1)) * 100.0;
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            #[allow(clippy::cast_possible_truncation, reason = "it is between 0 and 100")]
            #[allow(clippy::cast_sign_loss, reason = "it is between 0 and 100")]
            self.history.push_back(share.clamp(0.0, 100.0) as u8);
        }
    }
}
