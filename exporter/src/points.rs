//! Points of a scrape, family by family.

use domstat_layout::RecordKind;
use domstat_layout::latest::VcpuState;

use crate::families::FAMILIES;
use crate::family::{Computed, Family, Origin, Row, Unit};
use crate::label::Label;
use crate::scrape::{
    DomainScrape, REASONS, RUNSTATES, STANDINGS, Scrape, Stamp, nr_records, record,
};

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
    pub labels: &'a [(&'static str, Label<'a>)],
    /// The value.
    pub value: Value,
    /// Start of the counter.
    pub created: Stamp,
}

/// An exact value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Count(u64),
    /// Nanoseconds, exported as seconds.
    Nanos(u64),
}

/// Passes every point of `scrape` to `sink`, in the order of the families.
///
/// # Errors
/// The error of the sink, which ends the walk.
pub fn walk<S: Sink>(scrape: &Scrape, sink: &mut S) -> Result<(), S::Error> {
    for family in FAMILIES.into_iter().flatten() {
        match family.origin {
            Origin::Dom(rows) => fields(scrape, family, RecordKind::Dom, rows, sink)?,
            Origin::Vcpu(rows) => fields(scrape, family, RecordKind::Vcpu, rows, sink)?,
            Origin::Blk(rows) => fields(scrape, family, RecordKind::Blk, rows, sink)?,
            Origin::Net(rows) => fields(scrape, family, RecordKind::Net, rows, sink)?,
            Origin::Computed(Computed::Build) => {
                let labels = [("version", Label::Text(env!("CARGO_PKG_VERSION")))];
                own(scrape, family, &labels, Value::Count(1), sink)?;
            }
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
                let mut points = ComputedFamily { family, started: scrape.started, sink };
                scrape.domains().try_for_each(|domain| points.emit(computed, domain))?;
            }
        }
    }
    Ok(())
}

/// The exporter's own value of a family, if the family is about the exporter.
fn own_value(scrape: &Scrape, computed: Computed) -> Option<Value> {
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
    labels: &[(&'static str, Label<'_>)],
    value: Value,
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
    for domain in scrape.domains().filter(|domain| domain.has_values) {
        for index in 0..nr_records(&domain.snapshot, kind) {
            let Some(record) = record(&domain.snapshot, kind, index) else { continue };
            for row in rows {
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
                let value = match family.unit {
                    Unit::Seconds => Value::Nanos(value),
                    Unit::None | Unit::Bytes => Value::Count(value),
                };
                let created = domain.created(kind, index);
                sink.point(family, &Point { domain: Some(domain), labels, value, created })?;
            }
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
    sink: &'s mut S,
}

impl<S: Sink> ComputedFamily<'_, S> {
    fn point(
        &mut self,
        domain: &DomainScrape,
        labels: &[(&'static str, Label<'_>)],
        value: Value,
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
            _ => {
                for index in 0..domain.snapshot.nr_vcpus() {
                    self.emit_vcpu(computed, domain, index)?;
                }
                Ok(())
            }
        }
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
            Computed::Online => match domain.vcpu_state(index) {
                Some(state) => {
                    let online = u64::from(state != VcpuState::Offline);
                    self.point(domain, &[vcpu], Value::Count(online), created)
                }
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
