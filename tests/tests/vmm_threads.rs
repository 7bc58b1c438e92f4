//! Threads of a VMM that come and go: slots that are claimed and given back, shared counters, and the sampler
//! that publishes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::Region;
use domstat_consumer::region::MappedFile;
use domstat_invariant_checker::{Options, Subject, watch_steps};
use domstat_layout::latest::{BlkFailures, BlkIo, BlkIoTimes, BlkQueue, NetIo, Runstate, Sched};
use domstat_layout::{BlkGroup, Clock, Ns, Word};
use domstat_producer::{
    BlkCounters, BlkOp, ClaimError, Created, NetCounters, NetDirection, RegionBuilder,
    RequestTracker, Sampler, Slots, ThreadTimes,
};

/// As long as anything here may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(2);

fn builder() -> RegionBuilder {
    RegionBuilder::new("threads").vcpus(2).blks(2).nets(1).clock(Clock::Monotonic)
}

fn attach(region: &domstat_producer::Region) -> Region {
    Region::from_fd(region.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap()
}

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap()
}

/// A group of a disk; `None` while it is not active.
fn disk<G: BlkGroup>(region: &Region, slot: u32) -> Option<G> {
    Some(region.blk(slot).unwrap().read::<G>().unwrap().active()?.group)
}

fn io(region: &Region, slot: u32) -> Option<BlkIo> {
    disk(region, slot)
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn slots_are_claimed_by_threads_and_come_back() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let Created { unpublished, blks, .. } = builder().create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let slots = Slots::new(blks);
    let (held, full) = ([const { AtomicBool::new(false) }; 2], AtomicU64::new(0));
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let (slots, region, held, full) = (slots.clone(), &region, &held, &full);
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    let mut disk = loop {
                        match slots.claim(&format!("disk{worker}")) {
                            Ok(disk) => break disk,
                            Err(ClaimError::Full) => full.fetch_add(1, Ordering::Relaxed),
                            Err(other) => panic!("{other}"),
                        };
                        thread::yield_now();
                    };
                    assert!(!held[disk.slot()].swap(true, Ordering::SeqCst), "two tenants");
                    let slot = u32::try_from(disk.slot()).unwrap();
                    assert_eq!(io(region, slot), None);
                    disk.set(BlkIo::rd_req, worker * ROUNDS + round, now());
                    let io = io(region, slot).unwrap();
                    assert_eq!(io.rd_req.value(), Some(worker * ROUNDS + round));
                    held[disk.slot()].store(false, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(slots.free(), 2);
    assert!((0..2).all(|slot| io(&region, slot).is_none()));
    let claims = ["a", "b"].map(|name| slots.claim(name).unwrap());
    let tenants: u64 = claims.iter().map(|claim| u64::from(claim.generation())).sum();
    assert_eq!(tenants, THREADS * ROUNDS, "one generation for each tenant");
}

#[test]
fn a_slot_is_kept_for_its_tenant_and_waits_for_writers_of_groups() {
    let Created { unpublished, blks, .. } = builder().create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let slots = Slots::new(blks);
    let mut vda = slots.claim("vda").unwrap();
    assert_eq!(slots.claim("vda").err(), Some(ClaimError::Held));
    vda.set(BlkIo::rd_req, 5, Ns(1));
    // A worker ends and another goes on: the numbers stay.
    vda.keep();
    assert!(io(&region, 0).is_some());
    let vdb = slots.claim("vdb").unwrap();
    assert_eq!(vdb.slot(), 1, "a free slot comes before one that is kept");
    let mut vda = slots.claim("vda").unwrap();
    assert_eq!((vda.slot(), vda.generation()), (0, 0));
    // A group's writer outlives the claim: its group ends with it, and the slot is not given away before.
    let mut of_io = vda.take::<BlkIo>().unwrap();
    vda.set(BlkFailures::rd_failed, 1, Ns(2));
    drop(vda);
    assert!(io(&region, 0).is_some());
    assert_eq!(disk::<BlkFailures>(&region, 0), None);
    assert_eq!(slots.claim("vdc").err(), Some(ClaimError::Full));
    of_io.deactivate();
    drop(of_io);
    assert_eq!(slots.claim("vdc").unwrap().generation(), 1);
    // Kept for a tenant that does not come back.
    vdb.keep();
    let _vdd = slots.claim("vdd").unwrap();
    assert_eq!(slots.claim("vde").unwrap().slot(), 1);
}

#[test]
fn requests_are_followed_in_a_claimed_slot() {
    let Created { unpublished, mut blks, .. } = builder().create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let devices = blks.drain(..).map(|blk| domstat_producer::BlkDevice { blk, hist: None });
    let slots = Slots::new(devices.collect());
    let mut disk = RequestTracker::claimed(slots.claim("vda").unwrap(), now());
    let request = disk.submit(now());
    disk.complete(request, BlkOp::Write, 512, now());
    let io_now = io(&region, 0).unwrap();
    assert_eq!((io_now.wr_req.value(), io_now.in_flight.value()), (Some(1), Some(0)));
    drop(disk);
    assert_eq!(io(&region, 0), None);
}

#[test]
fn queues_count_together_and_a_sampler_publishes() {
    const QUEUES: u64 = 3;
    const REQUESTS: u64 = 20_000;
    let Created { unpublished, blks, mut nets, .. } = builder().create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let sampler = Sampler::spawn(Clock::Monotonic, EVERY).unwrap();
    let slots = Slots::new(blks);
    let counters = Arc::new(BlkCounters::default());
    sampler.blk(Arc::clone(&counters), slots.claim("vda").unwrap());
    let interface = Arc::new(NetCounters::default());
    sampler.net(Arc::clone(&interface), nets.remove(0));
    thread::scope(|scope| {
        for _ in 0..QUEUES {
            scope.spawn(|| {
                for i in 0..REQUESTS {
                    counters.submit();
                    match i % 4 {
                        0 => counters.complete(BlkOp::Read, 512, 10),
                        1 => counters.complete(BlkOp::Write, 1024, 20),
                        2 => counters.complete(BlkOp::Flush, 0, 30),
                        _ => counters.fail(BlkOp::Write),
                    }
                    interface.pass(NetDirection::Sent, 1, 60);
                }
            });
        }
        let mut last = 0;
        for _ in 0..200 {
            if let Some(queue) = disk::<BlkQueue>(&region, 0) {
                let (submitted, ended) = (queue.submitted.value(), queue.completed.value());
                assert!(ended <= submitted && ended >= Some(last), "{queue:?}");
                last = ended.unwrap();
                assert_eq!(queue.busy_ns, Word::NOT_PRODUCED);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    counters.submit();
    let all = QUEUES * REQUESTS;
    until("the last numbers are published", || {
        io(&region, 0).is_some_and(|io| io.in_flight.value() == Some(1))
    });
    let io_now = io(&region, 0).unwrap();
    let quarter = Word::from(all / 4);
    let expected = BlkIo {
        rd_req: quarter,
        rd_bytes: Word::from(all / 4 * 512),
        wr_req: quarter,
        wr_bytes: Word::from(all / 4 * 1024),
        errs: quarter,
        in_flight: Word::from(1),
    };
    assert_eq!(io_now, expected);
    let times = disk::<BlkIoTimes>(&region, 0).unwrap();
    assert_eq!((times.flush_req, times.flush_total_ns), (quarter, Word::from(all / 4 * 30)));
    let fd = published.as_fd().unwrap().try_clone_to_owned().unwrap();
    let mapped = MappedFile::from_fd(fd).unwrap();
    let subject = Subject::new(mapped.mem()).with_file(mapped.file());
    let report = watch_steps(&subject, &Options::default(), |looks| looks < 3).unwrap();
    assert!(report.passed(), "{report}");
    // Unplugged: the last queue has ended.
    drop(counters);
    until("the slot comes back", || slots.free() == 2);
    assert_eq!(io(&region, 0), None);
    // What the others have counted is published when the sampler ends.
    interface.pass(NetDirection::Received, 2, 120);
    drop(sampler);
    let net = region.net(0).unwrap().read::<NetIo>().unwrap().active().unwrap();
    let words = (net.rx_packets, net.tx_packets, net.tx_bytes, net.rx_drop);
    let sent = (Word::from(all), Word::from(all * 60));
    assert_eq!(words, (Word::from(2), sent.0, sent.1, Word::NOT_PRODUCED));
}

#[test]
fn a_sampler_follows_threads_until_they_exit() {
    let Created { unpublished, vcpus, .. } = builder().create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = attach(&published);
    let sampler = Sampler::spawn(Clock::Monotonic, EVERY).unwrap();
    let slots = Slots::new(vcpus);
    let stop = AtomicBool::new(false);
    let runs = |slot| region.vcpu(slot).unwrap().read::<Runstate>().unwrap().active().is_some();
    thread::scope(|scope| {
        for name in ["vcpu0", "vcpu1"] {
            let (slots, sampler, stop) = (&slots, &sampler, &stop);
            scope.spawn(move || {
                let mut vcpu = slots.claim(name).unwrap();
                let (runstate, sched) = (vcpu.take::<Runstate>(), vcpu.take::<Sched>());
                let times = ThreadTimes::of_current_thread(Clock::Monotonic).unwrap();
                sampler.vcpu(times, runstate.unwrap(), sched.unwrap());
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        until("both run", || (0..2).all(runs));
        stop.store(true, Ordering::Relaxed);
    });
    until("both are off", || !(0..2).any(runs));
    until("their slots can be claimed", || slots.claim("vcpu2").is_ok());
}

#[test]
fn a_sampler_that_is_late_or_never_due_takes_tasks_and_ends() {
    for every in [Duration::from_nanos(1), Duration::from_millis(1), Duration::MAX] {
        let sampler = Sampler::spawn(Clock::Monotonic, every).unwrap();
        let samples = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&samples);
        // Longer than the interval, and more of them while the first is late.
        for _ in 0..3 {
            let seen = Arc::clone(&seen);
            sampler.each(move |_| {
                std::thread::sleep(Duration::from_millis(3));
                seen.fetch_add(1, Ordering::Relaxed);
                std::ops::ControlFlow::Continue(())
            });
        }
        std::thread::sleep(Duration::from_millis(30));
        drop(sampler);
        // The last sample is taken when it ends.
        assert!(samples.load(Ordering::Relaxed) >= 3, "{every:?}");
    }
}

#[test]
fn a_sampler_needs_a_clock_and_does_what_it_is_given_until_it_breaks() {
    assert!(Sampler::spawn(Clock::XenSystemTime, EVERY).is_err());
    let sampler = Sampler::spawn(Clock::Monotonic, EVERY).unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let of_task = Arc::clone(&calls);
    sampler.each(move |now| {
        assert_ne!(now, Ns(0));
        match of_task.fetch_add(1, Ordering::Relaxed) {
            2 => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        }
    });
    until("the task has ended", || Arc::strong_count(&calls) == 1);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}
