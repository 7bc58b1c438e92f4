//! From a view to points, family by family.

use domstat_layout::latest::VcpuState;
use domstat_layout::{RecordKind, State};

use crate::book::STATES;
use crate::families::FAMILIES;
use crate::family::{Computed, Family, From, Row, Unit};
use crate::view::{DomainView, REASONS, Stamp, View};

/// Takes the points of a view, as they come.
pub trait Sink {
    /// Why it takes no more.
    type Error;

    /// One point of `family`; all points of a family come in a row.
    ///
    /// # Errors
    /// Ends the walk.
    fn point(&mut self, family: &'static Family, point: &Point<'_>) -> Result<(), Self::Error>;
}

/// One point.
#[derive(Debug)]
pub struct Point<'a> {
    /// The domain, unless it is about this program.
    pub domain: Option<&'a DomainView>,
    /// Its other labels.
    pub labels: &'a [(&'static str, Label<'a>)],
    /// Its value.
    pub value: Value,
    /// When a counter began.
    pub created: Stamp,
}

/// What a label says.
#[derive(Clone, Copy, Debug)]
pub enum Label<'a> {
    /// Text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// A number in hexadecimal digits.
    Hex(u64),
}

/// A value in its exact form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Count(u64),
    /// Nanoseconds, to be shown as seconds.
    Nanos(u64),
}

/// Every point of `view`, in the order of the families.
///
/// # Errors
/// What the sink says.
pub fn walk<S: Sink>(view: &View, sink: &mut S) -> Result<(), S::Error> {
    for family in FAMILIES.into_iter().flatten() {
        match family.from {
            From::Dom(rows) => fields(view, family, RecordKind::Dom, rows, sink)?,
            From::Vcpu(rows) => fields(view, family, RecordKind::Vcpu, rows, sink)?,
            From::Blk(rows) => fields(view, family, RecordKind::Blk, rows, sink)?,
            From::Net(rows) => fields(view, family, RecordKind::Net, rows, sink)?,
            From::Computed(Computed::Build) => {
                let labels = [("version", Label::Text(env!("CARGO_PKG_VERSION")))];
                own(view, family, &labels, 1, sink)?;
            }
            From::Computed(Computed::Refused) => own(view, family, &[], view.refused, sink)?,
            From::Computed(computed) => {
                if computed == Computed::Failures {
                    for (reason, count) in
                        [("directory", view.directory_failures), ("duplicate", view.duplicates)]
                    {
                        let labels = [("reason", Label::Text(reason))];
                        own(view, family, &labels, count, sink)?;
                    }
                }
                let mut to = To { family, started: view.started, sink };
                view.domains().try_for_each(|domain| to.computed(computed, domain))?;
            }
        }
    }
    Ok(())
}

/// A point about this program.
fn own<S: Sink>(
    view: &View,
    family: &'static Family,
    labels: &[(&'static str, Label<'_>)],
    value: u64,
    sink: &mut S,
) -> Result<(), S::Error> {
    let value = Value::Count(value);
    sink.point(family, &Point { domain: None, labels, value, created: view.started })
}

/// The points of fields.
fn fields<S: Sink>(
    view: &View,
    family: &'static Family,
    kind: RecordKind,
    rows: &'static [Row],
    sink: &mut S,
) -> Result<(), S::Error> {
    for domain in view.domains().filter(|domain| domain.up) {
        for index in 0..domain.nr(kind) {
            let Some(record) = domain.record(kind, index) else { continue };
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

/// The label that says which record of its array a point is of.
fn slot(domain: &DomainView, kind: RecordKind, index: u32) -> Option<(&'static str, Label<'_>)> {
    match kind {
        RecordKind::Vcpu => Some(("vcpu", Label::Number(u64::from(index)))),
        RecordKind::Blk | RecordKind::Net => {
            Some(("device", Label::Text(domain.device(kind, index))))
        }
        _ => None,
    }
}

/// Where the points of one family go.
struct To<'s, S> {
    family: &'static Family,
    started: Stamp,
    sink: &'s mut S,
}

impl<S: Sink> To<'_, S> {
    fn point(
        &mut self,
        domain: &DomainView,
        labels: &[(&'static str, Label<'_>)],
        value: Value,
        created: Stamp,
    ) -> Result<(), S::Error> {
        let point = Point { domain: Some(domain), labels, value, created };
        self.sink.point(self.family, &point)
    }

    fn computed(&mut self, computed: Computed, domain: &DomainView) -> Result<(), S::Error> {
        let (started, created) = (self.started, domain.created);
        let count = |flag: bool| Value::Count(u64::from(flag));
        match computed {
            Computed::Up => return self.point(domain, &[], count(domain.up), created),
            Computed::State => {
                let Some(now) = domain.state else { return Ok(()) };
                for state in [State::Initializing, State::Live, State::Retired] {
                    let labels = [("domstat_domain_state", Label::Text(state.name()))];
                    self.point(domain, &labels, count(state == now), created)?;
                }
                return Ok(());
            }
            Computed::Retries => {
                return self.point(domain, &[], Value::Count(domain.retries), started);
            }
            Computed::Failures => {
                // The first is counted from the beginning, so that its first increase is seen.
                for (i, (reason, failures)) in REASONS.iter().zip(domain.failures).enumerate() {
                    if i == 0 || failures > 0 {
                        let labels = [("reason", Label::Text(reason))];
                        self.point(domain, &labels, Value::Count(failures), started)?;
                    }
                }
                return Ok(());
            }
            _ if !domain.up => return Ok(()),
            _ => {}
        }
        self.live(computed, domain)
    }

    /// What only a domain that is up has.
    fn live(&mut self, computed: Computed, domain: &DomainView) -> Result<(), S::Error> {
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
                    let labels = [("group", Label::Text(group))];
                    self.point(domain, &labels, Value::Nanos(*ns), created)?;
                }
                Ok(())
            }
            Computed::Saturated => self.point(domain, &[], Value::Count(domain.saturated), created),
            _ => {
                for index in 0..domain.snapshot.nr_vcpus() {
                    self.vcpu(computed, domain, index)?;
                }
                Ok(())
            }
        }
    }

    fn vcpu(
        &mut self,
        computed: Computed,
        domain: &DomainView,
        index: u32,
    ) -> Result<(), S::Error> {
        let created = domain.created(RecordKind::Vcpu, index);
        let vcpu = ("vcpu", Label::Number(u64::from(index)));
        match computed {
            Computed::StateSeconds => {
                for state in STATES {
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
