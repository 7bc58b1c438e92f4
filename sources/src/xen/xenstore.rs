//! What is asked of xenstored: what a domain is called, and how much memory it is to have.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Roots;

/// XS_READ of Xen's public/io/xs_wire.h.
const XS_READ: u32 = 2;
/// XENSTORE_PAYLOAD_MAX.
const PAYLOAD_MAX: u32 = 4096;
/// How long xenstored may take for an answer: as long all domains' numbers stand still.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long it is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(30);

/// The xenstored of this host, for all of its domains.
#[derive(Clone, Debug)]
pub(super) struct Xenstore {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(UnixStream),
    /// It did not answer.
    Silent(Instant),
}

impl Xenstore {
    pub(super) fn new(roots: &Roots) -> Self {
        let state = Arc::new(Mutex::new(State::Closed));
        Self { socket: roots.run.join("xenstored/socket"), state }
    }

    /// The domain's name, `None` if it has none.
    pub(super) fn name(&self, domid: u16) -> io::Result<Option<String>> {
        self.read(&format!("/local/domain/{domid}/name"))
    }

    /// Bytes that the toolstack wants the domain to have, by its balloon.
    pub(super) fn target(&self, domid: u16) -> io::Result<Option<u64>> {
        let text = self.read(&format!("/local/domain/{domid}/memory/target"))?;
        let kibibytes = text.and_then(|text| text.parse::<u64>().ok());
        Ok(kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024)))
    }

    fn read(&self, path: &str) -> io::Result<Option<String>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Silent(since) = *state
            && since.elapsed() < PAUSE
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let until = Instant::now() + PATIENCE;
        // A connection that fails may be one to an xenstored that was replaced: the next one decides.
        for _ in 0..2 {
            if !matches!(*state, State::Open(_)) {
                match self.connect() {
                    Ok(stream) => *state = State::Open(stream),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        *state = State::Silent(Instant::now());
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    Err(error) => return Err(error),
                }
            }
            let State::Open(stream) = &*state else { continue };
            match read(&mut Patient { stream, until }, path) {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *state = State::Silent(Instant::now());
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => *state = State::Closed,
            }
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Does not wait: one that takes no connections any more has a queue that is full.
    fn connect(&self) -> io::Result<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        net::connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// A connection on which reads and writes take until a moment, all together.
struct Patient<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Patient<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(left) }
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.read(bytes)
    }
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        let mut stream = self.stream;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read(stream: &mut (impl Read + Write), path: &str) -> io::Result<Option<String>> {
    let len = u32::try_from(path.len().saturating_add(1)).map_err(io::Error::other)?;
    let mut request = Vec::new();
    // Type, request id, transaction id, length.
    for word in [XS_READ, 0, 0, len] {
        request.extend(word.to_le_bytes());
    }
    request.extend(path.as_bytes());
    request.push(0);
    stream.write_all(&request)?;
    let mut words = [0; 4];
    for word in &mut words {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        *word = u32::from_le_bytes(bytes);
    }
    let [kind, _, _, len] = words;
    if len > PAYLOAD_MAX {
        return Err(io::Error::other("xenstored's answer is longer than any is"));
    }
    let mut payload = Vec::new();
    stream.take(u64::from(len)).read_to_end(&mut payload)?;
    if kind != XS_READ {
        return Ok(None);
    }
    String::from_utf8(payload).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Takes what is written and answers with what was prepared.
    struct Peer {
        written: Vec<u8>,
        answer: Cursor<Vec<u8>>,
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Peer {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.answer.read(bytes)
        }
    }

    fn peer(kind: u32, len: u32, payload: &[u8]) -> Peer {
        let mut answer = Vec::new();
        for word in [kind, 0, 0, len] {
            answer.extend(word.to_le_bytes());
        }
        answer.extend(payload);
        Peer { written: Vec::new(), answer: Cursor::new(answer) }
    }

    /// An xenstored that answers what `answer` gives for each path, on as many connections as come,
    /// `requests` on each.
    fn serve(
        root: &std::path::Path,
        requests: usize,
        answer: impl Fn(&str) -> Option<&'static str> + Send + 'static,
    ) -> Xenstore {
        std::fs::create_dir(root.join("xenstored")).unwrap();
        let roots = Roots { run: root.into(), ..Roots::default() };
        let store = Xenstore::new(&roots);
        let listener = std::os::unix::net::UnixListener::bind(&store.socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                for _ in 0..requests {
                    let mut header = [0; 16];
                    if stream.read_exact(&mut header).is_err() {
                        break;
                    }
                    let mut path = vec![0; usize::from(header[12])];
                    stream.read_exact(&mut path).unwrap();
                    let path = String::from_utf8(path).unwrap();
                    let Some(text) = answer(path.trim_end_matches('\0')) else {
                        std::thread::sleep(Duration::from_secs(3600));
                        return;
                    };
                    let len = u32::try_from(text.len()).unwrap();
                    let words = [XS_READ, 0, 0, len].map(u32::to_le_bytes).concat();
                    stream.write_all(&[words.as_slice(), text.as_bytes()].concat()).unwrap();
                }
            }
        });
        store
    }

    #[test]
    fn one_connection_serves_all_domains_and_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let store = serve(root.path(), 2, |path| match path {
            "/local/domain/3/name" => Some("web1"),
            "/local/domain/3/memory/target" => Some("131072"),
            _ => Some("none"),
        });
        for _ in 0..3 {
            assert_eq!(store.name(3).unwrap().as_deref(), Some("web1"));
            assert_eq!(store.clone().target(3).unwrap(), Some(128 << 20));
            assert_eq!(store.target(4).unwrap(), None, "not a number");
        }
    }

    #[test]
    fn one_that_hangs_is_left_alone_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let store = serve(root.path(), 1, |_| None);
        for _ in 0..20 {
            assert_eq!(store.name(3).unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(matches!(*store.state.lock().unwrap(), State::Silent(_)));
    }

    #[test]
    fn one_whose_queue_is_full_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("xenstored")).unwrap();
        let store = Xenstore::new(&Roots { run: root.path().into(), ..Roots::default() });
        let flags = SocketFlags::CLOEXEC;
        let socket =
            net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        net::bind(&socket, &SocketAddrUnix::new(&store.socket).unwrap()).unwrap();
        net::listen(&socket, 0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = store.connect() {
            waiting.push(stream);
        }
        assert_eq!(store.name(3).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(matches!(*store.state.lock().unwrap(), State::Silent(_)));
    }

    #[test]
    fn a_name_is_read() {
        let mut good = peer(XS_READ, 4, b"web1");
        assert_eq!(read(&mut good, "/local/domain/1/name").unwrap().as_deref(), Some("web1"));
        assert_eq!(good.written.len(), 16 + 21);
        assert!(good.written.ends_with(b"/local/domain/1/name\0"));
    }

    #[test]
    fn what_is_no_answer_is_no_name() {
        // XS_ERROR is 16.
        assert_eq!(read(&mut peer(16, 7, b"ENOENT\0"), "/x").unwrap(), None);
        assert!(read(&mut peer(XS_READ, u32::MAX, b""), "/x").is_err());
        assert!(read(&mut peer(XS_READ, 1, b"\xff"), "/x").is_err());
    }
}
