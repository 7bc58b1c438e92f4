//! Request handler.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{Channel, Either, Full};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Handle;

use super::Options;
use super::connections::Connection;
use super::shared::Shared;
use super::slots::{Slot, Slots};
use crate::Exporter;
use crate::openmetrics::{self, Format};

/// Body of an answer. Its connection counts as being answered until all of it has been sent.
pub(super) struct Body {
    data: Either<Full<Bytes>, Channel<Bytes, Unread>>,
    connection: Arc<Connection>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.connection.end();
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.data).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.data.size_hint()
    }
}

/// Answer to a path that is not served.
const NOT_FOUND: &str = "not found; there are / (about), /metrics and /-/healthy\n";

/// Pieces of text queued between the writing thread and the client.
const AHEAD: usize = 4;

/// Handler of all requests.
pub(super) struct Handler {
    exporter: Arc<Exporter>,
    slots: Arc<Slots>,
    shared: Arc<Shared>,
    timeout: Duration,
    created: bool,
    token: Option<String>,
}

/// The client reads no more pieces.
#[derive(Debug, thiserror::Error)]
#[error("the client closed the connection or does not read")]
pub(super) struct Unread;

impl Handler {
    pub(super) fn new(exporter: Exporter, options: Options) -> Self {
        Self {
            exporter: Arc::new(exporter),
            slots: Slots::new(options.max_scrapes),
            shared: Arc::default(),
            timeout: options.timeout,
            created: options.created,
            token: options.token,
        }
    }

    /// Answers one request of a connection.
    pub(super) async fn answer<B>(
        &self,
        request: &Request<B>,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let permitted = self.is_permitted(request);
        connection.begin(permitted);
        let (method, path) = (request.method(), request.uri().path());
        if permitted && method == Method::GET && path == "/metrics" {
            let address = connection.address();
            if let Some(slot) = self.slots.try_take(address) {
                return self.scrape(request, slot, connection);
            }
            // A crowd is served without work for each of it.
            if let Some(text) = self.shared.fresh(accepted(request)) {
                let head = Some(content_type(request));
                return respond(StatusCode::OK, Either::Left(Full::new(text)), head, connection);
            }
            if let Some(slot) = self.slots.take(address).await {
                return self.scrape(request, slot, connection);
            }
        }
        let plain = |status, text: Bytes, head| {
            respond(status, Either::Left(Full::new(text)), head, connection)
        };
        if !permitted {
            let head = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return plain(
                StatusCode::UNAUTHORIZED,
                "a bearer token is required\n".into(),
                Some(head),
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let head = (ALLOW, HeaderValue::from_static("GET, HEAD"));
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into(), Some(head));
        }
        match path {
            "/metrics" if method == Method::HEAD => {
                plain(StatusCode::OK, "".into(), Some(content_type(request)))
            }
            "/metrics" => {
                self.exporter.refuse();
                let head = (RETRY_AFTER, HeaderValue::from_static("1"));
                let text = "too many scrapes are in progress\n";
                plain(StatusCode::SERVICE_UNAVAILABLE, text.into(), Some(head))
            }
            "/" => {
                let head = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                plain(StatusCode::OK, self.about().into(), Some(head))
            }
            "/-/healthy" => plain(StatusCode::OK, "healthy\n".into(), None),
            _ => plain(StatusCode::NOT_FOUND, NOT_FOUND.into(), None),
        }
    }

    /// The page at `/`.
    fn about(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let domains = match self.exporter.nr_domains() {
            None => "No scrape yet.".to_owned(),
            Some(1) => "1 domain in the last scrape.".to_owned(),
            Some(n) => format!("{n} domains in the last scrape."),
        };
        format!(
            "<!doctype html><meta charset=utf-8><title>domstat</title><h1>domstat {version}</h1>\n\
             <p>Statistics of the virtual machines of this host. {domains}\n\
             <ul><li><a href=/metrics>/metrics</a>: OpenMetrics, for Prometheus\n\
             <li><a href=/-/healthy>/-/healthy</a>: whether the exporter answers</ul>\n\
             <p>Help: <code>domstat export --help</code>, <code>man domstat-export</code>; \
             docs/reference.md lists the metrics.\n"
        )
    }

    /// Whether the request carries the token, if one is required.
    fn is_permitted<B>(&self, request: &Request<B>) -> bool {
        let Some(token) = &self.token else { return true };
        let sent = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let sent = sent.and_then(|sent| {
            let (scheme, rest) = sent.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
        });
        sent.is_some_and(|sent| same(sent, token.as_bytes()))
    }

    /// Answers with the metrics, written by a thread of its own.
    fn scrape<B>(
        &self,
        request: &Request<B>,
        slot: Slot,
        connection: &Arc<Connection>,
    ) -> Response<Body> {
        let format = accepted(request);
        let (mut pieces, body) = Channel::new(AHEAD);
        let (exporter, created) = (Arc::clone(&self.exporter), self.created);
        let runtime = Handle::current();
        let deadline = tokio::time::Instant::now() + self.timeout;
        let (closing, shared) = (Arc::clone(connection), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            let mut draft = shared.begin(format);
            let scrape = exporter.pass();
            let send = |piece| {
                let piece = Bytes::from(piece);
                draft.push(&piece);
                let sending = pieces.send_data(piece);
                let sent = slot.wait(tokio::time::timeout_at(deadline, sending));
                match runtime.block_on(sent) {
                    Some(Ok(Ok(()))) => Ok(()),
                    _ => Err(Unread),
                }
            };
            let written = openmetrics::write(&scrape, format, created, send);
            exporter.give_back(scrape);
            drop(slot);
            match written {
                Ok(()) => draft.finish(),
                // Closes the connection, so that no client takes a part for the whole.
                Err(unread) => {
                    closing.close();
                    pieces.abort(unread);
                }
            }
        });
        let head = Some(content_type(request));
        respond(StatusCode::OK, Either::Right(body), head, connection)
    }
}

fn accepted<B>(request: &Request<B>) -> Format {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    Format::accepted(accept.unwrap_or(""))
}

fn content_type<B>(request: &Request<B>) -> (HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static(accepted(request).content_type()))
}

/// Compares in constant time.
fn same(sent: &[u8], token: &[u8]) -> bool {
    let differ = sent.iter().zip(token).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0 && sent.len() == token.len()
}

fn respond(
    status: StatusCode,
    data: Either<Full<Bytes>, Channel<Bytes, Unread>>,
    head: Option<(HeaderName, HeaderValue)>,
    connection: &Arc<Connection>,
) -> Response<Body> {
    let mut response = Response::new(Body { data, connection: Arc::clone(connection) });
    *response.status_mut() = status;
    if let Some((name, value)) = head {
        response.headers_mut().insert(name, value);
    }
    response
}
