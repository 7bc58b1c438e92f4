//! Publication of all domains of a host, as they come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::{Duration, Instant};

use domstat_layout::directory::MAX_NAME_LEN;
use domstat_sources::{Source, SourceError};

use super::domain::{End, Published};
use super::notes::Notes;
use super::place::Place;
use super::shape::Form;
use crate::error::Failure;
use crate::output::message::message;
use crate::output::printable;
use crate::signals::Stop;

/// A host with domains, each with a source of its own.
pub(crate) trait Domains {
    /// The host's number of a domain.
    type Key: Copy + Ord + Display;
    /// What knows one domain.
    type Source: Source;

    /// The domains that are there now.
    fn list(&mut self) -> Result<Vec<Self::Key>, SourceError>;

    /// The source of a domain; `None` if it ended meanwhile or is still being built.
    fn source(&mut self, key: Self::Key) -> Result<Option<Self::Source>, SourceError>;

    /// The same source under another name.
    fn named(source: Self::Source, name: &str) -> Result<Self::Source, SourceError>;
}

/// Publishes every domain of a host.
pub(crate) struct Host<D: Domains> {
    domains: D,
    place: Place,
    form: Form,
    interval: Duration,
    shown: BTreeMap<D::Key, Shown>,
    notes: Notes,
}

struct Shown {
    name: String,
    published: Published,
}

impl<D: Domains> Host<D> {
    pub(crate) fn new(domains: D, place: Place, form: Form, interval: Duration) -> Self {
        let (shown, notes) = (BTreeMap::new(), Notes::default());
        Self { domains, place, form, interval, shown, notes }
    }

    /// Publishes domains as they come and go, until the user asks for an end or the time is up.
    /// What fails for one domain, or for a while, is reported and tried again.
    pub(crate) fn serve(mut self, stop: &Stop, until: Option<Instant>) {
        loop {
            if self.turn(stop) == Some(End::Asked) {
                return;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let wait = left.map_or(self.interval, |left| left.min(self.interval));
            if stop.wait(wait) || left.is_some_and(|left| left.is_zero()) {
                return;
            }
        }
    }

    fn turn(&mut self, stop: &Stop) -> Option<End> {
        // First those that ended: a domain that is rebooted keeps its name.
        let asked = self.update(stop);
        match self.domains.list() {
            Ok(keys) => {
                self.notes.well("list");
                let keys: BTreeSet<D::Key> = keys.into_iter().collect();
                for key in keys {
                    if !self.shown.contains_key(&key) {
                        self.show(key);
                    }
                }
            }
            Err(error) => self.notes.failed("list", &error.with_causes()),
        }
        asked
    }

    /// Brings every domain up to date that is due.
    fn update(&mut self, stop: &Stop) -> Option<End> {
        let mut asked = None;
        self.shown.retain(|_, shown| {
            let name = printable(&shown.name);
            match shown.published.step(stop, Duration::ZERO) {
                Ok(None) => true,
                Ok(Some(End::Asked)) => {
                    asked = Some(End::Asked);
                    true
                }
                Ok(Some(End::DomainGone)) => {
                    message(&format!("{name} has ended"));
                    false
                }
                Ok(Some(End::Outgrown)) => {
                    message(&format!("{name} has more devices than slots: publishing it again"));
                    false
                }
                Ok(Some(End::Renamed)) => {
                    message(&format!("{name} has another name: publishing it again"));
                    false
                }
                // The other domains go on; if this one is still there it is published again.
                Err(failure) => {
                    message(&format!("{name}: {}", printable(&failure.to_string())));
                    false
                }
            }
        });
        asked
    }

    fn show(&mut self, key: D::Key) {
        let subject = key.to_string();
        match self.publish(key) {
            Ok(()) => self.notes.well(&subject),
            Err(failure) => self.notes.failed(&subject, &format!("domain {key}: {failure}")),
        }
    }

    fn publish(&mut self, key: D::Key) -> Result<(), Failure> {
        let Some(source) = self.domains.source(key)? else { return Ok(()) };
        let mut name = source.describe().name;
        if self.shown.values().any(|shown| shown.name == name) {
            name = with_number(&name, &key.to_string());
        }
        let source = D::named(source, &name)?;
        let kind = source.describe().source;
        let published = match Published::start(source, &self.form, &self.place, None, None) {
            Err(Failure::Source(SourceError::NoSuchDomain { .. })) => return Ok(()),
            published => published?,
        };
        let (path, shown) = (published.path().display(), printable(&name));
        message(&format!("publishing {shown} ({kind}, domain {key}) at {path}"));
        self.shown.insert(key, Shown { name, published });
        Ok(())
    }
}

/// `NAME-NUMBER`, with as much of the name as there is room for.
fn with_number(name: &str, number: &str) -> String {
    let room = MAX_NAME_LEN.saturating_sub(number.len() + 1);
    let name = name.get(..name.floor_char_boundary(room)).unwrap_or_default();
    format!("{name}-{number}")
}

#[cfg(test)]
mod tests;
