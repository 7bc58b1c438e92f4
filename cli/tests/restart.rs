//! A daemon that is killed and started again by a service manager, which keeps its socket and its
//! memory: the manager's side of the protocol is played here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Background, output, stdout, wait_for};
use domstat_consumer::attach::Reattached;
use domstat_consumer::{Attachment, Liveness};
use domstat_layout::latest::Runstate;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType, bind, listen, recvmsg, socket_with,
};

/// What systemd does for a unit with a socket and `FileDescriptorStoreMax`.
struct Manager {
    socket: PathBuf,
    listener: OwnedFd,
    notify: UnixDatagram,
    notify_path: PathBuf,
    store: Vec<(String, OwnedFd)>,
    ready: u32,
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let (socket, notify_path) = (dir.join("s"), dir.join("notify"));
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let listener = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        listen(&listener, 128).unwrap();
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_nonblocking(true).unwrap();
        Self { socket, listener, notify, notify_path, store: Vec::new(), ready: 0 }
    }

    fn start(&self, dir: &Path, pid: u32) -> Background {
        // The numbers of the descriptors are the protocol: from 3 on, in the names' order.
        let script = r#"export LISTEN_PID=$$; exec "$0" "$@" 3<&0 </dev/null"#;
        let script = match self.store.len() {
            0 => script.to_owned(),
            _ => script.replace("3<&0 <", "3<&0 4<&1 >&2 <"),
        };
        let names: Vec<&str> =
            std::iter::once("socket").chain(self.store.iter().map(|(n, _)| n.as_str())).collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_domstat"), "run", "process", "--name", "p"])
            .args(["--pid", &pid.to_string(), "--interval", "5"])
            .env("DOMSTAT_DIR", dir)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", &self.notify_path)
            .stdin(Stdio::from(self.listener.try_clone().unwrap()));
        assert!(self.store.len() <= 1, "one region");
        if let Some((_, memfd)) = self.store.first() {
            command.stdout(Stdio::from(memfd.try_clone().unwrap()));
        }
        Background::start(&mut command)
    }

    /// Does what the daemon asked for.
    fn listen(&mut self) {
        loop {
            let mut text = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let iov = &mut [IoSliceMut::new(&mut text)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let Ok(message) = recvmsg(&self.notify, iov, &mut control, flags) else { return };
            let fds: Vec<OwnedFd> = control
                .drain()
                .filter_map(|part| match part {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
                    _ => None,
                })
                .flatten()
                .collect();
            let text = String::from_utf8_lossy(&text[..message.bytes]).into_owned();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            let name = name.unwrap_or("stored").to_owned();
            if text.lines().any(|line| line == "FDSTORE=1") {
                self.store.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
            }
            if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
                self.store.retain(|(kept, _)| *kept != name);
            }
            self.ready += u32::from(text.lines().any(|line| line == "READY=1"));
        }
    }

    fn wait_until_ready(&mut self) {
        let before = self.ready;
        wait_for("READY=1", || {
            self.listen();
            (self.ready > before).then_some(())
        });
    }
}

#[test]
fn a_killed_daemon_goes_on_where_it_was_again_and_again() {
    const RESTARTS: u32 = 12;
    let dir = tempfile::tempdir().unwrap();
    let script = "while :; do i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; sleep 0.005; done";
    let mut child = Background::start(Command::new("sh").args(["-c", script]));
    let mut manager = Manager::new(dir.path());
    let mut daemon = manager.start(dir.path(), child.0.id());
    manager.wait_until_ready();
    let mut attachment = Attachment::connect(&manager.socket, "p").unwrap().reattaching();
    let incarnation = attachment.region().header().incarnation;
    let mut last: Option<[u64; 4]> = None;
    let mut look = |attachment: &Attachment| {
        let sample = attachment.read_live(|r| r.vcpu(0).unwrap().read::<Runstate>());
        let runstate = sample.unwrap().unwrap().active().unwrap();
        let now =
            [runstate.running_ns, runstate.runnable_ns, runstate.blocked_ns, runstate.offline_ns]
                .map(|word| word.value().unwrap());
        if let Some(last) = last {
            assert!(now.iter().zip(last).all(|(now, last)| *now >= last), "{now:?} after {last:?}");
        }
        assert_eq!(runstate.generation, 0);
        last = Some(now);
    };
    for round in 0..RESTARTS {
        for _ in 0..20 {
            look(&attachment);
            std::thread::sleep(Duration::from_millis(1 + u64::from(round % 3)));
        }
        // Killed, and sometimes asked to end as a service is.
        if round % 4 == 3 {
            assert!(daemon.interrupt().success());
        } else {
            daemon.0.kill().unwrap();
            daemon.0.wait().unwrap();
        }
        assert_eq!(attachment.liveness(), Liveness::Dead);
        daemon = manager.start(dir.path(), child.0.id());
        manager.wait_until_ready();
        let found = wait_for("the next daemon", || attachment.refresh().reattached);
        assert_eq!(found, Reattached::Continued);
        assert_eq!(attachment.region().header().incarnation, incarnation);
        assert_eq!(manager.store.len(), 1, "the old memory is forgotten");
    }
    let socket = manager.socket.to_str().unwrap();
    let checked = output(dir.path(), &["check", "p", "--watch", "0.3", "--socket", socket]);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));

    // The domain's end is final: nothing is kept of it.
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert!(daemon.0.wait().unwrap().success());
    assert_eq!(attachment.liveness(), Liveness::Retired);
    manager.listen();
    assert!(manager.store.is_empty());
}
