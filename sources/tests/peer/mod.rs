//! A scripted QMP peer with its observer: a test decides when it answers, and what.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a peer that cannot go on fails its test")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{BlkGroup, BlkHistGroup, DomGroup, Group, NetGroup, Ns, VcpuGroup};
use domstat_sources::contract::{
    ArmedThresholds, Description, Event, Publisher, Sinks, SourceError,
};
use domstat_sources::qemu::{Options, Vm};
use serde_json::{Value, json};

/// Takes everything and keeps events and notifications.
pub(crate) struct Quiet {
    events: Sender<Event>,
    notified: Arc<Mutex<u64>>,
    written: Written,
    keeper: Keeper,
}

/// What was written last of each group, whatever record it is of.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Words>>);

/// Bytes of groups, and the time that they are as of, by record and name.
type Words = BTreeMap<(&'static str, &'static str), (Vec<u8>, Ns)>;

impl Written {
    fn keep<G: Group>(&self, group: &G, as_of: Ns) {
        let key = (G::DESC.record.name(), G::DESC.name);
        self.0.lock().unwrap().insert(key, (group.as_bytes().to_vec(), as_of));
    }

    /// What the group is as of, if it was written and not withdrawn.
    pub(crate) fn as_of<G: Group>(&self) -> Option<u64> {
        let key = (G::DESC.record.name(), G::DESC.name);
        self.0.lock().unwrap().get(&key).map(|(_, as_of)| as_of.0)
    }

    /// The group, if it was written and not withdrawn.
    pub(crate) fn get<G: Group>(&self) -> Option<G> {
        let key = (G::DESC.record.name(), G::DESC.name);
        self.0.lock().unwrap().get(&key).map(|(bytes, _)| G::read_from_bytes(bytes).unwrap())
    }

    /// Waits until the group is as it is to be.
    pub(crate) fn wait<G: Group>(&self, is_so: impl Fn(&G) -> bool) -> G {
        let began = Instant::now();
        loop {
            match self.get::<G>().filter(&is_so) {
                Some(group) => return group,
                None => assert!(began.elapsed() < Duration::from_secs(30), "{}", G::DESC.name),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn withdraw<G: Group>(&self) {
        self.0.lock().unwrap().remove(&(G::DESC.record.name(), G::DESC.name));
    }
}

pub(crate) struct Sink(Written);

impl DomSink for Sink {
    fn write<G: DomGroup>(&mut self, group: &G, as_of: Ns) {
        self.0.keep(group, as_of);
    }
    fn deactivate<G: DomGroup>(&mut self) {
        self.0.withdraw::<G>();
    }
}
impl VcpuSink for Sink {
    fn write<G: VcpuGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl BlkSink for Sink {
    fn write<G: BlkGroup>(&mut self, group: &G, as_of: Ns) {
        self.0.keep(group, as_of);
    }
    fn write_hist<G: BlkHistGroup>(&mut self, group: &G, as_of: Ns) {
        self.0.keep(group, as_of);
    }
    fn deactivate<G: BlkGroup>(&mut self) {
        self.0.withdraw::<G>();
    }
    fn deactivate_hist<G: BlkHistGroup>(&mut self) {
        self.0.withdraw::<G>();
    }
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
        let sinks = |n: u32| (0..n).map(|_| Sink(self.written.clone())).collect();
        Ok(Sinks {
            dom: Sink(self.written.clone()),
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
    fn recall(&mut self, _: &Path) -> ArmedThresholds {
        self.keeper.get()
    }
    fn remember(&mut self, _: &Path, armed: &ArmedThresholds) {
        self.keeper.set(armed.clone());
    }
    fn note(&mut self, _: &str) {}
}

/// Keeps what is armed, from one observer to the next.
#[derive(Clone, Default)]
pub(crate) struct Keeper(Arc<Mutex<ArmedThresholds>>);

impl Keeper {
    pub(crate) fn get(&self) -> ArmedThresholds {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn set(&self, armed: ArmedThresholds) {
        *self.0.lock().unwrap() = armed;
    }
}

/// A QEMU with one disk, one job and one threshold, that answers as its test decides.
pub(crate) struct Peer {
    pub(crate) listener: UnixListener,
    pub(crate) jobs: Value,
    /// What query-blockstats answers.
    pub(crate) devices: Value,
    /// What x-debug-query-block-graph answers.
    pub(crate) graph: Value,
    /// Armed thresholds by node.
    pub(crate) thresholds: BTreeMap<String, u64>,
    /// Other answers, by command.
    pub(crate) answers: Arc<Mutex<BTreeMap<&'static str, Value>>>,
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
        let (jobs, answers) = (json!([job]), Arc::default());
        Self { listener, jobs, devices, graph, thresholds, answers, held: "" }
    }

    /// Takes the next connection, and answers until the held command comes, which it returns.
    pub(crate) fn accept(&mut self) -> Client {
        let (stream, _) = self.listener.accept().unwrap();
        Client::greet(stream)
    }

    pub(crate) fn answer(&mut self, request: &Value) -> Value {
        let command = request["execute"].as_str().unwrap();
        if let Some(answer) = self.answers.lock().unwrap().get(command) {
            return answer.clone();
        }
        match command {
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
            "block-latency-histogram-set" => {
                self.set_histograms(&request["arguments"]);
                json!({})
            }
            "query-memory-size-summary" => json!({ "base-memory": 1 }),
            "query-uuid" | "qmp_capabilities" => json!({}),
            _ => json!([]),
        }
    }

    /// Begins histograms with these boundaries, or takes them away.
    fn set_histograms(&mut self, arguments: &Value) {
        for device in self.devices.as_array_mut().unwrap() {
            let stats = device["stats"].as_object_mut().unwrap();
            for name in ["rd", "wr", "flush"].map(|kind| format!("{kind}_latency_histogram")) {
                let Some(boundaries) = arguments["boundaries"].as_array() else {
                    stats.remove(&name);
                    continue;
                };
                let bins = vec![0; boundaries.len() + 1];
                stats.insert(name, json!({ "boundaries": boundaries, "bins": bins }));
            }
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
    pub(crate) fn greet(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Self { input: BufReader::new(stream) };
        let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 } });
        client.say(&json!({ "QMP": { "version": version, "capabilities": [] } }));
        client
    }

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
    _dir: Option<tempfile::TempDir>,
    pub(crate) vm: Vm,
    pub(crate) events: Receiver<Event>,
    pub(crate) notified: Arc<Mutex<u64>>,
    pub(crate) written: Written,
}

pub(crate) fn setup() -> (Peer, Setup) {
    setup_with(Options::default())
}

pub(crate) fn setup_with(options: Options) -> (Peer, Setup) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer.qmp");
    let peer = Peer::new(&path);
    let setup = setup_at(&path, options, Keeper::default());
    (peer, Setup { _dir: Some(dir), ..setup })
}

/// Observes the peer at this path.
pub(crate) fn setup_at(path: &Path, options: Options, keeper: Keeper) -> Setup {
    let (to, events) = channel();
    let notified = Arc::new(Mutex::new(0));
    // Unless the test says something else.
    let interval = match options.interval == Options::default().interval {
        true => Duration::from_millis(20),
        false => options.interval,
    };
    let options = Options { interval, ..options };
    let written = Written::default();
    let publisher =
        Quiet { events: to, notified: Arc::clone(&notified), written: written.clone(), keeper };
    let vm = Vm::start(path, &options, publisher).unwrap();
    Setup { _dir: None, vm, events, notified, written }
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
