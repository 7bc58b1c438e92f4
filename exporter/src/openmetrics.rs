//! Text formats: OpenMetrics 1.0, and the older format of Prometheus for clients that do not accept
//! it.

use std::fmt::Write;

use crate::family::{Family, Kind, Unit};
use crate::histogram::{Bounds, Histogram, bound};
use crate::label::push_label;
use crate::points::{Point, Sink, Value, walk};
use crate::scrape::{DomainScrape, Scrape, Stamp};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The text format 0.0.4: without units, state sets, infos and creation times.
    Text,
}

impl Format {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// The format's `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Approximate length of a piece in bytes. A long text is never in memory as a whole.
pub const PIECE: usize = 64 << 10;

/// Writes `scrape` as text and passes it to `take` in pieces.
///
/// # Errors
/// The error of `take`, which ends the writing.
pub fn write<E>(
    scrape: &Scrape,
    format: Format,
    created: bool,
    take: impl FnMut(Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let created = created && format == Format::OpenMetrics;
    let out = String::with_capacity(PIECE + (PIECE >> 3));
    let mut encoder =
        Encoder { out, format, created, bounds: scrape.selection.bounds, family: None, take };
    walk(scrape, &mut encoder)?;
    if format == Format::OpenMetrics {
        encoder.out.push_str("# EOF\n");
    }
    encoder.flush()
}

struct Encoder<F> {
    out: String,
    format: Format,
    created: bool,
    bounds: Bounds,
    family: Option<&'static str>,
    take: F,
}

impl<E, F: FnMut(Vec<u8>) -> Result<(), E>> Encoder<F> {
    fn flush(&mut self) -> Result<(), E> {
        let next = String::with_capacity(PIECE + (PIECE >> 3));
        (self.take)(std::mem::replace(&mut self.out, next).into_bytes())
    }

    /// Writes the comments before the points of a family.
    fn head(&mut self, family: &'static Family) {
        let Family { name, kind, unit, help, .. } = family;
        let openmetrics = self.format == Format::OpenMetrics;
        let suffix = if openmetrics { "" } else { suffix(*kind) };
        let kind = match (kind, openmetrics) {
            (Kind::Counter, _) => "counter",
            (Kind::StateSet, true) => "stateset",
            (Kind::Info, true) => "info",
            (Kind::Histogram, _) => "histogram",
            _ => "gauge",
        };
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {kind}");
        if openmetrics && *unit != Unit::None {
            let _ = writeln!(self.out, "# UNIT {name} {}", unit.name());
        }
        self.family = Some(name);
    }

    fn seconds(&mut self, ns: u64) {
        let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
        let _ = writeln!(self.out, "{whole}.{part:09}");
    }

    /// Writes the counts up to each bound, their total and the sum.
    fn histogram(&mut self, family: &Family, histogram: &Histogram<'_>, point: &Point<'_>) {
        let (name, unit, count) = (family.name, family.unit, histogram.count());
        for bucket in self.bounds.buckets(unit, histogram.buckets.len()) {
            let bound = Bound { value: bound(bucket), unit, format: self.format };
            self.sample_with(name, "_bucket", point, Some(format_args!("le=\"{bound}\"")));
            let _ = writeln!(self.out, "{}", histogram.up_to(bucket));
        }
        self.sample_with(name, "_bucket", point, Some(format_args!("le=\"+Inf\"")));
        let _ = writeln!(self.out, "{count}");
        if let Some(sum) = histogram.sum {
            self.sample(name, "_sum", point);
            if unit == Unit::Seconds {
                self.seconds(sum);
            } else {
                let _ = writeln!(self.out, "{sum}");
            }
        }
        self.sample(name, "_count", point);
        let _ = writeln!(self.out, "{count}");
    }

    fn sample(&mut self, name: &str, suffix: &str, point: &Point<'_>) {
        self.sample_with(name, suffix, point, None);
    }

    /// Writes a sample up to its value, with a further label if there is one.
    fn sample_with(
        &mut self,
        name: &str,
        suffix: &str,
        point: &Point<'_>,
        further: Option<std::fmt::Arguments<'_>>,
    ) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        let mut next = '{';
        if let Some(DomainScrape { names, .. }) = point.domain {
            self.out.push(next);
            self.out.push_str(&names.labels);
            next = ',';
        }
        for (name, label) in point.labels {
            self.out.push(next);
            next = ',';
            push_label(&mut self.out, name, *label);
        }
        if let Some(further) = further {
            let _ = write!(self.out, "{next}{further}");
            next = ',';
        }
        self.out.push_str(if next == ',' { "} " } else { " " });
    }
}

/// A bound as the value of `le`: exact, and always with a point in OpenMetrics.
struct Bound {
    value: u64,
    unit: Unit,
    format: Format,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, part) = match self.unit {
            Unit::Seconds => (self.value / 1_000_000_000, self.value % 1_000_000_000),
            Unit::None | Unit::Bytes => (self.value, 0),
        };
        match (part, self.format) {
            (0, Format::OpenMetrics) => write!(f, "{whole}.0"),
            (0, Format::Text) => write!(f, "{whole}"),
            // The last digit is odd: there are no zeros to leave out.
            _ => write!(f, "{whole}.{part:09}"),
        }
    }
}

/// Suffix of a kind to the family's name.
const fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::StateSet | Kind::Histogram => "",
    }
}

impl<E, F: FnMut(Vec<u8>) -> Result<(), E>> Sink for Encoder<F> {
    type Error = E;

    fn point(&mut self, family: &'static Family, point: &Point<'_>) -> Result<(), E> {
        if self.family != Some(family.name) {
            self.head(family);
        }
        match point.value {
            Value::Count(count) => {
                self.sample(family.name, suffix(family.kind), point);
                let _ = writeln!(self.out, "{count}");
            }
            Value::Nanos(ns) => {
                self.sample(family.name, suffix(family.kind), point);
                self.seconds(ns);
            }
            Value::Histogram(histogram) => self.histogram(family, &histogram, point),
        }
        if self.created && matches!(family.kind, Kind::Counter | Kind::Histogram) {
            self.sample(family.name, "_created", point);
            let Stamp(since) = point.created;
            let _ = writeln!(self.out, "{}.{:09}", since.as_secs(), since.subsec_nanos());
        }
        if self.out.len() >= PIECE { self.flush() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Computed, Origin};

    const fn family(name: &'static str, unit: Unit) -> Family {
        let origin = Origin::Computed(Computed::Build);
        Family { name, kind: Kind::Histogram, unit, help: "Help.", origin }
    }
    static TIMES: Family = family("d_seconds", Unit::Seconds);
    static SIZES: Family = family("d_bytes", Unit::Bytes);

    fn text(format: Format, bounds: Bounds, family: &'static Family, value: Value<'_>) -> String {
        let mut text = String::new();
        let take = |piece: Vec<u8>| {
            text.push_str(&String::from_utf8_lossy(&piece));
            Ok::<_, ()>(())
        };
        let out = String::new();
        let created = format == Format::OpenMetrics;
        let mut encoder = Encoder { out, format, created, bounds, family: None, take };
        let labels = &[("device", crate::label::Label::Text("vda"))];
        let created = Stamp(std::time::Duration::from_secs(9));
        let point = Point { domain: None, labels, value, created };
        assert_eq!(encoder.point(family, &point), Ok(()));
        assert_eq!(encoder.flush(), Ok(()));
        text
    }

    #[test]
    fn a_histogram_has_exact_bounds_counts_up_to_them_and_a_sum() {
        // 3 values of 0, 2 of 1, 1 of 2 to 3, and one past all bounds.
        let histogram =
            Histogram { buckets: &[3, 2, 1, 0, 1], sum: Some(5_000_000_020), max: None };
        let value = Value::Histogram(histogram);
        let found = text(Format::OpenMetrics, Bounds::All, &TIMES, value);
        let expected = r#"# HELP d_seconds Help.
# TYPE d_seconds histogram
# UNIT d_seconds seconds
d_seconds_bucket{device="vda",le="0.0"} 3
d_seconds_bucket{device="vda",le="0.000000001"} 5
d_seconds_bucket{device="vda",le="0.000000003"} 6
d_seconds_bucket{device="vda",le="0.000000007"} 6
d_seconds_bucket{device="vda",le="+Inf"} 7
d_seconds_sum{device="vda"} 5.000000020
d_seconds_count{device="vda"} 7
d_seconds_created{device="vda"} 9.000000000
"#;
        assert_eq!(found, expected);
        let found = text(Format::Text, Bounds::All, &SIZES, value);
        let expected = r#"# HELP d_bytes Help.
# TYPE d_bytes histogram
d_bytes_bucket{device="vda",le="0"} 3
d_bytes_bucket{device="vda",le="1"} 5
d_bytes_bucket{device="vda",le="3"} 6
d_bytes_bucket{device="vda",le="7"} 6
d_bytes_bucket{device="vda",le="+Inf"} 7
d_bytes_sum{device="vda"} 5000000020
d_bytes_count{device="vda"} 7
"#;
        assert_eq!(found, expected);
        let unknown = Value::Histogram(Histogram { sum: None, ..histogram });
        let found = text(Format::Text, Bounds::Few, &SIZES, unknown);
        assert!(!found.contains("_sum") && !found.contains("_created"), "{found}");
        assert_eq!(found.lines().count(), 4, "no useful bound is below these buckets: {found}");
    }
}
