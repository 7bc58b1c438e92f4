//! The list of domains, what it removes, and what shells complete from it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::made_up::{HUNG, IO_ERROR, MadeUp};
use common::{domstat, output, skip, stderr, stdout};
use serde_json::Value;

#[test]
fn a_dead_entry_is_a_row_until_it_is_pruned_and_nothing_else_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let _live = MadeUp::start(dir.path(), "web1", "web1");
    let dead = dir.path().join("dead1.domstat");
    symlink("/proc/1/fd/999999", &dead).unwrap();
    // Links that no producer makes, and files, are nobody's leftovers.
    let other = dir.path().join("other.domstat");
    symlink(dir.path().join("missing"), &other).unwrap();
    let junk = dir.path().join("junk.domstat");
    std::fs::write(&junk, "junk").unwrap();

    let listed = output(dir.path(), &["ls"]);
    assert!(listed.status.success());
    let text = stdout(&listed);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("dead1").contains("dead") && row("web1").contains("running"), "{text}");
    assert!(text.contains("ls --prune"), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    let json: Value =
        serde_json::from_slice(&output(dir.path(), &["ls", "--json"]).stdout).unwrap();
    let of = |name: &str| json.as_array().unwrap().iter().find(|row| row["entry"] == name).unwrap();
    assert_eq!((&of("dead1")["liveness"], &of("dead1")["name"]), (&"dead".into(), &Value::Null));
    assert_eq!(
        (&of("web1")["liveness"], &of("web1")["status"]),
        (&"live".into(), &"running".into())
    );

    let pruned = stdout(&output(dir.path(), &["ls", "--prune"]));
    assert!(pruned.contains(&format!("removed {}", dead.display())), "{pruned}");
    assert_eq!(pruned.matches("removed").count(), 1, "{pruned}");
    assert!(dead.symlink_metadata().is_err());
    assert!(other.symlink_metadata().is_ok() && junk.exists());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing was left aside: {left:?}");
    assert!(stdout(&output(dir.path(), &["ls"])).contains("web1"));
}

#[test]
fn a_region_without_an_entry_is_listed_with_its_process_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let publish = || {
        let created = domstat_producer::RegionBuilder::new("hidden").create_memfd().unwrap();
        created.unpublished.publish().unwrap()
    };
    let (first, pid) = (publish(), std::process::id());
    let key = format!("hidden@{pid}");
    let run = |args: &[&str]| output(dir.path(), args);
    let json: Value = serde_json::from_slice(&run(&["ls", "--json", "--scan"]).stdout).unwrap();
    let rows = json.as_array().unwrap().iter();
    let found: Vec<_> = rows.filter(|row| row["name"] == "hidden").collect();
    let [row] = found.as_slice() else { panic!("{json}") };
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!((&row["entry"], &row["liveness"]), (&key.as_str().into(), &"live".into()));
    assert_eq!((&row["pid"], &row["uid"]), (&pid.into(), &uid.into()));
    let text = stdout(&run(&["ls", "--scan"]));
    assert!(text.contains(&format!("{key} (user {uid})")), "{text}");
    assert!(!stdout(&run(&["ls"])).contains("hidden"));

    for name in ["hidden", &key] {
        let shown = run(&["show", name, "--scan", "--json"]);
        assert!(shown.status.success(), "{}", stderr(&shown));
    }
    assert_eq!(run(&["show", "hidden"]).status.code(), Some(3));
    let second = publish();
    let refused = run(&["show", "hidden", "--scan"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains(&format!("{key} (user {uid}), {key}:")), "{refused:?}");
    drop((first, second));
}

#[test]
fn parts_of_a_domain_that_other_programs_publish_are_shown_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let _web = MadeUp::start(dir.path(), "web1", "web1");
    let publish = |name: &str, uuid: Option<[u8; 16]>| {
        let mut builder = domstat_producer::RegionBuilder::new(name);
        if let Some(uuid) = uuid {
            builder = builder.uuid(uuid);
        }
        let region = builder.create_memfd().unwrap().unpublished.publish().unwrap();
        let entry = region.announce(dir.path(), name).unwrap();
        (entry, region)
    };
    let _part = publish("web1.vhost-net0", None);
    let _same = publish("web1.threads", Some([0xab; 16]));
    // Other domains, by UUID and by name.
    let _others = [publish("web1.example", Some([1; 16])), publish("web10.vhost-net0", None)];
    symlink("/proc/1/fd/999999", dir.path().join("web1.left.domstat")).unwrap();
    let shown = output(dir.path(), &["show", "web1"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    let text = stdout(&shown);
    let at = |name: &str| text.lines().position(|line| line.starts_with(name));
    assert!(at("web1") == Some(0), "{text}");
    assert!(
        at("web1.left: ") < at("web1.threads") && at("web1.threads") < at("web1.vhost-net0"),
        "{text}"
    );
    assert!(
        at("web1.left: ").is_some() && at("web1.example").is_none() && at("web10").is_none(),
        "{text}"
    );
}

#[test]
fn a_socket_at_which_nobody_listens_is_pruned_unless_it_is_young() {
    use std::os::unix::net::UnixListener;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (left, young, live) = (at("left.sock"), at("young.sock"), at("live.sock"));
    drop(UnixListener::bind(&left).unwrap());
    drop(UnixListener::bind(&young).unwrap());
    // Somebody listens, although not as a daemon does.
    let _listener = UnixListener::bind(&live).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    for path in [&left, &live] {
        let mut touch = Command::new("touch");
        touch.arg("-d").arg(format!("@{}", seconds(old))).arg(path);
        assert!(touch.status().unwrap().success());
    }
    let pruned = stdout(&output(dir.path(), &["ls", "--prune"]));
    assert!(pruned.contains(&format!("removed {}", left.display())), "{pruned}");
    assert_eq!(pruned.matches("removed").count(), 1, "{pruned}");
    assert!(!left.exists() && young.exists() && live.exists());
}

fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn control_characters_of_a_path_do_not_reach_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let name = "\u{1b}]0;title\u{7}\u{1b}[31mred\u{9b}2J";
    std::fs::write(dir.path().join(format!("{name}.domstat")), "junk").unwrap();
    let shown = dir.path().join(name);
    for args in [&["ls"][..], &["show", name], &["check", shown.to_str().unwrap()]] {
        let said = output(dir.path(), args);
        let text = stdout(&said) + &stderr(&said);
        assert!(text.contains("title"), "{args:?}: {text:?}");
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(control), "{args:?}: {text:?}");
    }
}

#[test]
fn names_are_completed_and_never_run() {
    let dir = tempfile::tempdir().unwrap();
    let _web = MadeUp::start(dir.path(), "web1", "web1");
    let ran = dir.path().join("ran");
    std::fs::write(dir.path().join("we$(touch ran).domstat"), "junk").unwrap();
    assert!(stdout(&output(dir.path(), &["ls", "--names"])).contains("web1\n"));
    let script = stdout(&output(dir.path(), &["completions", "bash"]));
    let complete = "\nCOMP_WORDS=($PROGRAM show we); COMP_CWORD=2; \
                    _domstat_domains domstat we show; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash")
        .args(["-c", &(script + complete)])
        .env("PROGRAM", env!("CARGO_BIN_EXE_domstat"))
        .env("DOMSTAT_DIR", dir.path())
        .env_remove("DOMSTAT_SOCKET")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let names = stdout(&completed);
    assert!(names.lines().any(|line| line == "web1"), "{names}{}", stderr(&completed));
    assert!(names.contains("we\\$\\(touch") && !ran.exists(), "{names}");
}

#[test]
fn where_nothing_may_be_read_the_exit_status_says_so() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "another user can be tried by root only");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("domstat");
    common::copy_program(&program);
    let _web = MadeUp::start(dir.path(), "web1", "web1");
    let mut command = Command::new(&program);
    command.arg("ls").env("DOMSTAT_DIR", dir.path()).env_remove("DOMSTAT_SOCKET");
    let listed = command.uid(65_534).gid(65_534).output().unwrap();
    assert_eq!(listed.status.code(), Some(3), "{}", stdout(&listed));
    assert!(stdout(&listed).contains("not_permitted"), "{}", stdout(&listed));
}

#[test]
fn usage_does_not_depend_on_the_environment_and_pages_have_all_sections() {
    let dir = tempfile::tempdir().unwrap();
    let usage = |set: bool| {
        let mut command = domstat(dir.path());
        if !set {
            command.env_remove("DOMSTAT_DIR");
        }
        stderr(&command.arg("show").output().unwrap())
    };
    assert_eq!(usage(true), usage(false));
    assert_eq!(stdout(&output(dir.path(), &["version"])), "domstat 0.1.0\n");
    let pages = dir.path().join("man");
    assert!(output(dir.path(), &["man", "--out", pages.to_str().unwrap()]).status.success());
    for page in ["domstat", "domstat-show", "domstat-top", "domstat-check", "domstat-ls"] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        for section in ["SYNOPSIS", "EXAMPLES", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"] {
            assert!(text.contains(&format!(".SH {section}\n")), "{page}: {section}");
        }
        assert!(!text.contains("EXTRA") && text.contains("domstat 0.1.0"), "{page}");
    }
}

#[test]
fn what_a_vmm_says_is_the_same_word_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let _full = MadeUp::in_status(dir.path(), "full", "full", IO_ERROR);
    let _hung = MadeUp::in_status(dir.path(), "mute", "mute", HUNG);
    let text = |args: &[&str]| stdout(&output(dir.path(), args));
    let json = |args: &[&str]| serde_json::from_str::<Value>(&text(args)).unwrap();
    let (listed, top) = (text(&["ls"]), text(&["top", "-b", "-n", "1", "-d", "0.2"]));
    for table in [&listed, &top] {
        let row = |name| table.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("full").contains("io_error") && row("mute").contains("hung"), "{table}");
    }
    let list = json(&["ls", "--json"]);
    assert_eq!(
        (&list[0]["status"], &list[0]["status_reason"]),
        (&"io_error".into(), &"no_space".into())
    );
    assert_eq!((&list[1]["status"], &list[1]["status_reason"]), (&"hung".into(), &Value::Null));
    assert_eq!(list[1]["liveness"], "live", "its statistics are written");
    let shown = text(&["show", "full"]);
    assert!(shown.contains("status  io_error  reason no_space  disk vda"), "{shown}");
    assert!(text(&["show", "mute"]).contains("status  hung  no answer for "));
    assert_eq!(json(&["show", "mute", "--json"])["status"], "hung");
    let hung = json(&["top", "-b", "-n", "1", "-d", "0.2", "--json", "--filter", "hung"]);
    assert_eq!(hung.as_array().unwrap().len(), 1, "{hung}");
}
