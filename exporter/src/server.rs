//! Metrics over HTTP.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::Exporter;

mod answer;
#[cfg(feature = "tls")]
mod tls;

use answer::Answers;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

/// How metrics are served.
#[derive(Debug)]
pub struct Options {
    /// Scrapes that may be under way at one time; each needs some kilobytes for each domain.
    pub max_scrapes: usize,
    /// How long a client may take to read its answer.
    pub timeout: Duration,
    /// Whether counters say when they began (`_created`).
    pub created: bool,
    /// What a client must send as `Authorization: Bearer`.
    pub token: Option<String>,
    /// Certificate and key.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_scrapes: 4,
            timeout: Duration::from_secs(10),
            created: true,
            token: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// Connections at one time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// A request's head is no longer than this.
const MAX_HEAD: usize = 16 << 10;
/// How long a connection may stay without a request, and a request without its end.
const IDLE: Duration = Duration::from_secs(120);

/// Serves the exporter's domains on `listener` until `stop` is told or dropped.
///
/// # Errors
/// If the listener or the runtime cannot be used.
pub fn serve(
    exporter: Exporter,
    listener: TcpListener,
    options: Options,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(options.max_scrapes.max(1))
        .thread_keep_alive(IDLE)
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            result = accept(exporter, listener, options) => result,
            _ = stop => Ok(()),
        }
    })?;
    // Scrapes that are under way are not waited for: a client may never read on.
    runtime.shutdown_background();
    Ok(())
}

async fn accept(
    exporter: Exporter,
    listener: tokio::net::TcpListener,
    options: Options,
) -> io::Result<()> {
    #[cfg(feature = "tls")]
    let acceptor = options.tls.as_ref().map(Tls::acceptor);
    let answers = Arc::new(Answers::new(exporter, options));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client's fault, or a lack of descriptors that passes.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let answers = Arc::clone(&answers);
        #[cfg(feature = "tls")]
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            #[cfg(feature = "tls")]
            if let Some(acceptor) = acceptor {
                let handshake = tokio::time::timeout(IDLE, acceptor.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    connection(stream, answers).await;
                }
                drop(permit);
                return;
            }
            connection(stream, answers).await;
            drop(permit);
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, answers: Arc<Answers>) {
    // Told when a client does not read its answer: then nothing but the connection's end helps.
    let given_up = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let answer = answers.answer(&request, &given_up);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = given_up.notified() => {}
    }
}
