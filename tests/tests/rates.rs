//! Shares and times of vCPUs: up to now, between snapshots, and of producers that stop.

use std::time::Duration;

use domstat_consumer::rates::{MonotonicTimes, Rates, STATES, VcpuRates};
use domstat_consumer::{Liveness, Region, Snapshot};
use domstat_layout::latest::{Memory, RunState, Runstate, Sched};
use domstat_layout::{Group, Ns, Word};
use domstat_producer::{Created, DomWriter, Region as Published, RegionBuilder, VcpuWriter};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
/// Of the clock at the first write.
const START: u64 = 1_000 * SECOND;

struct Domain {
    vcpus: Vec<VcpuWriter>,
    dom: DomWriter,
    region: Region,
    _published: Published,
}

impl Domain {
    fn new(vcpus: u32) -> Self {
        let Created { unpublished, vcpus, dom, .. } =
            RegionBuilder::new("web1").vcpus(vcpus).create_memfd().unwrap();
        let published = unpublished.publish().unwrap();
        let fd = published.as_fd().unwrap().try_clone_to_owned().unwrap();
        Self { vcpus, dom, region: Region::from_fd(fd).unwrap(), _published: published }
    }

    /// Writes a vCPU's times, in the order of the states.
    fn write(&mut self, vcpu: usize, state: RunState, times: [u64; 4], at: u64) {
        let [running, runnable, blocked, offline] = times.map(Word::from);
        let runstate = Runstate {
            state: state.into(),
            running_ns: running,
            runnable_ns: runnable,
            blocked_ns: blocked,
            offline_ns: offline,
            ..Runstate::NOT_PRODUCED
        };
        self.vcpus[vcpu].write(&runstate, Ns(at));
    }

    fn delay(&mut self, vcpu: usize, delay: u64, at: u64) {
        let sched = Sched { delay_ns: Word::from(delay), ..Sched::NOT_PRODUCED };
        self.vcpus[vcpu].write(&sched, Ns(at));
    }

    fn snapshot(&self, at: u64) -> Snapshot {
        let mut snapshot = Snapshot::new();
        self.region.snapshot_at(Some(Ns(at)), &mut snapshot);
        snapshot
    }
}

fn first(rates: Rates<'_>) -> VcpuRates {
    rates.vcpu(0).unwrap()
}

#[test]
fn time_since_the_write_belongs_to_the_state_that_was_written() {
    let mut domain = Domain::new(1);
    domain.write(0, RunState::Running, [5, 6, 7, 8], START);
    let then = domain.snapshot(START);
    let now = domain.snapshot(START + SECOND);
    let vcpu = first(Rates::new(&now));
    assert_eq!(vcpu.times.map(|t| t.value().unwrap()), [SECOND + 5, 6, 7, 8]);
    assert_eq!(vcpu.shares, [None; 4], "of no interval");
    assert_eq!((vcpu.state, vcpu.steal), (Some(RunState::Running), None));
    let shares = first(Rates::new(&now).since(&then)).shares;
    assert_eq!(shares, [Some(1.0), Some(0.0), Some(0.0), Some(0.0)]);
}

#[test]
fn a_producer_that_hangs_does_not_make_its_domain_look_busy() {
    let mut domain = Domain::new(2);
    domain.write(0, RunState::Running, [5, 6, 7, 8], START);
    let [fresh, limit, stale, later] =
        [1, 10, 11, 12].map(|seconds| domain.snapshot(START + seconds * SECOND));
    assert_eq!(first(Rates::new(&limit).since(&fresh)).running(), Some(1.0));
    for (now, then) in [(&stale, &limit), (&later, &stale)] {
        let vcpu = first(Rates::new(now).since(then));
        assert_eq!(vcpu.shares, [None; 4]);
        assert_eq!(vcpu.steal, None);
        assert_eq!(vcpu.times.map(|t| t.value().unwrap()), [5, 6, 7, 8], "as written");
        assert_eq!(Rates::new(now).since(then).sums().running(), None);
    }
    // It goes on, and says at once what the vCPU did meanwhile: that was not in the last second.
    domain.write(0, RunState::Running, [12 * SECOND, 6, 7, 8], START + 13 * SECOND);
    let resumed = domain.snapshot(START + 13 * SECOND);
    assert_eq!(first(Rates::new(&resumed).since(&later)).shares, [None; 4]);
    // Another limit, and none.
    let rates = Rates::new(&later).since(&stale);
    assert_eq!(first(rates.with_stale_after(None)).running(), Some(1.0));
    assert_eq!(first(rates.with_stale_after(Some(Duration::from_secs(60)))).running(), Some(1.0));
}

#[test]
fn a_domain_is_fresh_as_long_as_any_of_its_groups_is() {
    let mut domain = Domain::new(1);
    domain.write(0, RunState::Blocked, [0; 4], START);
    let at = START + 20 * SECOND;
    domain.dom.write(&Memory { rss_bytes: Word::from(5), ..Memory::NOT_PRODUCED }, Ns(at));
    let (then, now) = (domain.snapshot(at + 1), domain.snapshot(at + SECOND));
    assert_eq!(now.newest_write(), Some(Ns(at)));
    let [.., blocked, _] = first(Rates::new(&now).since(&then)).shares;
    assert_eq!(blocked, Some(1.0), "a vCPU that sleeps for long writes nothing");
}

#[test]
fn what_is_not_live_has_no_shares() {
    let mut domain = Domain::new(1);
    domain.write(0, RunState::Running, [5, 6, 7, 8], START);
    let (then, now) = (domain.snapshot(START + 1), domain.snapshot(START + SECOND));
    for liveness in [Liveness::Dead, Liveness::Retired, Liveness::Unheld, Liveness::Restarted] {
        let vcpu = first(Rates::new(&now).since(&then).with_liveness(&liveness));
        assert_eq!(vcpu.shares, [None; 4], "{}", liveness.name());
        assert_eq!(vcpu.times.map(|t| t.value().unwrap()), [5, 6, 7, 8], "{}", liveness.name());
    }
    let live = Rates::new(&now).since(&then).with_liveness(&Liveness::Live);
    assert_eq!(first(live).running(), Some(1.0));
}

#[test]
fn steal_is_the_schedulers_delay_or_else_the_runnable_time() {
    let mut domain = Domain::new(2);
    for vcpu in [0, 1] {
        domain.write(vcpu, RunState::Running, [0; 4], START);
    }
    domain.delay(0, 0, START);
    let then = domain.snapshot(START);
    for vcpu in [0, 1] {
        domain.write(vcpu, RunState::Running, [SECOND / 2, SECOND / 2, 0, 0], START + SECOND);
    }
    let unwritten = domain.snapshot(START + SECOND);
    let rates = Rates::new(&unwritten).since(&then);
    assert_eq!(first(rates).steal, Some(0.5), "no delay was written in the interval");
    domain.delay(0, SECOND / 4, START + SECOND);
    let now = domain.snapshot(START + SECOND);
    let rates = Rates::new(&now).since(&then);
    assert_eq!(first(rates).steal, Some(0.25));
    assert_eq!(rates.vcpu(1).unwrap().steal, Some(0.5), "it has no delay");
    let sums = rates.sums();
    assert_eq!((sums.vcpus, sums.running(), sums.steal), (2, Some(1.0), Some(0.75)));
}

#[test]
fn between_two_polls_nothing_is_known() {
    let mut domain = Domain::new(1);
    domain.write(0, RunState::Running, [0; 4], START);
    domain.delay(0, 0, START);
    let first_poll = domain.snapshot(START);
    let between = domain.snapshot(START + SECOND / 2);
    let vcpu = first(Rates::new(&between).since(&first_poll));
    assert_eq!((vcpu.shares, vcpu.steal), ([None; 4], None), "it was found running, once");
    let [quarter, rest] = [SECOND / 4, SECOND * 3 / 4];
    domain.write(0, RunState::Running, [quarter, rest, 0, 0], START + SECOND);
    domain.delay(0, rest, START + SECOND);
    // Looked at later than it was polled: the time since is nobody's.
    let second_poll = domain.snapshot(START + SECOND * 3 / 2);
    for then in [&first_poll, &between] {
        let vcpu = first(Rates::new(&second_poll).since(then));
        assert_eq!(vcpu.shares, [Some(0.25), Some(0.75), Some(0.0), Some(0.0)]);
        assert_eq!(vcpu.steal, Some(0.75));
    }
}

#[test]
fn what_is_not_produced_stays_absent() {
    let mut domain = Domain::new(2);
    let runstate = Runstate { running_ns: Word::from(5), ..Runstate::NOT_PRODUCED };
    domain.vcpus[0].write(&runstate, Ns(START));
    let (then, now) = (domain.snapshot(START), domain.snapshot(START + SECOND));
    let rates = Rates::new(&now).since(&then);
    let vcpu = first(rates);
    assert_eq!(vcpu.times.map(Word::value), [Some(5), None, None, None]);
    assert_eq!(vcpu.shares, [Some(0.0), None, None, None]);
    assert_eq!((vcpu.state, vcpu.steal), (None, None));
    assert!(rates.vcpu(1).is_none() && rates.vcpu(2).is_none());
    assert_eq!(rates.sums().shares, [Some(0.0), None, None, None]);
}

#[test]
fn another_incarnation_or_tenant_is_not_compared() {
    let (mut one, mut other) = (Domain::new(1), Domain::new(1));
    one.write(0, RunState::Running, [5; 4], START);
    other.write(0, RunState::Running, [5; 4], START);
    let (then, now) = (one.snapshot(START), other.snapshot(START + SECOND));
    assert_eq!(first(Rates::new(&now).since(&then)).shares, [None; 4]);
    let mut shown = MonotonicTimes::new();
    let before: Vec<_> = shown.times(&Rates::new(&one.snapshot(START + SECOND))).collect();
    assert_eq!(before, [[Some(SECOND + 5), Some(5), Some(5), Some(5)]]);
    let after: Vec<_> = shown.times(&Rates::new(&other.snapshot(START))).collect();
    assert_eq!(after, [[Some(5); 4]], "a new region starts over");
}

/// What happens between two looks.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes in which nothing is written.
    Pass(u64),
    /// The producer accounts what passed since its last write to these states.
    Write(RunState, [u64; 4]),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = (0usize..4).prop_map(|i| STATES[i]);
    let write = (state, prop::array::uniform4(0u64..100));
    let step = prop_oneof![
        (0..20 * SECOND).prop_map(Step::Pass),
        write.prop_map(|(state, parts)| Step::Write(state, parts)),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn times_never_decrease_and_shares_are_shares(steps in steps()) {
        let mut domain = Domain::new(1);
        let (mut at, mut written) = (START, START);
        let mut times = [0u64; 4];
        domain.write(0, RunState::Running, times, at);
        let mut shown = MonotonicTimes::new();
        let mut before = [0u64; 4];
        let mut then = domain.snapshot(at);
        for step in steps {
            match step {
                Step::Pass(ns) => at += ns,
                Step::Write(state, parts) => {
                    let whole: u64 = parts.iter().sum::<u64>().max(1);
                    for (time, part) in times.iter_mut().zip(parts) {
                        *time += u64::try_from(
                            u128::from(at - written) * u128::from(part) / u128::from(whole),
                        ).unwrap();
                    }
                    written = at;
                    domain.write(0, state, times, at);
                }
            }
            let now = domain.snapshot(at);
            let rates = Rates::new(&now).since(&then);
            let is_stale = at - written > 10 * SECOND;
            let given = shown.times(&rates).next().unwrap().map(Option::unwrap);
            for (given, before) in given.iter().zip(before) {
                prop_assert!(*given >= before, "{given} after {before}");
            }
            before = given;
            let vcpu = first(rates);
            for share in vcpu.shares.into_iter().chain([vcpu.steal]).flatten() {
                prop_assert!((0.0..=1.0).contains(&share) && share.is_sign_positive(), "{share}");
                prop_assert!(!is_stale, "a share of a domain that is stale");
            }
            if is_stale {
                prop_assert_eq!(vcpu.times.map(|t| t.value().unwrap()), times, "as written");
            }
            then = now;
        }
    }
}
