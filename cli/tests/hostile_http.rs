//! Hostile HTTP clients of the exporter. Each test prints one row of the table of `ci/hostile.sh`,
//! which shows those that `domstat-hostile` does not have: the age of the others is the latency of a
//! well-behaved client meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::http::{Export, OPENMETRICS, get, self_signed};
use common::made_up::{MadeUp, many_series};
use common::skip;
use rustix::process::{Pid, Signal, kill_process};

/// More connections than the exporter admits.
const MANY: usize = 200;
/// A wait that only a hanging exporter reaches.
const HANGS: Duration = Duration::from_secs(40);
/// Largest memory of the exporter under attack, in MiB.
const MEMORY: u64 = 256;

fn connect(at: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    // An exporter that does not accept leaves connections in the backlog, and then refuses them.
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(HANGS)).ok()?;
    stream.write_all(bytes).ok()?;
    Some(stream)
}

fn connections(at: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    (0..count).filter_map(|_| connect(at, bytes)).collect()
}

/// Largest resident memory of a process so far, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Latency of a well-behaved client, the slowest of five requests.
fn latency(mut request: impl FnMut() -> Option<String>) -> Duration {
    let requests = (0..5).map(|_| {
        let begin = Instant::now();
        let text = request().unwrap();
        assert!(text.contains("domstat_up{domain=\"web1\""), "{text}");
        begin.elapsed()
    });
    requests.max().unwrap()
}

fn scrape(at: SocketAddr) -> Option<String> {
    let answer = get(at, "/metrics", &[]).ok()?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Some(answer.body)
}

/// Checks the exporter's health and memory, ends it with SIGTERM and prints the row.
fn judge(what: &str, latency: Duration, mut export: Export, healthy: bool) {
    if healthy {
        assert_eq!(get(export.at, "/-/healthy", &[]).unwrap().status, 200);
    }
    let memory = peak_mib(export.process.0.id());
    assert!(memory < MEMORY, "{memory} MiB");
    let begin = Instant::now();
    kill_process(Pid::from_child(&export.process.0), Signal::TERM).unwrap();
    assert!(export.process.0.wait().unwrap().success());
    let ended = begin.elapsed();
    assert!(ended < HANGS, "{ended:?}");
    println!(
        "hostile: | HTTP client | {what} | answers scrapes | {memory} MiB | {} ms | {} ms |",
        latency.as_millis(),
        ended.as_millis()
    );
}

fn start(dir: &Path, args: &[&str]) -> (MadeUp, Export) {
    (MadeUp::start(dir, "web1", "web1"), Export::start(dir, args))
}

/// Whether the other end closes the connection, instead of keeping it for minutes.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn half_open_heads_do_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_domain, export) = start(dir.path(), &[]);
    let held = connections(export.at, MANY, b"GET /met");
    let latency = latency(|| scrape(export.at));
    // The last ones are closed as well, although nobody else needs their places.
    assert!(is_closed(held.last().unwrap()), "a head without an end is waited for");
    judge("http-half-a-head, 200 at once", latency, export, true);
}

#[test]
fn idle_connections_do_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_domain, export) = start(dir.path(), &[]);
    let held = connections(export.at, MANY, b"");
    let latency = latency(|| scrape(export.at));
    assert!(is_closed(held.last().unwrap()), "a connection without a request is kept");
    judge("http-silent, 200 at once", latency, export, true);
}

#[test]
fn connections_without_token_do_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    let (_domain, export) = start(dir.path(), &["--token-file", token.to_str().unwrap()]);
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = connections(export.at, MANY, request);
    let permitted = ["Authorization: Bearer s3cret"];
    let latency = latency(|| get(export.at, "/metrics", &permitted).ok().map(|a| a.body));
    let mut answer = [0; 12];
    held.last_mut().unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert!(is_closed(held.last().unwrap()), "a refused client keeps its connection");
    judge("http-without-token-and-stay", latency, export, false);
}

#[test]
fn slow_readers_do_not_keep_scrapes_from_others() {
    let dir = tempfile::tempdir().unwrap();
    // More text than the sockets' buffers hold.
    let _many = many_series(dir.path(), "many");
    // A client may take long: it is its slot that must not wait for it.
    let (_domain, export) = start(dir.path(), &["--timeout", "600"]);
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {OPENMETRICS}\r\n\r\n");
    let mut held = connections(export.at, 8, request.as_bytes());
    for stream in held.iter_mut().take(4) {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    let latency = latency(|| scrape(export.at));
    judge("http-scrape-and-never-read, 40 MB each", latency, export, true);
}

#[test]
fn https_handshakes_that_never_end_do_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let Some((cert, key)) = self_signed(dir.path()) else {
        return skip("openssl", "there is no openssl to make a certificate with");
    };
    let args = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let (_domain, export) = start(dir.path(), &args);
    // The head of a record with a ClientHello of 512 bytes, and its first byte.
    let held = connections(export.at, MANY, &[22, 3, 1, 2, 0, 1]);
    let url = format!("https://{}/metrics", export.at);
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "40", "--cacert"]).arg(&cert).arg(&url).output()
    };
    if curl().is_err() {
        return skip("openssl", "there is no curl to ask with");
    }
    let latency = latency(|| {
        let answer = curl().unwrap();
        answer.status.success().then(|| String::from_utf8(answer.stdout).unwrap())
    });
    assert!(is_closed(held.last().unwrap()), "a handshake without an end is waited for");
    judge("https-half-a-handshake", latency, export, false);
}

#[test]
fn a_flood_of_connections_does_not_keep_others_out() {
    let dir = tempfile::tempdir().unwrap();
    let (_domain, export) = start(dir.path(), &[]);
    let (at, ended) = (export.at, AtomicBool::new(false));
    let latency = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            while !ended.load(Ordering::Relaxed) {
                held.extend(connect(at, b"GET /metrics HTTP/1.1\r\n"));
                if held.len() > 400 {
                    held.pop_front();
                }
            }
        });
        let latency = std::panic::catch_unwind(|| latency(|| scrape(at)));
        ended.store(true, Ordering::Relaxed);
        latency.unwrap()
    });
    judge("http-reconnect, 400 held", latency, export, true);
}
