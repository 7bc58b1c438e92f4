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

use domstat_layout::{Clock, Ns};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};

use crate::host::now;

pub mod input;
mod stop;

use input::LineBuffer;
pub use stop::StopFlag;

/// Most messages that are queued while a reply is waited for. QEMU limits the rate of its events
/// and sends some tens a second at most.
pub const MAX_QUEUED: usize = 4096;
/// Most memory that queued messages take, in bytes.
pub const MAX_QUEUED_BYTES: usize = 8 << 20;
/// Most messages that are taken before polls and commands get their turn.
pub const MAX_DRAINED: usize = 256;
/// Most input that is taken before polls and commands get their turn, in bytes.
pub const MAX_DRAINED_BYTES: usize = 256 << 10;
/// How long a peer may take to greet: QEMU greets at once, unless it serves another client.
const GREETING: Duration = Duration::from_millis(500);

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
    /// QEMU has not answered in time. The connection stays.
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
        /// QEMU's reason.
        source: Refused,
    },
    /// The connection is closed.
    #[error("QEMU closed the connection")]
    Closed,
    /// QEMU sends more events than can be taken before it answers. The connection is of no use.
    #[error("QEMU sends too many events before it answers {command}")]
    Flooded {
        /// What was asked.
        command: String,
    },
    /// Nobody greets: the peer is not QEMU, or serves another client.
    #[error("the socket does not greet as QMP does within {limit:?}; another client may hold it")]
    Silent {
        /// How long was waited.
        limit: Duration,
    },
    /// QEMU lacks a command without which a VM cannot be observed.
    #[error("this QEMU is too old: 2.12 or later is needed")]
    TooOld,
    /// The connection's [`StopFlag`] was raised.
    #[error("the connection is to be given up")]
    Stopped,
    /// What was read is not QMP.
    #[error("the socket does not speak QMP: {0}")]
    NotQmp(String),
    /// The socket failed.
    #[error("{action}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// The host's error.
        source: io::Error,
    },
}

impl QmpError {
    /// Whether the connection can still be used.
    #[must_use]
    pub const fn is_of_the_command(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Refused { .. })
    }

    /// Whether the peer takes no more connections for now.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Os { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
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

/// A process that listens on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// A connection to one QEMU, past the negotiation of capabilities.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    input: LineBuffer,
    /// Messages that came before the last reply, with the memory that they take.
    queue: VecDeque<(Message, usize)>,
    queued_bytes: usize,
    next_id: u64,
    /// Commands whose time was up; their replies are thrown away when they come.
    abandoned: BTreeSet<u64>,
    version: Version,
    /// When it was made, on CLOCK_BOOTTIME.
    connected: Ns,
    /// How long each exchange of [`Connection::ask`] may take.
    limit: Duration,
    stop: Option<StopFlag>,
}

impl Connection {
    /// Connects and negotiates, within `limit`.
    ///
    /// # Errors
    /// [`QmpError`]; a QEMU that serves another client does not greet: `Silent`.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let mut connection = Self::dial(path, limit, None)?;
        connection.negotiate()?;
        Ok(connection)
    }

    /// Connects and leaves the negotiation to [`Connection::negotiate`]. Every wait ends with
    /// [`QmpError::Stopped`] once `stop` is raised.
    pub(super) fn dial(
        path: &Path,
        limit: Duration,
        stop: Option<StopFlag>,
    ) -> Result<Self, QmpError> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(QmpError::os("make a socket"))?;
        let address = SocketAddrUnix::new(path).map_err(QmpError::os("take the socket's path"))?;
        rustix::net::connect(&socket, &address).map_err(QmpError::os("connect to the socket"))?;
        Ok(Self {
            stream: UnixStream::from(socket),
            input: LineBuffer::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_id: 1,
            abandoned: BTreeSet::new(),
            version: Version::default(),
            connected: now(Clock::Boottime),
            limit,
            stop,
        })
    }

    /// Waits for QEMU's greeting, and answers it. After [`QmpError::Silent`] it may be tried again.
    pub(super) fn negotiate(&mut self) -> Result<(), QmpError> {
        self.greet(self.limit.min(GREETING))?;
        self.execute("qmp_capabilities", &Value::Null, self.limit).map(drop)
    }

    /// Takes QEMU's greeting.
    fn greet(&mut self, limit: Duration) -> Result<(), QmpError> {
        let until = Instant::now() + limit;
        let line = loop {
            if let Some(line) = self.input.next_line()? {
                break line;
            }
            if !self.fill(until)? {
                return Err(QmpError::Silent { limit });
            }
        };
        let no_greeting = || QmpError::NotQmp("there is no greeting".to_owned());
        if input::footprint(&line) > input::MAX_FOOTPRINT {
            return Err(no_greeting());
        }
        let greeting: Value = serde_json::from_slice(&line).map_err(|_| no_greeting())?;
        if !greeting["QMP"].is_object() {
            return Err(no_greeting());
        }
        let number = |name: &str| greeting["QMP"]["version"]["qemu"][name].as_u64().unwrap_or(0);
        self.version = Version { major: number("major"), minor: number("minor") };
        Ok(())
    }

    /// QEMU's version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The process that listens on the socket, if it is one of this PID namespace, as the kernel
    /// knows it.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        // Not rustix's, whose process id is never 0, as that of one outside a container is.
        let credentials = nix::sys::socket::sockopt::PeerCredentials;
        let peer = nix::sys::socket::getsockopt(&self.stream, credentials).ok()?;
        Some(Peer { pid: peer.pid(), uid: peer.uid() }).filter(|peer| peer.pid > 0)
    }

    /// When the connection was made, on CLOCK_BOOTTIME.
    pub(super) const fn connected(&self) -> Ns {
        self.connected
    }

    /// Becomes readable when there is something to take.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The connection is to be closed after some last commands: each has this long, and no stop
    /// ends its wait.
    pub(super) fn last_words(&mut self, limit: Duration) {
        self.stop = None;
        self.limit = limit;
    }

    /// Whether there is something to read, or the connection has ended.
    pub(super) fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Whether QEMU still owes an answer to a command whose time was up. It handles commands one
    /// after the other, so there is no point in asking for more.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        !self.abandoned.is_empty()
    }

    /// Whether a message may be there that was read from the socket and not taken.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.queue.is_empty() || self.input.has_more()
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
        self.send_until(command, arguments, Instant::now() + limit)
    }

    fn send_until(
        &mut self,
        command: &str,
        arguments: &Value,
        until: Instant,
    ) -> Result<u64, QmpError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::OUT, until)? {
                        // A part of a line may be out: the stream is of no use any more.
                        return Err(QmpError::Os { action: "send", source: e });
                    }
                }
                Err(source) => return Err(QmpError::Os { action: "send", source }),
            }
        }
        Ok(id)
    }

    /// Sends a command and waits for its reply; both together take no longer than `limit`, whatever
    /// comes meanwhile. What comes before the reply is queued for [`Connection::next_message`].
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
        let wanted = self.send_until(command, arguments, until)?;
        loop {
            while let Some((message, bytes)) = self.parse()? {
                match message {
                    Message::Reply { id, result } if id == wanted => {
                        let command = command.to_owned();
                        return result.map_err(|source| QmpError::Refused { command, source });
                    }
                    other => self.enqueue(other, bytes, command)?,
                }
            }
            if !self.fill(until)? {
                self.abandoned.insert(wanted);
                return Err(QmpError::TimedOut { command: command.to_owned(), limit });
            }
        }
    }

    fn enqueue(&mut self, message: Message, bytes: usize, command: &str) -> Result<(), QmpError> {
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
        if self.queue.len() >= MAX_QUEUED || self.queued_bytes > MAX_QUEUED_BYTES {
            return Err(QmpError::Flooded { command: command.to_owned() });
        }
        self.queue.push_back((message, bytes));
        Ok(())
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
        let (message, bytes) = self.queue.pop_front()?;
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        Some(message)
    }

    /// The next message that is there, without waiting.
    ///
    /// # Errors
    /// [`QmpError::Closed`] once all that came before the end is taken.
    pub fn next_message(&mut self) -> Result<Option<Message>, QmpError> {
        self.next_within(&mut usize::MAX.clone())
    }

    /// As [`Connection::next_message`]. `budget` is how many bytes of input may still be read; once
    /// it is used up there is no message.
    pub(super) fn next_within(&mut self, budget: &mut usize) -> Result<Option<Message>, QmpError> {
        if let Some(message) = self.next_before() {
            return Ok(Some(message));
        }
        loop {
            if let Some((message, _)) = self.parse()? {
                return Ok(Some(message));
            }
            if *budget == 0 {
                return Ok(None);
            }
            match self.read()? {
                0 => return Ok(None),
                read => *budget = budget.saturating_sub(read),
            }
        }
    }

    /// The next message of the input, except replies that nobody waits for, with the memory that it
    /// takes.
    fn parse(&mut self) -> Result<Option<(Message, usize)>, QmpError> {
        while let Some(line) = self.input.next_line()? {
            match input::message(&line)? {
                Some(Message::Reply { id, .. }) if self.abandoned.remove(&id) => {}
                Some(message) => return Ok(Some((message, input::footprint(&line)))),
                None => {}
            }
        }
        Ok(None)
    }

    /// Waits for input and reads some; false if the time is up, whether or not there is input.
    fn fill(&mut self, until: Instant) -> Result<bool, QmpError> {
        while Instant::now() < until {
            if self.wait(PollFlags::IN, until)? && self.read()? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads what is there, and returns how much that was.
    fn read(&mut self) -> Result<usize, QmpError> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(QmpError::Closed),
            Ok(len) => {
                self.input.push(buffer.get(..len).unwrap_or_default());
                Ok(len)
            }
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                io::ErrorKind::ConnectionReset => Err(QmpError::Closed),
                _ => Err(QmpError::Os { action: "read", source: e }),
            },
        }
    }

    /// Waits until the socket is ready; false if the time is up.
    fn wait(&self, flags: PollFlags, until: Instant) -> Result<bool, QmpError> {
        let left = until.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(left).ok();
        let mut fds = vec![PollFd::new(&self.stream, flags)];
        fds.extend(self.stop.as_ref().map(|stop| PollFd::new(stop, PollFlags::IN)));
        match rustix::event::poll(&mut fds, time.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(QmpError::os("wait for QEMU")(errno)),
        }
        if fds.get(1).is_some_and(|stop| !stop.revents().is_empty()) {
            return Err(QmpError::Stopped);
        }
        Ok(fds.first().is_some_and(|socket| !socket.revents().is_empty()))
    }
}
