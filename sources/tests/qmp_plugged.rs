//! Threads that QEMU starts, against a scripted peer: alone in its process, whose threads are those of
//! the VM.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed test"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domstat_sources::contract::{Event, Observation};
use domstat_sources::qemu::Options;
use serde_json::json;

mod peer;
use peer::{Keeper, Peer, setup_at, wait};

#[test]
fn a_new_thread_may_be_a_vcpu() {
    // vCPUs are asked for every 20 intervals, which is longer than is waited for below.
    let options = Options { interval: Duration::from_secs(2), ..Options::default() };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let peer = Peer::new(&path);
    let cpus = json!([{ "cpu-index": 0, "qom-path": "/cpu0", "thread-id": std::process::id() }]);
    peer.answers.lock().unwrap().insert("query-cpus-fast", cpus);
    let (peer, asked) = (Arc::new(Mutex::new(peer)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let thread = std::thread::spawn(move || {
        let mut client = peer.lock().unwrap().accept();
        while let Some(request) = client.next() {
            let answer = peer.lock().unwrap().answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
            if request["execute"] == "query-cpus-fast" {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let setup = setup_at(&path, options, Keeper::default());
    assert_eq!(wait(&setup.events), Event::Published);
    // It has looked at the threads as they are.
    std::thread::sleep(Duration::from_secs(5));
    let before = asked.load(Ordering::SeqCst);
    let (stop, stopped) = channel::<()>();
    let plugged = std::thread::spawn(move || stopped.recv());
    let began = Instant::now();
    while asked.load(Ordering::SeqCst) == before {
        assert!(began.elapsed() < Duration::from_secs(20), "vCPUs are not asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stop);
    assert!(plugged.join().unwrap().is_err());
    setup.vm.ask_to_stop();
    thread.join().unwrap();
}
