//! Request handler.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{Channel, Either, Full};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::Options;
use crate::Exporter;
use crate::openmetrics::{self, Format};

pub(super) type Body = Either<Full<Bytes>, Channel<Bytes, Unread>>;

const ABOUT: &str = "<!doctype html><title>domstat</title><h1>domstat</h1>\
<p>Statistics of virtual machines: <a href=\"/metrics\">/metrics</a>\n";

/// Pieces of text queued between the writing thread and the client.
const AHEAD: usize = 4;

/// Handler of all requests.
pub(super) struct Handler {
    exporter: Arc<Exporter>,
    scrapes: Arc<Semaphore>,
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
            scrapes: Arc::new(Semaphore::new(options.max_scrapes.max(1))),
            timeout: options.timeout,
            created: options.created,
            token: options.token,
        }
    }

    pub(super) fn answer<B>(
        &self,
        request: &Request<B>,
        abandoned: &Arc<Notify>,
    ) -> Response<Body> {
        if !self.is_permitted(request) {
            let head = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return plain(StatusCode::UNAUTHORIZED, "a bearer token is required\n", Some(head));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let head = (ALLOW, HeaderValue::from_static("GET, HEAD"));
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n", Some(head));
        }
        match request.uri().path() {
            "/metrics" => self.metrics(request, abandoned),
            "/" => {
                let head = (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
                plain(StatusCode::OK, ABOUT, Some(head))
            }
            "/-/healthy" => plain(StatusCode::OK, "healthy\n", None),
            _ => plain(StatusCode::NOT_FOUND, "there is only /metrics\n", None),
        }
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

    fn metrics<B>(&self, request: &Request<B>, abandoned: &Arc<Notify>) -> Response<Body> {
        let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::accepted(accept.unwrap_or(""));
        let head = (CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        if request.method() == Method::HEAD {
            return plain(StatusCode::OK, "", Some(head));
        }
        let Ok(permit) = Arc::clone(&self.scrapes).try_acquire_owned() else {
            self.exporter.refuse();
            let head = (RETRY_AFTER, HeaderValue::from_static("1"));
            let what = "too many scrapes are in progress\n";
            return plain(StatusCode::SERVICE_UNAVAILABLE, what, Some(head));
        };
        let (mut pieces, body) = Channel::new(AHEAD);
        let (exporter, created) = (Arc::clone(&self.exporter), self.created);
        let (abandoned, runtime) = (Arc::clone(abandoned), Handle::current());
        let deadline = tokio::time::Instant::now() + self.timeout;
        tokio::task::spawn_blocking(move || {
            let scrape = exporter.pass();
            let send = |piece| {
                let sending = pieces.send_data(Bytes::from(piece));
                let sent = async { tokio::time::timeout_at(deadline, sending).await };
                runtime.block_on(sent).map_err(|_| Unread)?.map_err(|_| Unread)
            };
            let written = openmetrics::write(&scrape, format, created, send);
            exporter.give_back(scrape);
            drop(permit);
            // Closes the connection, so that no client takes a part for the whole.
            if let Err(unread) = written {
                abandoned.notify_one();
                pieces.abort(unread);
            }
        });
        respond(StatusCode::OK, Either::Right(body), Some(head))
    }
}

/// Compares in constant time.
fn same(sent: &[u8], token: &[u8]) -> bool {
    let differ = sent.iter().zip(token).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0 && sent.len() == token.len()
}

fn plain(
    status: StatusCode,
    text: &'static str,
    head: Option<(HeaderName, HeaderValue)>,
) -> Response<Body> {
    respond(status, Either::Left(Full::new(Bytes::from_static(text.as_bytes()))), head)
}

fn respond(
    status: StatusCode,
    body: Body,
    head: Option<(HeaderName, HeaderValue)>,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some((name, value)) = head {
        response.headers_mut().insert(name, value);
    }
    response
}
