//! As little HTTP as the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use super::{Background, domstat};

pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// GETs `path`, with further lines in the request's head.
pub(crate) fn get(at: SocketAddr, path: &str, head: &[&str]) -> std::io::Result<Answer> {
    request(at, "GET", path, head)
}

pub(crate) fn request(
    at: SocketAddr,
    method: &str,
    path: &str,
    head: &[&str],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    // Of HTTP/1.0, so that the answer comes as it is and ends with the connection. In one piece, as
    // other clients send it.
    let lines: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    stream.write_all(format!("{method} {path} HTTP/1.0\r\n{lines}\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `domstat export`, and where it listens.
pub(crate) struct Export {
    pub(crate) process: Background,
    pub(crate) at: SocketAddr,
    /// What it said before it listened.
    pub(crate) said: String,
    _stderr: BufReader<ChildStderr>,
}

impl Export {
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = domstat(dir);
        command.args(["export", "--listen", "127.0.0.1:0"]).args(args).stderr(Stdio::piped());
        let mut process = Background::start(&mut command);
        let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
        let mut said = String::new();
        let at = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            if let Some((_, rest)) = line.split_once("://") {
                break rest.split('/').next().unwrap().parse().unwrap();
            }
            said.push_str(&line);
        };
        Self { process, at, said, _stderr: stderr }
    }

    /// The text of one scrape.
    pub(crate) fn scrape(&self) -> String {
        let answer = get(self.at, "/metrics", &[&format!("Accept: {OPENMETRICS}")]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        answer.body
    }
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key; `None` without openssl.
pub(crate) fn self_signed(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success()).then_some((cert, key))
}
