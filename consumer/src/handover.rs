//! Handover of regions by a daemon at a socket: see [`domstat_layout::handover`].

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use domstat_layout::handover::{Buffer, Domain, MAX_FDS, MAX_MESSAGE, Reply, Request, is_name};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, send, socket_with, sockopt,
};

use crate::attach::pidfd::{is_over, is_pidfd, timespec};
use crate::attach::time_namespace::ProducerClocks;
use crate::error::AttachError;
use crate::region::Region;
use crate::region::file::is_lasting;

/// A list is not read further than this.
pub(crate) const MAX_DOMAINS: usize = 1 << 20;

/// Connection to a daemon that hands over regions. The daemon lives as long as it is open.
pub struct Connection {
    fd: OwnedFd,
    path: PathBuf,
    /// The daemon's process, as the daemon says.
    pidfd: Option<OwnedFd>,
    clocks: OnceLock<ProducerClocks>,
    deadline: Duration,
    /// Requests so far. Held during a request: one at a time.
    requests: Mutex<u32>,
}

/// A domain that a daemon serves, as it alleges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The domain's name.
    pub name: String,
    /// The region's incarnation.
    pub incarnation: u64,
    /// Bytes of the region.
    pub len: u64,
}

/// What changed among a daemon's domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A domain is served. Sent for each domain at first, and sometimes twice.
    Added(Offered),
    /// The list of the domains that were served at first is complete.
    Listed,
    /// A domain is no longer served.
    Gone {
        /// The domain's name.
        name: String,
        /// Which region it was.
        incarnation: u64,
    },
}

/// Connection on which a daemon sends changes of its list of domains.
pub struct Follower {
    connection: Connection,
    id: u32,
}

/// One message, and the descriptors that came with it.
struct Packet {
    buffer: Buffer,
    len: usize,
    fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the daemon at `path`; neither this nor a request takes longer than five
    /// seconds.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        Self::connect_within(path, Duration::from_secs(5))
    }

    /// As [`Connection::connect`], with another bound to how long it and each request may take.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn connect_within(path: impl AsRef<Path>, deadline: Duration) -> Result<Self, AttachError> {
        let until = after(deadline);
        let mut connection = Self::begin(path.as_ref(), Some(deadline), deadline)?;
        connection.welcome(until)?;
        Ok(connection)
    }

    /// Connects, which takes no longer than `at_most`, and does not wait for the daemon to say
    /// welcome. `deadline` bounds each request. Without `at_most` nothing that is sent waits either.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub(crate) fn begin(
        path: &Path,
        at_most: Option<Duration>,
        deadline: Duration,
    ) -> Result<Self, AttachError> {
        let no_daemon = |e: Errno| match e {
            Errno::ACCESS | Errno::PERM => AttachError::NotPermitted { path: path.to_owned() },
            Errno::AGAIN => AttachError::TimedOut { path: path.to_owned(), deadline },
            e => AttachError::NoDaemon { path: path.to_owned(), source: Arc::new(e.into()) },
        };
        let address = SocketAddrUnix::new(path).map_err(no_daemon)?;
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let mut flags = SocketFlags::CLOEXEC;
        flags.set(SocketFlags::NONBLOCK, at_most.is_none());
        let fd = socket_with(family, kind, flags, None).map_err(no_daemon)?;
        if let Some(at_most) = at_most {
            // Bounds how long connecting waits where many do.
            let at_most = at_most.max(Duration::from_millis(1));
            sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(at_most))
                .map_err(no_daemon)?;
        }
        retry_on_intr(|| connect(&fd, &address)).map_err(no_daemon)?;
        let requests = Mutex::new(0);
        Ok(Self {
            fd,
            path: path.to_owned(),
            pidfd: None,
            clocks: OnceLock::new(),
            deadline,
            requests,
        })
    }

    /// Waits until `until` for the daemon to say welcome, which it does before anything else.
    ///
    /// # Errors
    /// [`AttachError::TimedOut`] if it has not yet, and may be waited for again; others, which say
    /// what to do.
    pub(crate) fn welcome(&mut self, until: Instant) -> Result<(), AttachError> {
        let mut packet = self.receive(until)?;
        match packet.reply(&self.path)? {
            (_, Reply::Welcome { .. }) => {}
            (_, Reply::Error(refusal)) => return Err(self.refused(refusal)),
            _ => return Err(self.broken("it does not say welcome first")),
        }
        self.pidfd = packet.fds.pop().filter(|fd| is_pidfd(fd.as_fd()));
        Ok(())
    }

    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every domain that the daemon serves.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn list(&self) -> Result<Vec<Offered>, AttachError> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let until = after(self.deadline);
        let id = self.request(&mut requests, Request::List { follow: false })?;
        let mut offered = Vec::new();
        loop {
            match self.answer(id, until)?.reply(&self.path)? {
                (of, Reply::Domain(domain)) if of == id => {
                    offered.push(Offered::from_message(&domain))
                }
                (of, Reply::End { .. }) if of == id => return Ok(offered),
                (_, Reply::Error(refusal)) => return Err(self.refused(refusal)),
                _ => return Err(self.broken("it answers what was not asked")),
            }
            if offered.len() > MAX_DOMAINS {
                return Err(self.broken("its list has no end"));
            }
        }
    }

    /// Attaches to a domain's region.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn attach(&self, name: &str) -> Result<Region, AttachError> {
        if !is_name(name) {
            return Err(AttachError::BadName { name: name.to_owned() });
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let until = after(self.deadline);
        let id = self.request(&mut requests, Request::Attach { incarnation: 0, name })?;
        let mut packet = self.answer(id, until)?;
        let (nr_fds, incarnation) = match packet.reply(&self.path)? {
            (of, Reply::Domain(domain)) if of == id => (domain.nr_fds, domain.incarnation),
            (_, Reply::Error(refusal)) => return Err(self.refused(refusal)),
            _ => return Err(self.broken("it answers what was not asked")),
        };
        let mut fds = std::mem::take(&mut packet.fds);
        while (fds.len() as u64) < u64::from(nr_fds) {
            let mut packet = self.answer(id, until)?;
            match packet.reply(&self.path)? {
                (of, Reply::Frames { first }) if of == id && first as usize == fds.len() => {}
                _ => return Err(self.broken("it leaves out frames")),
            }
            if packet.fds.is_empty() {
                return Err(self.broken("it leaves out descriptors"));
            }
            fds.append(&mut packet.fds);
        }
        drop(requests);
        if fds.len() as u64 != u64::from(nr_fds) {
            return Err(self.broken("it hands over more descriptors than it says"));
        }
        // Only a memfd can be sealed, so this also refuses files of other filesystems, on which a
        // read could block.
        if !fds.iter().all(is_lasting) {
            return Err(AttachError::NotSealed { path: self.path.clone(), name: name.to_owned() });
        }
        let mut fds = fds.into_iter();
        let first = fds.next().ok_or_else(|| self.broken("it leaves out descriptors"))?;
        let others: Vec<OwnedFd> = fds.collect();
        let region = match others.as_slice() {
            [] => Region::from_fd(first)?,
            others => Region::from_frames(first, others)?,
        };
        if region.header().incarnation != incarnation {
            return Err(self.broken("it hands over another region than it says"));
        }
        Ok(region)
    }

    /// Whether the daemon closed the connection or its process exited.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(self.fds())
    }

    /// The daemon's clocks, looked at by `of` at the first call.
    pub(crate) fn clocks(
        &self,
        of: impl FnOnce(BorrowedFd<'_>) -> Option<ProducerClocks>,
    ) -> ProducerClocks {
        let pidfd = self.pidfd.as_ref().map(AsFd::as_fd);
        *self.clocks.get_or_init(|| pidfd.and_then(of).unwrap_or_default())
    }

    /// What becomes ready when the daemon exits, and the events to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let pidfd = self.pidfd.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN));
        [(self.fd.as_fd(), PollFlags::RDHUP)].into_iter().chain(pidfd)
    }

    /// Asks for every domain and what changes from then on; the connection serves this alone.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn follow(self) -> Result<Follower, AttachError> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.request(&mut requests, Request::List { follow: true })?;
        drop(requests);
        Ok(Follower { connection: self, id })
    }

    fn request(&self, requests: &mut u32, request: Request<'_>) -> Result<u32, AttachError> {
        *requests = requests.wrapping_add(1).max(1);
        let mut buffer = [0; MAX_MESSAGE];
        let name = || self.broken("a domain's name is 1 to 255 bytes of text");
        let bytes = request.encode(*requests, &mut buffer).ok_or_else(name)?;
        match retry_on_intr(|| send(&self.fd, bytes, SendFlags::NOSIGNAL)) {
            Ok(_) => Ok(*requests),
            Err(Errno::AGAIN) => Err(self.timed_out()),
            Err(_) => Err(AttachError::Disconnected { path: self.path.clone() }),
        }
    }

    /// The next message that does not answer an earlier request: those were given up when their
    /// time was over.
    fn answer(&self, id: u32, until: Instant) -> Result<Packet, AttachError> {
        loop {
            let mut packet = self.receive(until)?;
            let (of, _) = packet.reply(&self.path)?;
            let is_earlier = of != 0 && of != id && id.wrapping_sub(of) < u32::MAX / 2;
            if !is_earlier {
                return Ok(packet);
            }
            if Instant::now() >= until {
                return Err(self.timed_out());
            }
        }
    }

    /// The next message, if it comes in time.
    fn receive(&self, until: Instant) -> Result<Packet, AttachError> {
        let os = |e: Errno| AttachError::os(format!("receive from {}", self.path.display()), e);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timespec(left))) {
                Ok(0) => return Err(self.timed_out()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(os(e)),
            }
            match self.receive_now() {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => return Err(AttachError::Disconnected { path: self.path.clone() }),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::CONNRESET | Errno::PIPE) => {
                    return Err(AttachError::Disconnected { path: self.path.clone() });
                }
                Err(Errno::MSGSIZE) => {
                    return Err(self.broken("a message, or its descriptors, did not fit"));
                }
                Err(e @ (Errno::MFILE | Errno::NFILE)) => {
                    return Err(AttachError::os("receive descriptors", e));
                }
                Err(e) => return Err(os(e)),
            }
        }
    }

    /// The next message, if there is one; `None` if the other side closed.
    fn receive_now(&self) -> Result<Option<Packet>, Errno> {
        let mut buffer = [0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let iov = &mut [IoSliceMut::new(&mut buffer)];
        let message = recvmsg(&self.fd, iov, &mut control, flags)?;
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(Errno::MSGSIZE);
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            // The kernel also leaves out descriptors for which this process has no numbers left.
            return Err(match rustix::io::fcntl_dupfd_cloexec(&self.fd, 0) {
                Err(shortage @ (Errno::MFILE | Errno::NFILE)) => shortage,
                _ => Errno::MSGSIZE,
            });
        }
        Ok((message.bytes > 0).then_some(Packet { buffer, len: message.bytes, fds }))
    }

    fn refused(&self, refusal: domstat_layout::handover::Refusal) -> AttachError {
        AttachError::Refused { path: self.path.clone(), refusal }
    }

    fn broken(&self, why: &'static str) -> AttachError {
        AttachError::Protocol { path: self.path.clone(), why }
    }

    fn timed_out(&self) -> AttachError {
        AttachError::TimedOut { path: self.path.clone(), deadline: self.deadline }
    }
}

/// A point in time that far from now; one that no clock counts to is as far as can be waited.
fn after(time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365);
    let now = Instant::now();
    now.checked_add(time.min(FAR)).unwrap_or(now)
}

impl Packet {
    fn reply(&mut self, path: &Path) -> Result<(u32, Reply<'_>), AttachError> {
        let bytes = self.buffer.get(..self.len).unwrap_or_default();
        let bad = |source| AttachError::Message { path: path.to_owned(), source };
        Reply::parse(bytes).map_err(bad)
    }
}

impl Offered {
    fn from_message(domain: &Domain<'_>) -> Self {
        let Domain { incarnation, len, name, .. } = *domain;
        Self { name: name.to_owned(), incarnation, len }
    }
}

impl Follower {
    /// Whether the daemon closed the connection or its process exited. What it sent before can
    /// still be taken.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.connection.is_over()
    }

    /// The next change; waits for it until `timeout` is over (`None`: without end), and is `None`
    /// then.
    ///
    /// # Errors
    /// [`AttachError::Disconnected`] when the daemon closed the connection, others if it does not keep to the
    /// protocol.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Change>, AttachError> {
        let day = Duration::from_secs(86_400);
        let mut packet = loop {
            match self.connection.receive(after(timeout.unwrap_or(day))) {
                Ok(packet) => break packet,
                Err(AttachError::TimedOut { .. }) if timeout.is_none() => {}
                Err(AttachError::TimedOut { .. }) => return Ok(None),
                Err(e) => return Err(e),
            }
        };
        match packet.reply(&self.connection.path)? {
            (_, Reply::Domain(domain)) => Ok(Some(Change::Added(Offered::from_message(&domain)))),
            (id, Reply::End { .. }) if id == self.id => Ok(Some(Change::Listed)),
            (_, Reply::Gone { incarnation, name }) => {
                Ok(Some(Change::Gone { name: name.to_owned(), incarnation }))
            }
            (_, Reply::Error(refusal)) => Err(self.connection.refused(refusal)),
            _ => Err(self.connection.broken("it answers what was not asked")),
        }
    }
}

/// Readable when there is a change, or the daemon exits.
impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.fd.as_fd()
    }
}
