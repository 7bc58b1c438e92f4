//! Thresholds that are armed while the daemon that watches them ends and another one begins, against a
//! scripted peer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed test"
)]

use std::os::unix::net::UnixListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use domstat_sources::contract::{
    Armed, ArmedThresholds, Command, Event, LossReason, Observation, SetRequest,
};
use domstat_sources::qemu::{Options, Vm};
use serde_json::{Value, json};

mod peer;
use peer::{Client, Keeper, Peer, next_event, rest, setup_at, wait};

/// A peer whose one vCPU is a thread of this process, so that this process is the VM.
fn peer_of_this_process(path: &std::path::Path) -> Peer {
    let peer = Peer::new(path);
    let tid = std::process::id();
    let cpus = json!([{ "cpu-index": 0, "qom-path": "/cpu0", "thread-id": tid }]);
    peer.answers.lock().unwrap().insert("query-cpus-fast", cpus);
    peer
}

/// Serves connection after connection.
fn serve(peer: Peer) -> Arc<Mutex<Peer>> {
    let listener: UnixListener = peer.listener.try_clone().unwrap();
    let peer = Arc::new(Mutex::new(peer));
    let served = Arc::clone(&peer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut client = Client::greet(stream);
            while let Some(request) = client.next() {
                let answer = served.lock().unwrap().answer(&request);
                client.say(&json!({ "return": answer, "id": request["id"] }));
            }
        }
    });
    peer
}

fn arm(vm: &Vm, threshold: u64) {
    let (reply, answer) = channel();
    let request = SetRequest { disk: "vda".to_owned(), threshold, flags: 0 };
    vm.command(Command::SetThreshold(request, reply));
    wait(&answer).unwrap();
}

/// What the next daemon reports after one armed 500 bytes and ended, and this happened.
fn after(happens: impl FnOnce(&mut Peer, &Keeper)) -> (Vec<Event>, Keeper) {
    after_with(|_| {}, happens)
}

/// The same of a peer that is made ready first.
fn after_with(
    prepare: impl FnOnce(&mut Peer),
    happens: impl FnOnce(&mut Peer, &Keeper),
) -> (Vec<Event>, Keeper) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let mut peer = peer_of_this_process(&path);
    prepare(&mut peer);
    let peer = serve(peer);
    let keeper = Keeper::default();
    let first = setup_at(&path, Options::default(), keeper.clone());
    assert_eq!(wait(&first.events), Event::Published);
    arm(&first.vm, 500);
    let armed = keeper.get();
    assert_eq!(armed.armed.len(), 1, "kept before the answer");
    assert_eq!(armed.process.unwrap().0, i32::try_from(std::process::id()).unwrap());
    first.vm.ask_to_stop();
    while !first.vm.has_ended() {
        std::thread::yield_now();
    }
    assert_eq!(keeper.get(), armed, "the VM lives on");
    happens(&mut peer.lock().unwrap(), &keeper);
    let second = setup_at(&path, Options::default(), keeper.clone());
    assert_eq!(wait(&second.events), Event::Published, "the first event");
    let events = rest(&second.events);
    second.vm.ask_to_stop();
    while !second.vm.has_ended() {
        std::thread::yield_now();
    }
    // A third one has nothing to add.
    let third = setup_at(&path, Options::default(), keeper.clone());
    assert_eq!(wait(&third.events), Event::Published);
    assert_eq!(rest(&third.events), [], "each is reported once");
    (events, keeper)
}

fn lost(reason: LossReason) -> Event {
    let (disk, node) = ("vda".to_owned(), "n".to_owned());
    Event::ThresholdLost { disk, node, threshold_bytes: 500, reason }
}

fn threshold(peer: &mut Peer, bytes: u64) {
    peer.thresholds.insert("n".to_owned(), bytes);
}

fn fired() -> Event {
    Event::WriteThreshold {
        disk: "vda".to_owned(),
        node: "n".to_owned(),
        threshold_bytes: 500,
        excess_bytes: None,
        reconciled: true,
    }
}

#[test]
fn one_that_fires_while_no_daemon_runs_is_reported_by_the_next() {
    let (events, keeper) = after(|peer, _| threshold(peer, 0));
    assert_eq!(events, [fired()]);
    assert!(keeper.get().armed.is_empty());
}

#[test]
fn one_of_a_node_that_two_disks_have_fires_all_the_same() {
    let two_disks = |peer: &mut Peer| {
        let mut other = peer.devices[0].clone();
        other["device"] = json!("other");
        peer.devices.as_array_mut().unwrap().push(other);
    };
    let (events, _) = after_with(two_disks, |peer, _| threshold(peer, 0));
    assert_eq!(events, [fired()]);
}

#[test]
fn one_that_is_armed_as_before_is_watched_as_before() {
    let (events, keeper) = after(|_, _| {});
    assert_eq!(events, []);
    assert_eq!(keeper.get().armed[0].threshold_bytes, 500);
}

#[test]
fn one_that_was_replaced_is_reported_as_such() {
    let (events, _) = after(|peer, _| threshold(peer, 700));
    let (disk, node) = ("vda".to_owned(), "n".to_owned());
    assert_eq!(
        events,
        [Event::ThresholdReplaced { disk, node, threshold_bytes: 500, new_bytes: 700 }]
    );
}

#[test]
fn one_of_a_vm_that_was_started_again_is_lost() {
    let (events, _) = after(|peer, keeper| {
        threshold(peer, 0);
        let before = keeper.get();
        let (pid, start) = before.process.unwrap();
        keeper.set(ArmedThresholds { process: Some((pid, start - 1)), ..before });
    });
    assert_eq!(events, [lost(LossReason::VmRestarted)]);
    let (events, _) = after(|_, keeper| {
        keeper.set(ArmedThresholds { process: None, ..keeper.get() });
    });
    assert_eq!(events, [lost(LossReason::VmNotKnown)]);
}

#[test]
fn one_of_an_image_that_was_replaced_is_lost() {
    let (events, _) = after(|peer, _| {
        threshold(peer, 0);
        peer.devices[0]["node-name"] = json!("other");
    });
    assert_eq!(events, [lost(LossReason::NodeRemoved)]);
    let (events, _) = after(|peer, _| {
        // A snapshot: the node backs the disk now.
        threshold(peer, 0);
        let below = peer.devices[0].clone();
        peer.devices[0] = json!({ "device": "virtio0", "node-name": "top",
            "stats": below["stats"], "backing": below });
    });
    assert_eq!(events, [lost(LossReason::DiskChanged)]);
    let (events, _) = after(|peer, keeper| {
        // Another file under the node's name.
        threshold(peer, 0);
        edit(keeper, |armed| armed.source = Some("/before".to_owned()));
    });
    assert_eq!(events, [lost(LossReason::DiskChanged)]);
}

/// Changes the one record that is kept.
fn edit(keeper: &Keeper, change: impl FnOnce(&mut Armed)) {
    let mut kept = keeper.get();
    change(&mut kept.armed[0]);
    keeper.set(kept);
}

#[test]
fn what_a_request_sets_is_kept_before_qemu_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let mut peer = peer_of_this_process(&path);
    peer.held = "block-set-write-threshold";
    let keeper = Keeper::default();
    let setup = setup_at(&path, Options::default(), keeper.clone());
    let vm = std::thread::spawn(move || {
        let mut seen = Vec::new();
        let mut client = peer.accept();
        while let Some(request) = peer.serve(&mut client) {
            let kept = keeper.get().armed;
            seen.push(kept.first().map(|a| (a.threshold_bytes, a.intended_bytes)));
            let answer = peer.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
        seen
    });
    assert_eq!(wait(&setup.events), Event::Published);
    [500, 500, 0].into_iter().for_each(|threshold| arm(&setup.vm, threshold));
    setup.vm.ask_to_stop();
    // The second one is disarmed first.
    let expected =
        [Some((0, Some(500))), Some((500, Some(0))), Some((0, Some(500))), Some((500, Some(0)))];
    assert_eq!(vm.join().unwrap(), expected);
}

/// What the next daemon reports after one died while it set 500, or nothing, to `intended`, and QEMU
/// has `level`.
fn interrupted(before: u64, intended: u64, level: u64) -> Vec<Event> {
    let (events, keeper) = after(|peer, keeper| {
        threshold(peer, level);
        edit(keeper, |armed| {
            (armed.threshold_bytes, armed.intended_bytes) = (before, Some(intended));
        });
    });
    let kept: Vec<_> = keeper.get().armed.iter().map(|a| a.threshold_bytes).collect();
    assert!(kept.iter().eq([level].iter().filter(|level| **level > 0)), "{kept:?}");
    events
}

#[test]
fn a_daemon_that_died_within_a_request_reports_no_firing() {
    let replaced = |new_bytes| {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        Event::ThresholdReplaced { disk, node, threshold_bytes: 500, new_bytes }
    };
    let lost_of = |threshold_bytes| {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        let reason = LossReason::RequestInterrupted;
        Event::ThresholdLost { disk, node, threshold_bytes, reason }
    };
    // Disarmed, or fired just before.
    assert_eq!(interrupted(500, 0, 0), [lost_of(500)]);
    // QEMU was not asked.
    assert_eq!(interrupted(500, 0, 500), []);
    assert_eq!(interrupted(500, 700, 500), []);
    assert_eq!(interrupted(0, 700, 700), []);
    assert_eq!(interrupted(500, 700, 700), [replaced(700)]);
    assert_eq!(interrupted(500, 700, 0), [lost_of(500)]);
    assert_eq!(interrupted(0, 700, 0), [lost_of(700)]);
}

#[test]
fn what_was_about_to_be_armed_is_lost_with_its_node_and_its_vm() {
    let intends = |keeper: &Keeper| {
        edit(keeper, |armed| (armed.threshold_bytes, armed.intended_bytes) = (0, Some(500)));
    };
    let (events, _) = after(|peer, keeper| {
        peer.devices[0]["node-name"] = json!("other");
        intends(keeper);
    });
    assert_eq!(events, [lost(LossReason::NodeRemoved)]);
    let (events, _) = after(|_, keeper| {
        intends(keeper);
        keeper.set(ArmedThresholds { process: None, ..keeper.get() });
    });
    assert_eq!(events, [lost(LossReason::VmNotKnown)]);
}

#[test]
fn a_node_that_is_removed_takes_its_threshold_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let peer = serve(peer_of_this_process(&path));
    let keeper = Keeper::default();
    let setup = setup_at(&path, Options::default(), keeper.clone());
    assert_eq!(wait(&setup.events), Event::Published);
    arm(&setup.vm, 500);
    {
        let mut peer = peer.lock().unwrap();
        peer.devices[0]["node-name"] = Value::from("other");
    }
    assert_eq!(next_event(&setup.events), lost(LossReason::NodeRemoved));
    assert_eq!(rest(&setup.events), []);
    assert!(keeper.get().armed.is_empty());
}
