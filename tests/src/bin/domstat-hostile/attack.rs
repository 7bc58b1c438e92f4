//! The attacks that run as processes of their own. Each goes on until it is killed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect,
    listen, send, socket_with,
};

use crate::Fallible;
use crate::qmp::{self, Hostility};

/// Connections that a client opens where it opens many.
const MANY: usize = 1100;

/// Attacks of a client of the control socket.
pub(crate) const CONTROL: [&str; 6] = [
    "control-idle",
    "control-endless-line",
    "control-trickle",
    "control-garbage",
    "control-subscribe-and-never-read",
    "control-ask-and-never-read",
];
/// Attacks of a client of a hand-over socket.
pub(crate) const HANDOVER: [&str; 4] =
    ["handover-idle", "handover-garbage", "handover-ask-and-never-read", "handover-reconnect"];
/// Attacks of an HTTP client.
pub(crate) const HTTP: [&str; 5] = [
    "http-silent",
    "http-half-a-head",
    "http-endless-head",
    "http-scrape-and-never-read",
    "http-reconnect",
];
/// Daemons of another user in the directory of regions.
pub(crate) const FOREIGN: [&str; 3] = ["foreign-silent", "foreign-flood", "foreign-stream"];
/// Regions and entries in the directory.
pub(crate) const ENTRIES: [&str; 5] =
    ["region-noise", "region-truncated", "region-odd", "entries-odd-files", "entries-many"];

/// Attacks `at`: a socket, an address, or the directory of regions.
pub(crate) fn run(name: &str, at: &Path) -> Fallible<()> {
    if let Some(name) = name.strip_prefix("qmp-") {
        let known = Hostility::NAMES.iter().find(|(known, _)| *known == name);
        let (_, hostility) = known.ok_or_else(|| format!("there is no peer {name}"))?;
        let stem = at.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        qmp::serve(at, &stem, *hostility);
        return Ok(());
    }
    match name {
        "control-idle" => hold(|| UnixStream::connect(at).ok()),
        "control-endless-line" => each(|| flood(UnixStream::connect(at)?, &[b' '; 4096])),
        "control-trickle" => each(|| trickle(UnixStream::connect(at)?, b"{\"op\":\"domains\"")),
        "control-garbage" => each(|| {
            let mut stream = UnixStream::connect(at)?;
            stream.write_all(b"{\"op\":[[[[[[[[{}]]]]]]]],\"domain\":1e999}\n")?;
            stream.read_to_end(&mut Vec::new()).map(|_| ())
        }),
        "control-subscribe-and-never-read" => hold(|| {
            let mut stream = UnixStream::connect(at).ok()?;
            stream.write_all(b"{\"op\":\"subscribe\"}\n").ok()?;
            Some(stream)
        }),
        "control-ask-and-never-read" => hold(|| {
            let mut stream = UnixStream::connect(at).ok()?;
            stream.set_write_timeout(Some(Duration::from_millis(50))).ok()?;
            let ask = b"{\"op\":\"domains\"}\n".repeat(1000);
            while stream.write_all(&ask).is_ok() {}
            Some(stream)
        }),
        "handover-idle" => hold(|| seqpacket(at).ok()),
        "handover-garbage" => each(|| {
            let fd = seqpacket(at)?;
            for len in [0_usize, 1, 7, 16, 64, 500] {
                send(&fd, &vec![0xA5; len], SendFlags::NOSIGNAL)?;
            }
            Ok(())
        }),
        "handover-ask-and-never-read" => hold(|| {
            let fd = seqpacket(at).ok()?;
            let mut buffer = [0; domstat_layout::handover::MAX_MESSAGE];
            let request = domstat_layout::handover::Request::List { follow: false };
            let bytes = request.encode(1, &mut buffer)?.to_vec();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            while send(&fd, &bytes, flags).is_ok() {}
            Some(fd)
        }),
        "handover-reconnect" => each(|| seqpacket(at).map(|_| ())),
        "http-silent" => hold(|| http(at).ok()),
        "http-half-a-head" => hold(|| {
            let mut stream = http(at).ok()?;
            stream.write_all(b"GET /met").ok()?;
            Some(stream)
        }),
        "http-endless-head" => each(|| {
            let mut stream = http(at)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n")?;
            flood(stream, &b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100))
        }),
        "http-scrape-and-never-read" => hold(|| {
            let mut stream = http(at).ok()?;
            let ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(&ask.repeat(100)).ok()?;
            Some(stream)
        }),
        "http-reconnect" => each(|| http(at)?.write_all(b"GET /metrics HTTP/1.1\r\n")),
        "foreign-silent" => {
            let listener = listen_at(&at.join("foreign.sock"))?;
            hold(|| accept(&listener).ok())
        }
        "foreign-flood" => {
            let listener = listen_at(&at.join("foreign.sock"))?;
            each(|| {
                let client = accept(&listener)?;
                loop {
                    send(&client, &[0xA5; 256], SendFlags::NOSIGNAL)?;
                }
            })
        }
        "foreign-stream" => {
            let listener = std::os::unix::net::UnixListener::bind(at.join("foreign.sock"))?;
            each(|| flood(listener.accept()?.0, &[b'x'; 4096]))
        }
        "region-noise" => {
            let (file, len) = region(at, "noise")?;
            each(|| {
                let mut noise = [0; 64];
                fastrand::fill(&mut noise);
                // The header stays: what is behind it is read again and again.
                file.write_all_at(&noise, fastrand::u64(256..len.max(321) - 64))
            })
        }
        "region-truncated" => {
            let (file, len) = region(at, "truncated")?;
            each(|| {
                file.set_len(fastrand::u64(0..len))?;
                std::thread::sleep(Duration::from_millis(1));
                file.set_len(len)?;
                std::fs::write(at.join("truncated.domstat"), GOLDEN)?;
                std::thread::sleep(Duration::from_millis(1));
                Ok(())
            })
        }
        "region-odd" => {
            let (file, len) = region(at, "odd")?;
            // Every word behind the header: each group is odd, and stays so.
            let odd = vec![0xFF; usize::try_from(len.saturating_sub(256))?];
            file.write_all_at(&odd, 256)?;
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        "entries-odd-files" => odd_entries(at),
        "entries-many" => {
            for n in 0..2000 {
                std::fs::write(at.join(format!("many-{n}.domstat")), [0; 64])?;
            }
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        _ => Err(format!("there is no attack {name}").into()),
    }
}

/// A region of revision 4, as `tests/golden` keeps it.
const GOLDEN: &[u8] = include_bytes!("../../../golden/r4-packed.bin");

/// A region in a plain file that this process holds as its producer does.
fn region(dir: &Path, name: &str) -> Fallible<(std::fs::File, u64)> {
    let path = dir.join(format!("{name}.domstat"));
    std::fs::write(&path, GOLDEN)?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let _ = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn odd_entries(dir: &Path) -> Fallible<()> {
    use std::os::unix::fs::symlink;
    let entry = |name: &str| dir.join(format!("{name}.domstat"));
    for (name, target) in [
        ("passwd", "/etc/passwd"),
        ("zero", "/dev/zero"),
        ("tty", "/dev/tty"),
        ("loop", "loop.domstat"),
        ("root", "/"),
        ("dangling", "/proc/1/fd/999"),
        ("\u{1b}[31mred\u{1b}]0;title\u{7}", "/nonexistent"),
    ] {
        let _ = symlink(target, entry(name));
    }
    let fifo = entry("fifo");
    let _ = std::process::Command::new("mkfifo").arg(&fifo).status();
    let _ = std::fs::create_dir(entry("directory"));
    let _ = std::fs::write(entry("empty"), []);
    let _ = std::fs::write(entry("text"), "not a region".repeat(1000));
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Opens as many as it can, again where some were closed, and keeps them.
fn hold<T>(mut open: impl FnMut() -> Option<T>) -> ! {
    // Enough descriptors to be the one who runs out last.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(4096), maximum: None },
    );
    let mut held = Vec::new();
    loop {
        match open() {
            Some(one) if held.len() < MANY => held.push(one),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        // The other side closes some: make room for others.
        if held.len() >= MANY {
            held.drain(..MANY / 2);
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Does it again and again, whatever becomes of it.
fn each(mut attack: impl FnMut() -> std::io::Result<()>) -> ! {
    loop {
        if attack().is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn flood(mut stream: impl Write, piece: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(piece)?;
    }
}

fn trickle(mut stream: UnixStream, text: &[u8]) -> std::io::Result<()> {
    for byte in text.iter().chain(&[b' '; 1000]) {
        stream.write_all(&[*byte])?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn http(at: &Path) -> std::io::Result<TcpStream> {
    TcpStream::connect(at.to_string_lossy().as_ref())
}

fn seqpacket(path: &Path) -> std::io::Result<OwnedFd> {
    let fd = socket()?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

fn socket() -> std::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn listen_at(path: &Path) -> std::io::Result<OwnedFd> {
    let fd = socket()?;
    bind(&fd, &SocketAddrUnix::new(path)?)?;
    listen(&fd, 64)?;
    Ok(fd)
}
