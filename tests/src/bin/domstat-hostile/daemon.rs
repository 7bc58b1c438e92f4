//! The program under attack: how much memory it takes, and how soon it ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Fallible;

/// A `domstat` that runs.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program` with these arguments, its regions in `dir`, with at most `files` open
    /// files if that is not 0.
    pub(crate) fn start(program: &Path, dir: &Path, args: &[&str], files: u32) -> Fallible<Self> {
        let log = dir.join(format!(".log-{}", args.get(1).copied().unwrap_or("domstat")));
        let mut command = match files {
            0 => Command::new(program),
            _ => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
        };
        let child = command
            .args(args)
            .env("DOMSTAT_DIR", dir)
            .env_remove("DOMSTAT_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// A line of /proc/PID/status in bytes: `VmHWM`, `VmRSS`.
    pub(crate) fn memory(&self, which: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) << 10
    }

    /// What it wrote to stderr that contains `part`, the last of it.
    pub(crate) fn note(&self, part: &str) -> Option<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().find(|line| line.contains(part)).map(str::to_owned)
    }

    /// Sends SIGTERM and waits for its end; how long that took, `None` if it did not end.
    pub(crate) fn end(&mut self) -> Option<Duration> {
        let began = Instant::now();
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while began.elapsed() < Duration::from_secs(10) {
            if !self.runs() {
                return Some(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An attacker, which is this program again; dropping it ends the attack.
pub(crate) struct Attacker(Child);

impl Attacker {
    /// Starts the attack `name` at `at`, as another user if `foreign` and this is root.
    pub(crate) fn start(name: &str, at: &Path, foreign: Option<&Path>) -> Fallible<Self> {
        use std::os::unix::process::CommandExt;
        let own = std::env::current_exe()?;
        let mut command = Command::new(foreign.unwrap_or(&own));
        command.args(["attack", name]).arg(at).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        if foreign.is_some() && rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ok(Self(command.spawn()?))
    }
}

/// The user and group that attacks as another user.
pub(crate) const NOBODY: u32 = 65534;

impl Attacker {
    /// Whether the attack goes on.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ready` gives something.
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> Fallible<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("waited too long for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
