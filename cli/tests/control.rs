//! The control socket of `run qemu`: what may lie at its path, and what its clients may do.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Background, domstat, output, stderr, stdout, wait_for};

/// `run qemu` without a VM.
fn daemon(dir: &Path, more: &[&str]) -> Background {
    std::fs::create_dir_all(dir.join("qmp")).unwrap();
    let qmp = dir.join("qmp");
    let args = ["run", "qemu", "--qmp-dir", qmp.to_str().unwrap()];
    let daemon = Background::start(domstat(dir).args(args).args(more));
    wait_for("the control socket", || connect(dir));
    daemon
}

fn connect(dir: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(dir.join("control.sock")).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    Some(stream)
}

/// Sends `request`, and gives the lines of the answer until the daemon closes the connection or
/// `lines` have come.
fn ask(dir: &Path, request: &[u8], lines: usize) -> Vec<String> {
    let mut stream = connect(dir).unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(request);
    BufReader::new(stream).lines().take(lines).map_while(Result::ok).collect()
}

#[test]
fn what_lies_at_the_path_is_replaced_only_if_it_is_a_dead_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    let run = |path: &Path| {
        let path = path.to_str().unwrap();
        output(
            dir.path(),
            &["run", "qemu", "--qmp", "/nonexistent", "--for", "1", "--control", path],
        )
    };
    std::fs::write(&path, "precious").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let refused = run(path);
        assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("is not a socket"), "{}", stderr(&refused));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert!(link.is_symlink());
    // A socket that listens is in use, whatever it speaks.
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let refused = run(&socket);
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("in use"), "{}", stderr(&refused));
    drop(listener);
    let replaced = run(&socket);
    assert!(replaced.status.success(), "{}", stderr(&replaced));
    assert!(!socket.exists(), "it is removed at the end");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = daemon(dir.path(), &[]);
    let mode = std::fs::metadata(dir.path().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = output(dir.path(), &["run", "qemu", "--qmp", "/nonexistent", "--for", "1"]);
    assert_eq!(second.status.code(), Some(3), "{}", stderr(&second));
    let listed = output(dir.path(), &["block", "list", "web1"]);
    assert!(stderr(&listed).contains("no domain web1"), "{}", stderr(&listed));
    assert!(first.interrupt().success());
    assert!(!dir.path().join("control.sock").exists());
}

#[test]
fn requests_that_are_none_are_answered_and_end_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let _daemon = daemon(dir.path(), &[]);
    for bad in ["\n", "[]\n", "{\"op\":\"reboot\"}\n", "\u{0}\n", "{\"op\":\"block-list\"}\n"] {
        let answer = ask(dir.path(), bad.as_bytes(), 2);
        assert!(answer.len() == 1 && answer[0].contains("\"invalid\""), "{bad:?}: {answer:?}");
    }
    // A line without an end.
    let answer = ask(dir.path(), &[b' '; 1 << 20], 2);
    assert!(answer.len() <= 1 && answer.iter().all(|a| a.contains("too long")), "{answer:?}");
    let answer = ask(dir.path(), b"{\"op\":\"domains\"}\n", 1);
    assert_eq!(answer, ["{\"ok\":[]}"]);
}

#[test]
fn too_many_clients_are_told_so_and_places_are_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let _daemon = daemon(dir.path(), &[]);
    let mut clients: Vec<UnixStream> = Vec::new();
    let refused = loop {
        let mut stream = connect(dir.path()).unwrap();
        let mut answer = String::new();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        if stream.read_to_string(&mut answer).is_ok() {
            break answer;
        }
        clients.push(stream);
        assert!(clients.len() < 1000, "there is a limit");
    };
    assert!(refused.contains("\"busy\""), "{refused}");
    let busy = output(dir.path(), &["block", "jobs", "web1"]);
    assert!(stderr(&busy).contains("too many clients"), "{}", stderr(&busy));
    drop(clients);
    wait_for("a free place", || {
        let answer = stderr(&output(dir.path(), &["block", "jobs", "web1"]));
        answer.contains("no domain web1").then_some(())
    });
}

#[test]
fn clients_do_not_take_the_descriptors_of_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let child = Background::start(Command::new("sleep").arg("600"));
    let program = env!("CARGO_BIN_EXE_domstat");
    let (pid, at) = (child.0.id(), socket.display());
    let script = format!(
        "ulimit -n 64; exec {program} run process --pid {pid} --name p1 --interval 10 --socket {at}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("DOMSTAT_DIR", dir.path()).stderr(Stdio::piped());
    let mut daemon = Background::start(&mut command);
    let seqpacket = || {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let fd = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::connect(&fd, &SocketAddrUnix::new(&socket).unwrap()).ok()?;
        Some(fd)
    };
    wait_for("the socket", seqpacket);
    let clients: Vec<_> = (0..100).filter_map(|_| seqpacket()).collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.0.try_wait().unwrap().is_none(), "it goes on");
    drop(clients);
    let socket = socket.to_str().unwrap();
    let listed = wait_for("a place", || {
        let listed = output(dir.path(), &["ls", "--socket", socket]);
        listed.status.success().then(|| stdout(&listed))
    });
    assert!(listed.contains("p1") && listed.contains("running"), "{listed}");
    assert!(daemon.interrupt().success());
}

#[test]
fn a_directory_that_cannot_be_read_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let mut command = domstat(dir.path());
    command.args(["run", "qemu", "--for", "1", "--qmp-dir", missing.to_str().unwrap()]);
    let told = stderr(&command.output().unwrap());
    let lines = told.lines().filter(|line| line.contains("missing")).count();
    assert_eq!(lines, 1, "it is printed once: {told}");
}

#[test]
fn events_without_a_daemon_are_not_no_events() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = daemon(dir.path(), &[]);
    let mut command = domstat(dir.path());
    let mut lost = Background::start(command.arg("events").stderr(Stdio::piped()));
    let mut stopped = Background::start(domstat(dir.path()).arg("events").stderr(Stdio::piped()));
    for client in [&mut lost, &mut stopped] {
        // Byte by byte: what follows the line is read below.
        let mut line = Vec::new();
        let input = client.0.stderr.as_mut().unwrap();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            input.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("waiting for events"), "{line}");
    }
    assert_eq!(stopped.interrupt().code(), Some(0));
    daemon.0.kill().unwrap();
    assert_eq!(lost.0.wait().unwrap().code(), Some(6), "not as after an ordinary end");
    let mut why = String::new();
    lost.0.stderr.as_mut().unwrap().read_to_string(&mut why).unwrap();
    assert!(why.contains("closed the connection"), "{why}");
    assert!(!why.contains("no daemon"), "it was there: {why}");
}
