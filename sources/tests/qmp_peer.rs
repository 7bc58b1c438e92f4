//! The whole of a VM's thread against a QMP peer that is scripted: every order in which a
//! cancellation's reply, event and status can come, and levels after a connection that broke.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{BlkGroup, DomGroup, NetGroup, Ns, VcpuGroup};
use domstat_sources::contract::{
    Command, ControlError, Description, ErrorCode, Event, JobAborted, JobFlags, JobOutcome,
    Observation, Publisher, SetRequest, Sinks, SourceError,
};
use domstat_sources::qemu::{Options, Vm};
use serde_json::{Value, json};

/// Takes everything and keeps events and notifications.
struct Quiet {
    events: Sender<Event>,
    notified: Arc<Mutex<u64>>,
}

struct Sink;

impl DomSink for Sink {
    fn write<G: DomGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: DomGroup>(&mut self) {}
}
impl VcpuSink for Sink {
    fn write<G: VcpuGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl BlkSink for Sink {
    fn write<G: BlkGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: BlkGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl NetSink for Sink {
    fn write<G: NetGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: NetGroup>(&mut self) {}
    fn renew(&mut self) {}
}

impl Publisher for Quiet {
    type Dom = Sink;
    type Vcpu = Sink;
    type Blk = Sink;
    type Net = Sink;
    type Unpublished = ();
    type Region = ();

    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError> {
        let sinks = |n: u32| (0..n).map(|_| Sink).collect();
        Ok(Sinks {
            dom: Sink,
            vcpus: sinks(description.nr_vcpus),
            blks: sinks(description.nr_blks),
            nets: sinks(description.nr_nets),
            unpublished: (),
        })
    }
    fn publish(&mut self, _: &str, (): ()) -> Result<(), SourceError> {
        Ok(())
    }
    fn notify(&self, (): &()) {
        *self.notified.lock().unwrap() += 1;
    }
    fn event(&mut self, _: &str, event: &Event) {
        let _ = self.events.send(event.clone());
    }
    fn note(&mut self, _: &str) {}
}

/// What the peer does after block-job-cancel was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Reply,
    Event,
    Leave,
}

/// A QEMU with one disk, one job and one threshold, that says what it is told to say.
struct Peer {
    listener: UnixListener,
    jobs: Value,
    threshold: u64,
    /// Commands that are not answered by themselves.
    held: &'static str,
}

impl Peer {
    fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let job = json!({ "device": "j", "type": "mirror", "status": "running", "ready": false,
                          "paused": false, "offset": 1, "len": 2, "speed": 0 });
        Self { listener, jobs: json!([job]), threshold: 0, held: "" }
    }

    /// Takes the next connection, and answers until the held command comes, which it returns.
    fn accept(&mut self) -> Client {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Client { input: BufReader::new(stream) };
        let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 } });
        client.say(&json!({ "QMP": { "version": version, "capabilities": [] } }));
        client
    }

    fn answer(&mut self, request: &Value) -> Value {
        let stats = json!({ "rd_operations": 0, "wr_highest_offset": 0 });
        match request["execute"].as_str().unwrap() {
            "query-name" => json!({ "name": "peer" }),
            "query-status" => json!({ "status": "running", "running": true }),
            "query-cpus-fast" => json!([{ "cpu-index": 0, "qom-path": "/cpu0" }]),
            "query-blockstats" => {
                json!([{ "device": "virtio0", "node-name": "n", "stats": stats }])
            }
            "query-named-block-nodes" => {
                json!([{ "node-name": "n", "write_threshold": self.threshold,
                "image": { "virtual-size": 1000, "actual-size": 10 } }])
            }
            "query-block-jobs" => self.jobs.clone(),
            "block-set-write-threshold" => {
                self.threshold = request["arguments"]["write-threshold"].as_u64().unwrap();
                json!({})
            }
            "query-memory-size-summary" => json!({ "base-memory": 1 }),
            "query-uuid" | "qmp_capabilities" => json!({}),
            _ => json!([]),
        }
    }

    /// Answers this many requests.
    fn serve_some(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            let Some(request) = client.next() else { return };
            let answer = self.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
    }

    /// Answers until `held` comes, and returns that; `None` at the connection's end.
    fn serve(&mut self, client: &mut Client) -> Option<Value> {
        loop {
            let request = client.next()?;
            if request["execute"] == self.held {
                return Some(request);
            }
            let answer = self.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
    }
}

struct Client {
    input: BufReader<UnixStream>,
}

impl Client {
    fn say(&mut self, value: &Value) {
        // The daemon may have gone.
        let _ = writeln!(self.input.get_mut(), "{value}");
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(len) if len > 0 => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }
}

struct Setup {
    _dir: tempfile::TempDir,
    vm: Vm,
    events: Receiver<Event>,
    notified: Arc<Mutex<u64>>,
}

fn setup() -> (Peer, Setup) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let peer = Peer::new(&path);
    let (to, events) = channel();
    let notified = Arc::new(Mutex::new(0));
    let options = Options { interval: Duration::from_millis(20), ..Options::default() };
    let publisher = Quiet { events: to, notified: Arc::clone(&notified) };
    let vm = Vm::start(&path, &options, publisher).unwrap();
    (peer, Setup { _dir: dir, vm, events, notified })
}

type Answer = Receiver<Result<JobAborted, ControlError>>;

fn abort(vm: &Vm, flags: u32) -> Answer {
    let (reply, answer) = channel();
    vm.command(Command::AbortJob { disk: "vda".to_owned(), flags, timeout: None, reply });
    answer
}

fn wait<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(Duration::from_secs(30)).expect("it comes in time")
}

/// The next event that is not about the connection.
fn next_event(events: &Receiver<Event>) -> Event {
    loop {
        match wait(events) {
            Event::Published | Event::Connected | Event::Disconnected => {}
            event => return event,
        }
    }
}

/// Events that come while QEMU is asked some more.
fn rest(events: &Receiver<Event>) -> Vec<Event> {
    std::thread::sleep(Duration::from_millis(150));
    let about_jobs = |e: &Event| !matches!(e, Event::Connected | Event::Disconnected);
    events.try_iter().filter(about_jobs).collect()
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
    // The script is played to its end, and nothing else is told.
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
fn a_firing_while_nobody_was_connected_is_told_once() {
    let (mut peer, setup) = setup();
    peer.held = "block-set-write-threshold";
    let (armed, is_armed) = channel();
    let thread = std::thread::spawn(move || {
        let mut client = peer.accept();
        let request = peer.serve(&mut client).unwrap();
        let answer = peer.answer(&request);
        client.say(&json!({ "return": answer, "id": request["id"] }));
        is_armed.recv().unwrap();
        // It fires, and the connection breaks before the event is sent.
        drop(client);
        peer.threshold = 0;
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
        peer.threshold = 0;
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
        // The domain is published with the first one answered.
        for _ in 0..2 {
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
