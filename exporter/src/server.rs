//! HTTP server of the metrics.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use crate::Exporter;

mod connections;
mod handler;
mod shared;
mod slots;
#[cfg(feature = "tls")]
mod tls;

use connections::{Admitted, Connections, IDLE, MAX_CONNECTIONS, Observed};
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

/// Largest head of a request in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Wait after a failed accept: an error of the client, or a temporary lack of resources.
const RETRY: Duration = Duration::from_millis(50);
/// Share of all descriptors that connections may use; the others are for regions and daemons.
const SHARE: u64 = 4;

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

/// Number of connections that leave most descriptors to regions and daemons.
fn max_connections() -> usize {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let share = descriptors.map_or(u64::MAX, |descriptors| descriptors / SHARE);
    usize::try_from(share).map_or(MAX_CONNECTIONS, |share| share.min(MAX_CONNECTIONS))
}

/// Descriptors held back for connections, so that many domains cannot use up all of them.
struct Reserve {
    held: Vec<File>,
    size: usize,
}

impl Reserve {
    fn new(size: usize) -> Self {
        let mut reserve = Self { held: Vec::new(), size };
        reserve.fill(0);
        reserve
    }

    /// Holds a descriptor for each connection that is not open. Falls short while there are none.
    fn fill(&mut self, open: usize) {
        let wanted = self.size.saturating_sub(open);
        self.held.truncate(wanted);
        while self.held.len() < wanted
            && let Ok(file) = File::open("/dev/null")
        {
            self.held.push(file);
        }
    }
}

async fn accept(
    exporter: Exporter,
    listener: tokio::net::TcpListener,
    options: Options,
) -> io::Result<()> {
    #[cfg(feature = "tls")]
    let acceptor = options.tls.as_ref().map(Tls::acceptor);
    let reading = options.timeout;
    let handler = Arc::new(Handler::new(exporter, options));
    let limit = max_connections();
    let connections = Connections::new(limit);
    let mut reserve = Reserve::new(limit);
    loop {
        // The descriptor of the next connection.
        reserve.fill(connections.len() + 1);
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                connections.evict();
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        // Closed at once if all others are being answered.
        let Some(admitted) = connections.admit(address.ip()) else { continue };
        let _ = stream.set_nodelay(true);
        let stream = Observed::new(stream, Arc::clone(&admitted.connection));
        let handler = Arc::clone(&handler);
        #[cfg(feature = "tls")]
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let over = Arc::clone(&admitted.connection);
            let served = async {
                #[cfg(feature = "tls")]
                if let Some(acceptor) = acceptor {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, &handler, &admitted).await;
                    }
                    return;
                }
                answer(stream, &handler, &admitted).await;
            };
            tokio::select! {
                // In this order, so that no answer begins on a connection that was closed.
                biased;
                () = over.over(reading) => {}
                () = served => {}
            }
        });
        // A head that has arrived is read before another connection can take its place.
        tokio::task::yield_now().await;
    }
}

/// Answers the requests of one connection.
async fn answer<S>(stream: S, handler: &Arc<Handler>, admitted: &Admitted)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| async move {
        Ok::<_, std::convert::Infallible>(handler.answer(&request, &admitted.connection).await)
    });
    // Deadlines are those of the table of connections.
    let _ = hyper::server::conn::http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
