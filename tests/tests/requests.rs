//! The bookkeeping of requests, held against a model that keeps a list of them.

use std::collections::BTreeMap;

use domstat_consumer::distribution::{Bounds, Distribution};
use domstat_consumer::{Reading, Region, Sample, Snapshot};
use domstat_layout::histogram::{HistogramGroup, bucket_of};
use domstat_layout::latest::{
    BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkIoTwin, BlkQueue, BlkQueueOf, FlLatency,
    RdLatency, RdSize, Wait, WrLatency, WrSize,
};
use domstat_layout::share::{Share, Whole};
use domstat_layout::{BlkQueueGroup, Clock, Group, Ns, RecordKind, Stat, Word};
use domstat_producer::{
    BlkDevice, BlkOp, BlkQueueWriter, Created, RegionBuilder, Request, RequestRecords,
    RequestTracker,
};
use proptest::prelude::*;
use zerocopy::IntoBytes;

/// A region with two devices, their distributions, and two shares.
fn created() -> Created {
    let builder = RegionBuilder::new("requests").clock(Clock::Monotonic).vcpu_histograms(true);
    builder.blks(2).blk_histograms(true).blk_queues(4).create_memfd().unwrap()
}

/// The other side of it.
fn attached(unpublished: domstat_producer::Unpublished) -> (domstat_producer::Region, Region) {
    let producer = unpublished.publish().unwrap();
    let fd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    (producer, Region::from_fd(fd).unwrap())
}

fn of(device: u64, queue: u64) -> BlkQueueOf {
    let (generation, pid) = (Word::new(0), Word::NOT_PRODUCED);
    BlkQueueOf { device: Word::new(device), generation, queue: Word::new(queue), pid }
}

fn active<T>(reading: Reading<T>) -> T {
    reading.active().expect("the group is active")
}

/// One step of a device model.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit,
    /// Ends the request at this place of the list, if there are any.
    Complete(usize, BlkOp, u64),
    Fail(usize, BlkOp),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let op = prop_oneof![
        Just(BlkOp::Read),
        Just(BlkOp::Write),
        Just(BlkOp::Flush),
        Just(BlkOp::Discard)
    ];
    let bytes = prop_oneof![Just(0), 1..1u64 << 32, Just(4096)];
    let step = prop_oneof![
        4 => Just(Step::Submit),
        3 => (any::<usize>(), op.clone(), bytes).prop_map(|(i, op, n)| Step::Complete(i, op, n)),
        1 => (any::<usize>(), op).prop_map(|(i, op)| Step::Fail(i, op)),
    ];
    let passed = prop_oneof![Just(0), 1..1000u64, 1..1u64 << 40];
    proptest::collection::vec((passed, step), 0..120)
}

/// Every request with its begin, its end and how it ended, and the numbers that follow from them.
#[derive(Default)]
struct Model {
    /// When it was submitted and when it ended, if it did.
    requests: Vec<(u64, Option<u64>)>,
    /// What was completed: operation, bytes, time.
    done: Vec<(BlkOp, u64, u64)>,
    failed: Vec<BlkOp>,
}

impl Model {
    /// The integral of the requests in flight, and the time in which there were any, up to `now`:
    /// from scratch, over the points in time at which something changed.
    fn queue(&self, now: u64) -> (u64, u64) {
        let mut changes: BTreeMap<u64, i64> = BTreeMap::new();
        for (begin, end) in &self.requests {
            *changes.entry(*begin).or_default() += 1;
            *changes.entry(end.unwrap_or(now)).or_default() -= 1;
        }
        let (mut busy, mut queued, mut level, mut last) = (0, 0, 0u64, 0);
        for (at, change) in changes {
            if level > 0 {
                busy += at - last;
            }
            queued += (at - last) * level;
            (level, last) = (level.checked_add_signed(change).unwrap(), at);
        }
        (busy, queued)
    }

    fn of(&self, op: BlkOp) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.done.iter().filter(move |d| d.0 == op).map(|d| (d.1, d.2))
    }

    fn nr(&self, op: BlkOp) -> Word {
        Word::new(self.of(op).count() as u64)
    }

    fn bytes(&self, op: BlkOp) -> Word {
        Word::new(self.of(op).map(|(bytes, _)| bytes).sum())
    }

    fn ns(&self, op: BlkOp) -> Word {
        Word::new(self.of(op).map(|(_, ns)| ns).sum())
    }

    fn nr_failed(&self, op: BlkOp) -> Word {
        Word::new(self.failed.iter().filter(|failed| **failed == op).count() as u64)
    }

    fn in_flight(&self) -> u64 {
        self.requests.iter().filter(|(_, end)| end.is_none()).count() as u64
    }

    /// Holds a distribution against its values.
    fn hold<G: HistogramGroup>(values: impl Iterator<Item = u64>, found: &G) {
        let values: Vec<u64> = values.collect();
        assert_eq!(found.sum(), Word::new(values.iter().sum()), "{}", G::DESC.name);
        assert_eq!(found.max(), Word::new(values.iter().copied().max().unwrap_or(0)));
        for (index, bucket) in found.buckets().iter().enumerate() {
            let nr = values.iter().filter(|v| bucket_of(**v, G::NR_BUCKETS) == index).count();
            assert_eq!(*bucket, Word::new(nr as u64), "bucket {index} of {}", G::DESC.name);
        }
    }

    /// Holds every group of a device, as `read` reads it, against the list.
    fn hold_all(&self, read: &impl ReadGroup, updated: u64) {
        use BlkOp::{Discard, Flush, Read, Write};
        let io: BlkIo = read.group();
        let expected = BlkIo {
            rd_req: self.nr(Read),
            rd_bytes: self.bytes(Read),
            wr_req: self.nr(Write),
            wr_bytes: self.bytes(Write),
            errs: Word::new(self.failed.len() as u64),
            in_flight: Word::new(self.in_flight()),
        };
        assert_eq!(io, expected);
        let expected = BlkIoTimes {
            rd_total_ns: self.ns(Read),
            wr_total_ns: self.ns(Write),
            flush_req: self.nr(Flush),
            flush_total_ns: self.ns(Flush),
        };
        assert_eq!(read.group::<BlkIoTimes>(), expected);
        let (busy, queued) = self.queue(updated);
        let ended = (self.done.len() + self.failed.len()) as u64;
        let expected = BlkQueue {
            busy_ns: Word::new(busy),
            queued_ns: Word::new(queued),
            submitted: Word::new(self.requests.len() as u64),
            completed: Word::new(ended),
        };
        assert_eq!(read.group::<BlkQueue>(), expected);
        let expected = BlkDiscards {
            dis_req: self.nr(Discard),
            dis_bytes: self.bytes(Discard),
            dis_total_ns: self.ns(Discard),
            ..BlkDiscards::NOT_PRODUCED
        };
        assert_eq!(read.group::<BlkDiscards>(), expected);
        let expected = BlkFailures {
            rd_failed: self.nr_failed(Read),
            wr_failed: self.nr_failed(Write),
            flush_failed: self.nr_failed(Flush),
            dis_failed: self.nr_failed(Discard),
            ..BlkFailures::NOT_PRODUCED
        };
        assert_eq!(read.group::<BlkFailures>(), expected);
        Self::hold(self.of(Read).map(|(_, ns)| ns), &read.group::<RdLatency>());
        Self::hold(self.of(Write).map(|(_, ns)| ns), &read.group::<WrLatency>());
        Self::hold(self.of(Flush).map(|(_, ns)| ns), &read.group::<FlLatency>());
        Self::hold(self.of(Read).map(|(bytes, _)| bytes), &read.group::<RdSize>());
        Self::hold(self.of(Write).map(|(bytes, _)| bytes), &read.group::<WrSize>());
    }
}

/// Takes the steps with a tracker; returns what should be there, and when it was written.
fn run<R: RequestRecords>(
    tracker: &mut RequestTracker<R>,
    steps: &[(u64, Step)],
    begin: u64,
) -> (Model, u64) {
    let (mut model, mut now) = (Model::default(), begin);
    let mut open: Vec<(usize, Request)> = Vec::new();
    let mut written = begin;
    for (passed, step) in steps {
        now += passed;
        let ended = |i: usize, open: &mut Vec<(usize, Request)>, model: &mut Model| {
            let at = i.checked_rem(open.len())?;
            let (index, request) = open.swap_remove(at);
            model.requests[index].1 = Some(now);
            Some((request, now - model.requests[index].0))
        };
        match *step {
            Step::Submit => {
                open.push((model.requests.len(), tracker.submit(Ns(now))));
                model.requests.push((now, None));
            }
            Step::Complete(i, op, bytes) => {
                let Some((request, took)) = ended(i, &mut open, &mut model) else { continue };
                tracker.complete(request, op, bytes, Ns(now));
                model.done.push((op, if op == BlkOp::Flush { 0 } else { bytes }, took));
            }
            Step::Fail(i, op) => {
                let Some((request, _)) = ended(i, &mut open, &mut model) else { continue };
                tracker.fail(request, op, Ns(now));
                model.failed.push(op);
            }
        }
        written = now;
        assert_eq!(tracker.in_flight(), model.in_flight());
    }
    (model, written)
}

/// How a group of device 0 is read.
trait ReadGroup {
    fn group<G: Whole<Share: BlkQueueGroup>>(&self) -> G;
}

/// The device's own groups.
struct Own<'a>(&'a Region);

impl ReadGroup for Own<'_> {
    fn group<G: Whole<Share: BlkQueueGroup>>(&self) -> G {
        // No share counts, so this is the device's own.
        active(self.0.blk(0).unwrap().read_summed::<G>().unwrap()).group
    }
}

/// Those of share 0.
struct OfShare<'a>(&'a Region);

impl ReadGroup for OfShare<'_> {
    fn group<G: Whole<Share: BlkQueueGroup>>(&self) -> G {
        active(self.0.blk_queue(0).unwrap().read::<G::Share>().unwrap()).group.whole()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_groups_of_a_device_are_those_of_its_requests(steps in steps()) {
        let mut created = created();
        let (blk, hist) = (created.blks.remove(0), Some(created.blk_hists.remove(0)));
        let (_producer, region) = attached(created.unpublished);
        let mut tracker = RequestTracker::device(BlkDevice { blk, hist }, Ns(5));
        let (model, written) = run(&mut tracker, &steps, 5);
        model.hold_all(&Own(&region), written);
        let array = region.geometry().array(RecordKind::Blk);
        let record = region.mem().sub(array.offs, array.size).unwrap();
        let span = BlkIoTwin::DESC.span();
        let mut words = [0; 6];
        record.group(span.offset, span.size).unwrap().try_read(&mut words, || ()).unwrap();
        let io: BlkIo = Own(&region).group();
        prop_assert_eq!(words.as_bytes(), io.as_bytes(), "the twin says the same");
    }

    #[test]
    fn the_groups_of_shares_are_those_of_their_requests_and_add_up(
        first in steps(),
        second in steps(),
    ) {
        let mut created = created();
        let (_producer, region) = attached(created.unpublished);
        let mut share = |queue| {
            let writer = created.blk_queues.remove(0);
            RequestTracker::share(writer, &of(0, queue), Ns(5))
        };
        let (mut one, mut two) = (share(0), share(1));
        let (model, written) = run(&mut one, &first, 5);
        model.hold_all(&OfShare(&region), written);
        let (other, later) = run(&mut two, &second, 5);

        let blk = region.blk(0).unwrap();
        let latency: RdLatency = active(blk.read_summed().unwrap()).group;
        let reads = model.of(BlkOp::Read).chain(other.of(BlkOp::Read));
        Model::hold(reads.map(|(_, ns)| ns), &latency);
        // As written, and both brought to a later time.
        let newest = written.max(later);
        let queue: Sample<BlkQueue> = active(blk.read_summed().unwrap());
        prop_assert_eq!(queue.updated, Ns(newest));
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        let then = Ns(newest + 7);
        let brought: Sample<BlkQueue> = active(region.shares().queue_at(0, then).unwrap());
        let copied = active(snapshot.blk(0).unwrap().queue_at(then).unwrap());
        prop_assert_eq!(copied.group, brought.group);
        let sums = [
            (queue.group, model.queue(written), other.queue(later)),
            (brought.group, model.queue(then.0), other.queue(then.0)),
        ];
        for (sum, a, b) in sums {
            prop_assert_eq!(sum.busy_ns, Word::new(a.0 + b.0));
            prop_assert_eq!(sum.queued_ns, Word::new(a.1 + b.1));
        }
        let nr = (model.requests.len() + other.requests.len()) as u64;
        prop_assert_eq!(queue.group.submitted, Word::new(nr));
    }
}

#[test]
fn a_sum_is_of_the_shares_that_count() {
    let mut created = created();
    let (_producer, region) = attached(created.unpublished);
    let blk = region.blk(0).unwrap();
    let reads = || blk.read_summed::<BlkIo>().unwrap().stat(|io| io.group.rd_req);
    assert_eq!(reads(), Stat::GroupInactive, "neither a share nor its own group");
    let own = BlkIo { rd_req: Word::new(70), ..BlkIo::NOT_PRODUCED };
    created.blks[0].write(&own, Ns(1));
    assert_eq!(reads(), Stat::Value(70), "no share");

    let share = |writer: &mut BlkQueueWriter, device, generation, reads| {
        let of = BlkQueueOf { generation: Word::new(generation), ..of(device, 0) };
        let io = BlkIo { rd_req: Word::new(reads), ..BlkIo::NOT_PRODUCED };
        writer.write(&domstat_layout::latest::BlkQueueIo::share(io), Ns(2));
        writer.write(&of, Ns(2));
    };
    let [one, two, three, four] = &mut created.blk_queues[..] else { panic!("four") };
    share(one, 0, 0, 5);
    share(two, 0, 0, 6);
    share(three, 1, 0, 1000);
    share(four, 0, 9, 1000);
    assert_eq!(reads(), Stat::Value(11), "of this device and its generation");
    two.deactivate::<domstat_layout::latest::BlkQueueIo>();
    assert_eq!(reads(), Stat::GroupInactive, "what one share does not say, the sum does not");
    two.renew();
    assert_eq!(reads(), Stat::Value(5));
    created.blks[0].renew();
    created.blks[0].write(&own, Ns(3));
    assert_eq!(reads(), Stat::Value(70), "shares of an earlier tenant do not count");
    let unknown = region.net(0).is_none();
    assert!(unknown, "there is no interface");
}

#[test]
fn a_device_starts_over_with_its_next_tenant() {
    let mut created = created();
    let (blk, hist) = (created.blks.remove(0), Some(created.blk_hists.remove(0)));
    let (_producer, region) = attached(created.unpublished);
    let mut tracker = RequestTracker::device(BlkDevice { blk, hist }, Ns(5));
    let request = tracker.submit(Ns(10));
    let open = tracker.submit(Ns(11));
    tracker.complete(request, BlkOp::Read, 512, Ns(20));
    tracker.renew(Ns(30));
    // A request of the tenant before ends next to one of this: it does not count.
    let request = tracker.submit(Ns(35));
    tracker.complete(open, BlkOp::Read, 512, Ns(40));
    let sample = active(region.blk(0).unwrap().read::<BlkQueue>().unwrap());
    assert_eq!((sample.generation, sample.submitted.value()), (1, Some(1)));
    assert_eq!((tracker.in_flight(), sample.completed.value()), (1, Some(0)));
    tracker.fail(request, BlkOp::Read, Ns(45));
    let queue = active(region.blk(0).unwrap().read::<BlkQueue>().unwrap()).group;
    assert_eq!((queue.queued_ns.value(), queue.completed.value()), (Some(10), Some(1)));
}

#[test]
fn a_value_that_is_recorded_changes_one_bucket_sum_and_maximum() {
    let mut created = created();
    let (_producer, region) = attached(created.unpublished);
    let hist = region.vcpu_hist(0).unwrap();
    assert!(matches!(hist.read::<Wait>().unwrap(), Reading::Inactive), "not before the first");
    let mut expected = Wait::EMPTY;
    let mut then = Reading::Inactive;
    for ns in [700, 5, 0, u64::MAX, 700] {
        created.vcpu_hists[0].record::<Wait>(ns, Ns(9));
        expected.record(ns);
        let now = hist.read::<Wait>().unwrap();
        let sample = active(now);
        assert_eq!((sample.group, sample.updated), (expected, Ns(9)));
        if let Some(reads) = Distribution::between(&then, &now)
            && reads.count() != Stat::GroupInactive
        {
            let least = if ns == 0 { 0 } else { 1 << (63 - ns.leading_zeros()).min(38) };
            assert_eq!(reads.quantile(0.5).map(|b: Bounds| b.least), Some(least));
            assert_eq!(reads.count(), Stat::Value(1));
        }
        then = now;
    }
    assert_eq!(region.geometry().array(RecordKind::VcpuHist).nr, 1);
}
