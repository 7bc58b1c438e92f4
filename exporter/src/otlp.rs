//! OTLP/HTTP client: pushes points to an OpenTelemetry collector.
//!
//! The messages are built here and not by OpenTelemetry's SDK. The SDK has one start time for all
//! series of an instrument, while each domain and slot has its own, and it merges the series beyond
//! a limit.

use std::io::Read;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
    Histogram as Histograms, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};

use crate::family::{Family, Kind, Unit};
use crate::histogram::{Bounds, Histogram, bound};
use crate::label::Label;
use crate::points::{Point, Sink, Value, walk};
use crate::scrape::{Scrape, Stamp};

/// Points of one request, some hundred kilobytes.
const POINTS: usize = 5000;
/// Time for a collector to take one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal that are read.
const ANSWER: u64 = 4096;

/// Failure to push points.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The address is not one that points can be pushed to.
    #[error(
        "{0} is not http://HOST:PORT/PATH or https://HOST:PORT/PATH: a collector takes metrics at http://127.0.0.1:4318/v1/metrics"
    )]
    Address(String),
    /// The token would go over the network unencrypted.
    #[error("{0} is not https: the network would see the token")]
    InClear(String),
    /// The collector cannot be reached, or closed the connection.
    #[error("cannot push to {to}: {why}")]
    Transport {
        /// The collector.
        to: String,
        /// The cause.
        why: String,
    },
    /// The collector refused the points.
    #[error("{to} answered {status}: {body}")]
    Refused {
        /// The collector.
        to: String,
        /// The HTTP status.
        status: u16,
        /// The first bytes of the response's body.
        body: String,
    },
}

/// A family's name in OpenTelemetry's style: with dots, without unit and `total`.
#[must_use]
pub fn name(family: &Family) -> String {
    let stem = match family.unit {
        Unit::Seconds => family.name.strip_suffix("_seconds"),
        Unit::Bytes => family.name.strip_suffix("_bytes"),
        Unit::None => None,
    };
    let mut name = stem.unwrap_or(family.name).replace('_', ".");
    match family.kind {
        Kind::Counter if family.unit == Unit::Seconds => name.push_str(".time"),
        Kind::Info => name.push_str(".info"),
        _ => {}
    }
    name
}

const fn unit(family: &Family) -> &'static str {
    match (family.unit, family.kind) {
        (Unit::None, _) => "1",
        // The bounds of exponential histograms are powers of 2, which are so in nanoseconds only.
        (Unit::Seconds, Kind::Histogram) => "ns",
        (Unit::Seconds, _) => "s",
        (Unit::Bytes, _) => "By",
    }
}

/// Builds requests from a scrape and passes each full one to `take`.
///
/// # Errors
/// The error of `take`, which ends the building.
pub fn requests<E>(
    scrape: &Scrape,
    now: Stamp,
    resource: &[(&str, &str)],
    take: impl FnMut(ExportMetricsServiceRequest) -> Result<(), E>,
) -> Result<(), E> {
    let attributes = resource.iter().map(|(key, value)| attribute(key, text(value))).collect();
    let resource = Resource { attributes, ..Resource::default() };
    let mut builder = Builder { now, resource, metrics: Vec::new(), points: 0, last: None, take };
    walk(scrape, &mut builder)?;
    builder.flush()
}

struct Builder<F> {
    now: Stamp,
    resource: Resource,
    metrics: Vec<Metric>,
    points: usize,
    last: Option<&'static str>,
    take: F,
}

impl<E, F: FnMut(ExportMetricsServiceRequest) -> Result<(), E>> Builder<F> {
    fn flush(&mut self) -> Result<(), E> {
        self.last = None;
        self.points = 0;
        let metrics = std::mem::take(&mut self.metrics);
        if metrics.is_empty() {
            return Ok(());
        }
        let scope = InstrumentationScope {
            name: "domstat".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope = ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() };
        let resource = ResourceMetrics {
            resource: Some(self.resource.clone()),
            scope_metrics: vec![scope],
            schema_url: String::new(),
        };
        (self.take)(ExportMetricsServiceRequest { resource_metrics: vec![resource] })
    }
}

fn nanos(stamp: Stamp) -> u64 {
    u64::try_from(stamp.0.as_nanos()).unwrap_or(u64::MAX)
}

fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

impl<E, F: FnMut(ExportMetricsServiceRequest) -> Result<(), E>> Sink for Builder<F> {
    type Error = E;

    fn point(&mut self, family: &'static Family, point: &Point<'_>) -> Result<(), E> {
        if self.last != Some(family.name) {
            self.last = Some(family.name);
            self.metrics.push(Metric {
                name: name(family),
                description: family.help.to_owned(),
                unit: unit(family).to_owned(),
                metadata: Vec::new(),
                data: Some(data(family)),
            });
        }
        let mut attributes = Vec::new();
        if let Some(domain) = point.domain {
            attributes.push(attribute("domain", text(&domain.names.domain)));
            if let Some(uuid) = &domain.names.uuid {
                attributes.push(attribute("uuid", text(uuid)));
            }
            if let Some(part) = &domain.names.part {
                attributes.push(attribute("part", text(part)));
            }
        }
        attributes.extend(point.labels.iter().map(|(key, label)| {
            let key = if family.kind == Kind::StateSet { "state" } else { key };
            attribute(key, label_value(*label))
        }));
        let is_total = matches!(family.kind, Kind::Counter | Kind::Histogram);
        let times = [if is_total { nanos(point.created) } else { 0 }, nanos(self.now)];
        let [start_time_unix_nano, time_unix_nano] = times;
        let number = |value| NumberDataPoint {
            attributes: attributes.clone(),
            start_time_unix_nano,
            time_unix_nano,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let data_point = match point.value {
            Value::Count(count) => {
                DataPoint::Number(number(Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX))))
            }
            Value::Nanos(ns) => {
                let seconds = Duration::from_nanos(ns).as_secs_f64();
                DataPoint::Number(number(Number::AsDouble(seconds)))
            }
            Value::Histogram(histogram) if family.unit == Unit::Seconds => {
                DataPoint::Exponential(exponential(&histogram, attributes, times))
            }
            Value::Histogram(histogram) => {
                DataPoint::Explicit(explicit(&histogram, family.unit, attributes, times))
            }
        };
        match (self.metrics.last_mut().and_then(|metric| metric.data.as_mut()), data_point) {
            (Some(Data::Sum(sum)), DataPoint::Number(point)) => sum.data_points.push(point),
            (Some(Data::Gauge(gauge)), DataPoint::Number(point)) => gauge.data_points.push(point),
            (Some(Data::ExponentialHistogram(to)), DataPoint::Exponential(point)) => {
                to.data_points.push(point);
            }
            (Some(Data::Histogram(to)), DataPoint::Explicit(point)) => to.data_points.push(point),
            _ => {}
        }
        self.points += 1;
        if self.points >= POINTS { self.flush() } else { Ok(()) }
    }
}

/// A point of any kind of metric.
enum DataPoint {
    Number(NumberDataPoint),
    Exponential(ExponentialHistogramDataPoint),
    Explicit(HistogramDataPoint),
}

/// A histogram of nanoseconds with bounds at the powers of 2, all of its buckets.
///
/// Index `i` at scale 0 is (2^i, 2^(i+1)], and bit length `i + 1` is [2^i, 2^(i+1) - 1]. They hold
/// the same values except for whole powers of 2, which are in the next higher index. A duration
/// that was cut to whole nanoseconds is hardly ever exactly that long.
fn exponential(
    histogram: &Histogram<'_>,
    attributes: Vec<KeyValue>,
    [start_time_unix_nano, time_unix_nano]: [u64; 2],
) -> ExponentialHistogramDataPoint {
    let (zero, counts) = histogram.buckets.split_first().unwrap_or((&0, &[]));
    let first = counts.iter().position(|n| *n > 0).unwrap_or(0);
    let end = counts.iter().rposition(|n| *n > 0).map_or(first, |last| last + 1);
    let positive = Buckets {
        offset: i32::try_from(first).unwrap_or(0),
        bucket_counts: counts.get(first..end).unwrap_or_default().to_vec(),
    };
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count: histogram.count(),
        sum: histogram.sum.map(float),
        scale: 0,
        zero_count: *zero,
        positive: Some(positive),
        max: histogram.max.map(float),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// A histogram with bounds of its own: the largest values of its buckets, which are exact also for
/// the powers of 2 that sizes usually are.
fn explicit(
    histogram: &Histogram<'_>,
    unit: Unit,
    attributes: Vec<KeyValue>,
    [start_time_unix_nano, time_unix_nano]: [u64; 2],
) -> HistogramDataPoint {
    let count = histogram.count();
    let ends = || Bounds::All.buckets(unit, histogram.buckets.len());
    let mut below = 0;
    let mut bucket_counts: Vec<u64> = ends()
        .map(|bucket| {
            let up_to = histogram.up_to(bucket);
            up_to.saturating_sub(std::mem::replace(&mut below, up_to))
        })
        .collect();
    bucket_counts.push(count.saturating_sub(below));
    HistogramDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count,
        sum: histogram.sum.map(float),
        bucket_counts,
        explicit_bounds: ends().map(|bucket| float(bound(bucket))).collect(),
        max: histogram.max.map(float),
        ..HistogramDataPoint::default()
    }
}

/// The format has no whole numbers here.
#[allow(clippy::cast_precision_loss, reason = "53 bits are enough for what is shown")]
const fn float(number: u64) -> f64 {
    number as f64
}

fn label_value(label: Label<'_>) -> Any {
    match label {
        Label::Text(value) => text(value),
        Label::Number(number) => Any::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
        Label::Hex(number) => Any::StringValue(format!("{number:016x}")),
        Label::Group(group) => Any::StringValue(format!("{}.{}", group.record.name(), group.name)),
    }
}

fn data(family: &Family) -> Data {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    match (family.kind, family.unit) {
        (Kind::Counter, _) => {
            Data::Sum(Sum { data_points: Vec::new(), aggregation_temporality, is_monotonic: true })
        }
        (Kind::Histogram, Unit::Seconds) => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: Vec::new(),
            aggregation_temporality,
        }),
        (Kind::Histogram, _) => {
            Data::Histogram(Histograms { data_points: Vec::new(), aggregation_temporality })
        }
        _ => Data::Gauge(Gauge { data_points: Vec::new() }),
    }
}

/// A collector of metrics.
#[derive(Clone, Debug)]
pub struct Collector {
    uri: Uri,
    /// The address without user and password, for messages.
    shown: String,
    token: Option<String>,
    agent: Agent,
}

impl Collector {
    /// A collector at `address`, for example `http://127.0.0.1:4318/v1/metrics`. User and password
    /// in the address become basic authentication. Certificates for `https` are those that the
    /// system trusts.
    ///
    /// # Errors
    /// [`PushError::Address`].
    pub fn new(address: &str) -> Result<Self, PushError> {
        let bad = || PushError::Address(without_user(address));
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_known || uri.host().is_none_or(str::is_empty) {
            return Err(bad());
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // Points and token go to the named collector and to no other.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .build()
            .into();
        Ok(Self { shown: without_user(address), uri, token: None, agent })
    }

    /// Sends a bearer token with every request.
    ///
    /// # Errors
    /// [`PushError::InClear`] if the network would see it: the collector is another host and its
    /// address is not `https`.
    pub fn with_token(self, token: String) -> Result<Self, PushError> {
        if self.is_in_clear() {
            return Err(PushError::InClear(self.shown));
        }
        Ok(self.with_token_in_clear(token))
    }

    /// As [`with_token`](Self::with_token), also where the network sees the token.
    #[must_use]
    pub fn with_token_in_clear(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Whether requests leave this host unencrypted.
    fn is_in_clear(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.uri.scheme_str() != Some("https") && !is_loopback
    }

    /// Pushes every point of `scrape` in one or more requests.
    ///
    /// # Errors
    /// [`PushError`]; the collector has accepted the requests before the failed one.
    pub fn push(&self, scrape: &Scrape, resource: &[(&str, &str)]) -> Result<(), PushError> {
        let now = Stamp::from(std::time::SystemTime::now());
        requests(scrape, now, resource, |request| self.send(&request.encode_to_vec()))
    }

    fn send(&self, body: &[u8]) -> Result<(), PushError> {
        let request = self.agent.post(&self.uri).content_type("application/x-protobuf");
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let mut response = request.send(body).map_err(|error| PushError::Transport {
            to: self.shown.clone(),
            why: error.to_string(),
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // The start of the body is enough for a message.
        let mut text = Vec::new();
        let _ = response.body_mut().as_reader().take(ANSWER).read_to_end(&mut text);
        let body = String::from_utf8_lossy(&text).into_owned();
        Err(PushError::Refused { to: self.shown.clone(), status: status.as_u16(), body })
    }
}

/// An address without its user and password.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(values: &[u64], nr: usize) -> Vec<u64> {
        let mut buckets = vec![0; nr];
        for value in values {
            let length = (u64::BITS - value.leading_zeros()) as usize;
            buckets[length.min(nr - 1)] += 1;
        }
        buckets
    }

    proptest! {
        #[test]
        fn an_exponential_histogram_counts_each_value_once(
            values in proptest::collection::vec(0u64..1 << 38, 0..100)
        ) {
            let buckets = buckets(&values, 40);
            let histogram = Histogram { buckets: &buckets, sum: Some(1), max: None };
            let point = exponential(&histogram, Vec::new(), [1, 2]);
            prop_assert_eq!(point.count, values.len() as u64);
            let of = |wanted: &dyn Fn(u64) -> bool| values.iter().filter(|v| wanted(**v)).count();
            prop_assert_eq!(point.zero_count, of(&|v| v == 0) as u64);
            let positive = point.positive.unwrap();
            // As documented: [2^i, 2^(i+1)), where the format has (2^i, 2^(i+1)].
            for (i, count) in (positive.offset..).zip(&positive.bucket_counts) {
                let naive = of(&|v| (1 << i..2 << i).contains(&v));
                prop_assert_eq!(*count, naive as u64, "{}", i);
            }
            let counted: u64 = positive.bucket_counts.iter().sum();
            prop_assert_eq!(counted + point.zero_count, point.count, "none is outside");
        }

        #[test]
        fn explicit_bounds_are_those_of_the_format(
            values in proptest::collection::vec(
                prop_oneof![0u64..1 << 33, (0u32..31).prop_map(|bit| 1u64 << bit)], 0..100
            )
        ) {
            let buckets = buckets(&values, 32);
            let histogram = Histogram { buckets: &buckets, sum: None, max: Some(3) };
            let point = explicit(&histogram, Unit::Bytes, Vec::new(), [1, 2]);
            prop_assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
            prop_assert_eq!(point.bucket_counts.iter().sum::<u64>(), values.len() as u64);
            let mut below = -1.0;
            for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
                // The format: greater than the bound before, not greater than this one.
                let is_in = |v: &&u64| float(**v) > below && float(**v) <= *bound;
                prop_assert_eq!(*count, values.iter().filter(is_in).count() as u64, "{}", bound);
                below = *bound;
            }
            prop_assert_eq!((point.sum, point.max), (None, Some(3.0)));
        }
    }
}
