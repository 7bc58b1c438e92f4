//! Text formats: OpenMetrics 1.0, and the older format of Prometheus for clients that do not accept
//! it.

use std::fmt::Write;

use crate::family::{Family, Kind, Unit};
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
    let mut encoder = Encoder { out, format, created, family: None, take };
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
            _ => "gauge",
        };
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {kind}");
        if openmetrics && *unit != Unit::None {
            let _ = writeln!(self.out, "# UNIT {name} {}", unit.name());
        }
        self.family = Some(name);
    }

    fn sample(&mut self, name: &str, suffix: &str, point: &Point<'_>) {
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
        self.out.push_str(if next == ',' { "} " } else { " " });
    }
}

/// Suffix of a kind to the family's name.
const fn suffix(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "_total",
        Kind::Info => "_info",
        Kind::Gauge | Kind::StateSet => "",
    }
}

impl<E, F: FnMut(Vec<u8>) -> Result<(), E>> Sink for Encoder<F> {
    type Error = E;

    fn point(&mut self, family: &'static Family, point: &Point<'_>) -> Result<(), E> {
        if self.family != Some(family.name) {
            self.head(family);
        }
        self.sample(family.name, suffix(family.kind), point);
        match point.value {
            Value::Count(count) => {
                let _ = writeln!(self.out, "{count}");
            }
            Value::Nanos(ns) => {
                let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
                let _ = writeln!(self.out, "{whole}.{part:09}");
            }
        }
        if self.created && family.kind == Kind::Counter {
            self.sample(family.name, "_created", point);
            let Stamp(since) = point.created;
            let _ = writeln!(self.out, "{}.{:09}", since.as_secs(), since.subsec_nanos());
        }
        if self.out.len() >= PIECE { self.flush() } else { Ok(()) }
    }
}
