//! Points of a scrape, family by family.

use domstat_layout::latest::{RunState, Runstate, Sched};
use domstat_layout::{Group, GroupDesc, RecordKind};

mod causes;

use crate::families::FAMILIES;
use crate::family::{Computed, Family, Kind, Origin, Row, Unit};
use crate::histogram::Histogram;
use crate::label::Label;
use crate::scrape::{
    DomainScrape, REASONS, RUNSTATES, STANDINGS, Scrape, Stamp, nr_records, record,
};
use crate::selection::Vcpus;
use crate::vcpu_sums::{Addend, addends};

/// Receiver of points.
pub trait Sink {
    /// Reason to stop.
    type Error;

    /// Takes one point of `family`. All points of a family come in sequence.
    ///
    /// # Errors
    /// The reason to end the walk.
    fn point(&mut self, family: &'static Family, point: &Point<'_>) -> Result<(), Self::Error>;
}

/// One value of a series.
#[derive(Debug)]
pub struct Point<'a> {
    /// The domain; `None` for the exporter's own points.
    pub domain: Option<&'a DomainScrape>,
    /// Labels other than the domain's.
    pub labels: &'a [(&'a str, Label<'a>)],
    /// The value.
    pub value: Value<'a>,
    /// Start of the counter.
    pub created: Stamp,
}

/// An exact value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Count(u64),
    /// Nanoseconds, exported as seconds.
    Nanos(u64),
    /// Counts by bit length, of nanoseconds if the family's unit is seconds.
    Histogram(Histogram<'a>),
}

/// Passes every point of `scrape` to `sink`, in the order of the families.
///
/// # Errors
/// The error of the sink, which ends the walk.
pub fn walk<S: Sink>(scrape: &Scrape, sink: &mut S) -> Result<(), S::Error> {
    for family in FAMILIES.into_iter().flatten() {
        match family.origin {
            Origin::Dom(rows) => fields(scrape, family, RecordKind::Dom, rows, sink)?,
            Origin::Vcpu(rows) if scrape.selection.vcpus == Vcpus::Sum => {
                sums(scrape, family, rows, sink)?;
            }
            Origin::Vcpu(rows) => fields(scrape, family, RecordKind::Vcpu, rows, sink)?,
            Origin::Blk(rows) => fields(scrape, family, RecordKind::Blk, rows, sink)?,
            Origin::Net(rows) => fields(scrape, family, RecordKind::Net, rows, sink)?,
            Origin::Histogram(group) | Origin::Largest(group) => {
                distributions(scrape, family, group, sink)?;
            }
            Origin::Computed(Computed::Build) => {
                let labels = [("version", Label::Text(env!("CARGO_PKG_VERSION")))];
                own(scrape, family, &labels, Value::Count(1), sink)?;
            }
            Origin::Computed(computed) if !is_selected(scrape, computed) => {}
            Origin::Computed(computed) => {
                if let Some(value) = own_value(scrape, computed) {
                    own(scrape, family, &[], value, sink)?;
                }
                if computed == Computed::Failures {
                    for (reason, count) in [
                        ("directory", scrape.directory_failures),
                        ("duplicate", scrape.duplicates),
                        ("limit", scrape.limited),
                    ] {
                        let labels = [("reason", Label::Text(reason))];
                        own(scrape, family, &labels, Value::Count(count), sink)?;
                    }
                }
                let (started, vcpus) = (scrape.started, scrape.selection.vcpus);
                let mut points = ComputedFamily { family, started, vcpus, sink };
                scrape.domains().try_for_each(|domain| points.emit(computed, domain))?;
            }
        }
    }
    Ok(())
}

/// Whether a computed family is about selected groups.
fn is_selected(scrape: &Scrape, computed: Computed) -> bool {
    let groups = &scrape.selection.groups;
    match computed {
        Computed::StateSeconds => groups.contains(Runstate::DESC),
        // 1 or 0 of one vCPU; domain_vcpus counts them.
        Computed::Online => {
            groups.contains(Runstate::DESC) && scrape.selection.vcpus == Vcpus::Each
        }
        Computed::StealSeconds => groups.contains(Sched::DESC) || groups.contains(Runstate::DESC),
        _ => causes::group(computed).is_none_or(|desc| groups.contains(desc)),
    }
}

/// The exporter's own value of a family, if the family is about the exporter.
fn own_value(scrape: &Scrape, computed: Computed) -> Option<Value<'static>> {
    let process = scrape.process.as_ref();
    match computed {
        Computed::Refused => Some(Value::Count(scrape.refused)),
        Computed::PassSeconds => {
            Some(Value::Nanos(u64::try_from(scrape.duration.as_nanos()).unwrap_or(u64::MAX)))
        }
        Computed::ProcessCpu => Some(Value::Nanos(process?.cpu_ns)),
        Computed::ProcessResident => Some(Value::Count(process?.resident_bytes)),
        Computed::ProcessVirtual => Some(Value::Count(process?.virtual_bytes)),
        Computed::ProcessOpenFds => process?.open_fds.map(Value::Count),
        Computed::ProcessMaxFds => process?.max_fds.map(Value::Count),
        Computed::ProcessStart => process?.started_ns.map(Value::Nanos),
        _ => None,
    }
}

/// Emits one of the exporter's own points.
fn own<S: Sink>(
    scrape: &Scrape,
    family: &'static Family,
    labels: &[(&str, Label<'_>)],
    value: Value<'_>,
    sink: &mut S,
) -> Result<(), S::Error> {
    sink.point(family, &Point { domain: None, labels, value, created: scrape.started })
}

/// Emits the points of fields.
fn fields<S: Sink>(
    scrape: &Scrape,
    family: &'static Family,
    kind: RecordKind,
    rows: &'static [Row],
    sink: &mut S,
) -> Result<(), S::Error> {
    let selected = |row: &&Row| scrape.selection.groups.contains(row.field.group);
    if !rows.iter().any(|row| selected(&row)) {
        return Ok(());
    }
    for domain in scrape.domains().filter(|domain| domain.has_values) {
        for index in 0..nr_records(&domain.snapshot, kind) {
            let Some(record) = record(&domain.snapshot, kind, index) else { continue };
            for row in rows.iter().filter(selected) {
                let value = domain.value(record, row.field);
                let Some(value) = value.filter(|v| !(row.zero_is_none && *v == 0)) else {
                    continue;
                };
                let slot = slot(domain, kind, index);
                let own = row.label.map(|(name, value)| (name, Label::Text(value)));
                let both;
                let labels: &[_] = match (slot, own) {
                    (Some(slot), Some(own)) => {
                        both = [slot, own];
                        &both
                    }
                    (one, other) => {
                        both = [one.or(other).unwrap_or(("", Label::Text(""))); 2];
                        if one.or(other).is_some() { &both[..1] } else { &[] }
                    }
                };
                let value = number(family, value);
                let created = domain.created(kind, index);
                sink.point(family, &Point { domain: Some(domain), labels, value, created })?;
            }
        }
    }
    Ok(())
}

/// A field's number in the family's unit.
const fn number(family: &Family, value: u64) -> Value<'static> {
    match family.unit {
        Unit::Seconds => Value::Nanos(value),
        Unit::None | Unit::Bytes => Value::Count(value),
    }
}

/// Emits the distributions that a group is, or their largest values.
fn distributions<S: Sink>(
    scrape: &Scrape,
    family: &'static Family,
    group: &'static GroupDesc,
    sink: &mut S,
) -> Result<(), S::Error> {
    let kind = group.record.base().unwrap_or(group.record);
    for domain in scrape.domains().filter(|domain| domain.has_values) {
        for (index, histogram) in domain.distributions.of(group) {
            let value = match family.kind {
                Kind::Histogram => Value::Histogram(histogram),
                _ => match histogram.max {
                    Some(max) => number(family, max),
                    None => continue,
                },
            };
            // Sums over vCPUs are of no slot.
            let is_sum = kind == RecordKind::Vcpu && scrape.selection.vcpus == Vcpus::Sum;
            let slot = slot(domain, kind, index).filter(|_| !is_sum);
            let (labels, created) = (slot.as_slice(), domain.created(kind, index));
            sink.point(family, &Point { domain: Some(domain), labels, value, created })?;
        }
    }
    Ok(())
}

/// Emits the sums over vCPUs of fields.
fn sums<S: Sink>(
    scrape: &Scrape,
    family: &'static Family,
    rows: &'static [Row],
    sink: &mut S,
) -> Result<(), S::Error> {
    let selected = rows.iter().filter(|row| scrape.selection.groups.contains(row.field.group));
    let sums: Vec<(usize, &Row)> = selected
        .filter_map(|row| {
            let at =
                addends().position(|addend| matches!(addend, Addend::Field(f) if f == row.field));
            Some((at?, row))
        })
        .collect();
    for domain in scrape.domains().filter(|domain| domain.has_values) {
        for (at, row) in &sums {
            let Some(Some(sum)) = domain.sums.get(*at) else { continue };
            let label = row.label.map(|(name, value)| (name, Label::Text(value)));
            let (labels, value) = (label.as_slice(), number(family, *sum));
            let created = domain.created;
            sink.point(family, &Point { domain: Some(domain), labels, value, created })?;
        }
    }
    Ok(())
}

/// The label of a record's slot in its array.
fn slot(domain: &DomainScrape, kind: RecordKind, index: u32) -> Option<(&'static str, Label<'_>)> {
    match kind {
        RecordKind::Vcpu => Some(("vcpu", Label::Number(u64::from(index)))),
        RecordKind::Blk | RecordKind::Net => {
            Some(("device", Label::Text(domain.device(kind, index))))
        }
        _ => None,
    }
}

/// The points of one computed family.
struct ComputedFamily<'s, S> {
    family: &'static Family,
    started: Stamp,
    vcpus: Vcpus,
    sink: &'s mut S,
}

impl<S: Sink> ComputedFamily<'_, S> {
    fn point(
        &mut self,
        domain: &DomainScrape,
        labels: &[(&str, Label<'_>)],
        value: Value<'_>,
        created: Stamp,
    ) -> Result<(), S::Error> {
        let point = Point { domain: Some(domain), labels, value, created };
        self.sink.point(self.family, &point)
    }

    fn emit(&mut self, computed: Computed, domain: &DomainScrape) -> Result<(), S::Error> {
        let (started, created) = (self.started, domain.created);
        let count = |flag: bool| Value::Count(u64::from(flag));
        match computed {
            Computed::Up => return self.point(domain, &[], count(domain.up), created),
            Computed::State => {
                for standing in STANDINGS {
                    let labels = [("domstat_domain_state", Label::Text(standing))];
                    self.point(domain, &labels, count(standing == domain.standing), created)?;
                }
                return Ok(());
            }
            Computed::Retries => {
                return self.point(domain, &[], Value::Count(domain.retries), started);
            }
            Computed::Failures => {
                // The first series exists from the start, so that its first increase is visible.
                for (i, (reason, failures)) in REASONS.iter().zip(domain.failures).enumerate() {
                    if i == 0 || failures > 0 {
                        let labels = [("reason", Label::Text(reason))];
                        self.point(domain, &labels, Value::Count(failures), started)?;
                    }
                }
                return Ok(());
            }
            _ if !domain.has_values => return Ok(()),
            _ => {}
        }
        self.emit_live(computed, domain)
    }

    /// Emits the points that only a domain with values has.
    fn emit_live(&mut self, computed: Computed, domain: &DomainScrape) -> Result<(), S::Error> {
        let created = domain.created;
        match computed {
            Computed::Info => {
                let names = &domain.names;
                let Some((incarnation, revision)) = names.region else { return Ok(()) };
                let labels = [
                    ("incarnation", Label::Hex(incarnation)),
                    ("revision", Label::Number(u64::from(revision))),
                    ("domid", Label::Number(names.domid.unwrap_or(0))),
                ];
                let known = if names.domid.is_some() { &labels[..] } else { &labels[..2] };
                self.point(domain, known, Value::Count(1), created)
            }
            Computed::Labels => {
                let labels = &domain.names.domain_labels;
                if labels.is_empty() {
                    return Ok(());
                }
                let labels = labels.iter().map(|(name, value)| (name.as_str(), Label::Text(value)));
                let labels: Vec<_> = labels.collect();
                self.point(domain, &labels, Value::Count(1), created)
            }
            Computed::Vcpus => {
                self.point(domain, &[], Value::Count(u64::from(domain.nr_vcpus)), created)
            }
            Computed::VcpusMaximum => {
                let slots = Value::Count(u64::from(domain.snapshot.nr_vcpus()));
                self.point(domain, &[], slots, created)
            }
            Computed::Age => {
                for (group, ns) in &domain.ages {
                    let labels = [("group", Label::Group(group))];
                    self.point(domain, &labels, Value::Nanos(*ns), created)?;
                }
                Ok(())
            }
            Computed::Saturated => self.point(domain, &[], Value::Count(domain.saturated), created),
            _ if causes::group(computed).is_some() => self.emit_causes(computed, domain),
            Computed::StateSeconds | Computed::StealSeconds if self.vcpus == Vcpus::Sum => {
                self.emit_sums(computed, domain)
            }
            _ => {
                for index in 0..domain.snapshot.nr_vcpus() {
                    self.emit_vcpu(computed, domain, index)?;
                }
                Ok(())
            }
        }
    }

    /// Emits the sums over vCPUs.
    fn emit_sums(&mut self, computed: Computed, domain: &DomainScrape) -> Result<(), S::Error> {
        for (addend, sum) in addends().zip(&domain.sums) {
            let (Some(ns), created) = (*sum, domain.created) else { continue };
            match (addend, computed) {
                (Addend::Time(state), Computed::StateSeconds) => {
                    let labels = [("state", Label::Text(state.name()))];
                    self.point(domain, &labels, Value::Nanos(ns), created)?;
                }
                (Addend::Steal, Computed::StealSeconds) => {
                    self.point(domain, &[], Value::Nanos(ns), created)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn emit_vcpu(
        &mut self,
        computed: Computed,
        domain: &DomainScrape,
        index: u32,
    ) -> Result<(), S::Error> {
        let created = domain.created(RecordKind::Vcpu, index);
        let vcpu = ("vcpu", Label::Number(u64::from(index)));
        match computed {
            Computed::StateSeconds => {
                for state in RUNSTATES {
                    let Some(ns) = domain.time_in(index, state) else { continue };
                    let labels = [vcpu, ("state", Label::Text(state.name()))];
                    self.point(domain, &labels, Value::Nanos(ns), created)?;
                }
                Ok(())
            }
            Computed::StealSeconds => match domain.steal(index) {
                Some(ns) => self.point(domain, &[vcpu], Value::Nanos(ns), created),
                None => Ok(()),
            },
            Computed::Online => match domain.run_state(index) {
                Some(state) => {
                    let online = u64::from(state != RunState::Offline);
                    self.point(domain, &[vcpu], Value::Count(online), created)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
