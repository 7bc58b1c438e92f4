//! A scripted daemon, for tests of what consumers refuse.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use domstat_layout::handover::{Domain, MAX_FDS, MAX_MESSAGE, Reply, Request};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept, bind, listen as start, recv, sendmsg, socket_with,
};

/// Listens at `path`.
///
/// # Panics
/// If that is not possible.
#[must_use]
pub fn listen(path: &Path) -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&fd, &SocketAddrUnix::new(path).expect("a short path")).expect("a free path");
    start(&fd, 16).expect("to listen");
    fd
}

/// Welcomes one client and answers its first request with `reply` and `fds`, whatever it is;
/// returns when the client closes.
///
/// # Panics
/// If the client does not behave.
pub fn answer_once(listener: &OwnedFd, reply: Reply<'_>, fds: &[OwnedFd]) {
    let client = accept(listener).expect("a client");
    say(&client, 0, Reply::Welcome { max_message: 512 }, &[]);
    let mut buffer = [0; MAX_MESSAGE];
    let (_, len) = recv(&client, &mut buffer[..], RecvFlags::empty()).expect("a request");
    let (id, _) = Request::parse(&buffer[..len]).expect("a request");
    say(&client, id, reply, fds);
    while recv(&client, &mut buffer[..], RecvFlags::empty()).is_ok_and(|(_, len)| len > 0) {}
}

/// Welcomes one client, and answers its first request, for an empty list, only when a second one has
/// come; returns when the client closes.
///
/// # Panics
/// If the client does not behave.
pub fn answer_late(listener: &OwnedFd) {
    let client = accept(listener).expect("a client");
    say(&client, 0, Reply::Welcome { max_message: 512 }, &[]);
    let mut late = Vec::new();
    let mut buffer = [0; MAX_MESSAGE];
    while let Ok((_, len)) = recv(&client, &mut buffer[..], RecvFlags::empty())
        && len > 0
    {
        late.push(Request::parse(&buffer[..len]).expect("a request").0);
        if late.len() > 1 {
            late.drain(..).for_each(|id| say(&client, id, Reply::End { nr: 0 }, &[]));
        }
    }
}

fn say(client: &OwnedFd, id: u32, reply: Reply<'_>, fds: &[OwnedFd]) {
    let mut buffer = [0; MAX_MESSAGE];
    let bytes = reply.encode(id, &mut buffer).expect("a message");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(client, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("to send");
}

/// Welcomes any number of clients, as the process `pidfd` if given, and lists these domains, and
/// answers nothing else; never returns.
///
/// # Panics
/// If a client does not behave.
pub fn list_only(listener: &OwnedFd, names: &[&str], pidfd: Option<&OwnedFd>) {
    std::thread::scope(|scope| {
        loop {
            let client = accept(listener).expect("a client");
            scope.spawn(move || {
                let pidfd: Vec<_> = pidfd.iter().filter_map(|fd| fd.try_clone().ok()).collect();
                say(&client, 0, Reply::Welcome { max_message: 512 }, &pidfd);
                let mut buffer = [0; MAX_MESSAGE];
                while let Ok((_, len)) = recv(&client, &mut buffer[..], RecvFlags::empty())
                    && len > 0
                {
                    let (id, request) = Request::parse(&buffer[..len]).expect("a request");
                    let Request::List { .. } = request else { continue };
                    for name in names {
                        let domain = Domain { incarnation: 1, len: 4096, nr_fds: 1, name };
                        say(&client, id, Reply::Domain(domain), &[]);
                    }
                    let nr = u32::try_from(names.len()).expect("a few");
                    say(&client, id, Reply::End { nr }, &[]);
                }
            });
        }
    });
}

/// Welcomes any number of clients, lists nothing, and tells of the same domain again and again, as
/// fast as a client reads; never returns.
///
/// # Panics
/// If a client does not behave.
pub fn tell_without_end(listener: &OwnedFd) {
    std::thread::scope(|scope| {
        loop {
            let client = accept(listener).expect("a client");
            scope.spawn(move || {
                say(&client, 0, Reply::Welcome { max_message: 512 }, &[]);
                let mut buffer = [0; MAX_MESSAGE];
                let Ok((_, len)) = recv(&client, &mut buffer[..], RecvFlags::empty()) else {
                    return;
                };
                let Ok((id, _)) = Request::parse(&buffer[..len]) else { return };
                let domain = Domain { incarnation: 1, len: 4096, nr_fds: 1, name: "flood" };
                let mut message = [0; MAX_MESSAGE];
                let bytes = Reply::Domain(domain).encode(id, &mut message).expect("a message");
                while rustix::net::send(&client, bytes, SendFlags::NOSIGNAL).is_ok() {}
            });
        }
    });
}
