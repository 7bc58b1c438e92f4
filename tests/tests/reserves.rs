//! What a server keeps back from its clients: descriptors for its process, connections for root and
//! the server's own user.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use domstat_consumer::handover::Connection;
use domstat_producer::{RegionBuilder, Server};
use domstat_tests::skip::skip;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SOCKET: &str = "DOMSTAT_TEST_SOCKET";
const NOBODY: u32 = 65534;

/// Not a test of its own: a process of another user that connects as often as it is let, and holds
/// on to what it got until its input ends.
#[test]
fn client() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let admitted: Vec<_> = (0..200).map_while(|_| Connection::connect(&socket).ok()).collect();
    println!("\nadmitted {}", admitted.len());
    let _ = std::io::stdin().lines().count();
}

/// Starts such a process; returns it when it has all that it gets, and how many that is.
fn greedy(socket: &Path) -> (Child, usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "client", "--nocapture"])
        .env(SOCKET, socket)
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let admitted = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("admitted ").and_then(|number| number.parse().ok()));
    (child, admitted.expect("a number"))
}

#[test]
fn clients_of_another_user_cannot_take_what_root_and_the_process_need() {
    if std::env::var_os(SOCKET).is_some() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("root", "another user is needed, which only root can become");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let server = |name: &str, max| {
        let builder = Server::builder().mode(0o666).max_clients(max).max_per_user(max);
        builder.bind(dir.path().join(name)).unwrap()
    };
    let region = RegionBuilder::new("web1").create_memfd().unwrap().unpublished.publish().unwrap();
    let connect = |server: &Server| Connection::connect(server.path().unwrap());

    // Connections: some are left for root.
    let few = server("few.sock", 32);
    let _served = few.serve(&region, "web1").unwrap();
    let (mut child, admitted) = greedy(few.path().unwrap());
    assert!((16..32).contains(&admitted), "{admitted}");
    connect(&few).unwrap().attach("web1").unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();

    // Descriptors: some are left for the process.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum }).unwrap();
    let many = server("many.sock", 4096);
    let (mut child, admitted) = greedy(many.path().unwrap());
    assert!((16..128).contains(&admitted), "{admitted}");
    let mine: Vec<_> = (0..16).map(|_| File::open("/dev/null")).collect();
    assert!(mine.iter().all(Result::is_ok), "{mine:?}");
    drop(mine);
    connect(&many).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}
