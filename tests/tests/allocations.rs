//! Writers allocate nothing after creation.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use domstat_layout::latest::{BlkQueueOf, Exits, Memory, NetIo, RunState, Wait};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::{
    BlkDevice, BlkOp, RegionBuilder, RequestTracker, RunstateTracker, ThreadTimes,
};

/// The system's allocator, which counts what each thread asks it for.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is the system allocator's; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `what` asks for memory or gives it back.
fn calls_of(what: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    what();
    CALLS.get() - before
}

fn no_call(name: &str, step: impl FnOnce()) {
    assert_eq!(calls_of(step), 0, "{name}");
}

#[test]
fn the_counter_counts() {
    assert_eq!(calls_of(|| drop(std::hint::black_box(Box::new(1)))), 2);
}

#[test]
fn writers_allocate_nothing_after_creation() {
    let builder = RegionBuilder::new("busy").vcpus(1).blks(1).nets(1).clock(Clock::Monotonic);
    let builder = builder.vcpu_histograms(true).blk_histograms(true).blk_queues(1);
    let mut created = builder.create_memfd().unwrap();
    let region = created.unpublished.publish().unwrap();
    let mut vcpu = created.vcpus.remove(0);
    let mut hist = created.vcpu_hists.remove(0);
    let mut net = created.nets.remove(0);
    let mut exits = vcpu.take::<Exits>().unwrap();
    let mut tracker = RunstateTracker::new(RunState::Blocked, Ns(1));
    let mut times = ThreadTimes::of_current_thread(Clock::Monotonic).unwrap();
    let device = BlkDevice { blk: created.blks.remove(0), hist: Some(created.blk_hists.remove(0)) };
    let mut device = RequestTracker::device(device, Ns(1));
    let of = BlkQueueOf {
        device: Word::from(0),
        generation: Word::from(0),
        queue: Word::from(0),
        pid: Word::NOT_PRODUCED,
    };
    let mut share = RequestTracker::share(created.blk_queues.remove(0), &of, Ns(1));
    // Whatever a clock or a file sets up when it is first used.
    let _ = (domstat_producer::now(Clock::Monotonic), times.sample());

    no_call("a first write", || created.dom.write(&Memory::NOT_PRODUCED, Ns(2)));
    no_call("a write", || created.dom.write(&Memory::NOT_PRODUCED, Ns(3)));
    no_call("set", || created.dom.set(Memory::current_bytes, 1, Ns(4)));
    no_call("a runstate", || vcpu.write(tracker.enter(RunState::Running, Ns(5)), Ns(5)));
    no_call("a group's writer", || {
        exits.set(Exits::exits, 1, Ns(6));
        exits.set(Exits::exits, 2, Ns(7));
        exits.deactivate();
    });
    no_call("record", || {
        hist.record::<Wait>(5, Ns(6));
        hist.record::<Wait>(6, Ns(7));
    });
    no_call("an interface", || {
        net.set(NetIo::rx_bytes, 1, Ns(5));
        net.deactivate::<NetIo>();
        assert!(net.renew());
    });
    no_call("requests", || {
        let (a, b) = (device.submit(Ns(8)), device.submit(Ns(9)));
        device.complete(a, BlkOp::Read, 512, Ns(10));
        device.fail(b, BlkOp::Write, Ns(11));
    });
    no_call("requests of a share", || {
        let a = share.submit(Ns(8));
        share.complete(a, BlkOp::Write, 512, Ns(10));
    });
    no_call("renew", || device.renew(Ns(12)));
    no_call("times of a thread", || {
        let sample = times.sample().unwrap();
        vcpu.write(&sample.runstate, sample.now);
        vcpu.write(&sample.sched, sample.now);
    });
    no_call("notify and check", || {
        region.notify();
        region.check().unwrap();
    });
    let retirer = region.retirer();
    no_call("a retirer", || retirer.retire());
}
