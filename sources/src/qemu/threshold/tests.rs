use proptest::prelude::*;

use super::*;

const NODE: &str = "n";

fn fired(threshold: u64, excess: u64) -> Firing {
    Firing { threshold, excess: Some(excess), reconciled: false }
}

fn missed(threshold: u64) -> Firing {
    Firing { threshold, excess: None, reconciled: true }
}

fn armed(threshold: u64) -> Thresholds {
    let mut t = Thresholds::default();
    t.sent(NODE, threshold);
    t.answered(NODE, true);
    assert_eq!(t.armed(NODE), Some(threshold));
    t
}

#[test]
fn an_event_is_one_firing_and_the_level_after_it_none() {
    let mut t = armed(100);
    assert_eq!(t.event(NODE, 100, Some(7)), fired(100, 7));
    assert_eq!(t.level(NODE, 0), (None, None));
}

#[test]
fn a_firing_without_its_event_shows_in_the_level_once() {
    let mut t = armed(100);
    t.cut();
    assert_eq!(t.level(NODE, 0), (Some(missed(100)), None));
    assert_eq!(t.level(NODE, 0), (None, None));
}

#[test]
fn an_event_before_the_answer_means_that_it_was_set_and_fired() {
    let mut t = Thresholds::default();
    t.sent(NODE, 100);
    assert_eq!(t.event(NODE, 100, Some(1)), fired(100, 1));
    t.answered(NODE, true);
    assert_eq!(t.armed(NODE), None);
    assert_eq!(t.level(NODE, 0), (None, None));
}

#[test]
fn an_event_before_the_answer_may_be_of_the_threshold_before() {
    let mut t = armed(50);
    t.sent(NODE, 100);
    assert_eq!(t.event(NODE, 50, Some(1)), fired(50, 1));
    t.answered(NODE, true);
    assert_eq!(t.armed(NODE), Some(100));
}

#[test]
fn a_lost_answer_is_decided_by_the_level() {
    let lost = |level| {
        let mut t = Thresholds::default();
        t.sent(NODE, 100);
        t.cut();
        assert_eq!(t.lost().collect::<Vec<_>>(), [NODE]);
        (t.level(NODE, level), t.armed(NODE))
    };
    assert_eq!(lost(100), ((None, Some(SetOutcome::Set)), Some(100)));
    assert_eq!(lost(0), ((None, Some(SetOutcome::Unknown)), None));
    assert_eq!(lost(70), ((None, Some(SetOutcome::Unknown)), Some(70)), "another client's");
}

#[test]
fn a_lost_request_leaves_the_threshold_before_to_be_told() {
    let mut t = armed(50);
    t.sent(NODE, 100);
    t.cut();
    assert_eq!(t.level(NODE, 0), (Some(missed(50)), Some(SetOutcome::Unknown)));
    let mut t = armed(50);
    t.sent(NODE, 100);
    t.cut();
    assert_eq!(t.level(NODE, 100), (None, Some(SetOutcome::Set)), "replaced, not fired");
}

#[test]
fn a_refused_request_changes_nothing() {
    let mut t = armed(50);
    t.sent(NODE, 100);
    t.answered(NODE, false);
    assert_eq!(t.armed(NODE), Some(50));
    assert!(t.must_disarm_first(NODE, 50) && !t.must_disarm_first(NODE, 100));
}

#[test]
fn a_threshold_of_another_client_is_watched_too() {
    let mut t = Thresholds::default();
    assert_eq!(t.level(NODE, 70), (None, None));
    assert_eq!(t.level(NODE, 0), (Some(missed(70)), None));
    assert_eq!(t.event(NODE, 80, Some(1)), fired(80, 1));
}

/// QEMU's side: a threshold, and messages on their way that a cut loses.
#[derive(Default)]
struct Qemu {
    threshold: u64,
    firings: u64,
    wire: std::collections::VecDeque<Wire>,
}

enum Wire {
    Event(u64),
    Answer,
    Level(u64),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u64),
    Write,
    Take,
    Ask,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u64..4).prop_map(Step::Set),
        Just(Step::Write),
        Just(Step::Take),
        Just(Step::Take),
        Just(Step::Ask),
        Just(Step::Cut),
    ]
}

proptest! {
    /// Whatever is interleaved: no firing of an acknowledged threshold is lost, and nothing is
    /// reported twice.
    #[test]
    fn no_firing_is_lost_or_doubled(steps in prop::collection::vec(step(), 0..60)) {
        let (mut t, mut qemu) = (Thresholds::default(), Qemu::default());
        let (mut reported, mut unknown, mut replaced) = (0u64, 0u64, 0u64);
        let mut outstanding = None;
        let take = |t: &mut Thresholds, qemu: &mut Qemu, outstanding: &mut Option<u64>| {
            match qemu.wire.pop_front() {
                None => 0,
                Some(Wire::Event(threshold)) => {
                    t.event(NODE, threshold, Some(1));
                    1
                }
                Some(Wire::Answer) => {
                    t.answered(NODE, true);
                    *outstanding = None;
                    0
                }
                Some(Wire::Level(level)) => u64::from(t.level(NODE, level).0.is_some()),
            }
        };
        for step in steps {
            match step {
                // As the domain does: one at a time, and not over itself.
                Step::Set(threshold) if outstanding.is_none() && t.armed(NODE) != Some(threshold) => {
                    if qemu.threshold > 0 {
                        replaced += 1;
                    }
                    t.sent(NODE, threshold);
                    outstanding = Some(threshold);
                    qemu.threshold = threshold;
                    qemu.wire.push_back(Wire::Answer);
                }
                Step::Set(_) => {}
                Step::Write if qemu.threshold > 0 => {
                    qemu.wire.push_back(Wire::Event(qemu.threshold));
                    qemu.firings += 1;
                    qemu.threshold = 0;
                }
                Step::Write => {}
                Step::Take => reported += take(&mut t, &mut qemu, &mut outstanding),
                Step::Ask => qemu.wire.push_back(Wire::Level(qemu.threshold)),
                Step::Cut => {
                    qemu.wire.clear();
                    t.cut();
                    let (firing, outcome) = t.level(NODE, qemu.threshold);
                    reported += u64::from(firing.is_some());
                    unknown += u64::from(outcome.is_some());
                    outstanding = None;
                }
            }
        }
        while !qemu.wire.is_empty() {
            reported += take(&mut t, &mut qemu, &mut outstanding);
        }
        reported += u64::from(t.level(NODE, qemu.threshold).0.is_some());
        // A request whose answer was lost may have replaced what fired, or fired itself.
        prop_assert!(reported <= qemu.firings + replaced, "{reported} of {}", qemu.firings);
        prop_assert!(reported + unknown >= qemu.firings, "{reported} of {}", qemu.firings);
        if unknown == 0 {
            prop_assert_eq!(reported, qemu.firings);
        }
    }
}
