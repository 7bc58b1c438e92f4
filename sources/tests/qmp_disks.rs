//! Disks of a scripted QMP peer whose images change at the worst moments: which node a threshold
//! is armed on, and which disk a block job is of.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::sync::mpsc::channel;
use std::time::Duration;

use domstat_sources::contract::{Command, Event, Observation, SetRequest, ThresholdSet};
use serde_json::{Value, json};

mod peer;

use peer::{Client, Peer, next_event, rest, setup, wait};

/// One disk with this chain of images: pairs of the format's node and that of its storage.
fn disk(qdev: &str, chain: &[(&str, &str)]) -> Value {
    let below = |backing: Value, (node, storage): &(&str, &str)| {
        let stats = json!({ "wr_highest_offset": 5, "rd_operations": 1 });
        json!({ "device": "", "qdev": qdev, "node-name": node, "stats": stats,
                "parent": { "node-name": storage, "stats": stats }, "backing": backing })
    };
    chain.iter().rev().fold(Value::Null, below)
}

const VDA: &str = "/machine/peripheral/virtio-disk0/virtio-backend";
const VDB: &str = "/machine/peripheral/virtio-disk1/virtio-backend";

fn plain() -> Value {
    json!([disk(VDA, &[("f1", "s1")]), disk(VDB, &[("g1", "t1")])])
}

/// As `plain`, behind a snapshot of vda.
fn snapshot() -> Value {
    json!([disk(VDA, &[("f2", "s2"), ("f1", "s1")]), disk(VDB, &[("g1", "t1")])])
}

fn reply(peer: &mut Peer, client: &mut Client, request: &Value) {
    let answer = peer.answer(request);
    client.say(&json!({ "return": answer, "id": request["id"] }));
}

/// When the peer takes a snapshot of vda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// After the last poll, before the request.
    BeforeTheRequest,
    /// Before it takes the threshold.
    BeforeTheThreshold,
    /// After it has taken the threshold, before it is asked for the chain again.
    BeforeTheSecondLook,
    /// After that: the node that is armed was the active image's.
    Later,
}

/// What the request is answered, and what is armed afterwards.
fn arm_around_a_snapshot(moment: Moment) -> (ThresholdSet, Vec<(String, u64)>) {
    let (mut peer, setup) = setup();
    peer.devices = plain();
    let (go, going) = channel::<()>();
    let (to, armed) = channel();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        let mut looks = 0;
        while let Some(request) = client.next() {
            let is_set = request["execute"] == "block-set-write-threshold";
            looks += usize::from(looks > 0 || is_set);
            let now = match moment {
                Moment::BeforeTheRequest => going.try_recv().is_ok(),
                Moment::BeforeTheThreshold => is_set,
                Moment::BeforeTheSecondLook => looks == 2,
                Moment::Later => looks == 4,
            };
            if now {
                peer.devices = snapshot();
            }
            reply(&mut peer, &mut client, &request);
            let _ = to.send(peer.thresholds.clone());
        }
    });
    assert_eq!(wait(&setup.events), Event::Published);
    go.send(()).unwrap();
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold: 500, flags: 0 };
    setup.vm.command(Command::SetThreshold(request, reply));
    let answer = wait(&answer).unwrap();
    drop(setup);
    thread.join().unwrap();
    let armed = armed.try_iter().last().unwrap();
    (answer, armed.into_iter().filter(|(_, threshold)| *threshold > 0).collect())
}

#[test]
fn a_threshold_is_armed_on_the_active_image_whenever_a_snapshot_is_taken() {
    use Moment::{BeforeTheRequest, BeforeTheSecondLook, BeforeTheThreshold, Later};
    let moments = [
        (BeforeTheRequest, "s2"),
        (BeforeTheThreshold, "s2"),
        (BeforeTheSecondLook, "s2"),
        (Later, "s1"),
    ];
    for (moment, node) in moments {
        let (answer, armed) = arm_around_a_snapshot(moment);
        assert_eq!(answer.node, node, "{moment:?}");
        assert_eq!(armed, [(node.to_owned(), 500)], "{moment:?}: no other node is armed");
    }
}

#[test]
fn a_disk_under_a_filter_has_its_threshold_on_its_storage_and_no_backing_image() {
    let (mut peer, setup) = setup();
    let below = disk("", &[("f1", "s1")]);
    peer.devices = json!([{ "device": "", "qdev": VDA, "node-name": "throttle", "stats": {},
                            "parent": below, "backing": below }]);
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold: 500, flags: 0 };
    setup.vm.command(Command::SetThreshold(request, reply));
    assert_eq!(wait(&answer).unwrap().node, "s1");
    let (reply, answer) = channel();
    setup.vm.command(Command::Disks(reply));
    let disks = wait(&answer).unwrap();
    let names: Vec<&str> = disks.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["vda"], "{disks:?}");
    drop(setup);
    thread.join().unwrap();
}

/// What happens to a job, in some order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// BLOCK_JOB_READY.
    Ready,
    /// query-block-jobs is answered, with the job unless it has ended.
    Poll,
    /// BLOCK_JOB_COMPLETED; the job is in no list any more.
    End,
}

/// The disk of each event of a job of vdb, with an id that speaks of vda.
fn events_of(order: &[Step]) -> Vec<(Option<String>, bool)> {
    let (mut peer, setup) = setup();
    peer.devices = plain();
    peer.jobs = json!([]);
    let steps = order.to_vec();
    let (done, is_done) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        // Published, and asked for jobs once.
        peer.held = "query-block-jobs";
        for _ in 0..2 {
            let request = peer.serve(&mut client).unwrap();
            reply(&mut peer, &mut client, &request);
        }
        let job = json!({ "device": "vda", "type": "mirror", "status": "running", "ready": false,
                          "offset": 1, "len": 2, "speed": 0 });
        peer.jobs = json!([job]);
        peer.graph = json!({
            "nodes": [{ "id": 1, "type": "block-job", "name": "vda" },
                      { "id": 2, "type": "block-driver", "name": "mirror-filter" },
                      { "id": 3, "type": "block-driver", "name": "g1" },
                      { "id": 4, "type": "block-driver", "name": "target" }],
            "edges": [{ "parent": 1, "child": 2 }, { "parent": 2, "child": 3 },
                      { "parent": 1, "child": 4 }],
        });
        let data = json!({ "device": "vda", "type": "mirror", "len": 2, "offset": 2, "speed": 0 });
        for step in steps {
            match step {
                Step::Ready => client.say(&json!({ "event": "BLOCK_JOB_READY", "data": data })),
                Step::Poll => {
                    let Some(request) = peer.serve(&mut client) else { return };
                    reply(&mut peer, &mut client, &request);
                    // The chains and the graph, if they are asked for, show the job.
                    peer.serve_some(&mut client, 2);
                }
                Step::End => {
                    peer.jobs = json!([]);
                    // It pivots to its target.
                    peer.devices =
                        json!([disk(VDA, &[("f1", "s1")]), disk(VDB, &[("target", "t2")])]);
                    peer.graph = json!({ "nodes": [], "edges": [] });
                    client.say(&json!({ "event": "BLOCK_JOB_COMPLETED", "data": data }));
                }
            }
        }
        drop(done);
        peer.held = "";
        peer.serve(&mut client);
    });
    assert_eq!(wait(&setup.events), Event::Published);
    let _ = is_done.recv_timeout(Duration::from_secs(30));
    let mut events = Vec::new();
    while events.len() < order.iter().filter(|s| **s != Step::Poll).count() {
        match next_event(&setup.events) {
            Event::JobReady { disk, .. } => events.push((disk, false)),
            Event::JobEnded { disk, .. } => events.push((disk, true)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rest(&setup.events), [], "{order:?}");
    drop(setup);
    thread.join().unwrap();
    events
}

#[test]
fn a_job_has_its_disk_whatever_its_id_and_whenever_it_is_ready() {
    use Step::{End, Poll, Ready};
    for order in [
        vec![Poll, Ready, End],
        vec![Ready, Poll, End],
        vec![Ready, Poll, Poll, End],
        vec![Poll, End],
        vec![Poll, Poll, Ready, Poll, End],
        vec![Ready, End, Poll],
        vec![Ready, End],
        vec![End],
    ] {
        for (disk, _) in events_of(&order) {
            assert_eq!(disk.as_deref(), Some("vdb"), "{order:?}");
        }
    }
}

/// A job of a disk with two images, with an id that suggests none.
fn commit() -> Value {
    json!({ "device": "c1", "type": "commit", "len": 2, "offset": 2, "speed": 0 })
}

/// The disk of the only event, which is the end of that job.
fn disk_of_end(events: &std::sync::mpsc::Receiver<Event>) -> Option<String> {
    match next_event(events) {
        Event::JobEnded { disk, .. } => disk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_is_over_within_a_moment_has_the_disk_of_its_nodes() {
    let (mut peer, setup) = setup();
    // A snapshot of vda and its commit: no look at the chains ever sees them.
    peer.devices = plain();
    peer.jobs = json!([]);
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        peer.held = "query-block-jobs";
        for _ in 0..2 {
            let request = peer.serve(&mut client).unwrap();
            reply(&mut peer, &mut client, &request);
        }
        let request = peer.serve(&mut client).unwrap();
        let created = json!({ "id": "c1", "status": "created" });
        client.say(&json!({ "event": "JOB_STATUS_CHANGE", "data": created }));
        reply(&mut peer, &mut client, &request);
        peer.graph = json!({
            "nodes": [{ "id": 1, "type": "block-job", "name": "c1" },
                      { "id": 2, "type": "block-driver", "name": "f2" },
                      { "id": 3, "type": "block-driver", "name": "f1" }],
            "edges": [{ "parent": 1, "child": 2 }, { "parent": 1, "child": 3 }],
        });
        peer.jobs = json!([{ "device": "c1", "type": "commit", "status": "running",
                             "ready": false, "offset": 1, "len": 2, "speed": 0 }]);
        // It lives for one question about it.
        while let Some(request) = client.next() {
            reply(&mut peer, &mut client, &request);
            let asked = request["execute"].as_str().unwrap();
            if ["x-debug-query-block-graph", "query-block-jobs"].contains(&asked) {
                break;
            }
        }
        peer.graph = json!({ "nodes": [], "edges": [] });
        peer.jobs = json!([]);
        client.say(&json!({ "event": "BLOCK_JOB_COMPLETED", "data": commit() }));
        peer.held = "";
        peer.serve(&mut client);
    });
    assert_eq!(disk_of_end(&setup.events).as_deref(), Some("vda"));
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn a_job_has_its_disk_although_another_disk_changed_after_its_own() {
    let (mut peer, setup) = setup();
    peer.devices = snapshot();
    peer.jobs = json!([]);
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        peer.held = "query-blockstats";
        // Published with the snapshot; then the commit is seen, then a snapshot of vdb.
        let both = json!([disk(VDA, &[("f1", "s1")]), disk(VDB, &[("g2", "t2"), ("g1", "t1")])]);
        for devices in [snapshot(), snapshot(), plain(), both] {
            let request = peer.serve(&mut client).unwrap();
            peer.devices = devices;
            reply(&mut peer, &mut client, &request);
        }
        client.say(&json!({ "event": "BLOCK_JOB_COMPLETED", "data": commit() }));
        peer.held = "";
        peer.serve(&mut client);
    });
    assert_eq!(disk_of_end(&setup.events).as_deref(), Some("vda"));
    drop(setup);
    thread.join().unwrap();
}
