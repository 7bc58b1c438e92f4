//! One connection: its requests and its unsent answers.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_layout::handover::{
    Buffer, Domain, MAX_FDS, MAX_MESSAGE, MessageError, Refusal, Reply, Request,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg, sockopt,
};

use super::{Brief, Change, Entry, State};

/// A client that does not read what it follows is not kept for longer than this many messages.
const MAX_QUEUED: usize = 65_536;
/// Requests that are answered before it is the next client's turn.
const AT_ONCE: usize = 16;
/// Descriptors of one message. The kernel limits those that were sent and not read, of all clients
/// together, so no client has many of them at one time.
const FDS_AT_ONCE: usize = 16;
const _: () = assert!(FDS_AT_ONCE <= MAX_FDS);
/// How long an answer waits for the kernel to let descriptors be sent, before it is "busy": less
/// than consumers wait.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Client {
    pub(super) fd: OwnedFd,
    pub(super) uid: u32,
    queue: VecDeque<Outgoing>,
    follows: bool,
    /// The size of its send buffer when that has been made small: see [`Client::has_read`].
    was: Option<usize>,
    /// Since when the first message waits for others to read their descriptors.
    waits: Option<Instant>,
}

/// How a client stands after its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is waited for what it asks next.
    Reads,
    /// It has to read first.
    Writes,
    /// Others have to read first: it is tried again a little later.
    Later,
    /// It has closed the connection, or is disconnected.
    Over,
}

enum Outgoing {
    Welcome,
    /// Without a pidfd.
    BareWelcome,
    /// A client that never reads these costs no memory for domains that have ended.
    Listed {
        domain: Brief,
        id: u32,
    },
    /// Descriptors from `first` on.
    Handed {
        entry: Arc<Entry>,
        id: u32,
        first: usize,
    },
    End {
        id: u32,
        nr: u32,
    },
    Gone {
        domain: Brief,
    },
    Refused {
        id: u32,
        why: Refusal,
    },
}

impl Client {
    pub(super) fn new(fd: OwnedFd, uid: u32) -> Self {
        let queue = VecDeque::from([Outgoing::Welcome]);
        Self { fd, uid, queue, follows: false, was: None, waits: None }
    }

    /// Tells a follower what changed; false if it does not listen.
    pub(super) fn tell(&mut self, change: &Change) -> bool {
        if self.follows {
            self.queue.push_back(match change {
                Change::Added(domain) => Outgoing::Listed { domain: domain.clone(), id: 0 },
                Change::Gone(domain) => Outgoing::Gone { domain: domain.clone() },
            });
        }
        self.queue.len() <= MAX_QUEUED
    }

    /// Sends what is queued, and answers what was asked. A request is read only when the answer to
    /// the one before is sent, so that nobody makes the queue grow by asking.
    pub(super) fn turn(&mut self, state: &State, pidfd: Option<BorrowedFd<'_>>) -> Turn {
        for _ in 0..AT_ONCE {
            match self.flush(pidfd) {
                Turn::Reads => {}
                other => return other,
            }
            let mut buffer = [0; MAX_MESSAGE];
            // Truncated, a packet's true length is returned: too long a message is no message.
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let packet = match recv(&self.fd, &mut buffer[..], flags) {
                Ok((_, 0)) => return Turn::Over,
                Ok((_, len)) => buffer.get(..len),
                Err(Errno::AGAIN) => return Turn::Reads,
                Err(Errno::INTR) => continue,
                Err(_) => return Turn::Over,
            };
            let Some(packet) = packet else { return Turn::Over };
            match Request::parse(packet) {
                Ok((id, request)) => self.answer(id, request, state),
                Err(MessageError::Kind { id, .. }) => {
                    self.queue.push_back(Outgoing::Refused { id, why: Refusal::UnknownRequest });
                }
                Err(_) => return Turn::Over,
            }
        }
        self.flush(pidfd)
    }

    fn answer(&mut self, id: u32, request: Request<'_>, state: &State) {
        match request {
            Request::List { follow } => {
                let domains = state.entries.values().map(|entry| entry.brief.clone());
                self.queue.extend(domains.map(|domain| Outgoing::Listed { domain, id }));
                let nr = u32::try_from(state.entries.len()).unwrap_or(u32::MAX);
                self.queue.push_back(Outgoing::End { id, nr });
                self.follows |= follow;
            }
            Request::Attach { incarnation, name } => {
                let found = state.entries.get(name);
                let found =
                    found.filter(|e| incarnation == 0 || e.brief.incarnation == incarnation);
                self.queue.push_back(match found {
                    Some(entry) => Outgoing::Handed { entry: Arc::clone(entry), id, first: 0 },
                    None => Outgoing::Refused { id, why: Refusal::NoSuchDomain },
                });
            }
        }
    }

    fn flush(&mut self, pidfd: Option<BorrowedFd<'_>>) -> Turn {
        while let Some(first) = self.queue.front() {
            let with_fds = first.with_fds();
            if with_fds && !self.has_read() {
                return Turn::Writes;
            }
            if !with_fds {
                self.widen();
            }
            let Some(first) = self.queue.front_mut() else { break };
            match first.send(self.fd.as_fd(), pidfd) {
                Ok(all) => {
                    self.waits = None;
                    if all {
                        self.queue.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::Writes,
                Err(Errno::TOOMANYREFS) => match first {
                    // The connection's end tells of the daemon's, too.
                    Outgoing::Welcome => *first = Outgoing::BareWelcome,
                    Outgoing::Handed { id, .. } => {
                        if self.waits.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
                            return Turn::Later;
                        }
                        *first = Outgoing::Refused { id: *id, why: Refusal::Busy };
                    }
                    _ => return Turn::Over,
                },
                Err(_) => return Turn::Over,
            }
        }
        Turn::Reads
    }

    /// Whether it has read what it was sent, but for one message at most.
    ///
    /// A socket is writable while no more than a quarter of its send buffer is unread. Of the
    /// smallest buffer that there is, that is the room of one message. It stays that small until
    /// [`Client::widen`], so waiting for the socket to be writable is waiting for this.
    fn has_read(&mut self) -> bool {
        if self.was.is_none() {
            // Neither fails on a socket. The kernel makes 0 the least that it allows.
            self.was = sockopt::socket_send_buffer_size(&self.fd).ok();
            let _ = sockopt::set_socket_send_buffer_size(&self.fd, 0);
        }
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        // An error is for sending to tell.
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Gives its send buffer the size that it had, for messages that are many.
    fn widen(&mut self) {
        if let Some(size) = self.was.take() {
            // The kernel doubles the size that is set, and reports the doubled one.
            let _ = sockopt::set_socket_send_buffer_size(&self.fd, size / 2);
        }
    }
}

impl Outgoing {
    fn with_fds(&self) -> bool {
        matches!(self, Self::Welcome | Self::Handed { .. })
    }

    /// Sends one message; true if that was all.
    fn send(&mut self, to: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) -> Result<bool, Errno> {
        let max_message = u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX);
        match self {
            Self::Welcome => {
                let pidfd: &[BorrowedFd<'_>] = pidfd.as_slice();
                packet(to, 0, Reply::Welcome { max_message }, pidfd)?;
            }
            Self::BareWelcome => packet(to, 0, Reply::Welcome { max_message }, &[])?,
            Self::Listed { domain, id } => packet(to, *id, Reply::Domain(domain.domain()), &[])?,
            Self::Handed { entry, id, first } => {
                let fds = entry.fds.get(*first..).unwrap_or_default();
                let fds: Vec<_> = fds.iter().take(FDS_AT_ONCE).map(AsFd::as_fd).collect();
                let reply = match u32::try_from(*first).unwrap_or(u32::MAX) {
                    0 => Reply::Domain(entry.brief.domain()),
                    first => Reply::Frames { first },
                };
                packet(to, *id, reply, &fds)?;
                *first += fds.len();
                return Ok(*first >= entry.fds.len());
            }
            Self::End { id, nr } => packet(to, *id, Reply::End { nr: *nr }, &[])?,
            Self::Gone { domain } => {
                let (incarnation, name) = (domain.incarnation, &*domain.name);
                packet(to, 0, Reply::Gone { incarnation, name }, &[])?;
            }
            Self::Refused { id, why } => packet(to, *id, Reply::Error(*why), &[])?,
        }
        Ok(true)
    }
}

impl Brief {
    fn domain(&self) -> Domain<'_> {
        Domain {
            incarnation: self.incarnation,
            len: self.len,
            nr_fds: self.nr_fds,
            name: &self.name,
        }
    }
}

/// Sends one message without waiting.
pub(super) fn packet(
    to: BorrowedFd<'_>,
    id: u32,
    reply: Reply<'_>,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut buffer: Buffer = [0; MAX_MESSAGE];
    // Names were looked at when they were registered.
    let bytes = reply.encode(id, &mut buffer).ok_or(Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, flags).map(|_| ())
}
