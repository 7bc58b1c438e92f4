//! What is not a region gives one line that says what and what to do, and never a panic.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{output, skip, stderr, stdout};

/// The one line on stderr; the command failed with `code`.
fn one_line(dir: &Path, args: &[&str], code: i32) -> String {
    let output = output(dir, args);
    let line = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}{}", stdout(&output));
    assert_eq!(line.trim_end().lines().count(), 1, "{args:?}: {line}");
    assert!(line.starts_with("domstat: ") && !line.contains("panicked"), "{line}");
    line
}

fn both(dir: &Path, path: &Path, expected: &str) {
    for verb in ["show", "check"] {
        let line = one_line(dir, &[verb, path.to_str().unwrap()], 3);
        assert!(line.contains(expected), "{verb}: {line}");
    }
}

#[test]
fn files_that_are_no_regions() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    both(dir.path(), &file("empty", b""), "is empty");
    both(dir.path(), &file("short", &[1; 100]), "100 bytes");
    both(dir.path(), &file("unpublished", &[0; 4096]), "not published");
    let wrong = file("wrong", &[0xab; 4096]);
    assert!(one_line(dir.path(), &["show", wrong.to_str().unwrap()], 3).contains("0xabababab"));
    let mut swapped = [0; 4096];
    swapped[..4].copy_from_slice(b"\x01MOD");
    let swapped = file("swapped", &swapped);
    assert!(one_line(dir.path(), &["show", swapped.to_str().unwrap()], 3).contains("big-endian"));
    both(dir.path(), dir.path(), "directory");
    both(dir.path(), &dir.path().join("missing"), "does not exist");
    let dangling = dir.path().join("gone.domstat");
    symlink("/proc/999999999/fd/3", &dangling).unwrap();
    both(dir.path(), &dangling, "has exited");
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    both(dir.path(), &fifo, "FIFO");
}

#[test]
fn a_wrong_magic_is_a_broken_rule_for_the_checker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong");
    fs::write(&path, [0xab; 4096]).unwrap();
    let output = output(dir.path(), &["check", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("I01") && text.contains("0xabababab"), "{text}");
}

#[test]
fn unknown_names_and_processes() {
    let dir = tempfile::tempdir().unwrap();
    assert!(one_line(dir.path(), &["show", "nobody"], 3).contains("domstat ls"));
    let line = one_line(dir.path(), &["run", "process", "--pid", "999999999"], 3);
    assert!(line.contains("999999999"), "{line}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    let output = output(dir.path(), &["ls"]);
    assert!(output.status.success() && stdout(&output).contains("no domain"));
}

#[test]
fn a_full_filesystem_and_a_taken_path_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let pid = std::process::id().to_string();
    let run = |file: &Path| {
        let file = file.to_str().unwrap().to_owned();
        ["run", "process", "--pid", &pid, "--for", "1", "--file", &file].map(str::to_owned).to_vec()
    };
    let line = |file: &Path| {
        let args = run(file);
        one_line(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), 3)
    };
    // Not a region: not ours to replace.
    let precious = dir.path().join("precious");
    fs::write(&precious, b"keep me").unwrap();
    assert!(line(&precious).contains("not a domstat region"));
    assert_eq!(fs::read(&precious).unwrap(), b"keep me");
    assert!(line(&dir.path().join("no/such/dir/x")).contains("create the directory first"));

    // A tmpfs of one page, if we may mount one.
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"])
        .arg(&small)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !mounted {
        skip("tmpfs", "a tmpfs cannot be mounted here");
        return;
    }
    fs::write(small.join("filler"), [1; 4096]).unwrap();
    let said = line(&small.join("x.region"));
    let left = fs::read_dir(&small).unwrap().count();
    std::process::Command::new("umount").arg(&small).status().unwrap();
    assert!(said.contains("make room"), "{said}");
    assert_eq!(left, 1, "only the filler is left");
}

#[test]
fn no_permission() {
    if !rustix::process::geteuid().is_root() {
        // Without root a mode of 0 is enough.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, [1; 4096]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        both(dir.path(), &path, "not permitted");
        return;
    }
    // As root, by running the command as nobody.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("secret");
    fs::write(&path, [1; 4096]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let program = dir.path().join("domstat");
    common::copy_program(&program);
    let as_nobody = |args: &[&str]| {
        use std::os::unix::process::CommandExt;
        std::process::Command::new(&program)
            .args(args)
            .env("DOMSTAT_DIR", dir.path())
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap()
    };
    let output = as_nobody(&["show", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("not permitted"), "{}", stderr(&output));
    let pid = std::process::id().to_string();
    let output = as_nobody(&["run", "process", "--pid", &pid, "--for", "1"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stderr(&output).trim_end().lines().count(), 1, "{}", stderr(&output));
}

#[test]
fn each_corrupt_fixture_is_named_with_its_rule_and_byte() {
    use domstat_invariant_checker::fixtures;
    let dir = tempfile::tempdir().unwrap();
    let mut judged = 0;
    for fixture in fixtures::all().into_iter().filter(fixtures::Fixture::is_static_file) {
        let path = dir.path().join(fixture.name);
        fs::write(&path, &fixture.bytes).unwrap();
        let output = output(dir.path(), &["check", "--json", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{}", fixture.name);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rules = report["rules"].as_array().unwrap();
        let broken: Vec<_> = rules.iter().filter(|r| r["outcome"] == "fail").collect();
        assert_eq!(broken.len(), 1, "{report:#}");
        assert_eq!(broken[0]["id"], fixture.finding.rule);
        assert_eq!(broken[0]["findings"], serde_json::json!([fixture.finding]));
        judged += 1;
    }
    assert!(judged >= 15, "{judged} fixtures are files that one look can judge");
    let path = dir.path().join("good");
    fs::write(&path, fixtures::good()).unwrap();
    assert_eq!(output(dir.path(), &["check", path.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn a_file_that_lies_here_is_not_the_domain_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("web1"), "anybody's").unwrap();
    for verb in ["show", "check"] {
        let run = |domain| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_domstat"));
            command.env("DOMSTAT_DIR", dir.path()).current_dir(dir.path());
            stderr(&command.args([verb, domain]).output().unwrap())
        };
        assert!(run("web1").contains("does not exist"), "{verb}: {}", run("web1"));
        assert!(run("./web1").contains("9 bytes"), "{verb}: {}", run("./web1"));
    }
}
