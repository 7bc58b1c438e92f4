//! Shares of devices and their sums: next to four threads that write at full speed, in every way of
//! reading, and of regions that have as many as they can.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domstat_consumer::libvirt::{BlockParam, BlockStatsV1};
use domstat_consumer::{Patience, Reading, Region, Snapshot};
use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{
    BlkFailures, BlkIo, BlkLimits, BlkQueue, BlkQueueFailures, BlkQueueIo, BlkQueueOf,
    BlkQueueQueue, BlkQueueRdLatency, NetIo, NetQueueIo, NetQueueOf, RdLatency,
};
use domstat_layout::share::{Share, Whole};
use domstat_layout::{BlkGroup, BlkQueueGroup, Clock, Group, Ns, RecordKind, Schema, Stat, Word};
use domstat_producer::{BlkOp, BlkQueueWriter, Created, RegionBuilder, RequestTracker};
use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

const WRITERS: usize = 4;
/// Bytes and time of each read, so that a sum that is not of whole shares shows.
const BYTES: u64 = 4096;
const TOOK_NS: u64 = 700;

#[test]
fn a_sum_next_to_its_writers_is_whole_and_never_goes_back() {
    let builder = RegionBuilder::new("shares").clock(Clock::Monotonic).blks(1);
    let mut created = builder.blk_queues(WRITERS as u32).create_memfd().unwrap();
    let producer = created.unpublished.publish().unwrap();
    let fd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    // A writer may lose its CPU in mid-update, for as long as the machine likes.
    let patience = Patience { yielding: Duration::from_secs(20), ..Patience::default() };
    let region = Region::from_fd(fd).unwrap().with_patience(patience);
    let mut trackers: Vec<_> = created
        .blk_queues
        .drain(..)
        .enumerate()
        .map(|(queue, writer)| {
            let of = BlkQueueOf {
                device: Word::new(0),
                generation: Word::new(0),
                queue: Word::new(queue as u64),
                pid: Word::NOT_PRODUCED,
            };
            RequestTracker::share(writer, &of, Ns(1))
        })
        .collect();

    let (begun, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let passes = std::thread::scope(|scope| {
        for tracker in &mut trackers {
            scope.spawn(|| {
                let mut now = 1;
                while !stop.load(Ordering::Relaxed) {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let request = tracker.submit(Ns(now));
                    now += TOOK_NS;
                    tracker.complete(request, BlkOp::Read, BYTES, Ns(now));
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let blk = region.blk(0).unwrap();
        let begin = Instant::now();
        let (mut passes, mut last) = (0u64, [0; 4]);
        while passes < 2_000 || (last[0] == 0 && begin.elapsed() < Duration::from_secs(60)) {
            let least = done.load(Ordering::SeqCst);
            let Reading::Active(io) = blk.read_summed::<BlkIo>().unwrap() else {
                panic!("every share is active");
            };
            let Reading::Active(latency) = blk.read_summed::<RdLatency>().unwrap() else {
                panic!("every share is active");
            };
            let Reading::Active(queue) = blk.read_summed::<BlkQueue>().unwrap() else {
                panic!("every share is active");
            };
            let most = begun.load(Ordering::SeqCst);
            let reads = io.rd_req.value().unwrap();
            assert_eq!(io.rd_bytes.value(), Some(reads * BYTES), "io is torn");
            assert!(io.in_flight.value().unwrap() <= WRITERS as u64);
            let nr = latency.count().value().unwrap();
            assert_eq!(latency.sum().value(), Some(nr * TOOK_NS), "rd_latency is torn");
            assert_eq!(latency.max().value(), Some(if nr == 0 { 0 } else { TOOK_NS }));
            let (submitted, completed) = (queue.submitted.value(), queue.completed.value());
            let in_flight = submitted.unwrap() - completed.unwrap();
            assert!(in_flight <= WRITERS as u64, "queue is torn");
            let now =
                [reads, nr, queue.submitted.value().unwrap(), queue.completed.value().unwrap()];
            for (now, last) in now.into_iter().zip(last) {
                assert!(last <= now, "went back from {last} to {now}");
                assert!((least..=most).contains(&now), "{now} of {least} to {most} reads");
            }
            last = now;
            passes += 1;
        }
        stop.store(true, Ordering::Relaxed);
        passes
    });
    let written = done.into_inner();
    let io = region.blk(0).unwrap().read_summed::<BlkIo>().unwrap().active().unwrap();
    assert_eq!((io.rd_req.value(), io.in_flight.value()), (Some(written), Some(0)));
    println!("{passes} sums next to {written} requests");
}

/// The other side of a region.
fn attached(unpublished: domstat_producer::Unpublished) -> (domstat_producer::Region, Region) {
    let producer = unpublished.publish().unwrap();
    let fd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    (producer, Region::from_fd(fd).unwrap())
}

fn of(device: u64, generation: u64) -> BlkQueueOf {
    let [device, generation] = [device, generation].map(Word::new);
    BlkQueueOf { device, generation, queue: Word::new(0), pid: Word::NOT_PRODUCED }
}

fn io(reads: u64) -> BlkIo {
    BlkIo { rd_req: Word::new(reads), rd_bytes: Word::new(reads * BYTES), ..BlkIo::NOT_PRODUCED }
}

fn give_out(writer: &mut BlkQueueWriter, of: &BlkQueueOf, reads: u64, now: u64) {
    writer.write(&BlkQueueIo::share(io(reads)), Ns(now));
    writer.write(of, Ns(now));
}

/// A group of device 0 in every way that it is read; all ways agree.
fn in_every_way<G>(region: &Region) -> (Reading<G>, Option<u64>)
where
    G: Whole<Share: BlkQueueGroup> + BlkGroup + PartialEq + std::fmt::Debug,
{
    let alone = region.blk(0).unwrap().read_summed::<G>().unwrap();
    let indexed = region.shares().blk::<G>(0).unwrap();
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let record = snapshot.blk(0).unwrap();
    let copied = record.blk_group::<G>().unwrap();
    let bytes = region.copy_schema().unwrap();
    let schema = Schema::parse(&bytes).unwrap();
    let blks = schema.records().find(|r| r.kind == RecordKind::Blk.number()).unwrap();
    let mut groups = schema.groups();
    let group = groups.find(|g| g.record == blks.kind && g.bit == G::DESC.bit).unwrap();
    let mut reader = region.schema_reader();
    let described = reader.read(&blks, 0, &group).unwrap();
    let described = match described {
        Reading::Active(s) => Reading::Active((s.updated, s.seq, s.generation, s.words.to_vec())),
        Reading::Inactive => Reading::Inactive,
        Reading::Unknown => Reading::Unknown,
    };
    let shown = |sample: domstat_consumer::Sample<G>| {
        let bytes = sample.group.as_bytes();
        let words = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        (sample.updated, sample.seq, sample.generation, words)
    };
    let expected = match alone {
        Reading::Active(sample) => Reading::Active(shown(sample)),
        Reading::Inactive => Reading::Inactive,
        Reading::Unknown => Reading::Unknown,
    };
    assert_eq!(described, expected, "by the schema");
    assert_eq!(alone, indexed);
    assert_eq!(alone, copied);
    for field in G::DESC.fields {
        let word = record.word(G::DESC, field.offset).unwrap();
        let at = (field.offset - G::DESC.offset) / 8 - 2;
        let words = expected.clone().active().map(|(_, _, _, words): (_, _, _, Vec<u64>)| words);
        assert_eq!(word.active().map(Word::to_raw), words.map(|words| words[at]));
    }
    let updated = alone.active().map(|sample| sample.updated.0);
    let group = match alone {
        Reading::Active(sample) => Reading::Active(sample.group),
        Reading::Inactive => Reading::Inactive,
        Reading::Unknown => Reading::Unknown,
    };
    (group, updated)
}

#[test]
fn a_device_is_the_sum_of_its_shares_in_every_way_of_reading() {
    let builder = RegionBuilder::new("shares").blks(2).nets(1).blk_queues(4).net_queues(2);
    let Created { unpublished, mut blks, mut nets, mut blk_queues, mut net_queues, .. } =
        builder.create_memfd().unwrap();
    let (_producer, region) = attached(unpublished);
    // The management thread wrote this some time ago.
    blks[0].write(&io(3), Ns(10));
    assert_eq!(in_every_way(&region), (Reading::Active(io(3)), Some(10)), "no share yet");
    assert_eq!(in_every_way::<BlkQueue>(&region), (Reading::Inactive, None));
    give_out(&mut blk_queues[0], &of(0, 0), 30, 700);
    give_out(&mut blk_queues[1], &of(0, 0), 11, 900);
    give_out(&mut blk_queues[2], &of(1, 0), 1_000, 5_000);
    give_out(&mut blk_queues[3], &of(0, 6), 2_000, 6_000);
    assert_eq!(in_every_way(&region), (Reading::Active(io(41)), Some(900)));
    blk_queues[0].write(&BlkQueueIo::share(io(50)), Ns(950));
    assert_eq!(in_every_way(&region), (Reading::Active(io(61)), Some(950)), "a share moved");

    let mut stats = BlockStatsV1::new_zeroed();
    let blk = region.blk(0).unwrap();
    blk.read_block_stats(stats.as_mut_bytes()).unwrap();
    assert_eq!((stats.rd_req, stats.rd_bytes, stats.wr_req), (61, 61 * BYTES as i64, -1));
    let mut params = [BlockParam::default(); 9];
    let nr = blk.read_block_params(&mut params).unwrap();
    assert_eq!(params[..nr].iter().find(|p| p.name == "rd_operations").unwrap().value, 61);
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let own = snapshot.blk(0).unwrap().own().blk_group::<BlkIo>().unwrap().active().unwrap();
    assert_eq!((own.group, own.updated), (io(3), Ns(10)), "the device's own are there, too");

    // Groups that no share has are the device's own; those that one lacks are not produced.
    let limits = BlkLimits { throttled_ns: Word::new(5), ..BlkLimits::NOT_PRODUCED };
    blks[0].write(&limits, Ns(20));
    region.snapshot(&mut snapshot);
    let found = snapshot.blk(0).unwrap().blk_group::<BlkLimits>().unwrap().active().unwrap();
    assert_eq!((found.group, found.updated), (limits, Ns(20)));
    let failures = |nr| BlkFailures { rd_failed: Word::new(nr), ..BlkFailures::NOT_PRODUCED };
    blks[0].write(&failures(1), Ns(20));
    assert_eq!(in_every_way(&region), (Reading::Active(failures(1)), Some(20)));
    blk_queues[0].write(&BlkQueueFailures::share(failures(4)), Ns(30));
    assert_eq!(in_every_way::<BlkFailures>(&region), (Reading::Inactive, None));
    blk_queues[1].write(&BlkQueueFailures::share(failures(5)), Ns(40));
    assert_eq!(in_every_way(&region), (Reading::Active(failures(9)), Some(40)));

    // Absent stays absent, and saturated saturated.
    let full = BlkIo { rd_req: Word::SATURATED, wr_req: Word::new(2), ..io(1) };
    blk_queues[0].write(&BlkQueueIo::share(full), Ns(960));
    let sum = in_every_way::<BlkIo>(&region).0.active().unwrap();
    let stats = [sum.rd_req, sum.rd_bytes, sum.wr_req].map(Word::get);
    assert_eq!(stats, [Stat::Saturated, Stat::Value(12 * BYTES), Stat::NotProduced]);
    blk_queues[1].deactivate::<BlkQueueIo>();
    assert_eq!(in_every_way::<BlkIo>(&region), (Reading::Inactive, None));

    // The next device in the slot has none of the shares of this.
    blks[0].renew();
    assert_eq!(in_every_way::<BlkIo>(&region), (Reading::Inactive, None));
    blks[0].write(&io(7), Ns(2_000));
    assert_eq!(in_every_way(&region), (Reading::Active(io(7)), Some(2_000)));
    blk_queues[1].renew();
    give_out(&mut blk_queues[1], &of(0, 1), 8, 3_000);
    assert_eq!(in_every_way(&region), (Reading::Active(io(8)), Some(3_000)));

    // Interfaces likewise.
    let rx = |nr| NetIo { rx_packets: Word::new(nr), ..NetIo::NOT_PRODUCED };
    nets[0].write(&rx(1), Ns(1));
    for (queue, writer) in net_queues.iter_mut().enumerate() {
        writer.write(&NetQueueIo::share(rx(10 + queue as u64)), Ns(5));
        let [device, generation] = [Word::new(0); 2];
        let queue = Word::new(queue as u64);
        writer.write(&NetQueueOf { device, generation, queue, pid: Word::NOT_PRODUCED }, Ns(5));
    }
    region.snapshot(&mut snapshot);
    let copied = snapshot.net(0).unwrap().net_group::<NetIo>().unwrap();
    assert_eq!(copied.active().unwrap().group, rx(21));
    assert_eq!(copied, region.net(0).unwrap().read_summed().unwrap());
    assert_eq!(copied, region.shares().net(0).unwrap());
}

#[test]
fn queues_are_added_as_written_and_brought_to_now_from_their_own_writes() {
    let builder = RegionBuilder::new("queues").blks(1).blk_queues(3);
    let Created { unpublished, mut blks, mut blk_queues, .. } = builder.create_memfd().unwrap();
    let (_producer, region) = attached(unpublished);
    let queue = |submitted, completed, busy, queued| BlkQueue {
        busy_ns: Word::new(busy),
        queued_ns: Word::new(queued),
        submitted: Word::new(submitted),
        completed: Word::new(completed),
    };
    let at = |now| {
        let direct = region.shares().queue_at(0, Ns(now)).unwrap();
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        assert_eq!(snapshot.blk(0).unwrap().queue_at(Ns(now)).unwrap(), direct);
        direct.active().map(|queue| queue.group)
    };
    assert_eq!(at(7), None);
    blks[0].write(&queue(3, 1, 10, 20), Ns(100));
    assert_eq!(at(110), Some(queue(3, 1, 20, 40)), "one writer: busy is the clock's time");
    let written = [((7, 4), 100), ((5, 5), 130), ((2, 1), 120)];
    for (writer, ((submitted, completed), at)) in blk_queues.iter_mut().zip(written) {
        writer.write(&BlkQueueQueue::share(queue(submitted, completed, 10, 20)), Ns(at));
        writer.write(&of(0, 0), Ns(at));
    }
    let sum = in_every_way::<BlkQueue>(&region);
    assert_eq!(sum, (Reading::Active(queue(14, 10, 30, 60)), Some(130)));
    // 3 requests in flight since 100, none, and one since 120.
    assert_eq!(at(150), Some(queue(14, 10, 30 + 50 + 30, 60 + 150 + 30)));
}

/// One step of a device with three queues: which of them, how much later, what its thread does. It takes
/// the time first and may write later: until then a reader finds what it wrote before.
fn steps() -> impl Strategy<Value = Vec<(usize, u64, u8)>> {
    prop::collection::vec((0..3usize, 0..1_000u64, 0..4u8), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_sum_is_never_smaller_than_before_and_never_larger_than_what_was_written(steps in steps()) {
        let builder = RegionBuilder::new("late").blks(1).blk_queues(3);
        let Created { unpublished, mut blk_queues, .. } = builder.create_memfd().unwrap();
        let (_producer, region) = attached(unpublished);
        let none = BlkQueue {
            busy_ns: Word::new(0),
            queued_ns: Word::new(0),
            submitted: Word::new(0),
            completed: Word::new(0),
        };
        let mut queues = [none; 3];
        let mut stamps = [0; 3];
        for writer in &mut blk_queues {
            writer.write(&BlkQueueQueue::share(none), Ns(0));
            writer.write(&of(0, 0), Ns(0));
        }
        let (mut now, mut last, mut late) = (0, [0; 4], [false; 3]);
        for (i, passed, what) in steps {
            now += passed;
            let (queue, stamp) = (&mut queues[i], &mut stamps[i]);
            let value = |word: Word| word.value().unwrap();
            let in_flight = value(queue.submitted) - value(queue.completed);
            let since = now - *stamp;
            let one = Word::new(1);
            if what < 3 {
                queue.busy_ns = queue.busy_ns.plus(Word::new(since * in_flight.min(1)));
                queue.queued_ns = queue.queued_ns.plus(Word::new(since * in_flight));
                match what {
                    0 => queue.submitted = queue.submitted.plus(one),
                    _ if in_flight > 0 => queue.completed = queue.completed.plus(one),
                    _ => {}
                }
                *stamp = now;
            }
            // Its thread is interrupted between the clock and the write.
            late[i] = what == 2;
            for (i, writer) in blk_queues.iter_mut().enumerate().filter(|(i, _)| !late[*i]) {
                writer.write(&BlkQueueQueue::share(queues[i]), Ns(stamps[i]));
            }
            let sum = region.shares().blk::<BlkQueue>(0).unwrap().active().unwrap().group;
            let most = queues.map(|q| [q.busy_ns, q.queued_ns, q.submitted, q.completed].map(value));
            let words = [sum.busy_ns, sum.queued_ns, sum.submitted, sum.completed].map(value);
            for (i, (now, last)) in words.into_iter().zip(last).enumerate() {
                prop_assert!(last <= now, "word {i} went back from {last} to {now}");
                let most: u64 = most.iter().map(|words| words[i]).sum();
                prop_assert!(now <= most, "word {i} is {now}, {most} were written");
            }
            last = words;
        }
    }
}

#[test]
fn the_work_of_sums_grows_with_the_shares_and_not_with_their_product() {
    const NR: u32 = 4_096;
    let builder = RegionBuilder::new("many").blks(NR).blk_histograms(true).blk_queues(NR);
    let Created { unpublished, mut blk_queues, .. } = builder.create_memfd().unwrap();
    let (_producer, region) = attached(unpublished);
    // One for each device, and all for one.
    for all_of_one in [false, true] {
        for (index, writer) in blk_queues.iter_mut().enumerate() {
            let device = if all_of_one { 77 } else { NR as u64 - 1 - index as u64 };
            writer.write(&BlkQueueRdLatency::share(RdLatency::EMPTY), Ns(5));
            give_out(writer, &of(device, 0), 1, 5);
        }
        let mut shares = region.shares();
        let mut reads = 0;
        for blk in region.blks() {
            let io = shares.blk::<BlkIo>(blk.index()).unwrap();
            reads += io.active().map_or(0, |io| io.rd_req.value().unwrap());
            shares.blk::<RdLatency>(blk.index()).unwrap();
        }
        assert_eq!(reads, u64::from(NR));
        // To find each, and for each group of it.
        assert_eq!(shares.reads(), 3 * u64::from(NR));
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        assert_eq!(snapshot.share_reads(), 6 * u64::from(NR));
        let sum = snapshot.blk(77).unwrap().blk_group::<BlkIo>().unwrap().active().unwrap();
        assert_eq!(sum.rd_req.value(), Some(if all_of_one { NR.into() } else { 1 }));
        let len = region.mem().len();
        assert!(snapshot.memory() <= Snapshot::MAX_MULTIPLE * len, "{}", snapshot.memory());
    }
}

#[test]
fn a_share_whose_writer_died_in_an_update_spoils_its_group_of_its_device_only() {
    let builder = RegionBuilder::new("stalled").blks(2).blk_queues(3);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stalled");
    let Created { unpublished, mut blk_queues, .. } = builder.create_file(&path).unwrap();
    let _producer = unpublished.publish().unwrap();
    let region = Region::open(&path).unwrap();
    let failures = BlkFailures { rd_failed: Word::new(2), ..BlkFailures::NOT_PRODUCED };
    for (writer, device) in blk_queues.iter_mut().zip([0, 0, 1]) {
        writer.write(&BlkQueueFailures::share(failures), Ns(4));
        give_out(writer, &of(device, 0), 9, 5);
    }
    let memory = std::fs::File::options().write(true).open(&path).unwrap();
    let at = region.geometry().array(RecordKind::BlkQueue).offset(1).unwrap();
    memory.write_all_at(&3u32.to_ne_bytes(), (at + BlkQueueIo::DESC.offset) as u64).unwrap();
    region.set_patience(Patience { spins: 3, yielding: Duration::ZERO });
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let [stalled, other] = [0, 1].map(|index| snapshot.blk(index).unwrap());
    let error = stalled.blk_group::<BlkIo>().unwrap_err();
    assert_eq!(error.stalled().map(|s| (s.record, s.index)), {
        Some((Some(RecordKind::BlkQueue), Some(1)))
    });
    assert!(stalled.blk_group::<BlkFailures>().unwrap().active().is_some());
    let io = other.blk_group::<BlkIo>().unwrap();
    assert_eq!(io.stat(|io| io.rd_req), Stat::Value(9));
    let mut shares = region.shares();
    assert!(shares.blk::<BlkIo>(0).is_err() && shares.blk::<BlkIo>(1).is_ok());
}
