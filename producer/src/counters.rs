//! Counters of a device that several threads serve and one thread publishes.
//!
//! Each word of what is published is of one moment, and a group's words may be of moments that are a few
//! requests apart. Where that matters, or where the threads' contention for one cache line does, each
//! thread writes an exact share of its own instead ([`crate::BlkQueueWriter`]).

use std::sync::atomic::{AtomicU64, Ordering};

use domstat_layout::latest::{BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkQueue, NetIo};
use domstat_layout::sink::{BlkSink, NetSink};
use domstat_layout::{Group, Ns, Word};

use crate::BlkOp;

/// A number that any thread adds to.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, n: u64) {
        // ORDERING: relaxed; each counter stands for itself.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        // ORDERING: relaxed; as above.
        self.0.load(Ordering::Relaxed)
    }

    fn word(&self) -> Word {
        Word::from(self.value())
    }
}

/// Requests of one kind.
#[derive(Debug, Default)]
struct Op {
    requests: Counter,
    bytes: Counter,
    total_ns: Counter,
    failed: Counter,
}

/// A block device's requests, counted by all threads that serve its queues.
///
/// ```
/// use std::sync::Arc;
///
/// use domstat_layout::{Clock, Ns};
/// use domstat_producer::{BlkCounters, BlkOp, RegionBuilder};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut created = RegionBuilder::new("web1").blks(1).clock(Clock::Monotonic).create_memfd()?;
/// let disk = Arc::new(BlkCounters::default());
/// // In each queue's thread.
/// let of_queue = Arc::clone(&disk);
/// of_queue.submit();
/// of_queue.complete(BlkOp::Read, 4096, 90_000);
/// // In one thread, several times a second; `Sampler::blk` does it.
/// disk.publish(&mut created.blks[0], Ns(1_000));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct BlkCounters {
    submitted: Counter,
    ended: AtomicU64,
    rd: Op,
    wr: Op,
    flush: Op,
    dis: Op,
}

impl BlkCounters {
    /// A request is accepted. Each ends by [`BlkCounters::complete`] or [`BlkCounters::fail`].
    #[inline]
    pub fn submit(&self) {
        self.submitted.add(1);
    }

    /// A request was completed: it took `took_ns`, and `bytes` were read, written or discarded.
    #[inline]
    pub fn complete(&self, op: BlkOp, bytes: u64, took_ns: u64) {
        let op = self.op(op);
        op.requests.add(1);
        op.bytes.add(bytes);
        op.total_ns.add(took_ns);
        self.end();
    }

    /// A request reached the storage and failed: it is an error, and in no other number.
    pub fn fail(&self, op: BlkOp) {
        self.op(op).failed.add(1);
        self.end();
    }

    const fn op(&self, op: BlkOp) -> &Op {
        match op {
            BlkOp::Read => &self.rd,
            BlkOp::Write => &self.wr,
            BlkOp::Flush => &self.flush,
            BlkOp::Discard => &self.dis,
        }
    }

    #[inline]
    fn end(&self) {
        // ORDERING: release, pairs with the acquire in `publish`: who sees a request end sees it submitted.
        self.ended.fetch_add(1, Ordering::Release);
    }

    /// Publishes the counters as of `now`: `io`, `io_times`, `queue`, `discards` and `failures`. How long the
    /// device was busy is not produced.
    pub fn publish(&self, device: &mut impl BlkSink, now: Ns) {
        // ORDERING: acquire, pairs with the release in `end`; before `submitted` is loaded, so that no more
        // requests have ended than were submitted.
        let ended = self.ended.load(Ordering::Acquire);
        let submitted = self.submitted.value();
        let Self { rd, wr, flush, dis, .. } = self;
        let failed = [rd, wr, flush, dis].map(|op| op.failed.value());
        device.write(
            &BlkIo {
                rd_req: rd.requests.word(),
                rd_bytes: rd.bytes.word(),
                wr_req: wr.requests.word(),
                wr_bytes: wr.bytes.word(),
                errs: failed.iter().sum::<u64>().into(),
                in_flight: submitted.saturating_sub(ended).into(),
            },
            now,
        );
        device.write(
            &BlkIoTimes {
                rd_total_ns: rd.total_ns.word(),
                wr_total_ns: wr.total_ns.word(),
                flush_req: flush.requests.word(),
                flush_total_ns: flush.total_ns.word(),
            },
            now,
        );
        device.write(
            &BlkQueue {
                submitted: submitted.into(),
                completed: ended.into(),
                ..BlkQueue::NOT_PRODUCED
            },
            now,
        );
        device.write(
            &BlkDiscards {
                dis_req: dis.requests.word(),
                dis_bytes: dis.bytes.word(),
                dis_total_ns: dis.total_ns.word(),
                ..BlkDiscards::NOT_PRODUCED
            },
            now,
        );
        let [rd_failed, wr_failed, flush_failed, dis_failed] = failed.map(Word::from);
        device.write(
            &BlkFailures {
                rd_failed,
                wr_failed,
                flush_failed,
                dis_failed,
                ..BlkFailures::NOT_PRODUCED
            },
            now,
        );
    }
}

/// Packets of one direction.
#[derive(Debug, Default)]
struct Direction {
    bytes: Counter,
    packets: Counter,
    errs: Counter,
    drop: Counter,
}

/// A network interface's packets, counted by all threads that serve its queues.
#[derive(Debug, Default)]
pub struct NetCounters {
    rx: Direction,
    tx: Direction,
    counts_losses: bool,
}

/// Which way packets go, seen from the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetDirection {
    /// To the domain.
    Received,
    /// From the domain.
    Sent,
}

impl NetCounters {
    /// Counters of an interface whose errors and dropped packets are counted, too; with
    /// [`NetCounters::default`] they are not produced.
    #[must_use]
    pub fn with_losses() -> Self {
        Self { counts_losses: true, ..Self::default() }
    }

    const fn direction(&self, direction: NetDirection) -> &Direction {
        match direction {
            NetDirection::Received => &self.rx,
            NetDirection::Sent => &self.tx,
        }
    }

    /// Packets went through.
    #[inline]
    pub fn pass(&self, direction: NetDirection, packets: u64, bytes: u64) {
        let direction = self.direction(direction);
        direction.packets.add(packets);
        direction.bytes.add(bytes);
    }

    /// A packet could not be received or sent.
    pub fn fail(&self, direction: NetDirection) {
        self.direction(direction).errs.add(1);
    }

    /// A packet was dropped, for example for want of a buffer.
    pub fn drop_packet(&self, direction: NetDirection) {
        self.direction(direction).drop.add(1);
    }

    /// Publishes the counters as of `now`: the group `io`.
    pub fn publish(&self, interface: &mut impl NetSink, now: Ns) {
        let loss = |counter: &Counter| match self.counts_losses {
            true => counter.word(),
            false => Word::NOT_PRODUCED,
        };
        let Self { rx, tx, .. } = self;
        interface.write(
            &NetIo {
                rx_bytes: rx.bytes.word(),
                rx_packets: rx.packets.word(),
                rx_errs: loss(&rx.errs),
                rx_drop: loss(&rx.drop),
                tx_bytes: tx.bytes.word(),
                tx_packets: tx.packets.word(),
                tx_errs: loss(&tx.errs),
                tx_drop: loss(&tx.drop),
            },
            now,
        );
    }
}
