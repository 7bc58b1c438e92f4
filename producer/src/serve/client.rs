//! One connection: what it asked for and has not been sent yet.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use domstat_layout::handover::{
    Buffer, Domain, MAX_FDS, MAX_MESSAGE, MessageError, Refusal, Reply, Request,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use super::{Change, Entry, State};

/// A client that does not read what it follows is not kept for longer than this many messages.
const MAX_QUEUED: usize = 65_536;
/// Requests that are answered before it is the next client's turn.
const AT_ONCE: usize = 16;

pub(super) struct Client {
    pub(super) fd: OwnedFd,
    pub(super) uid: u32,
    queue: VecDeque<Outgoing>,
    follows: bool,
}

/// How a client stands after its turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is waited for what it asks next.
    Reads,
    /// It has to read first.
    Writes,
    /// It is gone, or is sent away.
    Over,
}

enum Outgoing {
    Welcome,
    Listed {
        entry: Arc<Entry>,
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
        entry: Arc<Entry>,
    },
    Refused {
        id: u32,
        why: Refusal,
    },
}

impl Client {
    pub(super) fn new(fd: OwnedFd, uid: u32) -> Self {
        Self { fd, uid, queue: VecDeque::from([Outgoing::Welcome]), follows: false }
    }

    /// Tells a follower what changed; false if it does not listen.
    pub(super) fn tell(&mut self, change: &Change) -> bool {
        if self.follows {
            self.queue.push_back(match change {
                Change::Added(entry) => Outgoing::Listed { entry: Arc::clone(entry), id: 0 },
                Change::Gone(entry) => Outgoing::Gone { entry: Arc::clone(entry) },
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
                let entries = state.entries.values().map(Arc::clone);
                self.queue.extend(entries.map(|entry| Outgoing::Listed { entry, id }));
                let nr = u32::try_from(state.entries.len()).unwrap_or(u32::MAX);
                self.queue.push_back(Outgoing::End { id, nr });
                self.follows |= follow;
            }
            Request::Attach { incarnation, name } => {
                let found = state.entries.get(name);
                let found = found.filter(|e| incarnation == 0 || e.incarnation == incarnation);
                self.queue.push_back(match found {
                    Some(entry) => Outgoing::Handed { entry: Arc::clone(entry), id, first: 0 },
                    None => Outgoing::Refused { id, why: Refusal::NoSuchDomain },
                });
            }
        }
    }

    fn flush(&mut self, pidfd: Option<BorrowedFd<'_>>) -> Turn {
        while let Some(first) = self.queue.front_mut() {
            match first.send(self.fd.as_fd(), pidfd) {
                // There is more of it.
                Ok(false) => {}
                Ok(true) => {
                    self.queue.pop_front();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::Writes,
                Err(_) => return Turn::Over,
            }
        }
        Turn::Reads
    }
}

impl Outgoing {
    /// Sends one message; true if that was all.
    fn send(&mut self, to: BorrowedFd<'_>, pidfd: Option<BorrowedFd<'_>>) -> Result<bool, Errno> {
        let max_message = u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX);
        match self {
            Self::Welcome => {
                let pidfd: &[BorrowedFd<'_>] = pidfd.as_slice();
                packet(to, 0, Reply::Welcome { max_message }, pidfd)?;
            }
            Self::Listed { entry, id } => packet(to, *id, Reply::Domain(entry.domain()), &[])?,
            Self::Handed { entry, id, first } => {
                let fds = entry.fds.get(*first..).unwrap_or_default();
                let fds: Vec<_> = fds.iter().take(MAX_FDS).map(AsFd::as_fd).collect();
                let reply = match u32::try_from(*first).unwrap_or(u32::MAX) {
                    0 => Reply::Domain(entry.domain()),
                    first => Reply::Frames { first },
                };
                packet(to, *id, reply, &fds)?;
                *first += fds.len();
                return Ok(*first >= entry.fds.len());
            }
            Self::End { id, nr } => packet(to, *id, Reply::End { nr: *nr }, &[])?,
            Self::Gone { entry } => {
                let (incarnation, name) = (entry.incarnation, entry.name.as_str());
                packet(to, 0, Reply::Gone { incarnation, name }, &[])?;
            }
            Self::Refused { id, why } => packet(to, *id, Reply::Error(*why), &[])?,
        }
        Ok(true)
    }
}

impl Entry {
    fn domain(&self) -> Domain<'_> {
        Domain {
            incarnation: self.incarnation,
            len: self.len,
            nr_fds: u32::try_from(self.fds.len()).unwrap_or(u32::MAX),
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
