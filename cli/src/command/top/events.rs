//! Exits by reason and KVM's other events of one domain, summed over its vCPUs.

use std::collections::BTreeMap;

use domstat_consumer::{Reading, Region, Snapshot};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::Exits;
use domstat_layout::schema::{FieldKind, FieldUnit};
use domstat_layout::{Group, Ns, RecordKind, Schema, Word};

use crate::output::printable;
use crate::rows::is_overdue;

/// Name of the group in which KVM's own statistics are published.
const KVM: &str = "kvm";
/// Rates are over this time at least.
const WINDOW_NS: u64 = 1_000_000_000;

/// Name of the sum of all exits.
pub(super) const EXITS: &str = "exits";

type Totals = BTreeMap<String, u64>;

/// One kind of event.
pub(super) struct Event {
    pub(super) name: String,
    pub(super) total: u64,
    /// Per second.
    pub(super) rate: Option<f64>,
}

/// Counters of the domain that is looked at, now and before, and when they were written.
#[derive(Debug, Default)]
pub(super) struct Events {
    entry: String,
    incarnation: u64,
    taken: Ns,
    now: Option<(Ns, Totals)>,
    middle: Option<(Ns, Totals)>,
    base: Option<(Ns, Totals)>,
}

impl Events {
    pub(super) fn sample(&mut self, entry: &str, region: &Region, snapshot: &Snapshot) {
        let incarnation = region.header().incarnation;
        if self.entry != entry || self.incarnation != incarnation {
            *self = Self { entry: entry.to_owned(), incarnation, ..Self::default() };
        }
        let Some(taken) = snapshot.taken() else { return };
        self.taken = taken;
        if let Some((updated, totals)) = merged(by_schema(region), by_group(snapshot)) {
            self.add(updated, totals);
        }
    }

    /// Totals, and when they were written: some producers write them less often than a screen looks.
    fn add(&mut self, updated: Ns, totals: Totals) {
        let now = (updated, totals);
        match &self.middle {
            None => (self.base, self.middle) = (Some(now.clone()), Some(now.clone())),
            Some((then, _)) if updated.since(*then) >= WINDOW_NS => {
                self.base = self.middle.replace(now.clone());
            }
            Some(_) => {}
        }
        self.now = Some(now);
    }

    /// Exits per second of any kind.
    pub(super) fn exits(&self, live: bool) -> Option<f64> {
        self.list(live).0.into_iter().find(|event| event.name == EXITS)?.rate
    }

    /// Events that ever happened, the most frequent first, `exits` before all; and the number of
    /// kinds that never did.
    pub(super) fn list(&self, live: bool) -> (Vec<Event>, usize) {
        let Some((updated, totals)) = &self.now else { return (Vec::new(), 0) };
        let age = self.taken.since(*updated);
        let rate = |name: &str, total: u64| {
            let (then, before) = self.base.as_ref().filter(|_| live)?;
            let elapsed = updated.since(*then);
            let growth = total.checked_sub(*before.get(name)?)? as f64;
            let known = elapsed > 0 && !is_overdue(age, elapsed);
            known.then(|| growth * 1e9 / elapsed as f64)
        };
        let (some, none): (Vec<_>, Vec<_>) = totals.iter().partition(|(_, total)| **total > 0);
        let mut events: Vec<Event> = some
            .into_iter()
            .map(|(name, total)| Event {
                rate: rate(name, *total),
                name: name.clone(),
                total: *total,
            })
            .collect();
        events.sort_by(|a, b| {
            let is_sum = |event: &Event| event.name == EXITS;
            let by_rate = b.rate.unwrap_or(0.0).total_cmp(&a.rate.unwrap_or(0.0));
            is_sum(b).cmp(&is_sum(a)).then(by_rate).then(b.total.cmp(&a.total))
        });
        (events, none.len())
    }
}

/// Whether KVM's own statistics, as the region describes them, have the sum of all exits.
pub(super) fn describes_exits(region: &Region) -> bool {
    by_schema(region).is_some_and(|(_, totals)| totals.contains_key(EXITS))
}

/// KVM's own counters and those of the group. Of one that is in both, the group's counts: the
/// producer may have counted what KVM does not see.
fn merged(kvm: Option<(Ns, Totals)>, group: Option<(Ns, Totals)>) -> Option<(Ns, Totals)> {
    match (kvm, group) {
        (Some((updated, mut totals)), Some((_, of_group))) => {
            totals.extend(of_group);
            Some((updated, totals))
        }
        (kvm, group) => kvm.or(group),
    }
}

/// KVM's counters, where the region describes them, and when the newest of them were written.
fn by_schema(region: &Region) -> Option<(Ns, Totals)> {
    let bytes = region.copy_schema()?;
    let schema = Schema::parse(&bytes).ok()?;
    let is_vcpu = |kind: u32| kind == RecordKind::ArchVcpu.number();
    let group = schema.groups().find(|g| g.name == KVM && is_vcpu(g.record))?;
    let record = schema.records().find(|r| r.kind == group.record)?;
    if !record.fits(region.mem().len()) {
        return None;
    }
    let (mut totals, mut reader) = (Totals::new(), region.schema_reader());
    let mut newest = Ns(0);
    for index in 0..record.nr {
        let reading = reader.read(&record, index, &group);
        let Ok(Reading::Active(sample)) = reading else { continue };
        let words = sample.words;
        newest = newest.max(sample.updated);
        for field in schema.fields(&group) {
            let is_count = field.shape.kind == FieldKind::CUMULATIVE
                && matches!(field.shape.unit, FieldUnit::NONE | FieldUnit::EVENTS)
                && field.width == 8;
            let at = field.offset.checked_sub(group.offset + GROUP_HEADER_LEN).map(|at| at / 8);
            let value = at.and_then(|at| Word::from_raw(*words.get(at)?).value());
            if let Some(value) = value.filter(|_| is_count) {
                let total = totals.entry(printable(field.name)).or_default();
                *total = total.saturating_add(value);
            }
        }
    }
    (!totals.is_empty()).then_some((newest, totals))
}

/// The exits that every producer can publish, and when the newest of them were written.
fn by_group(snapshot: &Snapshot) -> Option<(Ns, Totals)> {
    let (mut totals, mut newest) = (Totals::new(), None);
    for vcpu in (0..snapshot.nr_vcpus()).filter_map(|index| snapshot.vcpu(index)) {
        let Ok(Reading::Active(fields)) = vcpu.fields(Exits::DESC) else { continue };
        newest = newest.max(Some(fields.updated));
        for (field, bytes) in fields.iter() {
            let word = <[u8; 8]>::try_from(bytes).map(u64::from_ne_bytes).ok();
            if let Some(value) = word.and_then(|raw| Word::from_raw(raw).value()) {
                let total = totals.entry(field.name.to_owned()).or_default();
                *total = total.saturating_add(value);
            }
        }
    }
    Some((newest?, totals))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The rate of exits as of a moment, in seconds.
    fn rate(events: &mut Events, taken: u64) -> Option<f64> {
        events.taken = Ns(taken * SECOND);
        events.exits(true)
    }

    #[test]
    fn the_group_counts_where_kvm_counts_too() {
        let totals = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(name, total)| ((*name).to_owned(), *total)).collect::<Totals>()
        };
        let kvm = Some((Ns(7), totals(&[("exits", 100), ("fpu_reload", 3), ("io_exits", 0)])));
        let group = Some((Ns(9), totals(&[("exits", 101), ("io_exits", 40)])));
        let both = totals(&[("exits", 101), ("fpu_reload", 3), ("io_exits", 40)]);
        assert_eq!(merged(kvm.clone(), group.clone()), Some((Ns(7), both)));
        assert_eq!((merged(kvm.clone(), None), merged(None, group.clone())), (kvm, group));
    }

    #[test]
    fn rates_are_over_the_time_between_writes() {
        let mut events = Events::default();
        for (second, total) in [(100, 7), (130, 30_007)] {
            assert_eq!(rate(&mut events, second), None, "one write");
            events.add(Ns(second * SECOND), Totals::from([(EXITS.to_owned(), total)]));
        }
        for second in [131, 150, 189] {
            assert_eq!(rate(&mut events, second), Some(1000.0), "at {second} s");
        }
        assert_eq!(rate(&mut events, 200), None, "the next write is overdue");
        assert_eq!(events.exits(false), None);
    }
}
