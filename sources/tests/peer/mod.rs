//! A scripted QMP peer with its observer: a test decides when it answers, and what.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a peer that cannot go on fails its test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{BlkGroup, DomGroup, NetGroup, Ns, VcpuGroup};
use domstat_sources::contract::{Description, Event, Publisher, Sinks, SourceError};
use domstat_sources::qemu::{Options, Vm};
use serde_json::{Value, json};

/// Takes everything and keeps events and notifications.
pub(crate) struct Quiet {
    events: Sender<Event>,
    notified: Arc<Mutex<u64>>,
}

pub(crate) struct Sink;

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

/// A QEMU with one disk, one job and one threshold, that answers as its test decides.
pub(crate) struct Peer {
    listener: UnixListener,
    pub(crate) jobs: Value,
    /// What query-blockstats answers.
    pub(crate) devices: Value,
    /// What x-debug-query-block-graph answers.
    pub(crate) graph: Value,
    /// Armed thresholds by node.
    pub(crate) thresholds: BTreeMap<String, u64>,
    /// A command that is not answered by itself.
    pub(crate) held: &'static str,
}

impl Peer {
    pub(crate) fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let job = json!({ "device": "j", "type": "mirror", "status": "running", "ready": false,
                          "paused": false, "offset": 1, "len": 2, "speed": 0 });
        let stats = json!({ "rd_operations": 0, "wr_highest_offset": 0 });
        let devices = json!([{ "device": "virtio0", "node-name": "n", "stats": stats }]);
        let graph = json!({ "nodes": [], "edges": [] });
        let thresholds = BTreeMap::new();
        Self { listener, jobs: json!([job]), devices, graph, thresholds, held: "" }
    }

    /// Takes the next connection, and answers until the held command comes, which it returns.
    pub(crate) fn accept(&mut self) -> Client {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Client { input: BufReader::new(stream) };
        let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 } });
        client.say(&json!({ "QMP": { "version": version, "capabilities": [] } }));
        client
    }

    pub(crate) fn answer(&mut self, request: &Value) -> Value {
        match request["execute"].as_str().unwrap() {
            "query-name" => json!({ "name": "peer" }),
            "query-status" => json!({ "status": "running", "running": true }),
            "query-cpus-fast" => json!([{ "cpu-index": 0, "qom-path": "/cpu0" }]),
            "query-blockstats" => self.devices.clone(),
            "x-debug-query-block-graph" => self.graph.clone(),
            "query-named-block-nodes" => {
                let mut nodes = Vec::new();
                self.each_node(&self.devices, &mut nodes);
                json!(nodes)
            }
            "query-block-jobs" => self.jobs.clone(),
            "block-set-write-threshold" => {
                let arguments = &request["arguments"];
                let node = arguments["node-name"].as_str().unwrap().to_owned();
                self.thresholds.insert(node, arguments["write-threshold"].as_u64().unwrap());
                json!({})
            }
            "query-memory-size-summary" => json!({ "base-memory": 1 }),
            "query-uuid" | "qmp_capabilities" => json!({}),
            _ => json!([]),
        }
    }

    /// Every node of the devices, of 1,000 bytes.
    fn each_node(&self, of: &Value, nodes: &mut Vec<Value>) {
        for item in of.as_array().into_iter().flatten().chain(of.get("node-name").map(|_| of)) {
            let Some(name) = item["node-name"].as_str() else { continue };
            nodes.push(json!({ "node-name": name,
                "write_threshold": self.thresholds.get(name).copied().unwrap_or(0),
                "image": { "virtual-size": 1000, "actual-size": 10 } }));
            self.each_node(&item["parent"], nodes);
            self.each_node(&item["backing"], nodes);
        }
    }

    /// Answers this many requests.
    pub(crate) fn serve_some(&mut self, client: &mut Client, count: usize) {
        for _ in 0..count {
            let Some(request) = client.next() else { return };
            let answer = self.answer(&request);
            client.say(&json!({ "return": answer, "id": request["id"] }));
        }
    }

    /// Answers until `held` comes, and returns that; `None` at the connection's end.
    pub(crate) fn serve(&mut self, client: &mut Client) -> Option<Value> {
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

pub(crate) struct Client {
    pub(crate) input: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn say(&mut self, value: &Value) {
        // The daemon may have closed the connection.
        let _ = writeln!(self.input.get_mut(), "{value}");
    }

    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Ok(len) if len > 0 => Some(serde_json::from_str(&line).unwrap()),
            _ => None,
        }
    }
}

pub(crate) struct Setup {
    _dir: tempfile::TempDir,
    pub(crate) vm: Vm,
    pub(crate) events: Receiver<Event>,
    pub(crate) notified: Arc<Mutex<u64>>,
}

pub(crate) fn setup() -> (Peer, Setup) {
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

pub(crate) fn wait<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(Duration::from_secs(30)).expect("it comes in time")
}

/// The next event that is not about the connection.
pub(crate) fn next_event(events: &Receiver<Event>) -> Event {
    loop {
        match wait(events) {
            Event::Published | Event::Connected | Event::Disconnected => {}
            event => return event,
        }
    }
}

/// Events that come while QEMU is asked some more.
pub(crate) fn rest(events: &Receiver<Event>) -> Vec<Event> {
    std::thread::sleep(Duration::from_millis(150));
    let about_jobs = |e: &Event| !matches!(e, Event::Connected | Event::Disconnected);
    events.try_iter().filter(about_jobs).collect()
}
