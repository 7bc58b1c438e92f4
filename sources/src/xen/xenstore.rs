//! The one thing that is asked of xenstored: what a domain is called.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// XS_READ of Xen's public/io/xs_wire.h.
const XS_READ: u32 = 2;
/// XENSTORE_PAYLOAD_MAX.
const PAYLOAD_MAX: u32 = 4096;
/// How long xenstored may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The domain's name, `None` if it has none.
pub(super) fn domain_name(socket: &Path, domid: u16) -> io::Result<Option<String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    read(&mut stream, &format!("/local/domain/{domid}/name"))
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
