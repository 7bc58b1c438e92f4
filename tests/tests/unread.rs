//! Descriptors that were sent and not read: the kernel limits how many a user may have of them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use domstat_consumer::handover::Connection;
use domstat_consumer::{AttachError, Attachment, Liveness};
use domstat_layout::handover::{MAX_MESSAGE, Refusal, Request};
use domstat_producer::{Region, RegionBuilder, Server};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, recvmsg, send, sendmsg,
    socket_with, socketpair,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

/// Set in the process that a test runs again in.
const AGAIN: &str = "DOMSTAT_TEST_AGAIN";
/// Descriptors that it may have open, and unread.
const LIMIT: u64 = 150;

/// Runs a test in a process and as a user of its own, for whom the limit holds. True in there.
fn limited(test: &str, uid: u32) -> bool {
    if std::env::var_os(AGAIN).is_some() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum }).unwrap();
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("test");
    // By another process: what this one has open for writing, a child that another test starts may
    // have, too, and then the copy cannot be executed.
    let this = std::env::current_exe().unwrap();
    assert!(Command::new("cp").arg(this).arg(&exe).status().unwrap().success());
    let mut again = Command::new(&exe);
    again.args(["--exact", test, "--nocapture"]).env(AGAIN, "1").env("TMPDIR", dir.path());
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        again.uid(uid).gid(uid);
    }
    let output = again.current_dir(dir.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    false
}

fn serving(frames: bool) -> (TempDir, PathBuf, Server, Region) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = Server::builder().bind(&path).unwrap();
    let builder = RegionBuilder::new("web1").vcpus(if frames { 20 } else { 1 });
    let created = if frames { builder.create_memfd_frames() } else { builder.create_memfd() };
    (dir, path, server, created.unwrap().unpublished.publish().unwrap())
}

/// A client that asks, and reads nothing but what it is welcomed with.
fn ask(path: &Path, welcomed: bool) -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
    if welcomed {
        recv(&fd, &mut [0; MAX_MESSAGE][..], RecvFlags::empty()).unwrap();
    }
    let mut buffer = [0; MAX_MESSAGE];
    let attach = Request::Attach { incarnation: 0, name: "web1" }.encode(1, &mut buffer).unwrap();
    // Until the daemon takes no more of it.
    while send(&fd, attach, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {}
    fd
}

#[test]
fn who_never_reads_uses_up_few_descriptors() {
    if !limited("who_never_reads_uses_up_few_descriptors", 54_321) {
        return;
    }
    let (_dir, path, server, region) = serving(false);
    let _served = server.serve(&region, "web1").unwrap();
    let greedy: Vec<_> = (0..30).map(|i| ask(&path, i % 2 == 0)).collect();
    for _ in 0..20 {
        assert_eq!(Attachment::connect(&path, "web1").unwrap().liveness(), Liveness::Live);
    }
    // Whoever reads in the end is answered all that it asked for.
    let mut answers = 0;
    for _ in 0..50 {
        let got = recv(&greedy[0], &mut [0; MAX_MESSAGE][..], RecvFlags::empty()).unwrap();
        answers += usize::from(got.1 > 0);
    }
    assert_eq!(answers, 50);
}

#[test]
fn a_region_in_frames_is_handed_over_as_it_is_read() {
    if !limited("a_region_in_frames_is_handed_over_as_it_is_read", 54_322) {
        return;
    }
    let (_dir, path, server, region) = serving(true);
    let _served = server.serve(&region, "web1").unwrap();
    let _greedy: Vec<_> = (0..3).map(|_| ask(&path, true)).collect();
    for _ in 0..3 {
        assert_eq!(Attachment::connect(&path, "web1").unwrap().liveness(), Liveness::Live);
    }
}

/// A socket that holds descriptors, and how many of them.
fn hoard() -> (OwnedFd, OwnedFd, usize) {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (from, to) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut nr = 0;
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [null.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        match sendmsg(&from, &[IoSlice::new(b"x")], &mut control, SendFlags::DONTWAIT) {
            Ok(_) => nr += 1,
            Err(Errno::TOOMANYREFS) => return (from, to, nr),
            Err(e) => panic!("{e} after {nr}"),
        }
    }
}

#[test]
fn what_others_have_not_read_is_waited_for() {
    if !limited("what_others_have_not_read_is_waited_for", 54_323) {
        return;
    }
    let (_dir, path, server, region) = serving(false);
    let _served = server.serve(&region, "web1").unwrap();
    let (_from, to, nr) = hoard();
    let connection = Connection::connect(&path).unwrap();
    let start = Instant::now();
    let busy = connection.attach("web1").map(|_| ()).unwrap_err();
    assert!(matches!(busy, AttachError::Refused { refusal: Refusal::Busy, .. }), "{busy}");
    assert!(start.elapsed() > Duration::from_secs(1));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| connection.attach("web1").map(|_| ()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waits.is_finished());
        for _ in 0..nr {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let iov = &mut [IoSliceMut::new(&mut byte)];
            recvmsg(&to, iov, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        }
        waits.join().unwrap().unwrap();
    });
    assert!(!connection.is_over());
}
