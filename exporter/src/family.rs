//! Metric family: name, kind, unit and the fields behind its series.

use domstat_layout::descriptor::{self, FieldDesc};
use domstat_layout::{Field, Group, GroupDesc};

/// Series of one name that differ in their labels.
#[derive(Debug)]
pub struct Family {
    /// Name with the unit as its suffix, without the kind's suffix (`_total`).
    pub name: &'static str,
    /// Behavior of the values.
    pub kind: Kind,
    /// Unit of the values.
    pub unit: Unit,
    /// Help text, one sentence.
    pub help: &'static str,
    /// Source of the values.
    pub origin: Origin,
}

/// Behavior of a family's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases while `_created` stays.
    Counter,
    /// May go up and down.
    Gauge,
    /// One of the named states is 1, the others are 0.
    StateSet,
    /// Always 1; the labels carry the information.
    Info,
    /// Counts of values up to bounds, and their sum; never decreases, as a counter.
    Histogram,
}

/// Base unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number.
    None,
    /// Seconds; published as nanoseconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Suffix of a family's name; empty for [`Unit::None`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// Source of a family's values.
#[derive(Debug)]
pub enum Origin {
    /// Fields of the dom record, as they are published.
    Dom(&'static [Row]),
    /// Fields of each vCPU's record.
    Vcpu(&'static [Row]),
    /// Fields of each block device's record.
    Blk(&'static [Row]),
    /// Fields of each network interface's record.
    Net(&'static [Row]),
    /// The distribution that a group is, of each vCPU or block device.
    Histogram(&'static GroupDesc),
    /// The largest value of a distribution.
    Largest(&'static GroupDesc),
    /// Values that are not fields.
    Computed(Computed),
}

/// A value that is not a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Computed {
    /// Numbers of the domain as labels.
    Info,
    /// Whether the domain is attached and live.
    Up,
    /// The region's state.
    State,
    /// Current vCPUs.
    Vcpus,
    /// vCPU slots.
    VcpusMaximum,
    /// Times of the runstate, up to now.
    StateSeconds,
    /// Time that a vCPU was runnable but not running.
    StealSeconds,
    /// Whether a vCPU is running, runnable or blocked.
    Online,
    /// What hypervisor or VMM says of the domain.
    Status,
    /// Why it says so.
    StatusReason,
    /// Time since it says so.
    StatusSeconds,
    /// Time since hypervisor or VMM last answered, while it does not.
    Unanswered,
    /// Continuity of the domain's counters.
    Session,
    /// State of a migration.
    MigrationState,
    /// Labels that the operator gave the domain.
    Labels,
    /// Time since the balloon driver's last report.
    BalloonAge,
    /// Time with a request in flight, up to now.
    BlkBusy,
    /// Integral of the requests in flight over time, up to now.
    BlkQueued,
    /// Age of each group.
    Age,
    /// Retried reads.
    Retries,
    /// Failed reads.
    Failures,
    /// Saturated fields.
    Saturated,
    /// Version of the exporter.
    Build,
    /// Refused scrapes.
    Refused,
    /// Duration of the pass over all domains.
    PassSeconds,
    /// CPU time of the exporter's process.
    ProcessCpu,
    /// Resident memory of the exporter's process.
    ProcessResident,
    /// Virtual memory of the exporter's process.
    ProcessVirtual,
    /// Open descriptors of the exporter's process.
    ProcessOpenFds,
    /// Limit of open descriptors of the exporter's process.
    ProcessMaxFds,
    /// Start of the exporter's process.
    ProcessStart,
}

/// One series of a family in each record.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// An additional label, name and value.
    pub label: Option<(&'static str, &'static str)>,
    /// The field.
    pub field: FieldRef,
    /// Whether 0 means absent.
    pub zero_is_none: bool,
}

/// A field of any group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef {
    /// The group.
    pub group: &'static GroupDesc,
    /// Offset from the start of the record.
    pub offset: usize,
}

impl FieldRef {
    pub(crate) const fn of<G: Group>(field: Field<G>) -> Self {
        Self { group: G::DESC, offset: field.offset() }
    }

    fn field(&self) -> Option<&'static FieldDesc> {
        self.group.fields.iter().find(|f| f.offset == self.offset)
    }

    /// Name of the field.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.field().map_or("", |f| f.name)
    }

    /// Behavior of the field over time.
    pub(crate) fn kind(&self) -> Option<descriptor::Kind> {
        self.field().map(|f| f.kind)
    }
}

/// A series without an additional label.
pub(crate) const fn row<G: Group>(field: Field<G>) -> Row {
    Row { label: None, field: FieldRef::of(field), zero_is_none: false }
}

/// A series with an additional label.
pub(crate) const fn labeled<G: Group>(
    name: &'static str,
    value: &'static str,
    field: Field<G>,
) -> Row {
    Row { label: Some((name, value)), field: FieldRef::of(field), zero_is_none: false }
}

/// A series with an additional label, that is absent while it is 0.
pub(crate) const fn limit<G: Group>(
    name: &'static str,
    value: &'static str,
    field: Field<G>,
) -> Row {
    Row { zero_is_none: true, ..labeled(name, value, field) }
}

/// A series that is absent while it is 0.
pub(crate) const fn unless_zero<G: Group>(field: Field<G>) -> Row {
    Row { label: None, field: FieldRef::of(field), zero_is_none: true }
}
