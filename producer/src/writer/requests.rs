//! Tracker of a block device's requests.

use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{
    BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkQueue, BlkQueueOf, FlLatency, RdLatency,
    RdSize, WrLatency, WrSize,
};
use domstat_layout::requests::{RequestGroups, Requests};
use domstat_layout::share::{Share, Whole};
use domstat_layout::{Field, Group, Ns, RecordKind, Word};

use super::{BlkHistWriter, BlkQueueWriter, BlkWriter};
use crate::slots::sealed::Slot;
use crate::{Claim, SlotWriter};

pub use domstat_layout::requests::BlkOp;

/// A request in flight: [`RequestTracker::submit`] returns it, [`RequestTracker::complete`] and
/// [`RequestTracker::fail`] take it.
#[derive(Debug)]
#[must_use = "a request that is not completed stays in flight"]
pub struct Request {
    submitted: Ns,
    tenant: u32,
}

/// Records of a device that one thread serves.
pub struct BlkDevice {
    /// The device's own record.
    pub blk: BlkWriter,
    /// Its distributions, if the region has them.
    pub hist: Option<BlkHistWriter>,
}

/// Records that a [`RequestTracker`] writes: a [`BlkDevice`]'s, or a share's ([`BlkQueueWriter`]).
pub trait RequestRecords: sealed::Records {}
impl RequestRecords for BlkDevice {}
impl RequestRecords for BlkQueueWriter {}

mod sealed {
    use super::{Ns, RequestGroups, Whole};

    pub trait Records: RequestGroups {
        /// Publishes a group unless it is active already; returns whether it was.
        fn begin<G: Whole>(&mut self, group: G, now: Ns) -> bool;
    }
}
use sealed::Records;

impl Records for BlkDevice {
    fn begin<G: Whole>(&mut self, group: G, now: Ns) -> bool {
        match (G::DESC.record, &mut self.hist) {
            (RecordKind::Blk, _) => self.blk.0.begin(&group, now),
            (RecordKind::BlkHist, Some(hist)) => hist.0.begin(&group, now),
            _ => false,
        }
    }
}

impl RequestGroups for BlkDevice {
    #[inline]
    fn change<G: Whole, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        now: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    ) {
        match (G::DESC.record, &mut self.hist) {
            (RecordKind::Blk, _) => self.blk.0.change(fields, now, change),
            (RecordKind::BlkHist, Some(hist)) => hist.0.change(fields, now, change),
            _ => {}
        }
    }

    #[inline]
    fn record<G: Whole<Share: HistogramGroup> + HistogramGroup>(&mut self, value: u64, now: Ns) {
        if let Some(hist) = &mut self.hist {
            hist.0.record::<G>(value, now);
        }
    }
}

impl<R: RequestRecords + SlotWriter> RequestRecords for Claim<R> {}

/// Those of the writer in the slot.
impl<R: Records + SlotWriter> Records for Claim<R> {
    fn begin<G: Whole>(&mut self, group: G, now: Ns) -> bool {
        (**self).begin(group, now)
    }
}

impl<R: RequestGroups + SlotWriter> RequestGroups for Claim<R> {
    #[inline]
    fn change<G: Whole, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        now: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    ) {
        (**self).change(fields, now, change);
    }

    #[inline]
    fn record<G: Whole<Share: HistogramGroup> + HistogramGroup>(&mut self, value: u64, now: Ns) {
        (**self).record::<G>(value, now);
    }
}

impl Slot for BlkDevice {
    fn is_blank(&mut self) -> bool {
        self.blk.is_blank() && self.hist.as_mut().is_none_or(Slot::is_blank)
    }

    fn renew_all(&mut self) -> bool {
        // Both or neither: they have the same generation.
        if !self.blk.0.take_back_dropped() {
            return false;
        }
        self.hist.as_mut().is_none_or(BlkHistWriter::renew) && self.blk.renew()
    }

    fn clear(&mut self) {
        self.blk.clear();
        if let Some(hist) = &mut self.hist {
            hist.clear();
        }
    }
}

impl Records for BlkQueueWriter {
    fn begin<G: Whole>(&mut self, group: G, now: Ns) -> bool {
        self.0.begin(&G::Share::share(group), now)
    }
}

impl RequestGroups for BlkQueueWriter {
    #[inline]
    fn change<G: Whole, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        now: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    ) {
        self.0.change(fields.map(<G::Share as Share>::field), now, change);
    }

    #[inline]
    fn record<G: Whole<Share: HistogramGroup> + HistogramGroup>(&mut self, value: u64, now: Ns) {
        self.0.record::<G::Share>(value, now);
    }
}

/// A block device's requests, or those of one of its queues, followed from submission to completion.
///
/// Two calls for a request keep the groups `io`, `io_times`, `queue`, `discards` and `failures`, and
/// the distributions of latency and size: numbers, bytes, times, what is in flight, for how long
/// something was, and the integral of how much.
///
/// ```
/// use domstat_layout::latest::{BlkQueueOf, RdLatency};
/// use domstat_layout::{Clock, Ns, Word};
/// use domstat_producer::{BlkDevice, BlkOp, RegionBuilder, RequestTracker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = RegionBuilder::new("web1").clock(Clock::Monotonic);
/// let mut created = builder.blks(2).blk_histograms(true).blk_queues(1).create_memfd()?;
/// // Disk 0 is served by one thread.
/// let (blk, hist) = (created.blks.remove(0), Some(created.blk_hists.remove(0)));
/// let mut disk = RequestTracker::device(BlkDevice { blk, hist }, Ns(1_000));
/// let request = disk.submit(Ns(2_000));
/// disk.complete(request, BlkOp::Read, 4096, Ns(90_000));
///
/// // Disk 1 has a queue with a thread of its own, which writes its share.
/// let mut queue = RequestTracker::share(
///     created.blk_queues.remove(0),
///     &BlkQueueOf {
///         device: Word::new(1),
///         generation: Word::new(created.blks[0].generation().into()),
///         queue: Word::new(0),
///         pid: Word::NOT_PRODUCED,
///     },
///     Ns(1_000),
/// );
/// let request = queue.submit(Ns(3_000));
/// queue.fail(request, BlkOp::Write, Ns(4_000));
/// # Ok(())
/// # }
/// ```
///
/// # What counts
///
/// A request that failed was completed, is in `errs` and in `failures`, and in nothing else: neither
/// its bytes nor its time. Requests that were refused are for [`BlkWriter::set`]; they are not
/// produced here. Times that go back count as 0.
///
/// In a region that continues that of an earlier process, counters go on, and the requests that were
/// in flight then count as completed.
pub struct RequestTracker<R> {
    records: R,
    requests: Requests,
    /// Counts the tenants of the slot, so that a request of an earlier one does not count.
    tenant: u32,
}

/// No event, no byte, no time.
const ZERO: Word = Word::new(0);

impl RequestTracker<BlkDevice> {
    /// Follows the requests of a device from `now` on.
    #[must_use]
    pub fn device(device: BlkDevice, now: Ns) -> Self {
        let mut tracker = Self { records: device, requests: Requests::new(now), tenant: 0 };
        tracker.begin();
        tracker
    }

    /// Gives the slot to another device: every group starts over, with the next generation. Requests
    /// that are in flight no longer count.
    pub fn renew(&mut self, now: Ns) {
        self.records.blk.renew();
        if let Some(hist) = &mut self.records.hist {
            hist.renew();
        }
        self.requests = Requests::new(now);
        self.tenant = self.tenant.wrapping_add(1);
        self.begin();
    }
}

impl RequestTracker<Claim<BlkDevice>> {
    /// As [`RequestTracker::device`], in a slot that was claimed: dropping the tracker gives it back.
    #[must_use]
    pub fn claimed(claim: Claim<BlkDevice>, now: Ns) -> Self {
        let mut tracker = Self { records: claim, requests: Requests::new(now), tenant: 0 };
        tracker.begin();
        tracker
    }
}

impl RequestTracker<BlkQueueWriter> {
    /// Follows the requests of one queue from `now` on, as the device's share that `of` names.
    #[must_use]
    pub fn share(writer: BlkQueueWriter, of: &BlkQueueOf, now: Ns) -> Self {
        let mut tracker = Self { records: writer, requests: Requests::new(now), tenant: 0 };
        tracker.begin();
        // Last: from here on the share counts.
        tracker.records.write(of, now);
        tracker
    }
}

impl<R: RequestRecords> RequestTracker<R> {
    /// The records, for other groups that this thread writes.
    pub const fn records(&mut self) -> &mut R {
        &mut self.records
    }

    /// Ends following; requests in flight stay so.
    #[must_use]
    pub fn into_records(self) -> R {
        self.records
    }

    /// Requests in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.requests.in_flight()
    }

    /// Publishes every group that requests change: what did not happen yet is 0.
    fn begin(&mut self) {
        let (now, records) = (self.requests.as_of(), &mut self.records);
        let io = BlkIo {
            rd_req: ZERO,
            rd_bytes: ZERO,
            wr_req: ZERO,
            wr_bytes: ZERO,
            errs: ZERO,
            in_flight: ZERO,
        };
        if records.begin(io, now) {
            records.change([BlkIo::in_flight], now, |_| [ZERO]);
        }
        let queue = BlkQueue { busy_ns: ZERO, queued_ns: ZERO, submitted: ZERO, completed: ZERO };
        if records.begin(queue, now) {
            let ended = |[submitted, _]: [Word; 2]| [submitted, submitted];
            records.change([BlkQueue::submitted, BlkQueue::completed], now, ended);
        }
        records.begin(
            BlkIoTimes {
                rd_total_ns: ZERO,
                wr_total_ns: ZERO,
                flush_req: ZERO,
                flush_total_ns: ZERO,
            },
            now,
        );
        records.begin(
            BlkDiscards {
                dis_req: ZERO,
                dis_bytes: ZERO,
                dis_total_ns: ZERO,
                ..BlkDiscards::NOT_PRODUCED
            },
            now,
        );
        records.begin(
            BlkFailures {
                rd_failed: ZERO,
                wr_failed: ZERO,
                flush_failed: ZERO,
                dis_failed: ZERO,
                ..BlkFailures::NOT_PRODUCED
            },
            now,
        );
        records.begin(RdLatency::EMPTY, now);
        records.begin(WrLatency::EMPTY, now);
        records.begin(FlLatency::EMPTY, now);
        records.begin(RdSize::EMPTY, now);
        records.begin(WrSize::EMPTY, now);
    }

    /// A request is accepted.
    #[inline]
    pub fn submit(&mut self, now: Ns) -> Request {
        self.requests.submit(&mut self.records, now);
        Request { submitted: now, tenant: self.tenant }
    }

    /// A request was completed: `bytes` were read, written or discarded.
    #[inline]
    pub fn complete(&mut self, request: Request, op: BlkOp, bytes: u64, now: Ns) {
        if self.counts(&request) {
            self.requests.complete(&mut self.records, op, request.submitted, bytes, now);
        }
    }

    /// A request reached the storage and failed.
    pub fn fail(&mut self, request: Request, op: BlkOp, now: Ns) {
        if self.counts(&request) {
            self.requests.fail(&mut self.records, op, now);
        }
    }

    /// Whether a request is in flight; one of an earlier tenant no longer is.
    #[inline]
    const fn counts(&self, request: &Request) -> bool {
        self.requests.in_flight() > 0 && request.tenant == self.tenant
    }
}
