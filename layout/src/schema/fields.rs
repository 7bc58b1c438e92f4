//! What the values of a field are.

use core::fmt;

use crate::descriptor::{FieldDesc, Kind, Unit};

/// Declares the numbers of a registry: constants, names and rows for tables.
macro_rules! numbers {
    ($ty:ident $( #[doc = $doc:literal] $name:ident $number:literal $text:literal; )+) => {
        impl $ty {
            $( #[doc = $doc] pub const $name: Self = Self($number); )+

            /// Number, name and meaning of each that this build knows; from
            /// [`FIRST_PRIVATE`](super::FIRST_PRIVATE) on numbers are never given out.
            pub const REGISTRY: &[(u32, &str, &str)] = &[$( ($number, $text, $doc) ),+];

            /// One word for tables; `None` for a number that this build does not know.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                Some(match self {
                    $( Self::$name => $text, )+
                    _ => return None,
                })
            }
        }
    };
}

/// Number of a field's kind in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldKind(pub u32);

numbers! { FieldKind
    /// Never decreases within an incarnation and generation.
    CUMULATIVE 1 "cumulative";
    /// May go up and down.
    INSTANT 2 "instant";
    /// The largest value so far.
    PEAK 3 "peak";
    /// Counts in buckets of equal width.
    LINEAR_HISTOGRAM 4 "linear_histogram";
    /// Counts in buckets that double: 0, 1, 2..3, 4..7 and so on.
    LOG_HISTOGRAM 5 "log_histogram";
    /// One of the named values.
    STATE 6 "state";
    /// Identifies something.
    ID 7 "id";
    /// Text terminated by a zero byte.
    TEXT 8 "text";
}

impl FieldKind {
    /// Whether a field of this kind is a row of buckets.
    #[must_use]
    pub const fn is_histogram(self) -> bool {
        matches!(self, Self::LINEAR_HISTOGRAM | Self::LOG_HISTOGRAM)
    }
}

/// Number of a field's unit in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldUnit(pub u32);

numbers! { FieldUnit
    /// A plain number, or no number at all.
    NONE 0 "-";
    /// Bytes.
    BYTES 1 "bytes";
    /// Seconds, usually with an exponent.
    SECONDS 2 "seconds";
    /// Cycles of a CPU's clock.
    CYCLES 3 "cycles";
    /// 0 no, 1 yes.
    BOOLEAN 4 "boolean";
    /// How often something happened.
    EVENTS 5 "events";
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
