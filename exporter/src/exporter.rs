//! One pass over all domains of a host.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use domstat_consumer::{Fleet, Patience};

use crate::book::Book;
use crate::view::{Names, Stamp, View};

/// How long one domain's writers are waited for. A writer that lost its CPU is back by then or
/// will not be missed: twins are read meanwhile, where there are twins.
const PATIENCE: Patience = Patience { spins: 64, yielding: Duration::from_millis(2) };
/// For a domain whose writer was stalled the last time, and for all when the pass was held up.
const NO_PATIENCE: Patience = Patience { spins: 64, yielding: Duration::ZERO };
/// How long one pass waits for all writers together.
const PASS: Duration = Duration::from_millis(50);

/// Attached to all domains of a host.
pub struct Exporter {
    state: Mutex<Inner>,
    refused: AtomicU64,
    started: Stamp,
}

struct Inner {
    fleet: Fleet,
    books: HashMap<String, Book>,
    directory_failures: u64,
    duplicates: u64,
    spare: Vec<View>,
}

impl Exporter {
    /// For what is published in `dir`, by entries or at the sockets of daemons.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::of(Fleet::new(dir))
    }

    /// For the domains of a fleet.
    #[must_use]
    pub fn of(fleet: Fleet) -> Self {
        let state = Inner {
            fleet,
            books: HashMap::new(),
            directory_failures: 0,
            duplicates: 0,
            spare: Vec::new(),
        };
        let started = Stamp::from(SystemTime::now());
        Self { state: Mutex::new(state), refused: AtomicU64::new(0), started }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind is a pass that was not finished; the next begins anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all domains. Give the view back when it was used.
    #[must_use]
    pub fn pass(&self) -> View {
        let mut inner = self.lock();
        let mut view = inner.spare.pop().unwrap_or_default();
        inner.pass(&mut view);
        view.started = self.started;
        // ORDERING: relaxed; a number alone, here and in `refuse`.
        view.refused = self.refused.load(Ordering::Relaxed);
        view
    }

    /// Keeps the view's buffers for the next pass.
    pub fn give_back(&self, mut view: View) {
        view.shrink();
        self.lock().spare.push(view);
    }

    /// Counts a scrape that was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inner {
    fn pass(&mut self, view: &mut View) {
        view.clear();
        if self.fleet.refresh().is_err() {
            self.directory_failures += 1;
        }
        self.books.values_mut().for_each(|book| book.seen = false);
        let begin = Instant::now();
        let mut held_up = false;
        for (entry, member) in self.fleet.iter_mut() {
            if !self.books.contains_key(entry) {
                self.books.insert(entry.to_owned(), Book::default());
            }
            let Some(book) = self.books.get_mut(entry) else { continue };
            if let Ok(region) = member.region_mut() {
                let patient = !(held_up || book.stalled);
                region.set_patience(if patient { PATIENCE } else { NO_PATIENCE });
            }
            book.look_at(entry, member, view.next());
            held_up = held_up || (book.stalled && begin.elapsed() > PASS);
        }
        self.books.retain(|_, book| book.seen);
        self.duplicates += hide_duplicates(view);
        view.directory_failures = self.directory_failures;
        view.duplicates = self.duplicates;
    }
}

/// Of domains with the same names, as while one moves from a producer to another, only one is
/// shown: one that is up, else the one whose region is the newest. Returns how many are not.
fn hide_duplicates(view: &mut View) -> u64 {
    let mut hidden = 0;
    let mut best: HashMap<Arc<Names>, usize> = HashMap::new();
    let domains = view.domains_mut();
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
