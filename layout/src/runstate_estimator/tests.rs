use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn reading(run_ms: u64, wait_ms: u64, activity: Activity) -> Reading {
    Reading { run_ns: run_ms * MS, wait_ns: wait_ms * MS, timeslices: 1, activity }
}

fn times(estimator: &RunstateEstimator) -> [u64; 4] {
    [estimator.running, estimator.runnable, estimator.blocked, estimator.offline]
}

#[test]
fn a_late_wait_is_taken_from_the_time_there_is_to_share_out() {
    let mut estimator =
        RunstateEstimator::new(Ns(0), reading(10, 0, Activity::Waits), Ns(100 * MS));
    assert_eq!(times(&estimator), [10 * MS, 0, 90 * MS, 0]);
    // 138 ms of waiting are accounted at once, 38 ms more than passed.
    estimator.advance(reading(20, 138, Activity::Waits), Ns(200 * MS));
    assert_eq!(times(&estimator), [10 * MS, 100 * MS, 90 * MS, 0]);
    estimator.advance(reading(20, 138, Activity::Waits), Ns(300 * MS));
    assert_eq!(times(&estimator), [20 * MS, 138 * MS, 142 * MS, 0]);
}

#[test]
fn a_thread_whose_counters_stand_still_waits_for_a_cpu() {
    let mut estimator = RunstateEstimator::new(Ns(0), reading(50, 0, Activity::Wants), Ns(50 * MS));
    assert_eq!(estimator.state(), RunState::Running);
    estimator.advance(reading(50, 0, Activity::Wants), Ns(60 * MS));
    assert_eq!(times(&estimator), [60 * MS, 0, 0, 0], "less than a tick: it may be running");
    estimator.advance(reading(50, 0, Activity::Wants), Ns(260 * MS));
    assert_eq!(estimator.state(), RunState::Runnable);
    assert_eq!(times(&estimator), [60 * MS, 200 * MS, 0, 0]);
    // It was given the CPU after 208 ms: nothing is accounted twice.
    estimator.advance(reading(92, 208, Activity::Wants), Ns(300 * MS));
    assert_eq!(times(&estimator), [92 * MS, 208 * MS, 0, 0]);
}

#[test]
fn a_sleeper_that_happens_to_be_seen_awake_was_blocked() {
    let mut estimator = RunstateEstimator::new(Ns(0), reading(1, 0, Activity::Waits), Ns(250 * MS));
    estimator.advance(reading(2, 0, Activity::Wants), Ns(500 * MS));
    let [running, runnable, blocked, _] = times(&estimator);
    assert!(running <= 2 * MS + RUN_AHEAD_NS);
    assert_eq!(runnable, 0);
    assert_eq!(blocked, 500 * MS - running);
}

#[test]
fn a_stopped_thread_is_offline_and_its_entry_is_not_known() {
    let mut estimator = RunstateEstimator::new(Ns(7), reading(0, 0, Activity::Stopped), Ns(7));
    estimator.advance(reading(0, 0, Activity::Stopped), Ns(7 + MS));
    assert_eq!(estimator.runstate().run_state(), Some(RunState::Offline));
    assert_eq!(estimator.runstate().offline_ns.value(), Some(MS));
    assert_eq!(estimator.runstate().state_entry_ns, Word::NOT_PRODUCED);
}

#[test]
fn counters_larger_than_the_age_are_made_up_for_later() {
    let mut estimator = RunstateEstimator::new(Ns(0), reading(15, 3, Activity::Wants), Ns(10 * MS));
    assert_eq!(times(&estimator), [7 * MS, 3 * MS, 0, 0]);
    estimator.advance(reading(15, 3, Activity::Waits), Ns(20 * MS));
    assert_eq!(times(&estimator), [15 * MS, 3 * MS, 2 * MS, 0]);
}

fn activity() -> impl Strategy<Value = Activity> {
    prop_oneof![Just(Activity::Wants), Just(Activity::Waits), Just(Activity::Stopped)]
}

/// What a real thread does for a while.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Run(u64),
    Queue(u64),
    Sleep(u64),
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        (1..40 * MS).prop_map(Phase::Run),
        (1..150 * MS).prop_map(Phase::Queue),
        (1..300 * MS).prop_map(Phase::Sleep),
    ]
}

proptest! {
    /// Whatever the kernel says, even if its counters run backwards or far too fast.
    #[test]
    fn times_sum_to_the_age_and_never_decrease(
        began in 0..1_000u64,
        samples in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), activity(), 0..400 * MS), 1..60),
        scale in 0..40u32,
    ) {
        let mut now = began;
        let mut estimator: Option<RunstateEstimator> = None;
        for (run, wait, timeslices, activity, step) in samples {
            now += step;
            let reading = Reading { run_ns: run >> scale, wait_ns: wait >> scale, timeslices, activity };
            let before = estimator.map(|b| times(&b));
            let estimator = estimator.get_or_insert_with(|| RunstateEstimator::new(Ns(began), reading, Ns(now)));
            estimator.advance(reading, Ns(now));
            prop_assert_eq!(estimator.runstate().total_ns(), Some(now - began));
            for (was, is) in before.unwrap_or_default().into_iter().zip(times(estimator)) {
                prop_assert!(is >= was, "{} after {}", is, was);
            }
        }
    }

    /// A thread that runs, queues and sleeps, with counters that lag as the kernel's do: once it has
    /// slept, what is published is within the stated bounds of the estimator.
    #[test]
    fn published_times_converge_on_the_counters(
        phases in prop::collection::vec(phase(), 1..60),
        interval in prop_oneof![Just(10 * MS), Just(250 * MS), MS..400 * MS],
    ) {
        let tick = 4 * MS;
        let (mut run, mut wait, mut now) = (0u64, 0u64, 0u64);
        let mut next_sample = interval;
        let mut timeslices = 0;
        let start = Reading { run_ns: 0, wait_ns: 0, timeslices: 0, activity: Activity::Waits };
        let mut estimator = RunstateEstimator::new(Ns(0), start, Ns(0));
        for phase in phases.into_iter().chain([Phase::Sleep(5_000 * MS)]) {
            let (length, activity) = match phase {
                Phase::Run(length) | Phase::Queue(length) => (length, Activity::Wants),
                Phase::Sleep(length) => (length, Activity::Waits),
            };
            if matches!(phase, Phase::Run(_)) {
                timeslices += 1;
            }
            while next_sample < now + length {
                let accounted = match phase {
                    Phase::Run(_) => (next_sample - now) / tick * tick,
                    _ => 0,
                };
                estimator.advance(
                    Reading { run_ns: run + accounted, wait_ns: wait, timeslices, activity },
                    Ns(next_sample),
                );
                next_sample += interval;
            }
            now += length;
            match phase {
                Phase::Run(length) => run += length,
                Phase::Queue(length) => wait += length,
                Phase::Sleep(_) => {}
            }
        }
        let [running, runnable, ..] = times(&estimator);
        prop_assert!((run..=run + RUN_AHEAD_NS).contains(&running), "{} for {}", running, run);
        prop_assert!((wait..=wait + WAIT_AHEAD_NS).contains(&runnable), "{} for {}", runnable, wait);
    }
}
