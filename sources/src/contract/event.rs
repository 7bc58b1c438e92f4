//! Discrete events of a domain.

use serde::{Deserialize, Serialize};

/// A discrete event of a domain. Each is reported once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The domain is published.
    Published,
    /// A write went past an armed threshold and disarmed it.
    WriteThreshold {
        /// The disk, or a backing image of one (`vda[1]`).
        disk: String,
        /// QEMU's node.
        node: String,
        /// The threshold that was exceeded, in bytes.
        threshold_bytes: u64,
        /// By how much the write went past it, in bytes; absent if QEMU's event was missed.
        excess_bytes: Option<u64>,
        /// Whether it was concluded from the level because QEMU's event was missed.
        reconciled: bool,
    },
    /// A copy is in sync and can be completed.
    JobReady {
        /// The disk, if it is known.
        disk: Option<String>,
        /// QEMU's id of the job.
        job: String,
        /// What it does: `mirror`, `commit`, ...
        kind: String,
    },
    /// A block job has ended.
    JobEnded {
        /// The disk, if it is known.
        disk: Option<String>,
        /// QEMU's id of the job.
        job: String,
        /// What it did.
        kind: String,
        /// How it ended.
        outcome: JobOutcome,
        /// Why it failed.
        error: Option<String>,
        /// Whether it was concluded from the job's absence.
        reconciled: bool,
    },
    /// The domain's state changed.
    State {
        /// The word of the group `status`: `running`, `paused`, `io_error`, ...
        state: String,
        /// Its word for why, if it is known: `user`, `no_space`, ...
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The disk whose error stopped the domain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk: Option<String>,
    },
    /// Hypervisor or VMM does not answer, or closed the connection; the domain may live on.
    Disconnected,
    /// The domain answers again.
    Connected,
    /// A threshold that was armed was replaced by another one or disarmed, by whatever client: it
    /// does not fire any more.
    ThresholdReplaced {
        /// The disk, or a backing image of one.
        disk: String,
        /// QEMU's node.
        node: String,
        /// The threshold that was armed, in bytes.
        threshold_bytes: u64,
        /// The threshold that is armed now, in bytes; 0 if there is none.
        new_bytes: u64,
    },
    /// A threshold that was armed does not exist any more, and whether it fired is not known.
    ThresholdLost {
        /// The disk, or a backing image of one.
        disk: String,
        /// QEMU's node.
        node: String,
        /// The threshold that was armed, in bytes.
        threshold_bytes: u64,
        /// How it was lost.
        reason: LossReason,
    },
    /// Records of armed thresholds that the daemon before left cannot be read: whether these fired while
    /// no daemon ran is not known. The domain is empty where the records do not say whose they were.
    ThresholdsUnreadable {
        /// How many; `None` if that cannot be said either.
        records: Option<u64>,
        /// Where the VM is reached, if the record says so.
        address: Option<String>,
        /// What is wrong with them.
        error: String,
    },
    /// Events were left out here: because they came faster than the subscriber took them, or because
    /// it continues where the daemon remembers them no more.
    Lost {
        /// How many at most; `None` if another daemon had them.
        events: Option<u64>,
    },
    /// The daemon ends in order: no more events come.
    DaemonEnds,
    /// The domain has ended, or is no longer observed.
    Gone,
    /// An event of a later version of this program.
    #[serde(other)]
    Unknown,
}

/// How a threshold was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossReason {
    /// The node was removed: its image was replaced, or its disk unplugged.
    NodeRemoved,
    /// While no daemon ran the disk was given another image.
    DiskChanged,
    /// While no daemon ran the VM was started again.
    VmRestarted,
    /// No daemon ran, and the VM's process is not seen: it may be another one.
    VmNotKnown,
    /// The daemon died while a request was about to replace or disarm it, and the node has no threshold
    /// now: it fired, or the request took effect.
    RequestInterrupted,
    /// The VM did not return for a day.
    GivenUp,
    /// A reason of a later version of this program.
    #[serde(other)]
    Unknown,
}

impl LossReason {
    /// Its word in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeRemoved => "node_removed",
            Self::DiskChanged => "disk_changed",
            Self::VmRestarted => "vm_restarted",
            Self::VmNotKnown => "vm_not_known",
            Self::RequestInterrupted => "request_interrupted",
            Self::GivenUp => "given_up",
            Self::Unknown => "unknown",
        }
    }
}

/// How a block job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobOutcome {
    /// It was canceled.
    Canceled,
    /// It did what it was for.
    Completed,
    /// It failed.
    Failed,
    /// The domain ended before it.
    DomainGone,
    /// It ended while nobody was connected.
    #[serde(other)]
    Unknown,
}

impl JobOutcome {
    /// Its word in events and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Canceled => "canceled",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::DomainGone => "domain_gone",
        }
    }
}

impl Event {
    /// Its word, as in the control protocol.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::WriteThreshold { .. } => "write_threshold",
            Self::JobReady { .. } => "job_ready",
            Self::JobEnded { .. } => "job_ended",
            Self::State { .. } => "state",
            Self::Disconnected => "disconnected",
            Self::Connected => "connected",
            Self::ThresholdReplaced { .. } => "threshold_replaced",
            Self::ThresholdLost { .. } => "threshold_lost",
            Self::ThresholdsUnreadable { .. } => "thresholds_unreadable",
            Self::Lost { .. } => "lost",
            Self::DaemonEnds => "daemon_ends",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}
