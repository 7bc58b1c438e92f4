//! Regions handed over by a socket: what is handed over, to whom, and who is turned away.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::attach::{Reattached, Refreshed};
use domstat_consumer::handover::{Change, Connection};
use domstat_consumer::{AttachError, Attachment, Backing, Liveness, Reading};
use domstat_layout::Ns;
use domstat_layout::handover::{MAX_MESSAGE, Refusal, Reply, Request};
use domstat_layout::latest::Runstate;
use domstat_producer::{Created, Region, RegionBuilder, ServeError, Server, VcpuWriter};
use domstat_tests::{assert_whole, runstate};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use tempfile::TempDir;

fn published(name: &str, nr_vcpus: u32, frames: bool) -> (Region, Vec<VcpuWriter>) {
    let builder = RegionBuilder::new(name).vcpus(nr_vcpus);
    let created = if frames { builder.create_memfd_frames() } else { builder.create_memfd() };
    let Created { unpublished, mut vcpus, .. } = created.unwrap();
    for vcpu in &mut vcpus {
        vcpu.write(&runstate(3), Ns(3));
    }
    (unpublished.publish().unwrap(), vcpus)
}

fn server() -> (TempDir, PathBuf, Server) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = Server::builder().bind(&path).unwrap();
    (dir, path, server)
}

fn read(region: &domstat_consumer::Region, vcpu: u32) {
    let sample = region.vcpu(vcpu).unwrap().read::<Runstate>().unwrap();
    let Reading::Active(sample) = sample else { panic!("{sample:?}") };
    assert_whole(&sample, sample.updated);
}

#[test]
fn one_daemon_serves_many_domains() {
    const DOMAINS: usize = 300;
    let (_dir, path, server) = server();
    let regions: Vec<_> = (0..DOMAINS).map(|i| published(&format!("d{i}"), 2, false)).collect();
    let served: Vec<_> = regions
        .iter()
        .enumerate()
        .map(|(i, (region, _))| server.serve(region, &format!("d{i}")).unwrap())
        .collect();
    let connection = Arc::new(Connection::connect(&path).unwrap());
    let listed = connection.list().unwrap();
    assert_eq!(listed.len(), DOMAINS);
    for offered in &listed {
        let attached = Attachment::from_connection(&connection, &offered.name).unwrap();
        assert_eq!(attached.region().backing(), Backing::Sealed);
        assert_eq!(attached.region().header().incarnation, offered.incarnation);
        read(attached.region(), 1);
    }
    drop(served);
    let refused = connection.attach("d7").map(|_| ()).unwrap_err();
    assert!(matches!(refused, AttachError::Refused { refusal: Refusal::NoSuchDomain, .. }));
}

#[test]
fn frames_come_in_as_many_messages_as_they_need() {
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("big", 150, true);
    let _served = server.serve(&region, "big").unwrap();
    let attached = Attachment::connect(&path, "big").unwrap();
    assert_eq!(attached.region().backing(), Backing::Frames);
    for vcpu in 0..150 {
        read(attached.region(), vcpu);
    }
}

#[test]
fn what_is_handed_over_cannot_be_written_resized_or_opened_for_writing() {
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("web1", 1, false);
    let _served = server.serve(&region, "web1").unwrap();
    let attached = Attachment::connect(&path, "web1").unwrap();
    let fd = attached.region().files().next().unwrap();
    domstat_tests::unguarded::assert_read_only(fd, attached.region().mem().len(), false);
    // As an owner may do with an inode of theirs: no help.
    let anew = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let _ = std::fs::set_permissions(&anew, std::fs::Permissions::from_mode(0o666));
    let anew = File::options().read(true).write(true).open(&anew).unwrap();
    let len = attached.region().mem().len();
    domstat_tests::unguarded::assert_read_only(anew.as_fd(), len, true);
    read(attached.region(), 0);
}

#[test]
fn the_socket_has_its_mode_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let server = Server::builder().mode(0o660).group(1).bind(&path).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert_eq!(std::os::unix::fs::MetadataExt::gid(&meta), 1);
    let second = Server::builder().bind(&path).map(|_| ()).unwrap_err();
    assert!(matches!(second, ServeError::InUse { .. }), "{second}");
    drop(server);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    let gone = Connection::connect(&path).map(|_| ()).unwrap_err();
    assert!(matches!(gone, AttachError::NoDaemon { .. }), "{gone}");
    std::fs::write(&path, "precious").unwrap();
    let file = Server::builder().bind(&path).map(|_| ()).unwrap_err();
    assert!(matches!(file, ServeError::NotASocket { .. }), "{file}");
}

#[test]
fn a_server_ends_at_once_after_its_last_domain() {
    let dir = tempfile::tempdir().unwrap();
    let (region, _vcpus) = published("web1", 1, false);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for _ in 0..3000 {
            let server = Server::builder().bind(dir.path().join("s")).unwrap();
            let served = server.serve(&region, "web1").unwrap();
            drop(served);
            drop(server);
        }
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(30)).expect("none of them waits for ever");
}

#[test]
fn who_comes_before_the_first_region_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let server = Server::builder().from_first_region().bind(&path).unwrap();
    let early = thread::spawn(move || Connection::connect(&path).unwrap().list().unwrap());
    // For as long as it takes to connect, in general.
    thread::sleep(Duration::from_millis(100));
    let (region, _vcpus) = published("web1", 1, false);
    let _served = server.serve(&region, "web1").unwrap();
    let found = early.join().unwrap();
    assert_eq!(found.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["web1"]);
}

#[test]
fn a_name_that_none_can_have_is_not_asked_for() {
    let (_dir, path, _server) = server();
    let connection = Connection::connect(&path).unwrap();
    for name in ["", "a\0b", &"x".repeat(256)] {
        let error = connection.attach(name).err().unwrap();
        assert!(matches!(error, AttachError::BadName { .. }), "{error}");
    }
}

#[test]
fn who_is_not_admitted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let me = rustix::process::geteuid().as_raw();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let peers = Arc::clone(&seen);
    let server = Server::builder().admit(move |peer| {
        peers.lock().unwrap().push(*peer);
        peer.uid != me
    });
    let _server = server.bind(&path).unwrap();
    let error = Connection::connect(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, AttachError::Refused { refusal: Refusal::NotAdmitted, .. }), "{error}");
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(seen.lock().unwrap().iter().all(|peer| peer.uid == me && peer.pid == pid));
}

#[test]
fn too_many_clients_are_told_and_places_are_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _server = Server::builder().max_clients(3).bind(&path).unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| Connection::connect(&path).unwrap()).collect();
    let error = Connection::connect(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, AttachError::Refused { refusal: Refusal::Busy, .. }), "{error}");
    clients.pop();
    until("a free place", || Connection::connect(&path).is_ok());
}

fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn many_attach_at_once_for_the_first_time() {
    const THREADS: usize = 16;
    const EACH: usize = 125;
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("web1", 4, false);
    let _served = server.serve(&region, "web1").unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    read(Attachment::connect(&path, "web1").unwrap().region(), 3);
                }
            });
        }
    });
}

#[test]
fn followers_are_told_what_changes() {
    let (_dir, path, server) = server();
    let (first, _vcpus) = published("first", 1, false);
    let served = server.serve(&first, "first").unwrap();
    let taken = server.serve(&first, "first").map(|_| ()).unwrap_err();
    assert!(matches!(taken, ServeError::NameTaken { .. }));
    let mut follower = Connection::connect(&path).unwrap().follow().unwrap();
    let mut names = BTreeSet::new();
    let mut listed = false;
    let mut next = |names: &mut BTreeSet<String>, listed: &mut bool| match follower
        .next(Some(Duration::from_secs(30)))
        .unwrap()
        .expect("told in time")
    {
        Change::Added(offered) => assert!(names.insert(offered.name) || !*listed),
        Change::Gone { name, .. } => assert!(names.remove(&name)),
        Change::Listed => *listed = true,
    };
    while !listed {
        next(&mut names, &mut listed);
    }
    assert_eq!(names, BTreeSet::from(["first".to_owned()]));
    let (second, _vcpus) = published("second", 1, false);
    let _second = server.serve(&second, "second").unwrap();
    while !names.contains("second") {
        next(&mut names, &mut listed);
    }
    drop(served);
    while names.contains("first") {
        next(&mut names, &mut listed);
    }
    drop(server);
    let end = loop {
        match follower.next(Some(Duration::from_secs(30))) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(end, AttachError::Disconnected { .. }), "{end}");
}

#[test]
fn the_end_of_the_daemon_is_no_longer_live() {
    let (_dir, path, server) = server();
    let (region, mut vcpus) = published("web1", 1, false);
    let _served = server.serve(&region, "web1").unwrap();
    let mut attached = Attachment::connect(&path, "web1").unwrap();
    // Written on no clock that is known, so it is never stale.
    assert_eq!(attached.liveness(), Liveness::Live);
    vcpus[0].write(&runstate(4), Ns(4));
    let ran =
        attached.read_live(|r| r.vcpu(0).unwrap().stat(Runstate::running_ns).unwrap()).unwrap();
    assert_eq!(ran, domstat_layout::Stat::Value(4));
    drop(server);
    assert_eq!(attached.liveness(), Liveness::Dead);
    let old = attached.read_live(|r| r.vcpu(0).unwrap().read::<Runstate>()).map(|_| ());
    assert_eq!(old, Err(Liveness::Dead), "what can still be read is not shown as live");
    assert!(matches!(attached.reattach(), Err(AttachError::NoDaemon { .. })));
    // The same memory, served again.
    let mut attached = attached.reattaching();
    let server = Server::builder().bind(&path).unwrap();
    let _served = server.serve(&region, "web1").unwrap();
    let found = loop {
        if let Refreshed { liveness, reattached: Some(found) } = attached.refresh() {
            assert_eq!(liveness, Liveness::Live);
            break found;
        }
    };
    assert_eq!(found, Reattached::Same);
    region.retire();
    assert_eq!(attached.liveness(), Liveness::Retired, "what it said last counts");
}

/// A client that keeps to no rule.
struct Raw(OwnedFd);

impl Raw {
    fn connect(path: &std::path::Path) -> Self {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let fd = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        connect(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
        let raw = Self(fd);
        assert!(matches!(Reply::parse(&raw.receive()).unwrap(), (0, Reply::Welcome { .. })));
        raw
    }

    fn send(&self, bytes: &[u8]) {
        send(&self.0, bytes, SendFlags::NOSIGNAL).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; MAX_MESSAGE];
        let (_, len) = recv(&self.0, &mut buffer[..], RecvFlags::empty()).unwrap();
        buffer[..len].to_vec()
    }
}

#[test]
fn who_breaks_the_protocol_is_sent_away_and_harms_nobody() {
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("web1", 1, false);
    let _served = server.serve(&region, "web1").unwrap();
    let mut whole = [0; MAX_MESSAGE];
    let whole = Request::Attach { incarnation: 0, name: "web1" }.encode(9, &mut whole).unwrap();
    let mut wrapped = whole.to_vec();
    wrapped[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let too_long = [whole, &[0; 2 * MAX_MESSAGE]].concat();
    for bad in [&b"x"[..], &[0; 64], &whole[..whole.len() - 1], &wrapped, &too_long] {
        let raw = Raw::connect(&path);
        raw.send(bad);
        assert!(raw.receive().is_empty(), "closed after {bad:?}");
    }
    // What it does not know it says, and goes on.
    let raw = Raw::connect(&path);
    let mut unknown = whole.to_vec();
    unknown[6] = 7;
    raw.send(&unknown);
    let said = raw.receive();
    assert_eq!(Reply::parse(&said), Ok((9, Reply::Error(Refusal::UnknownRequest))));
    raw.send(whole);
    assert!(matches!(Reply::parse(&raw.receive()), Ok((9, Reply::Domain(_)))));
    read(Attachment::connect(&path, "web1").unwrap().region(), 0);
}

#[test]
fn who_asks_and_never_reads_holds_up_nobody() {
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("web1", 1, false);
    let _served = server.serve(&region, "web1").unwrap();
    let mut buffer = [0; MAX_MESSAGE];
    let attach = Request::Attach { incarnation: 0, name: "web1" }.encode(1, &mut buffer).unwrap();
    let greedy: Vec<_> = (0..20).map(|_| Raw::connect(&path)).collect();
    for raw in &greedy {
        // Until the daemon takes no more of it.
        while send(&raw.0, attach, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) != Err(Errno::AGAIN) {
        }
    }
    for _ in 0..50 {
        read(Attachment::connect(&path, "web1").unwrap().region(), 0);
    }
}

#[test]
fn a_daemon_that_hands_over_what_it_must_not_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (region, _vcpus) = published("web1", 1, false);
    let sealed = || region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let incarnation = region.incarnation();
    let mut plain = tempfile::tempfile().unwrap();
    let memfd = sealed();
    let bytes = std::fs::read(format!("/proc/self/fd/{}", memfd.as_raw_fd())).unwrap();
    plain.write_all(&bytes).unwrap();
    // Sealed, but a page of it would have to be found by the reader.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut holes = std::fs::File::from(memfd_create("holes", flags).unwrap());
    holes.write_all(&bytes).unwrap();
    holes.set_len(bytes.len() as u64 + 4096).unwrap();
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&holes, seals).unwrap();
    let domain = |nr_fds, incarnation| {
        Reply::Domain(domstat_layout::handover::Domain {
            incarnation,
            len: 4096,
            nr_fds,
            name: "web1",
        })
    };
    type Lie<'a> = (&'a str, Reply<'a>, Vec<OwnedFd>);
    let lies: Vec<Lie<'_>> = vec![
        ("sealed", domain(1, incarnation), vec![plain.into()]),
        ("allocated", domain(1, incarnation), vec![holes.into()]),
        ("did not answer", domain(2, incarnation), vec![sealed()]),
        ("more descriptors", domain(1, incarnation), vec![sealed(), sealed()]),
        ("another region", domain(1, !incarnation), vec![sealed()]),
        ("not asked", Reply::End { nr: 0 }, vec![]),
        ("no such domain", Reply::Error(Refusal::NoSuchDomain), vec![]),
    ];
    for (i, (expected, reply, fds)) in lies.into_iter().enumerate() {
        let path = dir.path().join(i.to_string());
        let listener = domstat_tests::daemon::listen(&path);
        thread::scope(|scope| {
            scope.spawn(|| domstat_tests::daemon::answer_once(&listener, reply, &fds));
            let connection = Connection::connect_within(&path, Duration::from_millis(300)).unwrap();
            let error = connection.attach("web1").map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        });
    }
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = domstat_tests::daemon::listen(&path);
    thread::scope(|scope| {
        scope.spawn(|| domstat_tests::daemon::answer_late(&listener));
        let connection = Connection::connect_within(&path, Duration::from_millis(300)).unwrap();
        let error = connection.list().unwrap_err();
        assert!(matches!(error, AttachError::TimedOut { .. }), "{error}");
        assert_eq!(connection.list().unwrap(), []);
    });
}

#[test]
fn a_daemon_that_says_nothing_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = domstat_tests::daemon::listen(&path);
    let error =
        Connection::connect_within(&path, Duration::from_millis(50)).map(|_| ()).unwrap_err();
    assert!(matches!(error, AttachError::TimedOut { .. }), "{error}");
}

/// Set in the process that serves in a namespace of its own.
const SERVE_AT: &str = "DOMSTAT_TEST_SERVE_AT";

#[test]
fn a_client_outside_the_daemons_process_id_namespace_is_served() {
    use std::process::{Command, Stdio};
    if let Some(path) = std::env::var_os(SERVE_AT) {
        // It has no number here.
        let server = Server::builder().admit(|peer| peer.pid == 0).bind(path).unwrap();
        let (region, _vcpus) = published("web1", 1, false);
        let _served = server.serve(&region, "web1").unwrap();
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        return;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        return domstat_tests::skip::skip("root", "no process id namespace can be made here");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut daemon = unshare()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_client_outside_the_daemons_process_id_namespace_is_served"])
        .env(SERVE_AT, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the socket", || path.exists());
    let attached = Connection::connect(&path).map(|connection| {
        until("the domain", || connection.list().unwrap().len() == 1);
        read(&connection.attach("web1").unwrap(), 0);
    });
    drop(daemon.stdin.take());
    let ended = daemon.wait().unwrap();
    attached.unwrap();
    assert!(ended.success());
}

#[test]
fn who_follows_and_never_reads_keeps_no_memory_of_what_is_gone() {
    const DOMAINS: usize = 600;
    let (_dir, path, server) = server();
    let raw = Raw::connect(&path);
    let mut buffer = [0; MAX_MESSAGE];
    raw.send(Request::List { follow: true }.encode(1, &mut buffer).unwrap());
    let name = "who-follows-and-never-reads";
    let held = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.filter(|link| link.to_string_lossy().contains(name)).count()
    };
    for _ in 0..DOMAINS {
        let (region, _vcpus) = published(name, 1, false);
        drop(server.serve(&region, name).unwrap());
    }
    until("the memory's end", || held() == 0);
}

#[test]
fn a_deadline_without_end_is_one() {
    let (_dir, path, server) = server();
    let (region, _vcpus) = published("p", 1, false);
    let _served = server.serve(&region, "p").unwrap();
    let connection = Connection::connect_within(&path, Duration::MAX).unwrap();
    read(&connection.attach("p").unwrap(), 0);
    assert_eq!(connection.list().unwrap().len(), 1);
    let mut follower = connection.follow().unwrap();
    let change = follower.next(Some(Duration::MAX)).unwrap();
    assert!(matches!(change, Some(Change::Added(_))), "{change:?}");
}
