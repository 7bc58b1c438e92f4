//! A static producer without the default features: what it publishes, and how long it is.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use domstat_consumer::{Reading, Region};
use domstat_layout::State;
use domstat_layout::latest::{BlkIo, RunState, Runstate};

/// Bytes that publishing may add to a program that is built for its size: about a third more than the 154,240 of
/// docs/rust-authors.md, so that a dependency or a table that comes in does not go unseen.
const MAX_ADDED: u64 = 200_000;

/// The triple of this machine's compiler.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// The folder of the two programs, linked statically.
fn built() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("slim");
    let (target, host) = (dir.join("target"), host());
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--target", &host, "--target-dir"])
        .arg(&target)
        .current_dir(&dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .unwrap();
    assert!(status.success(), "the programs do not build");
    target.join(host).join("release")
}

#[test]
fn a_static_producer_is_small_and_publishes() {
    let built = built();
    let program = built.join("domstat-slim");
    let len = |path: &Path| path.metadata().unwrap().len();
    let (whole, empty) = (len(&program), len(&built.join("empty")));
    println!("{whole} bytes, {} more than a program that does nothing", whole - empty);
    assert!(whole - empty < MAX_ADDED, "{whole} bytes, without publishing {empty}");
    let ldd = Command::new("ldd").arg(&program).output().unwrap();
    let text = [ldd.stdout, ldd.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(!text.contains("libc.so"), "linked dynamically: {text}");

    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let region = Region::open(dir.path().join("slim.domstat")).unwrap();
    let Reading::Active(io) = region.blk(0).unwrap().read::<BlkIo>().unwrap() else { panic!() };
    assert_eq!((io.rd_req.value(), io.wr_req.value()), (Some(7), None));
    let vcpu = region.vcpu(0).unwrap().read::<Runstate>().unwrap();
    let Reading::Active(runstate) = vcpu else { panic!() };
    assert_eq!(runstate.state.value(), Some(RunState::Running as u64));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(region.status().state, Some(State::Retired));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
