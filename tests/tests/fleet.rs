//! Domains of a host as one fleet: entries of a directory, and what daemons serve there.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use domstat_consumer::fleet::{Fleet, Member};
use domstat_consumer::handover::Connection;
use domstat_consumer::{AttachError, Liveness, Reading};
use domstat_layout::handover::{Domain, Refusal, Reply};
use domstat_layout::latest::Runstate;
use domstat_layout::{Clock, Ns};
use domstat_producer::{Created, Region, RegionBuilder, Served, Server};
use domstat_tests::{assert_whole, daemon, runstate};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// More than any of this takes, on a machine with other work.
const SOON: Duration = Duration::from_secs(2);

fn published(name: &str) -> Region {
    let builder = RegionBuilder::new(name).clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    vcpus[0].write(&runstate(now.0), now);
    unpublished.publish().unwrap()
}

/// A daemon whose socket stays where it is when the daemon goes, as one's that is killed.
struct Killable {
    // Goes first: that nothing is served any more is never reported.
    _server: Server,
    _served: Vec<(Served, Region)>,
}

impl Killable {
    fn on(listener: OwnedFd, domains: &[&str]) -> Self {
        let server = Server::builder().on(listener).unwrap();
        let serve = |name: &&str| {
            let region = published(name);
            (server.serve(&region, name).unwrap(), region)
        };
        let served = domains.iter().map(serve).collect();
        Self { _server: server, _served: served }
    }

    fn at(path: &Path, domains: &[&str]) -> Self {
        let _ = std::fs::remove_file(path);
        Self::on(daemon::listen(path), domains)
    }
}

fn names(fleet: &Fleet) -> Vec<&str> {
    fleet.iter().map(|(name, _)| name).collect()
}

fn is_live(member: &Member) -> bool {
    let Ok(region) = member.region() else { return false };
    let sample = region.vcpu(0).unwrap().read::<Runstate>().unwrap();
    let Reading::Active(sample) = sample else { panic!("{sample:?}") };
    assert_whole(&sample, Ns(sample.updated.0));
    true
}

/// Which memory a member is attached to.
fn memory(fleet: &Fleet, name: &str) -> Option<u64> {
    let fd = fleet.get(name)?.region().ok()?.files().next()?;
    let file = std::fs::File::from(fd.as_fd().try_clone_to_owned().ok()?);
    Some(file.metadata().ok()?.ino())
}

/// Refreshes until it is so.
fn until(fleet: &mut Fleet, what: &str, ready: impl Fn(&Fleet) -> bool) {
    let start = Instant::now();
    loop {
        fleet.refresh().unwrap();
        if ready(fleet) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn error<'f>(fleet: &'f Fleet, name: &str) -> &'f AttachError {
    fleet.get(name).unwrap().region().map(|_| ()).unwrap_err()
}

#[test]
fn what_daemons_in_the_directory_serve_is_seen_beside_its_entries() {
    let dir = tempfile::tempdir().unwrap();
    let before = SystemTime::now() - Duration::from_secs(5);
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let socket = dir.path().join("many.sock");
    let _daemon = Killable::at(&socket, &["db1", "db2"]);
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    assert_eq!(names(&fleet), ["db1", "db2", "web1"]);
    assert!(fleet.iter().all(|(_, member)| is_live(member) && member.born() > before));
    assert_eq!(fleet.get("db1").unwrap().path(), socket);
    let memories = ["db1", "db2", "web1"].map(|name| memory(&fleet, name));
    let mapped = fleet.get("db1").unwrap().region().unwrap().mem().len();
    for _ in 0..5 {
        fleet.refresh().unwrap();
    }
    assert_eq!(["db1", "db2", "web1"].map(|name| memory(&fleet, name)), memories);
    assert!(mapped > 0);
    for (name, member) in fleet.iter() {
        assert_eq!(member.liveness().unwrap(), Liveness::Live, "{name}");
    }
}

#[test]
fn a_daemon_that_adds_and_drops_domains_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::builder().bind(dir.path().join("s.sock")).unwrap();
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    assert_eq!(names(&fleet), [""; 0], "a daemon of no domain is none");
    let (first, second) = (published("first"), published("second"));
    let served = server.serve(&first, "first").unwrap();
    until(&mut fleet, "the first", |fleet| fleet.get("first").is_some_and(is_live));
    let memory_of_first = memory(&fleet, "first");
    let _second = server.serve(&second, "second").unwrap();
    until(&mut fleet, "the second", |fleet| fleet.get("second").is_some_and(is_live));
    assert_eq!(memory(&fleet, "first"), memory_of_first);
    drop(served);
    until(&mut fleet, "the first's end", |fleet| names(fleet) == ["second"]);
    let third = published("first");
    let served = server.serve(&third, "first").unwrap();
    until(&mut fleet, "another first", |fleet| fleet.get("first").is_some_and(is_live));
    let memory_of_third = memory(&fleet, "first");
    assert_ne!(memory_of_third, memory_of_first);
    // Both are reported before the next look.
    drop(served);
    let fourth = published("first");
    let _served = server.serve(&fourth, "first").unwrap();
    thread::sleep(Duration::from_millis(100));
    until(&mut fleet, "the fourth", |fleet| {
        fleet.get("first").is_some_and(is_live) && memory(fleet, "first") != memory_of_third
    });
    drop(server);
    until(&mut fleet, "the end of the socket", |fleet| names(fleet).is_empty());
}

#[test]
fn a_daemon_that_was_killed_is_no_longer_live_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let daemon = Killable::at(&socket, &["p", "q"]);
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    assert!(["p", "q"].iter().all(|name| fleet.get(name).is_some_and(is_live)));
    let before = memory(&fleet, "p");
    drop(daemon);
    for _ in 0..10 {
        fleet.refresh().unwrap();
        assert_eq!(names(&fleet), ["p", "q", "web1"]);
        assert!(
            ["p", "q"].iter().all(|n| matches!(error(&fleet, n), AttachError::NoDaemon { .. }))
        );
        assert!(is_live(fleet.get("web1").unwrap()));
        thread::sleep(Duration::from_millis(5));
    }
    let _again = Killable::at(&socket, &["p"]);
    until(&mut fleet, "the daemon", |fleet| fleet.get("p").is_some_and(is_live));
    assert_eq!(names(&fleet), ["p", "web1"]);
    assert_ne!(memory(&fleet, "p"), before, "attached again");
}

#[test]
fn a_socket_that_outlives_its_daemon_leads_to_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let kept = daemon::listen(&dir.path().join("s.sock"));
    let mut fleet = Fleet::new(dir.path());
    for _ in 0..3 {
        let daemon = Killable::on(kept.try_clone().unwrap(), &["p"]);
        until(&mut fleet, "the daemon", |fleet| fleet.get("p").is_some_and(is_live));
        drop(daemon);
        fleet.refresh().unwrap();
        assert!(matches!(error(&fleet, "p"), AttachError::NoDaemon { .. }));
    }
}

#[test]
fn a_daemon_that_goes_on_in_other_memory_between_two_looks_is_attached_anew() {
    let dir = tempfile::tempdir().unwrap();
    let kept = daemon::listen(&dir.path().join("s.sock"));
    let on = || Server::builder().from_first_region().on(kept.try_clone().unwrap()).unwrap();
    let builder = RegionBuilder::new("p").clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.clone().create_memfd().unwrap();
    vcpus[0].write(&runstate(1), Ns(1));
    let region = unpublished.publish().unwrap();
    let (server, mut fleet) = (on(), Fleet::new(dir.path()));
    let served = server.serve(&region, "p").unwrap();
    fleet.refresh().unwrap();
    let (before, incarnation) = (memory(&fleet, "p").unwrap(), region.incarnation());
    drop((server, served));
    let again = builder.continue_memfd(region.as_fd().unwrap()).unwrap();
    let again = again.unpublished.publish().unwrap();
    assert_eq!(again.incarnation(), incarnation);
    let server = on();
    let _served = server.serve(&again, "p").unwrap();
    until(&mut fleet, "the next one", |fleet| fleet.get("p").is_some_and(is_live));
    assert_eq!(fleet.get("p").unwrap().region().unwrap().header().incarnation, incarnation);
    assert_ne!(memory(&fleet, "p"), Some(before));
}

#[test]
fn a_socket_that_is_replaced_leads_to_the_other_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let _first = Killable::at(&socket, &["p", "q"]);
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    let before = memory(&fleet, "p");
    let _second = Killable::at(&socket, &["p"]);
    until(&mut fleet, "the second", |fleet| names(fleet) == ["p"]);
    assert!(is_live(fleet.get("p").unwrap()));
    assert_ne!(memory(&fleet, "p"), before);
}

#[test]
fn a_daemon_whose_process_ended_is_gone_although_its_socket_is_still_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Command::new("sleep").arg("600").spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&process), PidfdFlags::empty()).unwrap();
    let socket = dir.path().join("s");
    let listener = daemon::listen(&socket);
    // Held open here, as by a child of the daemon's.
    thread::spawn(move || daemon::list_only(&listener, &["p"], Some(&pidfd)));
    let mut fleet = Fleet::at_socket(&socket);
    fleet.refresh().unwrap();
    assert!(matches!(error(&fleet, "p"), AttachError::TimedOut { .. }), "{}", error(&fleet, "p"));
    std::fs::remove_file(&socket).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    fleet.refresh().unwrap();
    assert!(matches!(error(&fleet, "p"), AttachError::NoDaemon { .. }), "{}", error(&fleet, "p"));
}

#[test]
fn daemons_that_are_silent_hold_up_nobody() {
    const SILENT: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let listen = |i| daemon::listen(&dir.path().join(format!("a{i}.sock")));
    let mut silent: Vec<OwnedFd> = (0..SILENT).map(listen).collect();
    let _daemon = Killable::at(&dir.path().join("z.sock"), &["db1"]);
    let mut fleet = Fleet::new(dir.path());
    let start = Instant::now();
    fleet.refresh().unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(fleet.iter().len(), SILENT + 2);
    assert!(["web1", "db1"].iter().all(|name| fleet.get(name).is_some_and(is_live)));
    assert!(matches!(error(&fleet, "a7"), AttachError::TimedOut { .. }));
    // From then on they cost nothing.
    let start = Instant::now();
    for _ in 0..20 {
        fleet.refresh().unwrap();
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    // What was asked meanwhile is answered when one goes on.
    let _late = Killable::on(silent.remove(7), &["late"]);
    until(&mut fleet, "the late one", |fleet| fleet.get("late").is_some_and(is_live));
    assert!(fleet.get("a7").is_none());
}

#[test]
fn a_daemon_that_lists_and_never_hands_over_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let listener = daemon::listen(&dir.path().join("a.sock"));
    thread::spawn(move || daemon::list_only(&listener, &["one", "two", "three"], None));
    let _daemon = Killable::at(&dir.path().join("z.sock"), &["db1"]);
    let mut fleet = Fleet::new(dir.path());
    let start = Instant::now();
    fleet.refresh().unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(names(&fleet), ["db1", "one", "three", "two", "web1"]);
    assert!(matches!(error(&fleet, "two"), AttachError::TimedOut { .. }));
    let start = Instant::now();
    for _ in 0..100 {
        fleet.refresh().unwrap();
        assert!(["web1", "db1"].iter().all(|name| fleet.get(name).is_some_and(is_live)));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_daemon_that_breaks_the_protocol_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let listener = daemon::listen(&dir.path().join("a.sock"));
    let _daemon = Killable::at(&dir.path().join("z.sock"), &["db1"]);
    let domain = Reply::Domain(Domain { incarnation: 1, len: 4096, nr_fds: 1, name: "x" });
    thread::scope(|scope| {
        let lie = scope.spawn(|| daemon::answer_once(&listener, Reply::Frames { first: 1 }, &[]));
        let mut fleet = Fleet::new(dir.path());
        fleet.refresh().unwrap();
        assert_eq!(names(&fleet), ["a", "db1"]);
        assert!(
            matches!(error(&fleet, "a"), AttachError::Protocol { .. }),
            "{}",
            error(&fleet, "a")
        );
        assert!(is_live(fleet.get("db1").unwrap()));
        lie.join().unwrap();
        // One that refuses to say more after its first domain.
        scope.spawn(|| daemon::answer_once(&listener, domain, &[]));
        until(&mut fleet, "its word", |fleet| fleet.get("x").is_some());
        drop(fleet);
        // What else waits there is let go.
    });
}

#[test]
fn what_is_no_daemon_is_passed_over_and_what_cannot_be_asked_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let _control = UnixListener::bind(at("control.sock")).unwrap();
    let _other = UnixListener::bind(at("other.sock")).unwrap();
    let _hidden = daemon::listen(&at(".hidden.sock"));
    let _elsewhere = daemon::listen(&at("named.socket"));
    std::fs::write(at("file.sock"), "no socket").unwrap();
    drop(daemon::listen(&at("stale.sock")));
    let _closed = Server::builder().admit(|_| false).bind(at("closed.sock")).unwrap();
    let mut fleet = Fleet::new(dir.path());
    for _ in 0..3 {
        fleet.refresh().unwrap();
        assert_eq!(names(&fleet), ["closed", "stale"]);
        let (closed, stale) = (error(&fleet, "closed"), error(&fleet, "stale"));
        assert!(
            matches!(closed, AttachError::Refused { refusal: Refusal::NotAdmitted, .. }),
            "{closed}"
        );
        assert!(matches!(stale, AttachError::NoDaemon { .. }), "{stale}");
        assert_eq!(fleet.get("stale").unwrap().path(), at("stale.sock"));
    }
    std::fs::remove_file(at("stale.sock")).unwrap();
    fleet.refresh().unwrap();
    assert_eq!(names(&fleet), ["closed"]);
    // A socket that was a daemon's may become another's.
    std::fs::remove_file(at("other.sock")).unwrap();
    let _daemon = Killable::at(&at("other.sock"), &["p"]);
    until(&mut fleet, "the daemon", |fleet| fleet.get("p").is_some_and(is_live));
}

#[test]
fn the_control_socket_of_a_killed_daemon_is_no_domain() {
    let dir = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(dir.path().join("control.sock")).unwrap());
    drop(daemon::listen(&dir.path().join("stale.sock")));
    let mut fleet = Fleet::new(dir.path());
    for _ in 0..3 {
        fleet.refresh().unwrap();
        assert_eq!(names(&fleet), ["stale"]);
    }
}

#[test]
fn of_domains_of_one_name_the_entry_wins_and_then_the_first_daemon_that_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let region = published("p");
    let entry = region.announce(dir.path(), "p").unwrap();
    let first = Killable::at(&a, &["p"]);
    let _second = Killable::at(&b, &["p"]);
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    let of = |fleet: &Fleet| {
        assert!(names(fleet) == ["p"] && is_live(fleet.get("p").unwrap()));
        fleet.get("p").unwrap().path().to_owned()
    };
    assert_eq!(of(&fleet), dir.path().join("p.domstat"));
    drop(entry);
    fleet.refresh().unwrap();
    assert_eq!(of(&fleet), a);
    drop(first);
    fleet.refresh().unwrap();
    assert_eq!(of(&fleet), b, "what is served comes before what was");
    let _entry = region.announce(dir.path(), "p").unwrap();
    fleet.refresh().unwrap();
    assert_eq!(of(&fleet), dir.path().join("p.domstat"));
}

#[test]
fn what_is_served_live_comes_before_an_entry_without_a_producer() {
    let dir = tempfile::tempdir().unwrap();
    let entry = dir.path().join("p.domstat");
    let plant = || {
        let _ = std::fs::remove_file(&entry);
        std::os::unix::fs::symlink("/proc/1/fd/999999", &entry).unwrap();
    };
    let unheld = || {
        let other = dir.path().join("other");
        let created = RegionBuilder::new("p").create_file(&other).unwrap();
        let region = created.unpublished.publish().unwrap();
        let kept = std::fs::read(&other).unwrap();
        drop(region);
        let _ = std::fs::remove_file(&entry);
        std::fs::write(&entry, kept).unwrap();
    };
    let ways: [&dyn Fn(); 2] = [&plant, &unheld];
    for leave in ways {
        leave();
        let socket = dir.path().join("many.sock");
        let mut fleet = Fleet::new(dir.path());
        fleet.refresh().unwrap();
        let path = |fleet: &Fleet| fleet.get("p").unwrap().path().to_owned();
        assert_eq!(path(&fleet), entry);
        let daemon = Killable::at(&socket, &["p"]);
        until(&mut fleet, "what is served", |fleet| path(fleet) == socket);
        let attached = memory(&fleet, "p");
        // It is attached once, and an entry that comes later changes nothing.
        for _ in 0..3 {
            fleet.refresh().unwrap();
            assert!(path(&fleet) == socket && is_live(fleet.get("p").unwrap()));
            assert_eq!((names(&fleet), memory(&fleet, "p")), (vec!["p"], attached));
            leave();
        }
        drop(daemon);
        until(&mut fleet, "the entry", |fleet| path(fleet) == entry);
        // An entry that is up comes first.
        let _daemon = Killable::at(&socket, &["p"]);
        until(&mut fleet, "the next daemon", |fleet| path(fleet) == socket);
        std::fs::remove_file(&entry).unwrap();
        let region = published("p");
        let _entry = region.announce(dir.path(), "p").unwrap();
        fleet.refresh().unwrap();
        assert!(path(&fleet) == entry && is_live(fleet.get("p").unwrap()));
        std::fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn a_fleet_at_a_socket_is_that_daemon_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("any-name");
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let mut fleet = Fleet::at_socket(&socket);
    for _ in 0..3 {
        let error = fleet.refresh().unwrap_err();
        assert!(matches!(error, AttachError::NoDaemon { .. }), "{error}");
        assert_eq!(names(&fleet), [""; 0]);
    }
    let daemon = Killable::at(&socket, &["p"]);
    fleet.refresh().unwrap();
    assert!(names(&fleet) == ["p"] && is_live(fleet.get("p").unwrap()));
    drop(daemon);
    fleet.refresh().unwrap();
    assert!(matches!(error(&fleet, "p"), AttachError::NoDaemon { .. }));
    let _again = Killable::at(&socket, &["q"]);
    until(&mut fleet, "the next one", |fleet| names(fleet) == ["q"]);
    assert!(is_live(fleet.get("q").unwrap()));
    let _silent = daemon::listen(&dir.path().join("silent"));
    let error = Fleet::at_socket(&dir.path().join("silent")).refresh().unwrap_err();
    assert!(matches!(error, AttachError::TimedOut { .. }), "{error}");
}

/// Descriptors that this process has of processes.
fn pidfds() -> usize {
    let fds = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let info = fds.filter_map(|fd| std::fs::read_to_string(fd.path()).ok());
    info.filter(|info| info.contains("\nPid:")).count()
}

#[test]
fn regions_of_one_process_share_its_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let regions: Vec<_> = (0..20).map(|i| published(&format!("web{i}"))).collect();
    let entries = (0..).zip(&regions);
    let _entries: Vec<_> =
        entries.map(|(i, r)| r.announce(dir.path(), &format!("web{i}")).unwrap()).collect();
    let mut fleet = Fleet::new(dir.path());
    let before = pidfds();
    for _ in 0..2 {
        fleet.refresh().unwrap();
        assert!(fleet.iter().all(|(_, member)| member.liveness().unwrap() == Liveness::Live));
    }
    // Other tests of this process attach, too: each to few regions.
    assert!(pidfds() < before + regions.len(), "{} before, {} now", before, pidfds());
}

#[test]
fn members_stand_as_their_producers_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.domstat");
    let created = RegionBuilder::new("file").create_file(&path).unwrap();
    let region = created.unpublished.publish().unwrap();
    std::fs::write(dir.path().join("junk.domstat"), "junk").unwrap();
    std::os::unix::fs::symlink("/proc/1/fd/999999", dir.path().join("left.domstat")).unwrap();
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    let word = |fleet: &Fleet, name: &str| match fleet.get(name).unwrap().liveness() {
        Ok(liveness) => liveness.name(),
        Err(error) => error.name(),
    };
    let words = |fleet: &Fleet| ["file", "junk", "left"].map(|name| word(fleet, name));
    assert_eq!(words(&fleet), ["live", "invalid", "dead"]);
    // As if it had been killed: the file stays, its lock does not.
    let kept = std::fs::read(&path).unwrap();
    drop(region);
    assert_eq!(word(&fleet, "file"), "retired");
    std::fs::write(&path, kept).unwrap();
    fleet.refresh().unwrap();
    assert_eq!(word(&fleet, "file"), "unheld", "of what nobody holds no more is known");
}

#[test]
fn a_daemon_serves_the_domain_that_its_socket_is_called_after() {
    let dir = tempfile::tempdir().unwrap();
    let _other = Killable::at(&dir.path().join("aaa.sock"), &["web1", "web2"]);
    let own = dir.path().join("web1.sock");
    let _own = Killable::at(&own, &["web1"]);
    let mut fleet = Fleet::new(dir.path());
    for _ in 0..3 {
        fleet.refresh().unwrap();
        assert_eq!(fleet.get("web1").unwrap().path(), own);
        assert_eq!(fleet.get("web2").unwrap().path(), dir.path().join("aaa.sock"));
    }
    let found = domstat_consumer::fleet::find_daemon(dir.path(), "web1", SOON).unwrap();
    assert_eq!(found.unwrap().path(), own);
}

#[test]
fn sockets_that_take_nobody_keep_no_daemon_from_being_seen() {
    const FULL: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let fill = |i| {
        let path = dir.path().join(format!("a{i}.sock"));
        let listener = daemon::listen(&path);
        rustix::net::listen(&listener, 0).unwrap();
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::SEQPACKET);
        let client = rustix::net::socket(family, kind, None).unwrap();
        rustix::net::connect(&client, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        (listener, client)
    };
    let _full: Vec<_> = (0..FULL).map(fill).collect();
    let _daemon = Killable::at(&dir.path().join("z.sock"), &["db1"]);
    let mut fleet = Fleet::new(dir.path());
    until(&mut fleet, "the last one", |fleet| fleet.get("db1").is_some_and(is_live));
    assert_eq!(fleet.iter().len(), FULL + 1);
}

#[test]
fn silent_daemons_are_waited_for_together_where_one_domain_is_looked_for() {
    const SILENT: usize = 40;
    let dir = tempfile::tempdir().unwrap();
    let at = |i| daemon::listen(&dir.path().join(format!("a{i}.sock")));
    let _silent: Vec<_> = (0..SILENT).map(at).collect();
    let socket = dir.path().join("z.sock");
    let _daemon = Killable::at(&socket, &["db1"]);
    let start = Instant::now();
    let found = domstat_consumer::fleet::find_daemon(dir.path(), "db1", SOON).unwrap();
    assert_eq!(found.unwrap().path(), socket);
    assert!(domstat_consumer::fleet::find_daemon(dir.path(), "db2", SOON).unwrap().is_none());
    // One after the other they take eighty seconds.
    assert!(start.elapsed() < 10 * SOON, "{:?}", start.elapsed());
}

#[test]
fn daemons_that_never_stop_telling_hold_up_a_refresh_no_longer_than_one() {
    const FLOODS: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    for i in 0..FLOODS {
        let listener = daemon::listen(&dir.path().join(format!("a{i}.sock")));
        thread::spawn(move || daemon::tell_without_end(&listener));
    }
    let web = published("web1");
    let _entry = web.announce(dir.path(), "web1").unwrap();
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        fleet.refresh().unwrap();
        // Each of them would take 0.2 s.
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        assert!(is_live(fleet.get("web1").unwrap()));
    }
}

#[test]
fn what_an_entry_leads_to_is_looked_at_and_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo.domstat");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from(0o600)).unwrap();
    let writer = thread::spawn({
        let path = path.clone();
        // Comes back when somebody opens the FIFO to read.
        move || std::fs::OpenOptions::new().write(true).open(path).map(drop)
    });
    let mut fleet = Fleet::new(dir.path());
    for _ in 0..10 {
        fleet.refresh().unwrap();
        assert!(matches!(error(&fleet, "fifo"), AttachError::NotMappable { found: "FIFO", .. }));
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!writer.is_finished(), "a reader was there");
    drop(std::fs::File::open(&path).unwrap());
    writer.join().unwrap().unwrap();
}

#[test]
fn an_entry_that_is_older_than_the_memory_it_leads_to_is_left_over() {
    let dir = tempfile::tempdir().unwrap();
    // As where another producer has the process id and the descriptor of one that was killed.
    let other = published("db1");
    let entry = other.announce(dir.path(), "web1").unwrap();
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    assert_eq!(fleet.get("web1").unwrap().liveness().unwrap(), Liveness::Live);
    let time = rustix::fs::Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, entry.path(), &times, flags).unwrap();
    let mut fleet = Fleet::new(dir.path());
    fleet.refresh().unwrap();
    assert!(matches!(error(&fleet, "web1"), AttachError::ProducerExited { .. }));
    for attached in [
        domstat_consumer::Region::open(entry.path()).map(drop),
        domstat_consumer::Attachment::open(entry.path()).map(drop),
    ] {
        assert!(matches!(attached, Err(AttachError::ProducerExited { .. })), "{attached:?}");
    }
}

#[test]
#[ignore = "what a process of its own does, for the next test"]
fn reader_with_few_descriptors() {
    let dir = std::path::PathBuf::from(std::env::var_os("DOMSTAT_TEST_DIR").unwrap());
    let connection = Connection::connect(dir.join("s.sock")).unwrap();
    let mut fleet = Fleet::new(&dir);
    fleet.refresh().unwrap();
    let all_live = |fleet: &Fleet| {
        ["web1", "db1"].iter().all(|name| {
            fleet.get(name).is_some_and(|m| m.liveness().is_ok_and(|l| l == Liveness::Live))
        })
    };
    assert!(all_live(&fleet));
    // The entry leads to another region of the producer's from now on.
    std::fs::rename(dir.join("next"), dir.join("web1.domstat")).unwrap();
    let (mut taken, mut failed) = (Vec::new(), 0);
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let error = connection.attach("db1").map(drop).unwrap_err();
    assert!(error.is_shortage(), "{error}");
    let connection = Connection::connect(dir.join("s.sock")).map(drop).unwrap_err();
    assert!(connection.is_shortage(), "{connection}");
    for spare in 0..4 {
        failed += u32::from(fleet.refresh().is_err());
        let members: Vec<_> = fleet.iter().map(|(name, m)| (name, m.attachment().err())).collect();
        assert!(members.len() == 2 && members.iter().all(|m| m.1.is_none()), "{spare} {members:?}");
        assert!(is_live(fleet.get("db1").unwrap()) && is_live(fleet.get("web1").unwrap()));
        taken.pop();
    }
    assert!(failed > 0, "the directory was read without a descriptor");
    drop(taken);
    fleet.refresh().unwrap();
    assert!(all_live(&fleet), "the region that the entry leads to now");
}

#[test]
fn without_descriptors_members_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (first, next) = (published("web1"), published("web1"));
    let _entry = first.announce(dir.path(), "web1").unwrap();
    let fd = next.as_fd().unwrap().as_raw_fd();
    let link = format!("/proc/{}/fd/{fd}", std::process::id());
    std::os::unix::fs::symlink(link, dir.path().join("next")).unwrap();
    let _daemon = Killable::at(&dir.path().join("s.sock"), &["db1"]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "reader_with_few_descriptors", "--nocapture"])
        .env("DOMSTAT_TEST_DIR", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
