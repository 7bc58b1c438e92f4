//! Reading and writing neither allocate nor call the system.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// SIGSYS.
const KILLED: Option<i32> = Some(31);

fn quiet(what: &str) -> ExitStatus {
    Command::new(env!("CARGO_BIN_EXE_domstat-quiet")).arg(what).status().unwrap()
}

#[test]
fn the_checks_can_fail() {
    assert_eq!(quiet("break-alloc").code(), Some(1));
    assert_eq!(quiet("break-syscall").signal(), KILLED);
}

#[test]
fn reading_and_writing_are_quiet() {
    assert_eq!(quiet("read").code(), Some(0));
    assert_eq!(quiet("write").code(), Some(0));
}

#[test]
fn a_snapshot_only_looks_at_the_clock() {
    if quiet("clock").signal() == KILLED {
        // Not by a macro: those are captured, and a skip is to be seen.
        let _ = writeln!(std::io::stderr(), "skipped: the clock is a system call here");
        return;
    }
    assert_eq!(quiet("snapshot").code(), Some(0));
}
