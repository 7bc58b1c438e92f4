//! Points of status, session, migration, balloon and queues.

use domstat_consumer::{Sample, domain_status};
use domstat_layout::latest::{
    Balloon, BlkQueue, CAUSE_NAMES, Lineage, MIGRATION_STATE_NAMES, Migration, REASON_NAMES,
    STATUS_NAMES, Status,
};
use domstat_layout::{DomGroup, Group, GroupDesc, RecordKind, Word};

use super::{ComputedFamily, Sink, Value};
use crate::family::Computed;
use crate::label::Label;
use crate::scrape::DomainScrape;

/// The group that a computed family of this module is about.
pub(super) const fn group(computed: Computed) -> Option<&'static GroupDesc> {
    Some(match computed {
        Computed::Status
        | Computed::StatusReason
        | Computed::StatusSeconds
        | Computed::Unanswered => Status::DESC,
        Computed::Session => Lineage::DESC,
        Computed::MigrationState => Migration::DESC,
        Computed::BalloonAge => Balloon::DESC,
        Computed::BlkBusy | Computed::BlkQueued => BlkQueue::DESC,
        _ => return None,
    })
}

fn dom<G: DomGroup>(domain: &DomainScrape) -> Option<Sample<G>> {
    domain.snapshot.dom().dom_group::<G>().ok()?.active()
}

fn named(names: &'static [&'static str], word: Word) -> Option<&'static str> {
    names.get(usize::try_from(word.value()?).ok()?).copied()
}

impl<S: Sink> ComputedFamily<'_, S> {
    /// Emits the points of a family that [`group`] knows.
    pub(super) fn emit_causes(
        &mut self,
        computed: Computed,
        domain: &DomainScrape,
    ) -> Result<(), S::Error> {
        match computed {
            Computed::Status
            | Computed::StatusReason
            | Computed::StatusSeconds
            | Computed::Unanswered => {
                let status = dom::<Status>(domain);
                status.map_or(Ok(()), |status| self.status(computed, domain, &status))
            }
            Computed::Session => self.session(domain),
            Computed::MigrationState => {
                let state = dom(domain).and_then(|m: Sample<Migration>| {
                    named(MIGRATION_STATE_NAMES, m.state).filter(|state| *state != "none")
                });
                let Some(state) = state else { return Ok(()) };
                let labels = [("state", Label::Text(state))];
                self.point(domain, &labels, Value::Count(1), domain.created)
            }
            Computed::BalloonAge => {
                let last = dom(domain).and_then(|b: Sample<Balloon>| b.last_update_ns.value());
                self.age(domain, last)
            }
            _ => self.queues(computed, domain),
        }
    }

    fn status(
        &mut self,
        computed: Computed,
        domain: &DomainScrape,
        status: &Status,
    ) -> Result<(), S::Error> {
        match computed {
            Computed::Status => {
                let Some(now) = named(STATUS_NAMES, status.state) else { return Ok(()) };
                for name in STATUS_NAMES {
                    let labels = [("domstat_domain_status", Label::Text(name))];
                    let value = Value::Count(u64::from(*name == now));
                    self.point(domain, &labels, value, domain.created)?;
                }
                Ok(())
            }
            Computed::StatusReason => {
                let Some(reason) = named(REASON_NAMES, status.reason) else { return Ok(()) };
                let device = status.device.value().and_then(|index| u32::try_from(index).ok());
                let device = device.map_or("", |index| domain.device(RecordKind::Blk, index));
                let labels = [("reason", Label::Text(reason)), ("device", Label::Text(device))];
                let known = if device.is_empty() { &labels[..1] } else { &labels };
                self.point(domain, known, Value::Count(1), domain.created)
            }
            Computed::Unanswered if !domain_status::is_unanswered(status) => Ok(()),
            _ => self.age(domain, status.since_ns.value()),
        }
    }

    /// Emits the time that has passed since a moment on the region's clock.
    fn age(&mut self, domain: &DomainScrape, since: Option<u64>) -> Result<(), S::Error> {
        let now = domain.snapshot.taken();
        let Some((now, since)) = now.zip(since) else { return Ok(()) };
        let ns = now.since(domstat_layout::Ns(since));
        self.point(domain, &[], Value::Nanos(ns), domain.created)
    }

    fn session(&mut self, domain: &DomainScrape) -> Result<(), S::Error> {
        let Some(lineage) = dom::<Lineage>(domain) else { return Ok(()) };
        let Some(session) = lineage.session.value() else { return Ok(()) };
        let mut labels = vec![("session", Label::Hex(session))];
        let cause = named(CAUSE_NAMES, lineage.cause);
        labels.extend(cause.map(|cause| ("cause", Label::Text(cause))));
        let previous = lineage.previous_incarnation.value();
        labels.extend(previous.map(|id| ("previous_incarnation", Label::Hex(id))));
        self.point(domain, &labels, Value::Count(1), domain.created)
    }

    fn queues(&mut self, computed: Computed, domain: &DomainScrape) -> Result<(), S::Error> {
        for (index, [busy, queued]) in (0..).zip(&domain.queues) {
            let ns = if computed == Computed::BlkBusy { busy } else { queued };
            let Some(ns) = *ns else { continue };
            let labels = [("device", Label::Text(domain.device(RecordKind::Blk, index)))];
            let created = domain.created(RecordKind::Blk, index);
            self.point(domain, &labels, Value::Nanos(ns), created)?;
        }
        Ok(())
    }
}
