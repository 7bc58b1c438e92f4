//! Books of one queue of the micro-VM's disk: what its share of the device shows.

use std::any::Any;

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{
    BlkFailures, BlkIo, BlkIoTimes, BlkQueue, BlkQueueFailures, BlkQueueFlLatency, BlkQueueIo,
    BlkQueueIoTimes, BlkQueueQueue, BlkQueueRdLatency, BlkQueueRdSize, BlkQueueWrLatency,
    BlkQueueWrSize, FlLatency, RdLatency, RdSize, WrLatency, WrSize,
};
use domstat_layout::requests::{BlkOp, RequestGroups, Requests};
use domstat_layout::share::Whole;
use domstat_layout::sink::{BlkShareSink, BlkSink};
use domstat_layout::{Field, Group, Ns, Share, Word};
use zerocopy::FromBytes;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// The file could not be read or written.
    Failed,
    /// It was refused: no such operation, no such block.
    Invalid,
}

/// Groups of a queue, or of the whole device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) io: BlkIo,
    pub(super) times: BlkIoTimes,
    pub(super) queue: BlkQueue,
    pub(super) failures: BlkFailures,
    pub(super) rd_latency: RdLatency,
    pub(super) wr_latency: WrLatency,
    pub(super) fl_latency: FlLatency,
    pub(super) rd_size: RdSize,
    pub(super) wr_size: WrSize,
    /// When they were as they say, in nanoseconds.
    as_of_ns: u64,
}

impl Default for Totals {
    fn default() -> Self {
        let none = Word::new(0);
        Self {
            io: BlkIo {
                rd_req: none,
                rd_bytes: none,
                wr_req: none,
                wr_bytes: none,
                errs: none,
                in_flight: none,
            },
            times: BlkIoTimes {
                rd_total_ns: none,
                wr_total_ns: none,
                flush_req: none,
                flush_total_ns: none,
            },
            queue: BlkQueue { busy_ns: none, queued_ns: none, submitted: none, completed: none },
            failures: BlkFailures {
                rd_failed: none,
                wr_failed: none,
                flush_failed: none,
                dis_failed: none,
                rd_invalid: none,
                wr_invalid: none,
                flush_invalid: none,
                dis_invalid: none,
            },
            rd_latency: RdLatency::EMPTY,
            wr_latency: WrLatency::EMPTY,
            fl_latency: FlLatency::EMPTY,
            rd_size: RdSize::EMPTY,
            wr_size: WrSize::EMPTY,
            as_of_ns: 0,
        }
    }
}

impl Totals {
    /// The group of this type, if it is one that is counted.
    fn group<G: Group>(&mut self) -> Option<&mut G> {
        let groups: [&mut dyn Any; 9] = [
            &mut self.io,
            &mut self.times,
            &mut self.queue,
            &mut self.failures,
            &mut self.rd_latency,
            &mut self.wr_latency,
            &mut self.fl_latency,
            &mut self.rd_size,
            &mut self.wr_size,
        ];
        groups.into_iter().find_map(|group| group.downcast_mut())
    }

    fn is_busy(&self) -> bool {
        self.queue.submitted != self.queue.completed
    }

    /// The sum of the queues' totals as of `now` at the latest.
    pub(super) fn sum(queues: impl IntoIterator<Item = Self>, now: Ns) -> Self {
        let mut sum = Self { as_of_ns: now.0, ..Self::default() };
        for queue in queues {
            BlkQueueIo::share(queue.io).add_to(&mut sum.io);
            BlkQueueIoTimes::share(queue.times).add_to(&mut sum.times);
            BlkQueueQueue::share(queue.queue).add_to(&mut sum.queue);
            BlkQueueFailures::share(queue.failures).add_to(&mut sum.failures);
            BlkQueueRdLatency::share(queue.rd_latency).add_to(&mut sum.rd_latency);
            BlkQueueWrLatency::share(queue.wr_latency).add_to(&mut sum.wr_latency);
            BlkQueueFlLatency::share(queue.fl_latency).add_to(&mut sum.fl_latency);
            BlkQueueRdSize::share(queue.rd_size).add_to(&mut sum.rd_size);
            BlkQueueWrSize::share(queue.wr_size).add_to(&mut sum.wr_size);
            // A queue with nothing in flight is the same now as it was then.
            if queue.is_busy() {
                sum.as_of_ns = sum.as_of_ns.min(queue.as_of_ns);
            }
        }
        sum
    }

    /// Writes the device's own groups, as of `not_before` at the earliest; the time that they are
    /// as of.
    pub(super) fn write_device<B: BlkSink>(&self, blk: &mut B, not_before: Ns) -> Ns {
        let now = Ns(self.as_of_ns).max(not_before);
        blk.write(&self.io, now);
        blk.write(&self.times, now);
        blk.write(&self.queue, now);
        blk.write(&self.failures, now);
        blk.write_hist(&self.rd_latency, now);
        blk.write_hist(&self.wr_latency, now);
        blk.write_hist(&self.fl_latency, now);
        blk.write_hist(&self.rd_size, now);
        blk.write_hist(&self.wr_size, now);
        now
    }
}

impl RequestGroups for Totals {
    fn change<G: Whole, const N: usize>(
        &mut self,
        fields: [Field<G>; N],
        _: Ns,
        change: impl FnOnce([Word; N]) -> [Word; N],
    ) {
        let Some(group) = self.group::<G>() else { return };
        // Always so: a group is made of aligned words.
        let Ok(words) = <[u64]>::mut_from_bytes(group.as_mut_bytes()) else { return };
        let places = fields.map(|field| (field.offset() - G::DESC.offset - GROUP_HEADER_LEN) / 8);
        let word = |at: usize| words.get(at).map_or(Word::NOT_PRODUCED, |raw| Word::from_raw(*raw));
        let changed = change(places.map(word));
        for (at, changed) in places.into_iter().zip(changed) {
            if let Some(word) = words.get_mut(at) {
                *word = changed.to_raw();
            }
        }
    }

    fn record<G: Whole<Share: HistogramGroup> + HistogramGroup>(&mut self, value: u64, _: Ns) {
        if let Some(group) = self.group::<G>() {
            group.record(value);
        }
    }
}

/// The books of one queue, which its thread keeps.
#[derive(Debug)]
pub(super) struct Books {
    totals: Totals,
    requests: Requests,
}

impl Books {
    /// Nothing was asked for yet.
    pub(super) fn new(now: Ns) -> Self {
        let totals = Totals { as_of_ns: now.0, ..Totals::default() };
        Self { totals, requests: Requests::new(now) }
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// A request was accepted.
    pub(super) fn accept(&mut self, at_ns: u64) {
        self.requests.submit(&mut self.totals, Ns(at_ns));
        self.totals.as_of_ns = self.requests.as_of().0;
    }

    /// A request ended that was accepted at `accepted_ns`; `None` is an operation that there is
    /// not. Requests that did not succeed have no time and no size.
    pub(super) fn end(
        &mut self,
        at_ns: u64,
        operation: Option<BlkOp>,
        outcome: Outcome,
        accepted_ns: u64,
        bytes: u64,
    ) {
        let (totals, now) = (&mut self.totals, Ns(at_ns));
        match (operation, outcome) {
            (Some(op), Outcome::Done) => {
                self.requests.complete(totals, op, Ns(accepted_ns), bytes, now);
            }
            (Some(op), Outcome::Failed) => self.requests.fail(totals, op, now),
            (op, _) => self.requests.refuse(totals, op, now),
        }
        self.totals.as_of_ns = self.requests.as_of().0;
    }

    /// Writes what changes when a request begins.
    pub(super) fn write_queue<Q: BlkShareSink>(&self, share: &mut Q) {
        share.write(&BlkQueueQueue::share(self.totals.queue), Ns(self.totals.as_of_ns));
    }

    /// Writes everything.
    pub(super) fn write<Q: BlkShareSink>(&self, share: &mut Q) {
        let Totals { io, times, failures, as_of_ns, .. } = self.totals;
        let now = Ns(as_of_ns);
        share.write(&BlkQueueIo::share(io), now);
        share.write(&BlkQueueIoTimes::share(times), now);
        share.write(&BlkQueueFailures::share(failures), now);
        share.write(&BlkQueueRdLatency::share(self.totals.rd_latency), now);
        share.write(&BlkQueueWrLatency::share(self.totals.wr_latency), now);
        share.write(&BlkQueueFlLatency::share(self.totals.fl_latency), now);
        share.write(&BlkQueueRdSize::share(self.totals.rd_size), now);
        share.write(&BlkQueueWrSize::share(self.totals.wr_size), now);
        self.write_queue(share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(word: Word) -> u64 {
        word.value().unwrap()
    }

    #[test]
    fn the_queue_is_the_sum_of_the_times_of_its_requests() {
        let mut books = Books::new(Ns(100));
        books.accept(110);
        books.accept(120);
        books.end(150, Some(BlkOp::Read), Outcome::Done, 110, 4096);
        books.end(160, Some(BlkOp::Flush), Outcome::Done, 120, 0);
        books.accept(200);
        books.end(205, Some(BlkOp::Write), Outcome::Done, 200, 4096);
        let Totals { queue, io, times, rd_latency, fl_latency, wr_size, .. } = books.totals();
        assert_eq!(value(queue.busy_ns), 50 + 5);
        assert_eq!(value(queue.queued_ns), 40 + 40 + 5);
        assert_eq!((value(queue.submitted), value(queue.completed)), (3, 3));
        assert_eq!((value(io.rd_req), value(io.wr_req), value(times.flush_req)), (1, 1, 1));
        assert_eq!(value(times.rd_total_ns), 40);
        assert_eq!((rd_latency.count().value(), rd_latency.max().value()), (Some(1), Some(40)));
        assert_eq!((fl_latency.sum().value(), wr_size.sum().value()), (Some(40), Some(4096)));
    }

    #[test]
    fn what_did_not_succeed_is_counted_by_its_operation() {
        let mut books = Books::new(Ns(0));
        for (operation, outcome) in [
            (Some(BlkOp::Read), Outcome::Failed),
            (Some(BlkOp::Write), Outcome::Invalid),
            (None, Outcome::Invalid),
        ] {
            books.accept(1);
            books.end(2, operation, outcome, 1, 4096);
        }
        let Totals { io, failures, queue, rd_latency, .. } = books.totals();
        assert_eq!((value(failures.rd_failed), value(failures.wr_invalid)), (1, 1));
        assert_eq!((value(io.errs), value(io.rd_req), value(queue.completed)), (3, 0, 3));
        assert_eq!(rd_latency.count().value(), Some(0));
    }

    #[test]
    fn a_sum_is_as_of_the_busy_queue_that_is_oldest() {
        let [mut one, mut other] = [10, 20].map(|at| Books::new(Ns(at)));
        one.accept(30);
        one.end(40, Some(BlkOp::Read), Outcome::Done, 30, 4096);
        other.accept(50);
        let sum = Totals::sum([one.totals(), other.totals()], Ns(90));
        assert_eq!((sum.as_of_ns, value(sum.io.in_flight)), (50, 1));
        other.end(60, Some(BlkOp::Read), Outcome::Done, 50, 4096);
        let sum = Totals::sum([one.totals(), other.totals()], Ns(90));
        assert_eq!((sum.as_of_ns, value(sum.queue.busy_ns)), (90, 20));
        assert_eq!(value(sum.io.rd_req), 2);
    }
}
