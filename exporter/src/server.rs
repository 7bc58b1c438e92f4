//! HTTP server of the metrics.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::Exporter;

mod handler;
#[cfg(feature = "tls")]
mod tls;

use handler::Handler;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};

/// Options of the server.
#[derive(Debug)]
pub struct Options {
    /// Concurrent scrapes; each needs some kilobytes per domain.
    pub max_scrapes: usize,
    /// Time for a client to read its answer.
    pub timeout: Duration,
    /// Whether counters have a start time (`_created`).
    pub created: bool,
    /// Bearer token that clients must send.
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

/// Concurrent connections; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// Largest head of a request in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Time for a connection without a request, and for a request without an end.
const IDLE: Duration = Duration::from_secs(120);

/// Serves the exporter's domains on `listener` until `stop` is sent or dropped.
///
/// # Errors
/// The listener or the runtime cannot be used.
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
    // Not waiting for scrapes in progress: a client may never read its answer.
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
    let handler = Arc::new(Handler::new(exporter, options));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // An error of the client, or a temporary lack of descriptors.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let handler = Arc::clone(&handler);
        #[cfg(feature = "tls")]
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            #[cfg(feature = "tls")]
            if let Some(acceptor) = acceptor {
                let handshake = tokio::time::timeout(IDLE, acceptor.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    connection(stream, handler).await;
                }
                drop(permit);
                return;
            }
            connection(stream, handler).await;
            drop(permit);
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, handler: Arc<Handler>) {
    // Notified when a client does not read its answer: only closing the connection ends that.
    let abandoned = Arc::new(Notify::new());
    let service = service_fn(|request| {
        let response = handler.answer(&request, &abandoned);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = abandoned.notified() => {}
    }
}
