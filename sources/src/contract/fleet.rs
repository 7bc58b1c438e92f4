//! The domains that one daemon observes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Command, Observation, ObserverStatus};

/// How often [`Fleet::clear`] looks whether observers have ended.
const LOOK: Duration = Duration::from_millis(5);

/// The domains that one daemon observes, by where they are reached.
///
/// No method but [`clear`](Fleet::clear) waits for a domain, and none holds the lock while it
/// calls into an observer that could wait.
#[derive(Default)]
pub struct Fleet {
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    observed: BTreeMap<PathBuf, Box<dyn Observation>>,
    /// Asked to stop, and not known to have ended.
    leaving: Vec<Box<dyn Observation>>,
}

impl Fleet {
    /// No domains yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a domain. One that was at the same address is asked to stop.
    pub fn add(&self, domain: Box<dyn Observation>) {
        let mut members = self.lock();
        let before = members.observed.insert(domain.address().to_owned(), domain);
        members.leave(before);
    }

    /// Asks the domain at this address to stop and forgets it, without waiting for its end.
    pub fn remove(&self, address: &Path) {
        let mut members = self.lock();
        let removed = members.observed.remove(address);
        members.leave(removed);
    }

    /// The addresses of all domains, in order.
    #[must_use]
    pub fn addresses(&self) -> Vec<PathBuf> {
        self.lock().observed.keys().cloned().collect()
    }

    /// Every domain with its address, in order of the addresses.
    #[must_use]
    pub fn statuses(&self) -> Vec<(PathBuf, ObserverStatus)> {
        let members = self.lock();
        members.observed.iter().map(|(path, domain)| (path.clone(), domain.status())).collect()
    }

    /// The address of the domain that is published under this name.
    #[must_use]
    pub fn address_of(&self, domain: &str) -> Option<PathBuf> {
        let members = self.lock();
        let mut observed = members.observed.iter();
        let found = observed.find(|(_, o)| o.status().domain.as_deref() == Some(domain));
        found.map(|(address, _)| address.clone())
    }

    /// Hands a command to the domain that is published under this name; gives it back if there is
    /// none.
    ///
    /// # Errors
    /// The command.
    pub fn command(&self, domain: &str, command: Command) -> Result<(), Command> {
        let members = self.lock();
        let mut observed = members.observed.values();
        match observed.find(|o| o.status().domain.as_deref() == Some(domain)) {
            Some(found) => {
                found.command(command);
                Ok(())
            }
            None => Err(command),
        }
    }

    /// Asks every domain to stop, all at once, and waits for their ends, at most for `limit`.
    /// Returns how many have not ended; they are left to themselves.
    pub fn clear(&self, limit: Duration) -> usize {
        let mut leaving = {
            let mut members = self.lock();
            let observed = std::mem::take(&mut members.observed);
            observed.into_values().for_each(|domain| members.leave(Some(domain)));
            std::mem::take(&mut members.leaving)
        };
        let begin = Instant::now();
        loop {
            leaving.retain(|domain| !domain.has_ended());
            if leaving.is_empty() || begin.elapsed() >= limit {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let left = leaving.len();
        self.lock().leaving.append(&mut leaving);
        left
    }
}

impl Members {
    fn leave(&mut self, domain: Option<Box<dyn Observation>>) {
        self.leaving.retain(|domain| !domain.has_ended());
        if let Some(domain) = domain {
            domain.ask_to_stop();
            self.leaving.push(domain);
        }
    }
}
