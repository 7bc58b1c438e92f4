//! What a metric family is: its name and kind, and which fields its series come from.

use domstat_layout::{Field, Group, GroupDesc};

/// A metric family: series of one name, that differ in their labels.
#[derive(Debug)]
pub struct Family {
    /// Its name, with the unit as its suffix and without what its kind appends (`_total`).
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it is, as one sentence.
    pub help: &'static str,
    /// Where its series come from.
    pub from: From,
}

/// How a family's values behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never decreases while `_created` stays.
    Counter,
    /// May go up and down.
    Gauge,
    /// One of the named states is 1, the others are 0.
    StateSet,
    /// Always 1; the labels say something.
    Info,
}

/// What a value counts. Only base units.
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
    /// The suffix of a family's name; empty for none.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// Where a family's series come from.
#[derive(Debug)]
pub enum From {
    /// Fields of the dom record, as they are published.
    Dom(&'static [Row]),
    /// Fields of each vCPU's record.
    Vcpu(&'static [Row]),
    /// Fields of each block device's record.
    Blk(&'static [Row]),
    /// Fields of each network interface's record.
    Net(&'static [Row]),
    /// Not a field: computed.
    Computed(Computed),
}

/// Series that are no field's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Computed {
    /// Numbers of the domain as labels.
    Info,
    /// Whether the domain is there and live.
    Up,
    /// The region's state.
    State,
    /// vCPUs that there are.
    Vcpus,
    /// vCPU slots.
    VcpusMaximum,
    /// The runstate's times, up to now.
    StateSeconds,
    /// Time that a vCPU wanted a CPU and had none.
    StealSeconds,
    /// Whether a vCPU is plugged in and running, runnable or blocked.
    Online,
    /// How old each group is.
    Age,
    /// Reads that were tried again.
    Retries,
    /// Reads that failed.
    Failures,
    /// Fields at their largest number.
    Saturated,
    /// This program.
    Build,
    /// Scrapes that were refused.
    Refused,
}

/// One series of a family in each record.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// A label of its own, name and value.
    pub label: Option<(&'static str, &'static str)>,
    /// The field.
    pub field: FieldRef,
    /// Whether 0 says that there is none.
    pub zero_is_none: bool,
}

/// A field of whichever group.
#[derive(Clone, Copy, Debug)]
pub struct FieldRef {
    /// Its group.
    pub group: &'static GroupDesc,
    /// Its offset from the start of its record.
    pub offset: usize,
}

impl FieldRef {
    pub(crate) const fn of<G: Group>(field: Field<G>) -> Self {
        Self { group: G::DESC, offset: field.offset() }
    }

    /// The field's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let field = self.group.fields.iter().find(|f| f.offset == self.offset);
        field.map_or("", |f| f.name)
    }
}

/// A series without a label of its own.
pub(crate) const fn row<G: Group>(field: Field<G>) -> Row {
    Row { label: None, field: FieldRef::of(field), zero_is_none: false }
}

/// A series with a label of its own.
pub(crate) const fn labeled<G: Group>(
    name: &'static str,
    value: &'static str,
    field: Field<G>,
) -> Row {
    Row { label: Some((name, value)), field: FieldRef::of(field), zero_is_none: false }
}

/// A series that is left out while it is 0.
pub(crate) const fn unless_zero<G: Group>(field: Field<G>) -> Row {
    Row { label: None, field: FieldRef::of(field), zero_is_none: true }
}
