//! What a QEMU is asked to keep for domstat, and the groups of causes, against a scripted peer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed test"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkFailures, BlkLimits, Migration, RdLatency, Status, WrLatency,
};
use domstat_layout::{HistogramGroup, Word};
use domstat_sources::contract::{
    Command, ControlError, ErrorCode, Event, Observation, SetRequest, ThresholdSet,
};
use domstat_sources::qemu::Options;
use serde_json::{Value, json};

mod peer;
use peer::{Peer, next_event, rest, setup_with, wait};

/// What the peer was asked, in order.
type Asked = Arc<Mutex<Vec<Value>>>;

/// Serves one connection until it ends.
fn serve(peer: Peer) -> (Arc<Mutex<Peer>>, Asked, JoinHandle<()>) {
    let (peer, asked) = (Arc::new(Mutex::new(peer)), Asked::default());
    let (served, log) = (Arc::clone(&peer), Arc::clone(&asked));
    let thread = std::thread::spawn(move || {
        let mut client = served.lock().unwrap().accept();
        while let Some(request) = client.next() {
            let answer = served.lock().unwrap().answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
            log.lock().unwrap().push(request);
        }
    });
    (peer, asked, thread)
}

/// The arguments of each time that a command was given.
fn given(asked: &Asked, command: &str) -> Vec<Value> {
    let asked = asked.lock().unwrap();
    asked.iter().filter(|r| r["execute"] == command).map(|r| r["arguments"].clone()).collect()
}

fn histograms() -> Options {
    Options { latency_histograms: true, ..Options::default() }
}

const SET: &str = "block-latency-histogram-set";
const DISK: &str = "/machine/peripheral/virtio-disk0/virtio-backend";

#[test]
fn histograms_are_set_published_and_taken_back() {
    let (mut peer, setup) = setup_with(histograms());
    let stats = json!({ "rd_operations": 5, "failed_rd_operations": 1, "rd_total_time_ns": 100 });
    peer.devices = json!([{ "device": "", "qdev": DISK, "node-name": "n", "stats": stats }]);
    let (peer, asked, thread) = serve(peer);
    let rd = setup.written.wait::<RdLatency>(|_| true);
    assert_eq!((rd.count().value(), rd.sum_ns.value()), (Some(0), Some(0)));
    let set = given(&asked, SET);
    assert_eq!((set.len(), &set[0]["id"]), (1, &json!(DISK)));
    assert_eq!(set[0]["boundaries"].as_array().unwrap().len(), 39);
    // Two reads, one of them failed.
    {
        let mut peer = peer.lock().unwrap();
        let stats = &mut peer.devices[0]["stats"];
        (stats["rd_operations"], stats["failed_rd_operations"]) = (json!(6), json!(2));
        stats["rd_total_time_ns"] = json!(100 + 700 + 900);
        stats["rd_latency_histogram"]["bins"][10] = json!(2);
    }
    let rd = setup.written.wait::<RdLatency>(|rd| rd.count().value() == Some(2));
    assert_eq!((rd.ns.0[10].value(), rd.sum_ns.value()), (Some(2), Some(1600)));
    setup.vm.ask_to_stop();
    thread.join().unwrap();
    assert_eq!(given(&asked, SET)[1..], [json!({ "id": DISK })]);
}

#[test]
fn histograms_that_someone_else_set_are_left_alone() {
    let (mut peer, setup) = setup_with(histograms());
    let histogram = json!({ "boundaries": [10, 20], "bins": [1, 2, 3] });
    let stats = json!({ "rd_operations": 5, "wr_latency_histogram": histogram });
    peer.devices = json!([{ "device": "", "qdev": DISK, "node-name": "n", "stats": stats }]);
    let (_, asked, thread) = serve(peer);
    setup.written.wait::<domstat_layout::latest::BlkIo>(|io| io.rd_req.value() == Some(5));
    std::thread::sleep(Duration::from_millis(200));
    setup.vm.ask_to_stop();
    thread.join().unwrap();
    assert_eq!(given(&asked, SET), [Value::Null; 0]);
    assert!(setup.written.get::<WrLatency>().is_none(), "its bins are no buckets");
}

#[test]
fn the_interval_of_the_balloon_is_set_where_there_was_none() {
    for (before, expected) in [(0, vec![5, 0]), (7, vec![])] {
        let interval = Some(Duration::from_secs(5));
        let options = Options { balloon_interval: interval, ..Options::default() };
        let (peer, setup) = setup_with(options);
        {
            let mut answers = peer.answers.lock().unwrap();
            let balloon = json!([{ "name": "b", "type": "child<virtio-balloon-pci>" }]);
            answers.insert("qom-list", balloon);
            answers.insert("qom-get", json!(before));
        }
        let answers = Arc::clone(&peer.answers);
        let (_, asked, thread) = serve(peer);
        setup.written.wait::<Status>(|_| true);
        std::thread::sleep(Duration::from_millis(100));
        if before == 0 {
            answers.lock().unwrap().insert("qom-get", json!(5));
        }
        setup.vm.ask_to_stop();
        thread.join().unwrap();
        let set = given(&asked, "qom-set");
        let values: Vec<u64> = set.iter().map(|a| a["value"].as_u64().unwrap()).collect();
        assert_eq!(values, expected, "{set:?}");
    }
}

#[test]
fn limits_of_throttle_nodes_are_those_of_their_groups() {
    let throttled = |group: &str| {
        let (mut peer, setup) = setup_with(Options::default());
        let below = json!({ "device": "", "node-name": "n", "stats": {} });
        peer.devices = json!([{ "device": "virtio0", "node-name": "t", "stats": {},
                                "parent": below, "backing": below }]);
        let file = format!("json:{{\"driver\": \"throttle\", \"throttle-group\": \"{group}\"}}");
        let nodes = json!([{ "node-name": "n", "drv": "raw", "file": "/disk" },
                           { "node-name": "t", "drv": "throttle", "file": file }]);
        let inserted =
            json!({ "node-name": "t", "iops": 50, "iops_rd": 0, "iops_wr": 0, "bps": 7 });
        let of_group =
            json!({ "iops-total": 100, "iops-read": 9, "iops-write": 0, "bps-total": 5 });
        {
            let mut answers = peer.answers.lock().unwrap();
            answers.insert("query-block", json!([{ "device": "virtio0", "inserted": inserted }]));
            answers.insert("query-named-block-nodes", nodes);
            // As QEMU's objects: there is one of this name, or the property cannot be had.
            if group == "tg0" {
                answers.insert("qom-get", of_group);
            }
        }
        let (_, asked, thread) = serve(peer);
        // When something was asked after the limits, they are published.
        let names =
            || asked.lock().unwrap().iter().map(|r| r["execute"].clone()).collect::<Vec<_>>();
        let is_done = || {
            let asked = names();
            let limits = asked.iter().position(|name| name == "query-block");
            limits.is_some_and(|at| {
                asked.iter().skip(at).any(|name| name != "query-block" && name != "qom-get")
            })
        };
        let began = std::time::Instant::now();
        while !is_done() {
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", names());
            std::thread::sleep(Duration::from_millis(5));
        }
        let limits = setup.written.get::<BlkLimits>();
        drop(setup);
        thread.join().unwrap();
        (limits, given(&asked, "qom-get"))
    };
    let (limits, asked) = throttled("tg0");
    let limits: BlkLimits = limits.unwrap();
    let requests = [limits.limit_req, limits.rd_limit_req, limits.wr_limit_req];
    assert_eq!(requests.map(Word::value), [Some(50), Some(9), Some(0)]);
    assert_eq!((limits.limit_bytes.value(), limits.rd_limit_bytes.value()), (Some(5), None));
    assert_eq!(asked[0], json!({ "path": "/objects/tg0", "property": "limits" }));
    // Limits that are not known may be the tightest: none are published then.
    assert_eq!(throttled("unknown").0, None);
}

#[test]
fn causes_are_published_and_what_has_no_answer_is_not() {
    let (mut peer, setup) = setup_with(Options::default());
    let stats = json!({ "rd_operations": 5, "unmap_operations": 2, "unmap_bytes": 512,
                        "failed_wr_operations": 3, "invalid_rd_operations": 4 });
    peer.devices = json!([{ "device": "virtio0", "node-name": "n", "stats": stats }]);
    let inserted = json!({ "node-name": "n", "iops": 0, "iops_wr": 100, "bps": 4096 });
    {
        let mut answers = peer.answers.lock().unwrap();
        answers.insert("query-block", json!([{ "device": "virtio0", "inserted": inserted }]));
        let ram = json!({ "transferred": 10, "remaining": 20 });
        let migration = json!({ "status": "active", "total-time": 5, "ram": ram });
        answers.insert("query-migrate", migration);
        answers.insert("query-status", json!({ "status": "io-error", "running": false }));
    }
    let mut client = {
        let mut client = peer.accept();
        peer.serve_some(&mut client, 3);
        client
    };
    client.say(&json!({ "event": "BLOCK_IO_ERROR", "data": {
        "device": "virtio0", "node-name": "n", "operation": "write", "action": "stop",
        "nospace": true, "reason": "No space left on device" } }));
    let thread = std::thread::spawn(move || peer.serve(&mut client));
    let limits = setup.written.wait::<BlkLimits>(|_| true);
    assert_eq!((limits.limit_req.value(), limits.wr_limit_req.value()), (Some(0), Some(100)));
    assert_eq!((limits.limit_bytes.value(), limits.rd_limit_bytes.value()), (Some(4096), None));
    assert_eq!(limits.throttled_ns.value(), None);
    let discards: BlkDiscards = setup.written.wait(|_| true);
    assert_eq!((discards.dis_req.value(), discards.dis_merged.value()), (Some(2), None));
    let failures: BlkFailures = setup.written.wait(|_| true);
    assert_eq!((failures.wr_failed.value(), failures.rd_invalid.value()), (Some(3), Some(4)));
    assert_eq!(failures.rd_failed.value(), None);
    let status = setup.written.wait::<Status>(|status| status.reason.value() == Some(8));
    assert_eq!((status.state.value(), status.device.value()), (Some(7), Some(0)));
    let migration = setup.written.wait::<Migration>(|_| true);
    assert_eq!((migration.state.value(), migration.migrations.value()), (Some(2), Some(1)));
    assert_eq!(
        (migration.remaining_bytes.value(), migration.dirty_bytes.value()),
        (Some(20), None)
    );
    assert!(setup.written.get::<Balloon>().is_none(), "there is none");
    setup.vm.ask_to_stop();
    assert!(thread.join().unwrap().is_none());
}

/// Sets the threshold of the disk.
fn set(setup: &peer::Setup, threshold: u64) -> Result<ThresholdSet, ControlError> {
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold, flags: 0 };
    setup.vm.command(Command::SetThreshold(request, reply));
    wait(&answer)
}

fn replaced(threshold_bytes: u64, new_bytes: u64) -> Event {
    let (disk, node) = ("vda".to_owned(), "n".to_owned());
    Event::ThresholdReplaced { disk, node, threshold_bytes, new_bytes }
}

#[test]
fn a_threshold_that_is_replaced_or_disarmed_is_reported() {
    let (peer, setup) = setup_with(Options::default());
    let (peer, _, thread) = serve(peer);
    assert_eq!(wait(&setup.events), Event::Published);
    set(&setup, 500).unwrap();
    set(&setup, 600).unwrap();
    assert_eq!(next_event(&setup.events), replaced(500, 600));
    // By another client of QEMU.
    peer.lock().unwrap().thresholds.insert("n".to_owned(), 700);
    assert_eq!(next_event(&setup.events), replaced(600, 700));
    set(&setup, 0).unwrap();
    assert_eq!(next_event(&setup.events), replaced(700, 0));
    set(&setup, 500).unwrap();
    set(&setup, 500).unwrap();
    assert_eq!(rest(&setup.events), [], "the same one again is armed as before");
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn a_threshold_that_qemu_took_and_did_not_set_is_refused() {
    let (peer, setup) = setup_with(Options::default());
    peer.answers.lock().unwrap().insert("block-set-write-threshold", json!({}));
    let (peer, _, thread) = serve(peer);
    assert_eq!(wait(&setup.events), Event::Published);
    peer.lock().unwrap().thresholds.insert("n".to_owned(), 250);
    let error = set(&setup, 500).unwrap_err();
    assert_eq!(error.code, ErrorCode::Busy);
    assert!(error.message.contains("250"), "{error}");
    drop(setup);
    thread.join().unwrap();
}

#[test]
fn a_qemu_that_does_not_answer_has_no_known_state() {
    // Long enough that a busy machine does not make the peer silent before its time: it accepts once.
    let limit = Duration::from_secs(1);
    let (mut peer, setup) = setup_with(Options { limit, ..Options::default() });
    peer.answers.lock().unwrap().insert("query-status", json!({ "status": "paused" }));
    let answers = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&answers);
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        while let Some(request) = client.next() {
            while !goes_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let answer = peer.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
    });
    // Unknown because of an error of the host: 8 and 11.
    let is_unanswered = |s: &Status| (s.state.value(), s.reason.value()) == (Some(8), Some(11));
    // Its first round of questions has ended then.
    assert_eq!(wait(&setup.events), Event::Published);
    setup.written.wait::<Status>(|status| status.state.value() == Some(1));
    answers.store(false, Ordering::SeqCst);
    let silent = setup.written.wait(is_unanswered);
    // Since its last answer, not since it was noticed.
    let (since, noticed) = (silent.since_ns.value().unwrap(), now());
    // In steps of 10 ms.
    assert!(since + 990_000_000 <= noticed, "{since} {noticed}");
    answers.store(true, Ordering::SeqCst);
    setup.written.wait::<Status>(|status| status.state.value() == Some(1));
    let events: Vec<Event> = setup.events.try_iter().collect();
    let count = |event: &Event| events.iter().filter(|e| *e == event).count();
    assert_eq!(count(&Event::Disconnected), 1, "{events:?}");
    assert!(!events.iter().any(|e| matches!(e, Event::State { .. })), "it was paused all the time");
    setup.vm.ask_to_stop();
    thread.join().unwrap();
}

fn now() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).unwrap()
}

fn since_1970() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[test]
fn numbers_of_the_balloon_are_as_old_as_its_last_report() {
    let (peer, setup) = setup_with(Options::default());
    let report = |last: u64| json!({ "stats": { "stat-oom-kills": 3 }, "last-update": last });
    {
        let mut answers = peer.answers.lock().unwrap();
        let balloon = json!([{ "name": "b", "type": "child<virtio-balloon-pci>" }]);
        answers.insert("qom-list", balloon);
        answers.insert("qom-get", report(since_1970() - 60));
    }
    let answers = Arc::clone(&peer.answers);
    let (_, asked, thread) = serve(peer);
    let first = setup.written.wait::<Balloon>(|_| true);
    let as_of = || setup.written.as_of::<Balloon>();
    let at = as_of();
    assert_eq!(first.last_update_ns.value(), at);
    assert!(at.unwrap() + 59_000_000_000 <= now(), "not when it was asked for");
    let questions = || given(&asked, "qom-get").len();
    let before = questions();
    while questions() < before + 5 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(as_of(), at, "the same report");
    answers.lock().unwrap().insert("qom-get", report(since_1970()));
    let next = setup.written.wait::<Balloon>(|b| b.last_update_ns.value() > at);
    assert_eq!(next.last_update_ns.value(), as_of());
    setup.vm.ask_to_stop();
    thread.join().unwrap();
}
