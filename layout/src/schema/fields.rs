//! What the values of a field are.

use core::fmt;

use crate::descriptor::{FieldDesc, Kind, Unit};

/// Number of a field's kind in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldKind(pub u32);

impl FieldKind {
    /// Never decreases within an incarnation and generation.
    pub const CUMULATIVE: Self = Self(1);
    /// May go up and down.
    pub const INSTANT: Self = Self(2);
    /// The largest value so far.
    pub const PEAK: Self = Self(3);
    /// Counts in buckets of equal width.
    pub const LINEAR_HISTOGRAM: Self = Self(4);
    /// Counts in buckets that double: 0, 1, 2..3, 4..7 and so on.
    pub const LOG_HISTOGRAM: Self = Self(5);
    /// One of the named values.
    pub const STATE: Self = Self(6);
    /// Identifies something.
    pub const ID: Self = Self(7);
    /// Text terminated by a zero byte.
    pub const TEXT: Self = Self(8);

    /// One word for tables; `None` for a kind that this build does not know.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::CUMULATIVE => "cumulative",
            Self::INSTANT => "instant",
            Self::PEAK => "peak",
            Self::LINEAR_HISTOGRAM => "linear_histogram",
            Self::LOG_HISTOGRAM => "log_histogram",
            Self::STATE => "state",
            Self::ID => "id",
            Self::TEXT => "text",
            _ => return None,
        })
    }

    /// Whether a field of this kind is a row of buckets.
    #[must_use]
    pub const fn is_histogram(self) -> bool {
        matches!(self, Self::LINEAR_HISTOGRAM | Self::LOG_HISTOGRAM)
    }
}

/// Number of a field's unit in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldUnit(pub u32);

impl FieldUnit {
    /// A plain number, or no number at all.
    pub const NONE: Self = Self(0);
    /// Bytes.
    pub const BYTES: Self = Self(1);
    /// Seconds, usually with an exponent.
    pub const SECONDS: Self = Self(2);
    /// Cycles of a CPU's clock.
    pub const CYCLES: Self = Self(3);
    /// 0 no, 1 yes.
    pub const BOOLEAN: Self = Self(4);
    /// How often something happened.
    pub const EVENTS: Self = Self(5);

    /// One word for tables; `None` for a unit that this build does not know.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NONE => "-",
            Self::BYTES => "bytes",
            Self::SECONDS => "seconds",
            Self::CYCLES => "cycles",
            Self::BOOLEAN => "boolean",
            Self::EVENTS => "events",
            _ => return None,
        })
    }
}

/// What the values of a field are: kind, unit, scale, buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldShape {
    /// How they behave over time.
    pub kind: FieldKind,
    /// What they count.
    pub unit: FieldUnit,
    /// 10 or 2.
    pub base: u32,
    /// They count `base` to this power of the unit.
    pub exponent: i32,
    /// Buckets of a histogram, or named values of a state; else 0.
    pub nr: u32,
    /// Width of a linear histogram's bucket; else 0.
    pub bucket_size: u64,
}

impl FieldShape {
    /// A plain number that goes up and down.
    pub const PLAIN: Self = Self {
        kind: FieldKind::INSTANT,
        unit: FieldUnit::NONE,
        base: 10,
        exponent: 0,
        nr: 0,
        bucket_size: 0,
    };

    /// The shape of a field of the descriptor table.
    #[must_use]
    pub fn of(field: &FieldDesc) -> Self {
        let (kind, nr) = match field.kind {
            Kind::Cumulative => (FieldKind::CUMULATIVE, 0),
            Kind::Instant => (FieldKind::INSTANT, 0),
            Kind::Peak => (FieldKind::PEAK, 0),
            Kind::LogHistogram => {
                (FieldKind::LOG_HISTOGRAM, u32::try_from(field.width / 8).unwrap_or(0))
            }
            Kind::State(names) => (FieldKind::STATE, u32::try_from(names.len()).unwrap_or(0)),
            Kind::Id => (FieldKind::ID, 0),
            Kind::Text => (FieldKind::TEXT, 0),
        };
        let (unit, exponent) = match field.unit {
            Unit::None => (FieldUnit::NONE, 0),
            Unit::Ns => (FieldUnit::SECONDS, -9),
            Unit::Bytes => (FieldUnit::BYTES, 0),
            Unit::Events => (FieldUnit::EVENTS, 0),
        };
        Self { kind, unit, base: 10, exponent, nr, bucket_size: 0 }
    }

    /// Whether kind, unit and scale are ones that this build knows.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.kind.name().is_some() && self.unit.name().is_some()
    }

    /// The unit with its scale, for people.
    #[must_use]
    pub const fn scaled(self) -> Scaled {
        Scaled(self)
    }
}

/// Displays as a unit with its scale: `ns`, `KiB`, `2^12 bytes`, `unit 17`.
#[derive(Clone, Copy, Debug)]
pub struct Scaled(FieldShape);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FieldShape { unit, base, exponent, .. } = self.0;
        let short = match (unit, base, exponent) {
            (FieldUnit::SECONDS, _, 0) => "s",
            (FieldUnit::SECONDS, 10, -3) => "ms",
            (FieldUnit::SECONDS, 10, -6) => "us",
            (FieldUnit::SECONDS, 10, -9) => "ns",
            (FieldUnit::BYTES, 2, 10) => "KiB",
            (FieldUnit::BYTES, 2, 20) => "MiB",
            (FieldUnit::BYTES, 2, 30) => "GiB",
            (_, _, 0) => unit.name().unwrap_or(""),
            _ => "",
        };
        if !short.is_empty() {
            return f.pad(short);
        }
        match (unit.name(), exponent) {
            (Some(name), _) => write!(f, "{base}^{exponent} {name}"),
            (None, 0) => write!(f, "unit {}", unit.0),
            (None, _) => write!(f, "{base}^{exponent} unit {}", unit.0),
        }
    }
}
