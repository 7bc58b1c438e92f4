//! Hostile QMP peers: servers that break what a QEMU promises, each in one way. Tests start them on
//! threads; the example `hostile-qmp` starts one as a process of its own.
#![allow(dead_code, reason = "each user takes its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a peer that cannot go on fails its test"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// The way in which a peer is hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hostility {
    /// Not at all: it answers everything at once.
    Harmless,
    /// It sends events without pause in place of an answer.
    Flood,
    /// It answers, and sends events without pause once it is published.
    FloodBehindAnswers,
    /// An answer comes byte by byte and never ends.
    Trickle,
    /// An answer is one line without an end.
    EndlessLine,
    /// An answer of 8 MiB that takes a hundred times as much memory once it is parsed.
    Expanding,
    /// It lists 65,536 vCPUs.
    ManyCpus,
    /// It lists 20,000 disks.
    ManyDisks,
    /// It lists 5,000 block jobs, each with a name of its own in every answer.
    ManyJobs,
    /// 40 devices, and every answer comes just before the time limit of 2 s.
    LastMoment,
    /// It names a thread of this process as its own.
    WrongPid(i32),
    /// It closes the connection in the middle of an answer.
    Reset,
    /// It accepts connections and never says a word.
    Silent,
}

impl Hostility {
    /// All, by the names that the command line takes; `wrong-pid` takes a process id.
    pub(crate) const NAMES: [(&'static str, Self); 13] = [
        ("harmless", Self::Harmless),
        ("flood", Self::Flood),
        ("flood-behind-answers", Self::FloodBehindAnswers),
        ("trickle", Self::Trickle),
        ("endless-line", Self::EndlessLine),
        ("expanding", Self::Expanding),
        ("many-cpus", Self::ManyCpus),
        ("many-disks", Self::ManyDisks),
        ("many-jobs", Self::ManyJobs),
        ("last-moment", Self::LastMoment),
        ("wrong-pid", Self::WrongPid(1)),
        ("reset", Self::Reset),
        ("silent", Self::Silent),
    ];
}

/// Serves connections at `path`, one after the other, for as long as the process lives.
pub(crate) fn serve(path: &Path, name: &str, hostility: Hostility) {
    let listener = UnixListener::bind(path).unwrap();
    let mut peer = Peer { name: name.to_owned(), hostility, asked: 0, long: None };
    for stream in listener.incoming() {
        // Whatever ends a connection, the next one is served.
        let _ = stream.and_then(|stream| peer.connection(stream));
    }
}

/// The same on a thread of its own; it listens when this returns.
pub(crate) fn start(path: &Path, name: &str, hostility: Hostility) {
    let (at, name) = (path.to_owned(), name.to_owned());
    std::thread::spawn(move || serve(&at, &name, hostility));
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Peer {
    name: String,
    hostility: Hostility,
    asked: u64,
    /// The answer that is long.
    long: Option<String>,
}

impl Peer {
    fn connection(&mut self, stream: UnixStream) -> std::io::Result<()> {
        if self.hostility == Hostility::Silent {
            // Holds the connection until its client leaves.
            let _ = BufReader::new(stream).read_line(&mut String::new());
            return Ok(());
        }
        let mut output = stream.try_clone()?;
        let version = json!({ "qemu": { "major": 9, "minor": 0, "micro": 0 } });
        writeln!(output, "{}", json!({ "QMP": { "version": version, "capabilities": [] } }))?;
        for line in BufReader::new(stream).lines() {
            let request: Value = serde_json::from_str(&line?)?;
            self.respond(&mut output, &request)?;
        }
        Ok(())
    }

    fn respond(&mut self, output: &mut UnixStream, request: &Value) -> std::io::Result<()> {
        self.asked += 1;
        let command = request["execute"].as_str().unwrap_or_default();
        let answer = self.line(command, request);
        match (self.hostility, command) {
            (Hostility::Flood, "query-cpus-fast") => flood(output),
            (Hostility::FloodBehindAnswers, "query-block-jobs") if self.asked > 30 => {
                writeln!(output, "{answer}")?;
                flood(output)
            }
            (Hostility::Trickle, "query-cpus-fast") => {
                output.write_all(b"{\"return\": [\"")?;
                loop {
                    output.write_all(b"a")?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            (Hostility::EndlessLine, "query-cpus-fast") => {
                output.write_all(b"{\"return\": [0")?;
                let piece = b",0".repeat(32 << 10);
                loop {
                    output.write_all(&piece)?;
                }
            }
            (Hostility::Expanding, "query-cpus-fast") => {
                let many = "{\"\":0},".repeat((8 << 20) / 7 - 100);
                writeln!(output, "{{\"id\": {}, \"return\": [{many} 0]}}", request["id"])
            }
            (Hostility::LastMoment, _) if command != "qmp_capabilities" => {
                std::thread::sleep(Duration::from_millis(1800));
                writeln!(output, "{answer}")
            }
            (Hostility::Reset, "query-cpus-fast") => {
                output.write_all(answer.get(..answer.len() / 2).unwrap_or_default().as_bytes())?;
                output.shutdown(std::net::Shutdown::Both)
            }
            _ => writeln!(output, "{answer}"),
        }
    }

    /// The reply as a line without its end. Long ones are made once: a slow peer is another case.
    fn line(&mut self, command: &str, request: &Value) -> String {
        let long = matches!(
            (self.hostility, command),
            (Hostility::ManyCpus, "query-cpus-fast") | (Hostility::ManyDisks, "query-blockstats")
        );
        let answer = match self.long.clone().filter(|_| long) {
            Some(answer) => answer,
            None => self.answer(command, request).to_string(),
        };
        let line = format!("{{\"return\": {answer}, \"id\": {}}}", request["id"]);
        if long {
            self.long = Some(answer);
        }
        line
    }

    fn answer(&self, command: &str, request: &Value) -> Value {
        match command {
            "query-name" => json!({ "name": self.name }),
            "query-status" => json!({ "status": "running", "running": true }),
            "query-cpus-fast" => self.cpus(),
            "query-blockstats" => self.devices(),
            "query-block-jobs" => self.jobs(),
            "query-named-block-nodes" => json!([]),
            "query-memory-size-summary" => json!({ "base-memory": 1 << 20 }),
            "query-stats-schemas" if self.hostility == Hostility::ManyCpus => {
                let stats: Vec<Value> = (0..5000)
                    .map(|n| json!({ "name": format!("s{n}"), "type": "instant" }))
                    .collect();
                json!([{ "provider": "kvm", "target": "vcpu", "stats": stats }])
            }
            "qom-get" if request["arguments"]["property"] == "type" => json!("virtio-blk-pci"),
            "query-uuid" | "qmp_capabilities" | "block-set-write-threshold" => json!({}),
            _ => json!([]),
        }
    }

    fn cpus(&self) -> Value {
        let count = if self.hostility == Hostility::ManyCpus { 65_536 } else { 1 };
        let cpu = |n: u32| {
            let mut cpu = json!({ "cpu-index": n, "qom-path": format!("/cpu{n}") });
            if let Hostility::WrongPid(pid) = self.hostility {
                cpu["thread-id"] = json!(pid);
            }
            cpu
        };
        (0..count).map(cpu).collect()
    }

    fn devices(&self) -> Value {
        let count = match self.hostility {
            Hostility::ManyDisks => 20_000,
            Hostility::LastMoment => 40,
            _ => 1,
        };
        let device = |n: u32| {
            json!({ "device": "", "qdev": format!("/machine/unattached/device[{n}]"),
                    "node-name": format!("n{n}"), "stats": { "rd_operations": self.asked } })
        };
        (0..count).map(device).collect()
    }

    fn jobs(&self) -> Value {
        if self.hostility != Hostility::ManyJobs {
            return json!([]);
        }
        let job = |n: u32| {
            json!({ "device": format!("j{}-{n}", self.asked), "type": "mirror",
                    "status": "running", "offset": 1, "len": 2 })
        };
        (0..5_000).map(job).collect()
    }
}

/// Events without an end, or until the client has had enough.
fn flood(output: &mut UnixStream) -> std::io::Result<()> {
    let event = |n: u32| {
        let data =
            json!({ "device": format!("flood-{n}"), "type": "mirror", "pad": "x".repeat(64) });
        format!("{}\n", json!({ "event": "BLOCK_JOB_READY", "data": data }))
    };
    let piece: String = (0..1000).map(event).collect();
    loop {
        output.write_all(piece.as_bytes())?;
    }
}
