//! Program under test: requests to its standard input, answers from its standard output.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a program may take for an answer: a hundred times what a slow one needs.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest line of an answer in bytes: the longest text and the longest histogram have some thousands.
const MAX_LINE: u64 = 1 << 16;
/// Most lines of an answer: a region of a vector has some hundreds of fields.
const MAX_LINES: usize = 1 << 17;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// None came in time.
    TimedOut,
    /// The program ended, or closed its output.
    Ended,
    /// It was not asked: too many answers were waited for in vain.
    GivenUp,
    /// It has more lines than an answer can have.
    TooLong,
}

impl Silence {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::TimedOut => "no answer within 10 s",
            Self::GivenUp => "not asked, since three answers did not come",
            Self::Ended => "the program ended",
            Self::TooLong => "an answer without an end",
        }
    }
}

pub(super) struct Puppet {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Puppet {
    pub(super) fn start(command: &[OsString]) -> io::Result<Self> {
        let (program, args) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let piped = Stdio::piped;
        let mut child = Command::new(program).args(args).stdin(piped()).stdout(piped()).spawn()?;
        let (input, output) =
            child.stdin.take().zip(child.stdout.take()).ok_or(io::ErrorKind::Other)?;
        // Bounded: a program that writes without end waits for its reader.
        let (sender, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                let read = output.by_ref().take(MAX_LINE).read_line(&mut line);
                let whole = read.is_ok_and(|n| n > 0) && line.ends_with('\n');
                if !whole || sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines })
    }

    /// Sends a request; the lines of the answer up to `end`, which is left out.
    pub(super) fn ask(&mut self, request: &str) -> Result<Vec<String>, Silence> {
        let sent = self.input.write_all(format!("{request}\n").as_bytes());
        sent.and_then(|()| self.input.flush()).map_err(|_| Silence::Ended)?;
        let deadline = Instant::now() + ANSWER;
        let mut answer = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == "end" => return Ok(answer),
                Ok(_) if answer.len() == MAX_LINES => return Err(Silence::TooLong),
                Ok(line) => answer.push(line),
                Err(RecvTimeoutError::Timeout) => return Err(Silence::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Ended),
            }
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // Whatever it does: what it was asked for is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Puppet {
        Puppet::start(&["sh".into(), "-c".into(), script.into()]).unwrap()
    }

    #[test]
    fn an_answer_ends_with_its_last_line_and_a_program_may_end_before() {
        let mut puppet = start("read a; echo $a; echo b; echo end; read a; echo half");
        assert_eq!(puppet.ask("x"), Ok(vec!["x".to_owned(), "b".to_owned()]));
        assert_eq!(puppet.ask("y"), Err(Silence::Ended));
    }

    #[test]
    fn an_answer_without_an_end_is_cut() {
        assert_eq!(start("read a; yes").ask("x"), Err(Silence::TooLong));
    }
}
