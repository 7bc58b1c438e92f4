#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

use domstat_consumer::Region;
use domstat_layout::Clock;
use domstat_producer::{Created, RegionBuilder, VcpuWriter};

use super::*;

const SECOND: u64 = 1_000_000_000;

/// Writes a runstate and this many exits, as of some seconds ago.
fn write(vcpu: &mut VcpuWriter, exits: u64, seconds_ago: u64) {
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let at = Ns(now.0.saturating_sub(seconds_ago * SECOND));
    vcpu.write(&Runstate::NOT_PRODUCED, now);
    vcpu.write(&Exits { exits: Word::new(exits), ..Exits::NOT_PRODUCED }, at);
}

fn snapshot(region: &Region) -> Snapshot {
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    snapshot
}

/// Exits per second as of `now`, the interval having begun at `then`.
fn exits(now: &Snapshot, then: &Snapshot, held: &HeldRates) -> Option<f64> {
    let interval = Interval::new(now, Some(then), &Liveness::Live, Duration::from_secs(10));
    interval.holding(held).vcpus().next().unwrap().exits
}

#[test]
fn no_write_in_an_interval_is_no_rate_of_0() {
    let builder = RegionBuilder::new("slow").vcpus(1).clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let vcpu = vcpus.first_mut().unwrap();
    write(vcpu, 1000, 30);
    let published = unpublished.publish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _entry = published.announce(dir.path(), "slow").unwrap();
    let region = Region::open(dir.path().join("slow.domstat")).unwrap();

    let (first, mut held) = (snapshot(&region), HeldRates::default());
    assert_eq!(exits(&snapshot(&region), &first, &held), None, "one write");
    write(vcpu, 4000, 0);
    let second = snapshot(&region);
    let between = exits(&second, &first, &held).unwrap();
    assert!((99.0..=100.0).contains(&between), "{between}");
    held.note(&first, &second);
    let after = snapshot(&region);
    assert_eq!(exits(&after, &second, &HeldRates::default()), None, "not 0");
    assert_eq!(exits(&after, &second, &held), Some(between), "it is that of the last two writes");

    // A write that is not news: the next one was due long ago.
    write(vcpu, 5000, 200);
    let old = snapshot(&region);
    write(vcpu, 6000, 190);
    let older = snapshot(&region);
    held.note(&old, &older);
    assert_eq!(exits(&snapshot(&region), &older, &held), None, "overdue");
}

#[test]
fn shares_of_polled_vcpus_hold_until_the_next_poll() {
    let builder = RegionBuilder::new("polled").vcpus(1).clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let vcpu = vcpus.first_mut().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let mut poll = |seconds_ago: u64, ran: u64| {
        let at = Ns(now.0.saturating_sub(seconds_ago * SECOND));
        let age = 10 - seconds_ago;
        let runstate = Runstate {
            state: RunState::Running.into(),
            running_ns: Word::new(ran * SECOND),
            runnable_ns: Word::new((age - ran) * SECOND),
            ..Runstate::NOT_PRODUCED
        };
        vcpu.write(&runstate, at);
        let delay_ns = Word::new((age - ran) * SECOND);
        vcpu.write(&Sched { delay_ns, ..Sched::NOT_PRODUCED }, at);
    };
    poll(5, 1);
    let published = unpublished.publish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _entry = published.announce(dir.path(), "polled").unwrap();
    let region = Region::open(dir.path().join("polled.domstat")).unwrap();

    let (first, mut held) = (snapshot(&region), HeldRates::default());
    poll(1, 2);
    let second = snapshot(&region);
    held.note(&first, &second);
    let after = snapshot(&region);
    for (then, held) in [(&first, HeldRates::default()), (&second, held)] {
        let interval = Interval::new(&after, Some(then), &Liveness::Live, Duration::from_secs(10));
        let row = interval.holding(&held).vcpus().next().unwrap();
        assert_eq!((row.shares[0], row.steal), (Some(0.25), Some(0.75)), "not 100 % and 0");
        assert_eq!(row.times[0].value(), Some(2 * SECOND), "as of the last poll");
    }
}
