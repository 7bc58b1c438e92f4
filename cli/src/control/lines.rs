//! Lines of a socket, each of bounded length and within a time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A socket's input, line by line.
pub(super) struct Lines<'s> {
    stream: &'s UnixStream,
    longest: usize,
    buffer: Vec<u8>,
    /// How much of the buffer has no newline.
    searched: usize,
}

impl<'s> Lines<'s> {
    /// Lines of at most `longest` bytes.
    pub(super) fn new(stream: &'s UnixStream, longest: usize) -> Self {
        Self { stream, longest, buffer: Vec::new(), searched: 0 }
    }

    /// The next line with its newline; `None` at the end.
    ///
    /// # Errors
    /// `TimedOut` if it is not whole after `limit`, however its bytes trickle in, `InvalidData` if
    /// it is too long.
    pub(super) fn next(&mut self, limit: Duration) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + limit;
        loop {
            let new = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|&b| b == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= self.longest {
                return Err(ErrorKind::InvalidData.into());
            }
            self.stream.set_read_timeout(Some(left(until)?))?;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend_from_slice(piece.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Sends all of `text` within `limit`, however slowly the other side reads.
pub(super) fn send(mut stream: &UnixStream, text: &str, limit: Duration) -> io::Result<()> {
    let until = Instant::now() + limit;
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The time left, as a socket takes it: never 0, which is "for ever" there.
fn left(until: Instant) -> io::Result<Duration> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(ErrorKind::TimedOut.into()),
        left => Ok(left.max(Duration::from_millis(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn lines_are_found_wherever_they_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(&ours, 64);
        theirs.write_all(b"one\ntwo\nth").unwrap();
        assert_eq!(lines.next(SOON).unwrap().unwrap(), b"one\n");
        assert_eq!(lines.next(SOON).unwrap().unwrap(), b"two\n");
        assert_eq!(lines.next(SOON).unwrap_err().kind(), ErrorKind::TimedOut);
        theirs.write_all(b"ree\n").unwrap();
        assert_eq!(lines.next(SOON).unwrap().unwrap(), b"three\n");
        drop(theirs);
        assert_eq!(lines.next(SOON).unwrap(), None);
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[b'x'; 100]).unwrap();
        let mut lines = Lines::new(&ours, 64);
        assert_eq!(lines.next(SOON).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn a_line_that_trickles_in_is_not_waited_for_longer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            while theirs.write_all(b"x").is_ok() {
                std::thread::sleep(SOON / 10);
            }
        });
        let mut lines = Lines::new(&ours, usize::MAX);
        assert_eq!(lines.next(SOON).unwrap_err().kind(), ErrorKind::TimedOut);
        drop(ours);
        thread.join().unwrap();
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_waited_for() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let text = "x".repeat(8 << 20);
        assert_eq!(send(&ours, &text, SOON).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
