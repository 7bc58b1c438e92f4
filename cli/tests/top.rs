//! The live screen in a real terminal, and batch mode.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use common::made_up::{MadeUp, UUID_TEXT, builder};
use common::{output, skip, stderr, stdout, wait_for};
use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::{Clock, Group, Ns, Word};
use serde_json::Value;

/// What batch mode says in one sample.
fn batch(dir: &Path, args: &[&str]) -> Value {
    let mut all = vec!["top", "-b", "--json", "-n", "1", "-d", "0.3"];
    all.extend(args);
    let output = output(dir, &all);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_state_is_told_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let _live = MadeUp::start(dir.path(), "web1", "web1");
    // Written long ago.
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let old = Ns(now.0.saturating_sub(3_600_000_000_000));
    let mut stale = builder("stale1").create_memfd().unwrap();
    stale.dom.write(&Memory { rss_bytes: Word::from(5), ..Memory::NOT_PRODUCED }, old);
    let stale = stale.unpublished.publish().unwrap();
    let _entry = stale.announce(dir.path(), "stale1").unwrap();
    // Stopped in mid-update.
    let path = dir.path().join("stalled1.domstat");
    let mut stalled = builder("stalled1").create_file(&path).unwrap();
    stalled.dom.write(&Memory::NOT_PRODUCED, now);
    stalled.vcpus[0].write(&Runstate { state: Word::from(2), ..Runstate::NOT_PRODUCED }, now);
    let _stalled = stalled.unpublished.publish().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let seq = Memory::DESC.offset as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &7u32.to_le_bytes(), seq).unwrap();
    // Left behind, and junk.
    symlink("/proc/1/fd/999999", dir.path().join("gone1.domstat")).unwrap();
    std::fs::write(dir.path().join("junk1.domstat"), "junk").unwrap();

    let rows = batch(dir.path(), &["--sort", "name"]);
    let states: Vec<_> =
        rows.as_array().unwrap().iter().map(|r| (&r["entry"], &r["liveness"])).collect();
    let expected = [
        ("gone1", "dead"),
        ("junk1", "invalid"),
        ("stale1", "stale"),
        ("stalled1", "stalled"),
        ("web1", "live"),
    ];
    assert_eq!(states.len(), expected.len(), "{rows:#}");
    for ((name, state), expected) in states.into_iter().zip(expected) {
        assert_eq!((name.as_str().unwrap(), state.as_str().unwrap()), expected);
    }
    // Nothing of what is not known is 0.
    let gone = &rows[0];
    for field in ["running", "vcpus", "vcpus_maximum", "memory_bytes", "age_seconds"] {
        assert!(gone[field].is_null(), "{gone:#}");
    }
    let live = &rows[4];
    assert_eq!(live["uuid"], UUID_TEXT);
    assert_eq!(live["vcpus"], 2);
    assert!(live["running"].as_f64().unwrap() > 0.0, "{live:#}");
    assert!(live["read_bytes_per_second"].as_f64().unwrap() > 0.0, "{live:#}");

    let reversed = batch(dir.path(), &["--sort", "name", "--reverse", "--filter", "1"]);
    assert_eq!(reversed[0]["name"], "web1");
    assert_eq!(batch(dir.path(), &["--filter", "stale"]).as_array().unwrap().len(), 1);
    let text = stdout(&output(dir.path(), &["top", "-b", "-n", "2", "-d", "0.1"]));
    assert_eq!(text.matches("NAME ").count(), 2, "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let output = output(dir.path(), &["top"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("top -b"), "{}", stderr(&output));
}

/// A terminal of 80 by 24, of a server of its own.
struct Tmux(String);

impl Tmux {
    fn start(dir: &Path, arguments: &str) -> Option<Self> {
        let tmux = Self(dir.join("tmux").to_str().unwrap().to_owned());
        let command = format!(
            "DOMSTAT_DIR={} {} top -d 0.2 {arguments}; echo ended with $?; sleep 60",
            dir.display(),
            env!("CARGO_BIN_EXE_domstat")
        );
        let new = ["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command];
        tmux.run(&new).map(|_| tmux)
    }

    fn run(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("tmux").arg("-S").arg(&self.0).args(args).output().ok()?;
        assert!(output.status.success(), "{}", stderr(&output));
        Some(stdout(&output))
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat()).unwrap();
    }

    /// The screen, once it says all of this; with what colors it if `-e` is among the options.
    fn screen(&self, options: &[&str], wanted: &[&str]) -> String {
        wait_for(&wanted.join(", "), || {
            let screen = self.run(&[&["capture-pane", "-p"], options].concat())?;
            wanted.iter().all(|text| screen.contains(text)).then_some(screen)
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").output();
    }
}

#[test]
fn a_closed_terminal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let Some(tmux) = Tmux::start(dir.path(), "--sort name") else {
        return skip("tmux", "there is no tmux to be a terminal");
    };
    tmux.screen(&[], &["web1"]);
    let shell = tmux.run(&["display-message", "-p", "#{pane_pid}"]).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", shell.trim());
    let top = std::fs::read_to_string(children).unwrap();
    let top = Path::new("/proc").join(top.trim());
    assert!(std::fs::read_link(top.join("exe")).unwrap().ends_with("domstat"));
    drop(tmux);
    wait_for("its end", || (!top.exists()).then_some(()));
}

#[test]
fn a_terminal_of_80_by_24() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let other = MadeUp::start(dir.path(), "db1", "db1");
    let Some(tmux) = Tmux::start(dir.path(), "--sort name") else {
        return skip("tmux", "there is no tmux to be a terminal");
    };
    let list = tmux.screen(&[], &["web1", "db1", "2 live", "sort: name"]);
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    assert!(list.find("db1") < list.find("web1"), "{list}");
    let colors = tmux.screen(&["-e"], &["web1"]);
    assert!(colors.contains("\x1b[32m") || colors.contains("\x1b[38;5;2m"), "{colors:?}");

    tmux.keys(&["h"]);
    tmux.screen(&[], &["KEYS", "COLUMNS", "stalled"]);
    tmux.keys(&["h", "/"]);
    tmux.keys(&["web"]);
    tmux.screen(&[], &["filter by name, UUID or state: web_"]);
    tmux.keys(&["Enter"]);
    let filtered = || (!tmux.screen(&[], &["filter web: 1 of 2"]).contains("db1")).then_some(());
    wait_for("the filter", filtered);
    tmux.keys(&["Enter"]);
    let domain = tmux.screen(&[], &[UUID_TEXT, "vda", "job copy running  30%", "90%", "950"]);
    let bars = domain.lines().filter(|line| line.contains(" [") && line.ends_with(']'));
    assert_eq!(bars.count(), 3, "two vCPUs' and a job's, whole:\n{domain}");
    tmux.keys(&["End"]);
    tmux.screen(&[], &["GROUP", "not produced", UUID_TEXT]);
    let exits = || {
        tmux.keys(&["Up"]);
        let shown = tmux.screen(&[], &[UUID_TEXT]);
        (shown.contains("EXIT OR EVENT") && shown.contains("halt_exits")).then_some(())
    };
    wait_for("the exits above the groups", exits);
    // A screen that is wide shows more.
    tmux.run(&["resize-window", "-x", "150", "-y", "40"]).unwrap();
    tmux.keys(&["Home"]);
    tmux.screen(&[], &["vda", "vnet0", "hypercalls"]);
    tmux.keys(&["BSpace"]);
    tmux.screen(&[], &["%RUN HISTORY", "READ/s", "RX/s"]);
    // Disks and interfaces of all domains.
    tmux.keys(&["2"]);
    tmux.screen(&[], &["vda", "copy running 30%", "90%", "WR-LAT"]);
    tmux.keys(&["3"]);
    tmux.screen(&[], &["vnet0", "RXPK/s"]);
    tmux.keys(&["1"]);
    tmux.keys(&["Escape"]);
    tmux.screen(&[], &["db1"]);
    drop(other);
    wait_for("it leaves", || (!tmux.screen(&[], &["1 live"]).contains("db1")).then_some(()));
    tmux.keys(&["q"]);
    tmux.screen(&[], &["ended with 0"]);
}

#[test]
fn colors_are_off_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let Some(tmux) = Tmux::start(dir.path(), "--color never") else {
        return skip("tmux", "there is no tmux to be a terminal");
    };
    let screen = tmux.screen(&["-e"], &["web1", "1 live"]);
    for color in ["\x1b[3", "\x1b[9", ";3", "\x1b[4"] {
        let found = screen.replace("\x1b[39m", "").replace("\x1b[49m", "");
        assert!(!found.contains(color), "{found:?}");
    }
}
