//! Arithmetic of a block device's requests: what each of them changes in the device's groups.

use crate::descriptor::Field;
use crate::histogram::HistogramGroup;
use crate::latest::{
    BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkQueue, FlLatency, RdLatency, RdSize, WrLatency,
    WrSize,
};
use crate::share::Whole;
use crate::value::{Ns, Word};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlkOp {
    /// Reads bytes.
    Read,
    /// Writes bytes.
    Write,
    /// Makes what was written durable.
    Flush,
    /// Gives bytes back.
    Discard,
}

/// The groups of a device, or of one of its queues, wherever they lie.
pub trait RequestGroups {
    /// Changes some fields of a group in one update.
    fn change<G: Whole, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        now: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    );
    /// Records a value in a distribution.
    fn record<G: Whole<Share: HistogramGroup> + HistogramGroup>(&mut self, value: u64, now: Ns);
}

/// One event.
const ONE: Word = Word::new(1);

/// Requests in flight, followed from submission to their end.
///
/// A request that failed or was refused was completed, is in `errs` and in `failures`, and in nothing
/// else: neither its bytes nor its time. Times that go back count as 0.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    in_flight: u64,
    as_of: Ns,
}

impl Requests {
    /// Nothing is in flight, from `now` on.
    #[must_use]
    pub const fn new(now: Ns) -> Self {
        Self { in_flight: 0, as_of: now }
    }

    /// How many are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The latest time that was given.
    #[must_use]
    pub const fn as_of(&self) -> Ns {
        self.as_of
    }

    /// A request is accepted.
    #[inline]
    pub fn submit(&mut self, groups: &mut impl RequestGroups, now: Ns) {
        self.count(groups, BlkQueue::submitted, self.in_flight.saturating_add(1), now);
        let in_flight = Word::new(self.in_flight);
        groups.change([BlkIo::in_flight], self.as_of, |_| [in_flight]);
    }

    /// A request was completed that was accepted at `submitted`: `bytes` were read, written or
    /// discarded.
    #[inline]
    pub fn complete(
        &mut self,
        groups: &mut impl RequestGroups,
        op: BlkOp,
        submitted: Ns,
        bytes: u64,
        now: Ns,
    ) {
        self.end(groups, now);
        let (now, took) = (self.as_of, now.since(submitted));
        let (nr_bytes, took_ns) = (Word::new(bytes), Word::new(took));
        let in_flight = Word::new(self.in_flight);
        let moved = |[req, sum, _]: [Word; 3]| [req.plus(ONE), sum.plus(nr_bytes), in_flight];
        match op {
            BlkOp::Read => {
                groups.change([BlkIo::rd_req, BlkIo::rd_bytes, BlkIo::in_flight], now, moved);
                groups.change([BlkIoTimes::rd_total_ns], now, |[ns]| [ns.plus(took_ns)]);
                groups.record::<RdLatency>(took, now);
                groups.record::<RdSize>(bytes, now);
            }
            BlkOp::Write => {
                groups.change([BlkIo::wr_req, BlkIo::wr_bytes, BlkIo::in_flight], now, moved);
                groups.change([BlkIoTimes::wr_total_ns], now, |[ns]| [ns.plus(took_ns)]);
                groups.record::<WrLatency>(took, now);
                groups.record::<WrSize>(bytes, now);
            }
            BlkOp::Flush => {
                groups.change([BlkIo::in_flight], now, |_| [in_flight]);
                let fields = [BlkIoTimes::flush_req, BlkIoTimes::flush_total_ns];
                groups.change(fields, now, |[req, ns]| [req.plus(ONE), ns.plus(took_ns)]);
                groups.record::<FlLatency>(took, now);
            }
            BlkOp::Discard => {
                groups.change([BlkIo::in_flight], now, |_| [in_flight]);
                let fields =
                    [BlkDiscards::dis_req, BlkDiscards::dis_bytes, BlkDiscards::dis_total_ns];
                groups.change(fields, now, |[req, sum, ns]| {
                    [req.plus(ONE), sum.plus(nr_bytes), ns.plus(took_ns)]
                });
            }
        }
    }

    /// A request reached the storage and failed.
    pub fn fail(&mut self, groups: &mut impl RequestGroups, op: BlkOp, now: Ns) {
        let failed = match op {
            BlkOp::Read => BlkFailures::rd_failed,
            BlkOp::Write => BlkFailures::wr_failed,
            BlkOp::Flush => BlkFailures::flush_failed,
            BlkOp::Discard => BlkFailures::dis_failed,
        };
        self.err(groups, Some(failed), now);
    }

    /// A request was refused before it reached the storage; `None` is an operation that there is not.
    pub fn refuse(&mut self, groups: &mut impl RequestGroups, op: Option<BlkOp>, now: Ns) {
        let refused = op.map(|op| match op {
            BlkOp::Read => BlkFailures::rd_invalid,
            BlkOp::Write => BlkFailures::wr_invalid,
            BlkOp::Flush => BlkFailures::flush_invalid,
            BlkOp::Discard => BlkFailures::dis_invalid,
        });
        self.err(groups, refused, now);
    }

    /// A request did not succeed, for the reason that `field` counts.
    fn err(&mut self, groups: &mut impl RequestGroups, field: Option<Field<BlkFailures>>, now: Ns) {
        self.end(groups, now);
        let (now, in_flight) = (self.as_of, Word::new(self.in_flight));
        let fields = [BlkIo::errs, BlkIo::in_flight];
        groups.change(fields, now, |[errs, _]| [errs.plus(ONE), in_flight]);
        if let Some(field) = field {
            groups.change([field], now, |[nr]| [nr.plus(ONE)]);
        }
    }

    /// Takes a request out of those in flight.
    #[inline]
    fn end(&mut self, groups: &mut impl RequestGroups, now: Ns) {
        self.count(groups, BlkQueue::completed, self.in_flight.saturating_sub(1), now);
    }

    /// Brings the integral up to now, counts a request in `field`, and has `in_flight` from then on.
    #[inline]
    fn count(
        &mut self,
        groups: &mut impl RequestGroups,
        field: Field<BlkQueue>,
        in_flight: u64,
        now: Ns,
    ) {
        let passed = now.since(self.as_of);
        let busy = Word::new(if self.in_flight > 0 { passed } else { 0 });
        let queued = Word::new(passed.saturating_mul(self.in_flight));
        self.as_of = self.as_of.max(now);
        self.in_flight = in_flight;
        let fields = [BlkQueue::busy_ns, BlkQueue::queued_ns, field];
        groups.change(fields, self.as_of, |[busy_ns, queued_ns, nr]| {
            [busy_ns.plus(busy), queued_ns.plus(queued), nr.plus(ONE)]
        });
    }
}
