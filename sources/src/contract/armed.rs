//! Armed write thresholds that are to outlive the daemon that watches them.

use serde::{Deserialize, Serialize};

/// A write threshold that is armed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The disk, or a backing image of one.
    pub disk: String,
    /// The node that it is armed on.
    pub node: String,
    /// The node's file: another one may be given the node's name.
    pub source: Option<String>,
    /// In bytes.
    pub threshold_bytes: u64,
}

/// The thresholds of one VM, and which VM that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmedThresholds {
    /// Its process id and when the process started, in ticks since the host did; `None` if the process
    /// is not one of this host.
    pub process: Option<(i32, u64)>,
    /// What is armed.
    pub armed: Vec<Armed>,
}
