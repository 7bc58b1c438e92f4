//! The whole of a VM's thread against a QMP peer that is scripted: every order in which a
//! cancellation's reply, event and status can come, and levels after a connection that broke.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::Write;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use domstat_sources::contract::{
    Command, ControlError, ErrorCode, Event, JobAborted, JobFlags, JobOutcome, Observation,
    SetRequest,
};
use domstat_sources::qemu::Vm;
use serde_json::json;

mod peer;

use peer::{next_event, rest, setup, wait};

/// What the peer does after block-job-cancel was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reply,
    Event,
    Leave,
}

type Answer = Receiver<Result<JobAborted, ControlError>>;

fn abort(vm: &Vm, flags: u32) -> Answer {
    let (reply, answer) = channel();
    vm.command(Command::AbortJob { disk: "vda".to_owned(), flags, timeout: None, reply });
    answer
}

fn orders() -> Vec<Vec<Step>> {
    use Step::{Event, Leave, Reply};
    vec![
        vec![Reply, Event, Leave],
        vec![Reply, Leave, Event],
        vec![Event, Reply, Leave],
        vec![Event, Leave, Reply],
        vec![Leave, Reply, Event],
        vec![Leave, Event, Reply],
        vec![Reply, Leave],
        vec![Leave, Reply],
    ]
}

#[test]
fn one_answer_and_the_right_events_in_every_order() {
    for order in orders() {
        for flags in [0, JobFlags::ASYNC] {
            cancel(&order, flags);
        }
    }
}

fn cancel(order: &[Step], flags: u32) {
    let what = format!("{order:?} flags {flags}");
    let (mut peer, setup) = setup();
    peer.held = "block-job-cancel";
    let steps = order.to_vec();
    let (go, going) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        let request = peer.serve(&mut client).expect("the cancellation comes");
        assert_eq!(request["arguments"]["device"], "j");
        for step in steps {
            match step {
                Step::Reply => client.say(&json!({ "return": {}, "id": request["id"] })),
                Step::Event => client.say(&json!({ "event": "BLOCK_JOB_CANCELLED",
                    "data": { "device": "j", "type": "mirror", "len": 2, "offset": 1, "speed": 0 } })),
                Step::Leave => peer.jobs = json!([]),
            }
            // What the daemon asks between the steps is answered as things stand.
            peer.serve_some(&mut client, 3);
        }
        drop(go);
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let answer = wait(&abort(&setup.vm, flags)).unwrap();
    if flags == JobFlags::ASYNC {
        assert!(matches!(answer, JobAborted::Accepted { .. }), "{what}: {answer:?}");
        let Event::JobEnded { outcome, disk, .. } = next_event(&setup.events) else {
            panic!("{what}")
        };
        assert_eq!((outcome, disk.as_deref()), (JobOutcome::Canceled, Some("vda")), "{what}");
    } else {
        let JobAborted::Ended { outcome, .. } = answer else { panic!("{what}: {answer:?}") };
        assert_eq!(outcome, JobOutcome::Canceled, "{what}");
    }
    // The script is played to its end, and nothing else is reported.
    let _ = going.recv_timeout(Duration::from_secs(30));
    assert_eq!(rest(&setup.events), [], "{what}");
    let expected = if flags == JobFlags::ASYNC { 2 } else { 1 };
    assert_eq!(*setup.notified.lock().unwrap(), expected, "published, and the event: {what}");
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn unknown_flags_are_refused_and_nothing_is_sent() {
    let (mut peer, setup) = setup();
    peer.held = "block-job-cancel";
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        peer.serve(&mut client)
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let error = wait(&abort(&setup.vm, 2)).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Invalid, "unknown flags 0x2"));
    drop(setup);
    assert_eq!(thread.join().unwrap(), None);
}

#[test]
fn a_firing_while_nobody_was_connected_is_reported_once() {
    let (mut peer, setup) = setup();
    peer.held = "block-set-write-threshold";
    let (armed, is_armed) = channel();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        let request = peer.serve(&mut client).unwrap();
        let answer = peer.answer(&request);
        client.say(&json!({ "return": answer, "id": request["id"] }));
        // The chain and the levels are looked at again before the request is answered.
        peer.serve_some(&mut client, 2);
        is_armed.recv().unwrap();
        // It fires, and the connection breaks before the event is sent.
        drop(client);
        peer.thresholds.clear();
        let mut client = peer.accept();
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold: 50_000, flags: 1 };
    setup.vm.command(Command::SetThreshold(request, reply));
    assert_eq!(wait(&answer).unwrap().threshold_bytes, 500);
    armed.send(()).unwrap();
    let event = next_event(&setup.events);
    let expected = Event::WriteThreshold {
        disk: "vda".to_owned(),
        node: "n".to_owned(),
        threshold_bytes: 500,
        excess_bytes: None,
        reconciled: true,
    };
    assert_eq!(event, expected);
    assert_eq!(rest(&setup.events), []);
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn an_event_behind_a_level_is_newer_than_the_level() {
    let (mut peer, setup) = setup();
    peer.held = "block-set-write-threshold";
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        let request = peer.serve(&mut client).unwrap();
        let answer = peer.answer(&request);
        client.say(&json!({ "return": answer, "id": request["id"] }));
        peer.held = "query-named-block-nodes";
        let asked = peer.serve(&mut client).unwrap();
        // In one piece: the level is read, and then it fires.
        let level = json!({ "return": peer.answer(&asked), "id": asked["id"] });
        let data = json!({ "node-name": "n", "write-threshold": 7, "amount-exceeded": 1 });
        let event = json!({ "event": "BLOCK_WRITE_THRESHOLD", "data": data });
        let both = format!("{level}\n{event}\n");
        client.input.get_mut().write_all(both.as_bytes()).unwrap();
        peer.thresholds.clear();
        peer.held = "";
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold: 7, flags: 0 };
    setup.vm.command(Command::SetThreshold(request, reply));
    assert!(wait(&answer).is_ok());
    let Event::WriteThreshold { excess_bytes, reconciled, .. } = next_event(&setup.events) else {
        panic!("a firing")
    };
    assert_eq!((excess_bytes, reconciled), (Some(1), false));
    // The next levels show 0.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rest(&setup.events), []);
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn a_peer_that_does_not_answer_is_not_asked_again_and_refuses_at_once() {
    let (mut peer, setup) = setup();
    let (stop, stopped) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        peer.held = "query-blockstats";
        // The domain is published with these answered; one of them is for its job.
        for _ in 0..3 {
            let request = peer.serve(&mut client).unwrap();
            let answer = peer.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
        let held = peer.serve(&mut client).unwrap();
        let _ = stopped.recv();
        // Nothing came while the answer was owed.
        client.input.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(client.next(), None);
        client.input.get_ref().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        peer.held = "";
        let answer = peer.answer(&held);
        client.say(&json!({ "return": answer, "id": held["id"] }));
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    // The time limit passes.
    let began = Instant::now();
    let code = loop {
        let asked = Instant::now();
        match wait(&abort(&setup.vm, 0)) {
            Err(error) if asked.elapsed() < Duration::from_secs(1) => break error.code,
            _ if began.elapsed() > Duration::from_secs(30) => panic!("never stuck"),
            _ => {}
        }
    };
    assert_eq!(code, ErrorCode::Disconnected);
    drop(stop);
    // It answers, and everything goes on.
    let began = Instant::now();
    loop {
        let (reply, answer) = channel();
        let request = SetRequest { disk: "vda".to_owned(), threshold: 5, flags: 0 };
        setup.vm.command(Command::SetThreshold(request, reply));
        match wait(&answer) {
            Ok(set) => break assert_eq!(set.threshold_bytes, 5),
            Err(error) => assert_eq!(error.code, ErrorCode::Disconnected),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on");
    }
    drop(setup);
    thread.join().unwrap();
}
