use super::*;

/// What QEMU does with a job after block-job-cancel, in the order in which it happens to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The reply.
    Reply,
    /// BLOCK_JOB_CANCELLED or BLOCK_JOB_COMPLETED.
    Event,
    /// From here on query-block-jobs does not list it.
    Leave,
}

/// Every order of these steps.
fn orders(steps: &[Step]) -> Vec<Vec<Step>> {
    let [] = steps else {
        return (0..steps.len())
            .flat_map(|i| {
                let mut rest = steps.to_vec();
                let first = rest.remove(i);
                orders(&rest).into_iter().map(move |order| [vec![first], order].concat())
            })
            .collect();
    };
    vec![Vec::new()]
}

/// One run: what was answered and reported, and when.
#[derive(Debug, Default)]
struct Run {
    answers: Vec<(usize, Result<Answer, AbortError>)>,
    events: Vec<(usize, End)>,
    records: usize,
    cancels: usize,
}

impl Run {
    fn take(&mut self, at: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendCancel { .. } => self.cancels += 1,
                Action::AskStatus => {}
                Action::Answer(_, answer) => self.answers.push((at, answer)),
                Action::Record(_) => self.records += 1,
                Action::Emit(end) => self.events.push((at, end)),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    is_async: bool,
    ready: bool,
    /// After which steps the status is asked for, as bits.
    asked: u32,
    /// Before which step the connection is cut, if at all.
    cut: Option<usize>,
}

/// Plays one order and returns when the job had really ended.
fn play(case: Case, order: &[Step]) -> (Run, Option<usize>) {
    let mut job = Job::default();
    let mut run = Run::default();
    let (mut listed, mut gone) = (true, None);
    let outcome = if case.ready { Outcome::Completed } else { Outcome::Canceled };
    run.take(0, job.status(Status::Alive { ready: case.ready }));
    run.take(0, job.abort(1, case.is_async, false));
    let status = |listed: bool| match listed {
        true => Status::Alive { ready: case.ready },
        false => Status::Absent,
    };
    for (at, step) in (1..).zip(order) {
        let was_cut = case.cut.is_some_and(|cut| at > cut);
        match step {
            // What a connection that was cut would have brought is lost.
            Step::Reply if !was_cut => run.take(at, job.replied(Ok(()), false)),
            Step::Event if !was_cut => run.take(at, job.ended(outcome.clone())),
            Step::Reply | Step::Event => {}
            Step::Leave => listed = false,
        }
        if gone.is_none() && (*step == Step::Leave || *step == Step::Event) {
            gone = Some(at);
        }
        if case.cut.is_none() && case.asked & (1 << at) != 0 {
            run.take(at, job.status(status(listed)));
        }
    }
    let end = order.len() + 1;
    if case.cut.is_some() {
        run.take(end, job.reconnected(status(listed)));
    }
    // The daemon goes on asking.
    for _ in 0..2 {
        run.take(end, job.status(status(listed)));
    }
    assert!(job.is_idle() || job.event_owed, "{case:?} {order:?}: {job:?}");
    (run, gone)
}

#[test]
fn every_order_of_reply_event_and_status_gives_one_answer_and_the_right_events() {
    let with_event = orders(&[Step::Reply, Step::Event, Step::Leave]);
    let without = orders(&[Step::Reply, Step::Leave]);
    let mut played = 0;
    for order in with_event.iter().chain(&without) {
        let cuts = (0..=order.len()).map(Some).chain([None]);
        for cut in cuts {
            for bits in 0..64u32 {
                let case =
                    Case { is_async: bits & 1 != 0, ready: bits & 2 != 0, asked: bits >> 1, cut };
                check(case, order);
                played += 1;
            }
        }
    }
    assert_eq!(played, 6 * 5 * 64 + 2 * 4 * 64);
}

fn check(case: Case, order: &[Step]) {
    let (run, gone) = play(case, order);
    let what = format!("{case:?} {order:?}: {run:?}");
    let [(answered, Ok(answer))] = run.answers.as_slice() else { panic!("one answer: {what}") };
    assert_eq!(run.records, 1, "{what}");
    if case.cut.is_none() {
        assert_eq!(run.cancels, 1, "{what}");
    }
    let expected = if case.ready { Outcome::Completed } else { Outcome::Canceled };
    if case.is_async {
        assert_eq!(*answer, Answer::Accepted, "{what}");
        let [(reported, end)] = run.events.as_slice() else { panic!("one event: {what}") };
        assert!(reported >= answered, "not before the answer: {what}");
        assert!(gone.is_some_and(|gone| *reported >= gone), "not before its end: {what}");
        assert_eq!(end.outcome, expected, "{what}");
    } else {
        let Answer::Ended(end) = answer else { panic!("it has ended: {what}") };
        assert_eq!(end.outcome, expected, "{what}");
        assert!(gone.is_some_and(|gone| *answered >= gone), "not before its end: {what}");
        assert_eq!(run.events, [], "a caller that waits has the answer, and no event: {what}");
    }
}

fn running() -> Job {
    let mut job = Job::default();
    assert_eq!(job.status(Status::Alive { ready: false }), []);
    job
}

fn ended(outcome: Outcome, reconciled: bool) -> End {
    End { outcome, reconciled }
}

/// The actions other than the record.
fn reported(actions: Vec<Action>) -> Vec<Action> {
    actions.into_iter().filter(|a| !matches!(a, Action::Record(_))).collect()
}

#[test]
fn a_paused_job_refuses_and_goes_on() {
    let mut job = running();
    job.abort(1, false, false);
    job.abort(2, true, false);
    let why = AbortError::Refused("is paused".to_owned());
    let actions = job.replied(Err("is paused".to_owned()), false);
    assert_eq!(actions, [1, 2].map(|r| Action::Answer(r, Err(why.clone()))));
    assert!(job.is_alive() && !job.is_ending());
    let actions = reported(job.ended(Outcome::Completed));
    assert_eq!(actions, [Action::Emit(ended(Outcome::Completed, false))]);
}

#[test]
fn a_job_that_is_gone_is_no_job() {
    let mut job = Job::default();
    job.abort(1, false, false);
    let actions = reported(job.replied(Err("not active".to_owned()), true));
    assert_eq!(actions, [Action::Answer(1, Err(AbortError::NoJob))]);
    // It was known, and no event reported its end.
    let mut job = running();
    job.abort(1, false, false);
    let actions = reported(job.replied(Err("not active".to_owned()), true));
    let end = ended(Outcome::Unknown, true);
    assert_eq!(actions, [Action::Answer(1, Err(AbortError::NoJob)), Action::Emit(end)]);
    assert_eq!(job.status(Status::Absent), []);
}

#[test]
fn a_job_that_ends_by_itself_just_before_is_the_answer() {
    for is_async in [false, true] {
        let mut job = running();
        job.abort(1, is_async, false);
        assert_eq!(job.ended(Outcome::Failed("disk full".to_owned())), []);
        let actions = reported(job.replied(Err("not active".to_owned()), true));
        let end = ended(Outcome::Failed("disk full".to_owned()), false);
        match is_async {
            false => assert_eq!(actions, [Action::Answer(1, Ok(Answer::Ended(end)))]),
            true => {
                let accepted = Action::Answer(1, Ok(Answer::Accepted));
                assert_eq!(actions, [accepted, Action::Emit(end)]);
            }
        }
    }
}

#[test]
fn a_caller_that_does_not_wait_any_more_gets_an_event() {
    let mut job = running();
    job.abort(1, false, false);
    job.abort(2, true, false);
    assert_eq!(job.timed_out(2), [Action::Answer(2, Err(AbortError::Unanswered))]);
    job.replied(Ok(()), false);
    assert_eq!(job.timed_out(1), [Action::Answer(1, Err(AbortError::TimedOut))]);
    assert_eq!(job.timed_out(1), []);
    let actions = reported(job.ended(Outcome::Canceled));
    assert_eq!(actions, [Action::Emit(ended(Outcome::Canceled, false))]);
}

#[test]
fn requests_for_one_job_share_one_cancellation() {
    let mut job = running();
    assert_eq!(job.abort(1, false, false), [Action::SendCancel { force: false }]);
    assert_eq!(job.abort(2, true, false), []);
    assert_eq!(job.replied(Ok(()), false).len(), 2);
    assert_eq!(job.abort(3, true, false), [Action::Answer(3, Ok(Answer::Accepted))]);
    let end = ended(Outcome::Canceled, false);
    let actions = reported(job.ended(Outcome::Canceled));
    assert_eq!(actions, [Action::Answer(1, Ok(Answer::Ended(end.clone()))), Action::Emit(end)]);
}

#[test]
fn a_vm_that_dies_ends_everything() {
    let mut job = running();
    job.abort(1, false, false);
    assert_eq!(job.domain_gone(), [Action::Answer(1, Err(AbortError::DomainGone))]);
    let mut job = running();
    job.abort(1, true, false);
    let gone = ended(Outcome::DomainGone, false);
    let accepted = Action::Answer(1, Ok(Answer::Accepted));
    assert_eq!(job.domain_gone(), [accepted, Action::Emit(gone.clone())]);
    assert_eq!(running().domain_gone(), [Action::Emit(gone)]);
    assert_eq!(Job::default().domain_gone(), []);
}

#[test]
fn a_job_that_stays_to_be_dismissed_has_ended() {
    let concluded = || Status::Concluded(Some("Operation canceled".to_owned()));
    let mut job = running();
    job.abort(1, false, false);
    job.replied(Ok(()), false);
    let end = ended(Outcome::Canceled, true);
    assert_eq!(reported(job.status(concluded())), [Action::Answer(1, Ok(Answer::Ended(end)))]);
    assert_eq!(job.status(concluded()), []);
    assert_eq!(job.status(Status::Absent), []);
    // And one that ended before anybody looked is not news.
    assert_eq!(Job::default().status(concluded()), []);
}

#[test]
fn the_next_job_of_the_same_id_is_another_one() {
    let mut job = running();
    assert_eq!(reported(job.ended(Outcome::Completed)).len(), 1);
    assert_eq!(job.status(Status::Alive { ready: false }), [], "still the old one");
    job.began();
    job.status(Status::Alive { ready: false });
    assert!(job.is_alive());
    assert_eq!(reported(job.ended(Outcome::Canceled)).len(), 1);
    assert_eq!(job.status(Status::Absent), []);
    assert!(job.is_idle());
}

#[test]
fn a_job_that_ended_unseen_is_reported_once() {
    let mut job = running();
    let actions = reported(job.reconnected(Status::Absent));
    assert_eq!(actions, [Action::Emit(ended(Outcome::Unknown, true))]);
    assert_eq!(job.status(Status::Absent), []);
    assert!(job.is_idle());
}
