//! Running the command as a user does.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

pub(crate) mod http;
pub(crate) mod made_up;
#[path = "../../../tests/src/skip.rs"]
mod skip;
pub(crate) mod vm;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) use skip::skip;

/// `domstat`, with `dir` as the place where regions are found.
pub(crate) fn domstat(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_domstat"));
    command.env("DOMSTAT_DIR", dir).env_remove("DOMSTAT_SOCKET").stdin(Stdio::null());
    command
}

/// Copies the program to where another user may run it. By another process: what this one has open
/// for writing, a child that another test starts may have, too, and then the copy cannot be executed.
pub(crate) fn copy_program(to: &Path) {
    let program = env!("CARGO_BIN_EXE_domstat");
    assert!(Command::new("cp").arg(program).arg(to).status().unwrap().success());
}

pub(crate) fn output(dir: &Path, args: &[&str]) -> Output {
    domstat(dir).args(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A process that does not outlive the test.
pub(crate) struct Background(pub(crate) Child);

impl Background {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// As Ctrl-C does, and waits for the end.
    pub(crate) fn interrupt(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ready` gives something; fails the test after half a minute.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One sample as JSON, once the domain is published.
pub(crate) fn show(dir: &Path, domain: &str) -> serde_json::Value {
    wait_for(domain, || {
        let output = output(dir, &["show", domain, "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    })
}
