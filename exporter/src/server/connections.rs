//! Table of the open connections: deadlines, limits and eviction.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::slots::SLOW;

/// Time for a TLS handshake together with the head of the first request, and for the head of any
/// further request from its first byte on. A client that wants an answer sends these at once.
pub(super) const HEAD: Duration = Duration::from_secs(5);
/// Time without a request after a permitted answer: longer than any usual scrape interval.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// Concurrent connections. Each needs a descriptor and some kilobytes.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// Concurrent connections of one address: one host does not use up all of them.
const MAX_OF_ADDRESS: usize = 32;
/// Longest time between two looks at a connection's deadline.
const LOOK: Duration = Duration::from_millis(500);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Receiving a request's head, or the TLS handshake before it.
    Head,
    /// A request is being answered.
    Answering,
    /// The answer is complete, and the kernel has not taken all of it yet.
    Sending,
    /// No request since the last permitted answer.
    Idle,
}

/// One connection.
pub(super) struct Connection {
    address: IpAddr,
    activity: Mutex<Activity>,
    close: Notify,
}

#[derive(Clone, Copy)]
struct Activity {
    stage: Stage,
    since: Instant,
    /// Since when the client has not taken any more bytes.
    blocked: Option<Instant>,
    /// Whether a request of this connection was permitted.
    permitted: bool,
}

impl Connection {
    fn new(address: IpAddr) -> Self {
        let since = Instant::now();
        let activity = Activity { stage: Stage::Head, since, blocked: None, permitted: false };
        Self { address, activity: Mutex::new(activity), close: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Activity> {
        lock(&self.activity)
    }

    fn enter(&self, stage: Stage) {
        let mut activity = self.lock();
        (activity.stage, activity.since) = (stage, Instant::now());
    }

    /// The address that it counts for.
    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }

    /// A head has arrived, and is permitted or not.
    pub(super) fn begin(&self, permitted: bool) {
        self.enter(Stage::Answering);
        self.lock().permitted |= permitted;
    }

    /// The answer is complete.
    pub(super) fn end(&self) {
        self.enter(Stage::Sending);
    }

    /// All that was written is with the kernel. Without a permitted answer the connection stays no
    /// longer than a new one.
    fn flushed(&self) {
        let Activity { stage, permitted, .. } = *self.lock();
        if stage == Stage::Sending {
            self.enter(if permitted { Stage::Idle } else { Stage::Head });
        }
    }

    /// The place in the order of eviction, lower ones first; `None` for a connection whose answer
    /// has begun and is being read.
    fn eviction_rank(&self) -> Option<(u8, Instant)> {
        let Activity { stage, since, blocked, permitted } = *self.lock();
        match (stage, blocked) {
            (Stage::Head | Stage::Idle, _) if !permitted => Some((0, since)),
            (_, Some(blocked)) if blocked.elapsed() >= SLOW => Some((1, blocked)),
            (Stage::Head | Stage::Idle, _) => Some((2, since)),
            (Stage::Answering | Stage::Sending, _) => None,
        }
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Returns when the connection must end: at a deadline, or when it is closed or evicted.
    /// `reading` is the time for a client that takes no bytes.
    pub(super) async fn over(&self, reading: Duration) {
        loop {
            let Activity { stage, since, blocked, .. } = *self.lock();
            let now = Instant::now();
            let end = match stage {
                Stage::Head => since + HEAD,
                Stage::Idle => since + IDLE,
                Stage::Answering => now + LOOK,
                Stage::Sending => since + reading,
            };
            let end = blocked.map_or(end, |blocked| end.min(blocked + reading));
            if end <= now {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(end.min(now + LOOK)) => {}
                () = self.close.notified() => return,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All open connections.
pub(super) struct Connections {
    open: Mutex<Open>,
    limit: usize,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

/// The place of a connection in the table, freed on drop.
pub(super) struct Admitted {
    table: Arc<Connections>,
    id: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        lock(&self.table.open).connections.remove(&self.id);
    }
}

impl Connections {
    /// A table of at most `limit` connections, and [`MAX_CONNECTIONS`].
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let limit = limit.clamp(1, MAX_CONNECTIONS);
        Arc::new(Self { open: Mutex::default(), limit })
    }

    /// Admits a connection from `address`. If there are too many, the one that has been idle for
    /// the longest is closed, first of those without a permitted request, then one whose client
    /// does not read its answer. `None` if all of them are being answered.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Admitted> {
        let address = network(address);
        let mut open = lock(&self.open);
        let of_address = open.connections.values().filter(|c| c.address == address).count();
        let crowded = of_address >= MAX_OF_ADDRESS.min(self.limit);
        if crowded || open.connections.len() >= self.limit {
            evict(&mut open, |connection| !crowded || connection.address == address)?;
        }
        let id = open.next;
        open.next += 1;
        let connection = Arc::new(Connection::new(address));
        open.connections.insert(id, Arc::clone(&connection));
        Some(Admitted { table: Arc::clone(self), id, connection })
    }

    /// Number of open connections.
    pub(super) fn len(&self) -> usize {
        lock(&self.open).connections.len()
    }

    /// Closes the connection that has been idle for the longest, if there is one.
    pub(super) fn evict(&self) -> Option<()> {
        evict(&mut lock(&self.open), |_| true)
    }
}

fn evict(open: &mut Open, candidate: impl Fn(&Connection) -> bool) -> Option<()> {
    let idle = open.connections.iter().filter_map(|(id, connection)| {
        let rank = candidate(connection).then(|| connection.eviction_rank()).flatten()?;
        Some((rank, *id))
    });
    let (_, id) = idle.min()?;
    open.connections.remove(&id)?.close();
    Some(())
}

/// What counts as one address: an IPv6 host usually has a network of 64 bits for itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// A stream that reports to its connection what the client sends and takes.
pub(super) struct Observed<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn taken(&self, result: &Poll<io::Result<usize>>) {
        let mut activity = self.connection.lock();
        activity.blocked = match result {
            Poll::Pending => activity.blocked.or_else(|| Some(Instant::now())),
            Poll::Ready(_) => None,
        };
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buf);
        if buf.filled().len() > before && self.connection.lock().stage == Stage::Idle {
            self.connection.enter(Stage::Head);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taken(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.taken(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.connection.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn there(n: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 1, 2, 3, 4))
    }

    fn is_open(admitted: &Admitted) -> bool {
        lock(&admitted.table.open).connections.contains_key(&admitted.id)
    }

    /// The end of an answer that the client takes.
    fn end(admitted: &Admitted) {
        admitted.connection.end();
        admitted.connection.flushed();
    }

    #[test]
    fn the_longest_idle_is_closed_first_of_those_never_permitted() {
        let table = Connections::new(3);
        let [permitted, half_open, later] = [0, 1, 2].map(|n| table.admit(there(n)).unwrap());
        permitted.connection.begin(true);
        end(&permitted);
        let fourth = table.admit(there(3)).unwrap();
        assert!(is_open(&permitted) && !is_open(&half_open) && is_open(&later));
        later.connection.begin(true);
        fourth.connection.begin(true);
        let _fifth = table.admit(there(4)).unwrap();
        assert!(!is_open(&permitted), "it is the only one that is not being answered");
    }

    #[test]
    fn connections_that_are_being_answered_are_not_closed() {
        let table = Connections::new(2);
        let answered = [0, 1].map(|n| table.admit(there(n)).unwrap());
        answered.iter().for_each(|admitted| admitted.connection.begin(true));
        assert!(table.admit(there(2)).is_none());
        answered[0].connection.end();
        assert!(table.admit(there(2)).is_none(), "the client has not taken all of it");
        answered[0].connection.flushed();
        assert!(table.admit(there(2)).is_some());
        assert!(!is_open(&answered[0]) && is_open(&answered[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_makes_way() {
        let table = Connections::new(1);
        let unread = table.admit(there(0)).unwrap();
        unread.connection.begin(true);
        let stream = Observed::new((), Arc::clone(&unread.connection));
        stream.taken(&Poll::Pending);
        tokio::time::sleep(SLOW / 2).await;
        assert!(table.admit(there(1)).is_none(), "it may still be read");
        tokio::time::sleep(SLOW).await;
        assert!(table.admit(there(1)).is_some());
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let table = Connections::new(MAX_CONNECTIONS);
        let other = table.admit(there(0)).unwrap();
        let of_one: Vec<_> = (0..100).map(|_| table.admit(HERE).unwrap()).collect();
        assert_eq!(of_one.iter().filter(|a| is_open(a)).count(), MAX_OF_ADDRESS);
        assert!(is_open(&other));
        // Another interface of the same network is the same host.
        let a = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 9, 9, 9, 9));
        assert_eq!(network(a), network(there(0)));
        assert_ne!(network(there(1)), network(there(0)));
    }
}
