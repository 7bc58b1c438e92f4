//! Armed write thresholds that are to outlive the daemon that watches them.

use serde::{Deserialize, Serialize};

/// A write threshold that is armed, or about to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The disk, or a backing image of one.
    pub disk: String,
    /// The node that it is armed on.
    pub node: String,
    /// The node's file: another one may be given the node's name.
    pub source: Option<String>,
    /// In bytes; 0 if nothing is armed before the request of `intended_bytes`.
    pub threshold_bytes: u64,
    /// What a request that is not answered yet sets instead, in bytes; 0 disarms. Kept before the VM is
    /// asked: a daemon that dies then leaves a level that does not say what fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_bytes: Option<u64>,
}

impl Armed {
    /// The threshold that an event about this record speaks of: the one that is armed, else the one that
    /// was to be.
    #[must_use]
    pub fn at_stake(&self) -> u64 {
        match self.threshold_bytes {
            0 => self.intended_bytes.unwrap_or(0),
            armed => armed,
        }
    }
}

/// The thresholds of one VM, and which VM that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedThresholds {
    /// The name that the VM was published under, for events about thresholds of one that never returns.
    #[serde(default)]
    pub domain: String,
    /// Its process id and when the process started, in ticks since the host did; `None` if the process
    /// is not one of this host.
    pub process: Option<(i32, u64)>,
    /// What is armed.
    pub armed: Vec<Armed>,
}

impl ArmedThresholds {
    /// Whether the VM's process still runs; `None` if the process is not one of this host.
    #[must_use]
    pub fn is_alive(&self) -> Option<bool> {
        let (pid, start) = self.process?;
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        Some(stat.is_ok_and(|s| s.starttime == start && !matches!(s.state, 'Z' | 'X')))
    }
}
