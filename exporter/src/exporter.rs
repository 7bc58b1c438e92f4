//! Exporter: passes over all domains of a host.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use domstat_consumer::Patience;
use domstat_consumer::fleet::Fleet;
use domstat_consumer::fleet::parts::Part;

use crate::domain_state::{Budget, DomainState};
use crate::process::ProcessStats;
use crate::scrape::{Names, Scrape, Stamp};
use crate::selection::Selection;

/// Wait for one domain's writers. A writer that lost its CPU is back by then, or its twin is read
/// where it has one.
const PATIENCE: Patience = Patience { spins: 64, yielding: Duration::from_millis(2) };
/// Wait for a domain with a writer that was stalled in the last pass, and for all domains once
/// the pass is late.
const NO_PATIENCE: Patience = Patience { spins: 64, yielding: Duration::ZERO };
/// Wait of one pass for all writers together.
const PASS: Duration = Duration::from_millis(50);

/// Largest number of domains. Each takes some kilobytes, whatever a daemon lists as its name.
const MAX_DOMAINS: usize = 1 << 15;

/// Number of domains before the first scrape.
const NO_SCRAPE: u64 = u64::MAX;

/// Exporter of all domains of a host, attached to their regions.
pub struct Exporter {
    state: Mutex<Inner>,
    refused: AtomicU64,
    nr_domains: AtomicU64,
    started: Stamp,
}

struct Inner {
    fleet: Fleet,
    selection: Arc<Selection>,
    domains: HashMap<String, DomainState>,
    directory_failures: u64,
    duplicates: u64,
    limited: u64,
    spare: Option<Scrape>,
}

impl Exporter {
    /// An exporter of the domains in `dir`, found by their entries and at the sockets of daemons.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::of(Fleet::new(dir))
    }

    /// An exporter of the domains of a fleet.
    #[must_use]
    pub fn of(fleet: Fleet) -> Self {
        let state = Inner {
            fleet,
            selection: Arc::default(),
            domains: HashMap::new(),
            directory_failures: 0,
            duplicates: 0,
            limited: 0,
            spare: None,
        };
        let started = Stamp::from(SystemTime::now());
        Self {
            state: Mutex::new(state),
            refused: AtomicU64::new(0),
            nr_domains: AtomicU64::new(NO_SCRAPE),
            started,
        }
    }

    /// Exports what `selection` says, instead of the default.
    #[must_use]
    pub fn with_selection(self, selection: Selection) -> Self {
        self.lock().selection = Arc::new(selection);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic leaves an unfinished pass behind, and the next pass starts over.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all domains. [`give_back`](Self::give_back) returns the scrape's buffers.
    #[must_use]
    pub fn pass(&self) -> Scrape {
        let mut inner = self.lock();
        let mut scrape = inner.spare.take().unwrap_or_default();
        inner.pass(&mut scrape);
        scrape.started = self.started;
        // ORDERING: relaxed; the number orders nothing else, here and in the other
        // counts.
        scrape.refused = self.refused.load(Ordering::Relaxed);
        self.nr_domains.store(scrape.domains().count() as u64, Ordering::Relaxed);
        scrape
    }

    /// Number of domains in the last scrape, if there was one.
    #[must_use]
    pub fn nr_domains(&self) -> Option<u64> {
        Some(self.nr_domains.load(Ordering::Relaxed)).filter(|nr| *nr != NO_SCRAPE)
    }

    /// Keeps the scrape's buffers for the next pass.
    pub fn give_back(&self, mut scrape: Scrape) {
        scrape.shrink();
        self.lock().spare = Some(scrape);
    }

    /// Counts a refused scrape.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn pass(&mut self, scrape: &mut Scrape) {
        let begin = Instant::now();
        scrape.clear();
        scrape.selection = Arc::clone(&self.selection);
        if self.fleet.refresh().is_err() {
            self.directory_failures += 1;
        }
        self.domains.values_mut().for_each(|domain| domain.seen = false);
        let reading = Instant::now();
        let (mut late, mut budget) = (false, Budget::new());
        for (entry, member) in self.fleet.iter() {
            // Whether it is a part takes its identity, which is constant: who keeps it in mid-update is none.
            if let Ok(region) = member.region() {
                region.set_patience(NO_PATIENCE);
            }
            // A domain comes before its parts: its name is the shorter one.
            let part = self.fleet.part(entry).filter(Part::is_joined);
            let whole = part.and_then(|part| Some(self.domains.get(part.domain)?.whole(part.name)));
            if !self.domains.contains_key(entry) {
                if self.domains.len() >= MAX_DOMAINS {
                    self.limited += 1;
                    continue;
                }
                self.domains.insert(entry.to_owned(), DomainState::default());
            }
            let Some(domain) = self.domains.get_mut(entry) else { continue };
            if let Ok(region) = member.region() {
                let patient = !(late || domain.stalled);
                region.set_patience(if patient { PATIENCE } else { NO_PATIENCE });
            }
            domain.fill(entry, member, whole, &self.selection, &mut budget, scrape.next());
            late = late || (domain.stalled && reading.elapsed() > PASS);
        }
        self.domains.retain(|_, domain| domain.seen);
        self.duplicates += hide_duplicates(scrape);
        scrape.directory_failures = self.directory_failures;
        scrape.duplicates = self.duplicates;
        scrape.limited = self.limited;
        scrape.duration = begin.elapsed();
        scrape.process = ProcessStats::read();
    }
}

/// Hides all but one of the domains with the same names, as there are while a domain moves to
/// another producer. One that is up is preferred, then the newest region. Returns the number of
/// hidden domains.
fn hide_duplicates(scrape: &mut Scrape) -> u64 {
    let mut hidden = 0;
    let mut best: HashMap<Arc<Names>, usize> = HashMap::new();
    let domains = scrape.domains_mut();
    for at in 0..domains.len() {
        let Some((rank, names)) = domains.get(at).map(|d| ((d.up, d.created), &d.names)) else {
            continue;
        };
        let loser = match best.get(names).copied() {
            None => {
                best.insert(Arc::clone(names), at);
                continue;
            }
            Some(other) if domains.get(other).is_some_and(|o| (o.up, o.created) >= rank) => at,
            Some(other) => {
                best.insert(Arc::clone(names), at);
                other
            }
        };
        if let Some(domain) = domains.get_mut(loser) {
            domain.hidden = true;
            hidden += 1;
        }
    }
    hidden
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
    }
}
impl Eq for Names {}
impl std::hash::Hash for Names {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.labels.hash(state);
    }
}
