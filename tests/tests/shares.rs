//! Shares of a device, written by four threads at full speed, and their sum.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use domstat_consumer::{Patience, Reading, Region};
use domstat_layout::histogram::HistogramGroup;
use domstat_layout::latest::{BlkIo, BlkQueue, BlkQueueOf, RdLatency};
use domstat_layout::{Clock, Ns, Word};
use domstat_producer::{BlkOp, RegionBuilder, RequestTracker};

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
