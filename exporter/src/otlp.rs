//! OTLP/HTTP client: pushes points to an OpenTelemetry collector.
//!
//! The messages are built here and not by OpenTelemetry's SDK. The SDK has one start time for all
//! series of an instrument, while each domain and slot has its own, and it merges the series beyond
//! a limit.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use crate::family::{Family, Kind, Unit};
use crate::label::Label;
use crate::points::{Point, Sink, Value, walk};
use crate::scrape::{Scrape, Stamp};

/// Points of one request, some hundred kilobytes.
const POINTS: usize = 5000;

/// Failure to push points.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The address is not one that points can be pushed to.
    #[error(
        "{0} is not http://HOST:PORT/PATH: a collector takes metrics at http://127.0.0.1:4318/v1/metrics"
    )]
    Address(String),
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

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "1",
        Unit::Seconds => "s",
        Unit::Bytes => "By",
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
                unit: unit(family.unit).to_owned(),
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
        }
        attributes.extend(point.labels.iter().map(|(key, label)| {
            let key = if family.kind == Kind::StateSet { "state" } else { key };
            attribute(key, label_value(*label))
        }));
        let value = match point.value {
            Value::Count(count) => Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX)),
            Value::Nanos(ns) => Number::AsDouble(Duration::from_nanos(ns).as_secs_f64()),
        };
        let counter = family.kind == Kind::Counter;
        let data_point = NumberDataPoint {
            attributes,
            start_time_unix_nano: if counter { nanos(point.created) } else { 0 },
            time_unix_nano: nanos(self.now),
            value: Some(value),
            ..NumberDataPoint::default()
        };
        match self.metrics.last_mut().and_then(|metric| metric.data.as_mut()) {
            Some(Data::Sum(sum)) => sum.data_points.push(data_point),
            Some(Data::Gauge(gauge)) => gauge.data_points.push(data_point),
            _ => {}
        }
        self.points += 1;
        if self.points >= POINTS { self.flush() } else { Ok(()) }
    }
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
    if family.kind == Kind::Counter {
        Data::Sum(Sum {
            data_points: Vec::new(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        })
    } else {
        Data::Gauge(Gauge { data_points: Vec::new() })
    }
}

/// A collector of metrics.
#[derive(Clone, Debug)]
pub struct Collector {
    uri: Uri,
    host: String,
    token: Option<String>,
    timeout: Duration,
}

impl Collector {
    /// A collector at `address`, for example `http://127.0.0.1:4318/v1/metrics`, with the bearer
    /// token that it expects.
    ///
    /// # Errors
    /// [`PushError::Address`].
    pub fn new(address: &str, token: Option<String>) -> Result<Self, PushError> {
        let bad = || PushError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let plain = uri.scheme_str() == Some("http");
        let host = uri.authority().filter(|_| plain).ok_or_else(bad)?.to_string();
        Ok(Self { uri, host, token, timeout: Duration::from_secs(10) })
    }

    /// Pushes every point of `scrape` in one or more requests.
    ///
    /// # Errors
    /// [`PushError`]; the collector has accepted the requests before the failed one.
    pub fn push(&self, scrape: &Scrape, resource: &[(&str, &str)]) -> Result<(), PushError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| self.transport(e))?;
        let now = Stamp::from(std::time::SystemTime::now());
        requests(scrape, now, resource, |request| {
            let sent = self.send(request.encode_to_vec());
            let limited = async { tokio::time::timeout(self.timeout, sent).await };
            runtime.block_on(limited).map_err(|e| self.transport(e))?
        })
    }

    fn transport(&self, why: impl std::fmt::Display) -> PushError {
        PushError::Transport { to: self.uri.to_string(), why: why.to_string() }
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), PushError> {
        let port = self.uri.port_u16().unwrap_or(80);
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(|e| self.transport(e))?.collect();
        let stream = tokio::net::TcpStream::connect(addresses.as_slice()).await;
        let stream = TokioIo::new(stream.map_err(|e| self.transport(e))?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(|e| self.transport(e))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.path())
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/x-protobuf");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| self.transport(e))?;
        let answered = async {
            let response = sender.send_request(request).await.map_err(|e| self.transport(e))?;
            let status = response.status();
            // The start of the body is enough for a message.
            let body = Limited::new(response.into_body(), 4096).collect().await;
            if status.is_success() {
                return Ok(());
            }
            let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned());
            let (to, body) = (self.uri.to_string(), body.unwrap_or_default());
            Err(PushError::Refused { to, status: status.as_u16(), body })
        };
        tokio::pin!(answered);
        tokio::select! {
            answer = &mut answered => answer,
            // The collector may close right after its answer, which is available then.
            ended = connection => match ended {
                Ok(()) => answered.await,
                Err(e) => Err(self.transport(e)),
            },
        }
    }
}
