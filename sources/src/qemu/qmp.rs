//! Client of the QEMU Machine Protocol. It takes what it needs and ignores the rest: no reply fails
//! for a field that is new, missing or of another type.
//!
//! Messages come in the order in which QEMU sent them, which is what the state machines of
//! [`super::threshold`] and [`super::job`] go by: an event that is taken before a reply happened
//! before it.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

/// Longest line that is taken from QEMU, in bytes.
const MAX_LINE: usize = 64 << 20;

/// What QEMU sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Something happened.
    Event {
        /// QEMU's name for it, such as `BLOCK_JOB_CANCELLED`.
        name: String,
        /// What it says.
        data: Value,
    },
    /// The reply to a command.
    Reply {
        /// What [`Connection::send`] returned.
        id: u64,
        /// What QEMU says.
        result: Result<Value, Refused>,
    },
}

/// QEMU's reason to refuse a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{desc}")]
pub struct Refused {
    /// QEMU's class of errors, such as `DeviceNotActive`.
    pub class: String,
    /// QEMU's sentence.
    pub desc: String,
}

/// Why a connection is of no use, or a command has no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// QEMU has not answered in time. The connection is kept.
    #[error("QEMU did not answer {command} within {limit:?}")]
    TimedOut {
        /// What was asked.
        command: String,
        /// How long was waited.
        limit: Duration,
    },
    /// QEMU answered with an error.
    #[error("QEMU refused {command}: {source}")]
    Refused {
        /// What was asked.
        command: String,
        /// What it said.
        source: Refused,
    },
    /// The connection is closed.
    #[error("QEMU closed the connection")]
    Closed,
    /// What was read is no QMP.
    #[error("the socket does not speak QMP: {0}")]
    NotQmp(String),
    /// The socket failed.
    #[error("{action}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

impl QmpError {
    /// Whether the connection can still be used.
    #[must_use]
    pub const fn is_of_the_command(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Refused { .. })
    }

    fn os(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Os { action, source: errno.into() }
    }
}

/// QEMU's version, from its greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
}

/// A connection to one QEMU, past the negotiation of capabilities.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    queue: VecDeque<Message>,
    next_id: u64,
    /// Commands whose time was up; their replies are thrown away when they come.
    abandoned: BTreeSet<u64>,
    version: Version,
    /// How long each exchange of [`Connection::ask`] may take.
    limit: Duration,
}

impl Connection {
    /// Connects and negotiates, within `limit`.
    ///
    /// # Errors
    /// [`QmpError`]; a QEMU that serves another client does not greet: `TimedOut`.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let until = Instant::now() + limit;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(QmpError::os("make a socket"))?;
        let address = SocketAddrUnix::new(path).map_err(QmpError::os("take the socket's path"))?;
        rustix::net::connect(&socket, &address).map_err(QmpError::os("connect to the socket"))?;
        let mut connection = Self {
            stream: UnixStream::from(socket),
            input: Vec::new(),
            queue: VecDeque::new(),
            next_id: 1,
            abandoned: BTreeSet::new(),
            version: Version::default(),
            limit,
        };
        let greeting = loop {
            if let Some(line) = connection.line()? {
                break line;
            }
            connection.fill(until, "to greet", limit)?;
        };
        let qemu = &greeting["QMP"]["version"]["qemu"];
        if !greeting["QMP"].is_object() {
            return Err(QmpError::NotQmp("there is no greeting".to_owned()));
        }
        let number = |name: &str| qemu[name].as_u64().unwrap_or(0);
        connection.version = Version { major: number("major"), minor: number("minor") };
        connection.execute("qmp_capabilities", &Value::Null, limit)?;
        Ok(connection)
    }

    /// QEMU's version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The process that listens on the socket, if it is one of this PID namespace.
    #[must_use]
    pub fn peer_pid(&self) -> Option<i32> {
        // Not rustix's, whose process id is never 0, as that of one outside a container is.
        let credentials = nix::sys::socket::sockopt::PeerCredentials;
        let peer = nix::sys::socket::getsockopt(&self.stream, credentials).ok()?;
        Some(peer.pid()).filter(|pid| *pid > 0)
    }

    /// Becomes readable when there is something to take.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether QEMU still owes an answer to a command whose time was up. It handles commands one
    /// after the other, so there is no point in asking for more.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !self.abandoned.is_empty()
    }

    /// Sends a command whose reply will be among the messages.
    ///
    /// # Errors
    /// [`QmpError::Os`] if the socket is broken or does not take it within `limit`.
    pub fn send(
        &mut self,
        command: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<u64, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        let until = Instant::now() + limit;
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(self.stream.as_fd(), PollFlags::OUT, until)? {
                        // A part of a line may be out: the stream is of no use any more.
                        return Err(QmpError::Os { action: "send", source: e });
                    }
                }
                Err(source) => return Err(QmpError::Os { action: "send", source }),
            }
        }
        Ok(id)
    }

    /// Sends a command and waits for its reply. What comes before the reply is kept for
    /// [`Connection::next_message`].
    ///
    /// # Errors
    /// [`QmpError`].
    pub fn execute(
        &mut self,
        command: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let until = Instant::now() + limit;
        let wanted = self.send(command, arguments, limit)?;
        loop {
            while let Some(message) = self.parse()? {
                match message {
                    Message::Reply { id, result } if id == wanted => {
                        return result.map_err(|source| QmpError::Refused {
                            command: command.to_owned(),
                            source,
                        });
                    }
                    other => self.queue.push_back(other),
                }
            }
            if let Err(error) = self.fill(until, command, limit) {
                if error.is_of_the_command() {
                    self.abandoned.insert(wanted);
                }
                return Err(error);
            }
        }
    }

    /// Sends a command and waits for its reply for as long as the connection's limit says.
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        self.execute(command, arguments, self.limit)
    }

    /// As [`Connection::ask`]; `Null` if QEMU refuses.
    pub(super) fn ask_lenient(
        &mut self,
        command: &str,
        arguments: &Value,
    ) -> Result<Value, QmpError> {
        match self.ask(command, arguments) {
            Err(QmpError::Refused { .. }) => Ok(Value::Null),
            other => other,
        }
    }

    /// The next of the messages that came before the last reply of [`Connection::execute`]. What
    /// came after it is left where it is: it is newer than the reply.
    pub fn next_before(&mut self) -> Option<Message> {
        self.queue.pop_front()
    }

    /// The next message that is there, without waiting.
    ///
    /// # Errors
    /// [`QmpError::Closed`] once all that came before the end is taken.
    pub fn next_message(&mut self) -> Result<Option<Message>, QmpError> {
        if let Some(message) = self.queue.pop_front() {
            return Ok(Some(message));
        }
        loop {
            if let Some(message) = self.parse()? {
                return Ok(Some(message));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// The next message of the input, but for replies that nobody waits for.
    fn parse(&mut self) -> Result<Option<Message>, QmpError> {
        while let Some(mut line) = self.line()? {
            if let Some(name) = line["event"].as_str().map(str::to_owned) {
                return Ok(Some(Message::Event { name, data: take(&mut line, "data") }));
            }
            let Some(id) = line["id"].as_u64() else { continue };
            if self.abandoned.remove(&id) {
                continue;
            }
            let result = if line["error"].is_object() {
                let text = |key: &str| line["error"][key].as_str().unwrap_or_default().to_owned();
                Err(Refused { class: text("class"), desc: text("desc") })
            } else {
                Ok(take(&mut line, "return"))
            };
            return Ok(Some(Message::Reply { id, result }));
        }
        Ok(None)
    }

    /// The next whole line of the input.
    fn line(&mut self) -> Result<Option<Value>, QmpError> {
        let Some(end) = self.input.iter().position(|b| *b == b'\n') else {
            if self.input.len() > MAX_LINE {
                return Err(QmpError::NotQmp(format!("a line is longer than {MAX_LINE} bytes")));
            }
            return Ok(None);
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        serde_json::from_slice(&line).map(Some).map_err(|e| QmpError::NotQmp(e.to_string()))
    }

    /// Waits for input until `until` and reads some.
    fn fill(&mut self, until: Instant, command: &str, limit: Duration) -> Result<(), QmpError> {
        loop {
            if self.read()? {
                return Ok(());
            }
            if !wait(self.stream.as_fd(), PollFlags::IN, until)? {
                return Err(QmpError::TimedOut { command: command.to_owned(), limit });
            }
        }
    }

    /// Reads what is there; false if nothing is.
    fn read(&mut self) -> Result<bool, QmpError> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(QmpError::Closed),
            Ok(len) => {
                self.input.extend_from_slice(buffer.get(..len).unwrap_or_default());
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Err(QmpError::Closed),
            Err(source) => Err(QmpError::Os { action: "read", source }),
        }
    }
}

fn take(line: &mut Value, key: &str) -> Value {
    line.get_mut(key).map(Value::take).unwrap_or_default()
}

/// Waits until `fd` is ready; false if the time is up.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags, until: Instant) -> Result<bool, QmpError> {
    let left = until.saturating_duration_since(Instant::now());
    let time = Timespec::try_from(left).ok();
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, flags)], time.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(errno) => Err(QmpError::os("wait for QEMU")(errno)),
    }
}
