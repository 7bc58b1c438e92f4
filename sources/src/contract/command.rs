//! Commands to an observed domain, and their answers.

use std::sync::mpsc::Sender;
use std::time::Duration;

use domstat_layout::percent::{self, WHOLE};
use serde::{Deserialize, Serialize};

use super::JobOutcome;

/// A command to an observed domain. A dropped `reply` says that the observation has ended.
#[derive(Debug)]
pub enum Command {
    /// Arms or disarms a write threshold.
    SetThreshold(SetRequest, Reply<ThresholdSet>),
    /// Cancels the block job of a disk.
    AbortJob {
        /// The disk, or QEMU's id of the job.
        disk: String,
        /// Bits of [`JobFlags`].
        flags: u32,
        /// How long to wait for the end; without it, as long as it takes.
        timeout: Option<Duration>,
        /// Takes the answer.
        reply: Reply<JobAborted>,
    },
    /// Lists disks and backing images.
    Disks(Reply<Vec<DiskInfo>>),
    /// Lists block jobs.
    Jobs(Reply<Vec<JobStatus>>),
    /// Ends the observation.
    Stop,
}

impl Command {
    /// Answers it with this error, whatever it asks for.
    pub(crate) fn refuse(self, error: &ControlError) {
        fn answer<T>(reply: &Reply<T>, error: &ControlError) {
            let _ = reply.send(Err(error.clone()));
        }
        match self {
            Self::SetThreshold(_, reply) => answer(&reply, error),
            Self::AbortJob { reply, .. } => answer(&reply, error),
            Self::Disks(reply) => answer(&reply, error),
            Self::Jobs(reply) => answer(&reply, error),
            Self::Stop => {}
        }
    }
}

/// Where an answer goes.
pub type Reply<T> = Sender<Result<T, ControlError>>;

/// The threshold that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdSet {
    /// The disk, by its name.
    pub disk: String,
    /// QEMU's node that it is armed on.
    pub node: String,
    /// The threshold in bytes; 0 if it was disarmed.
    pub threshold_bytes: u64,
}

/// The answer to a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum JobAborted {
    /// The job has ended.
    Ended {
        /// QEMU's id of the job.
        job: String,
        /// How it ended.
        outcome: JobOutcome,
        /// Why it failed.
        error: Option<String>,
    },
    /// The cancellation is under way; one event follows.
    Accepted {
        /// QEMU's id of the job.
        job: String,
        /// True.
        accepted: bool,
    },
}

impl JobAborted {
    /// QEMU's id of the job.
    #[must_use]
    pub fn job(&self) -> &str {
        let (Self::Ended { job, .. } | Self::Accepted { job, .. }) = self;
        job
    }
}

/// A block job that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// QEMU's id of the job.
    pub job: String,
    /// The disk, if it is known.
    pub disk: Option<String>,
    /// What it does: `mirror`, `commit`, ...
    pub kind: String,
    /// Whether it is being canceled.
    pub ending: bool,
    /// The word of the group `job`: `running`, `paused`, `ready`, `ending`.
    #[serde(default)]
    pub state: Option<String>,
    /// How far it is, in bytes.
    #[serde(default)]
    pub cur_bytes: Option<u64>,
    /// Where it ends; may grow.
    #[serde(default)]
    pub end_bytes: Option<u64>,
    /// Its limit in bytes per second; 0 is none.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
    /// How fast it went between the last two looks, in bytes per second.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
}

/// A disk or a backing image of one, as users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// `vda`, and `vda[1]` for the first image that backs it.
    pub name: String,
    /// 0 for the disk itself, from 1 on for backing images.
    pub backing_index: usize,
    /// The image's file, as QEMU names it.
    pub source: Option<String>,
    /// QEMU's node of the image's format.
    pub node: Option<String>,
    /// QEMU's node of its storage, which thresholds belong to.
    pub storage_node: Option<String>,
    /// QEMU's name of the block backend.
    pub device: Option<String>,
    /// QEMU's path of the device.
    pub qdev: Option<String>,
    /// Whether the image cannot be written now.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// Size as the domain sees it, in bytes.
    pub capacity_bytes: Option<u64>,
    /// Size on the host, in bytes.
    pub physical_bytes: Option<u64>,
    /// The threshold that is armed, in bytes.
    pub threshold_bytes: Option<u64>,
    /// The threshold that fired last, in bytes.
    pub last_exceeded_bytes: Option<u64>,
    /// How often one has fired.
    pub threshold_events: u64,
}

/// Flags of [`SetRequest::flags`], with libvirt's numbers.
#[derive(Debug)]
pub struct ThresholdFlags;

impl ThresholdFlags {
    /// The threshold is in thousandths of a percent of the disk's size, 0 to 100000.
    pub const PERCENTAGE: u32 = 1;
    /// All that are known.
    pub const ALL: u32 = Self::PERCENTAGE;
}

/// Flags of a cancellation. ASYNC has libvirt's number.
#[derive(Debug)]
pub struct JobFlags;

impl JobFlags {
    /// Answer as soon as QEMU has taken it; one event follows when the job has ended.
    pub const ASYNC: u32 = 1;
    /// Cancel a paused job, too, and a ready one without completing it.
    pub const FORCE: u32 = 1 << 8;
    /// All that are known.
    pub const ALL: u32 = Self::ASYNC | Self::FORCE;
}

/// A write threshold that is to be armed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRequest {
    /// `vda`, `vda[1]`, or an unambiguous source.
    pub disk: String,
    /// In bytes, or with PERCENTAGE in thousandths of a percent; 0 disarms.
    pub threshold: u64,
    /// Bits of [`ThresholdFlags`].
    pub flags: u32,
}

impl SetRequest {
    /// The threshold in bytes for a disk of `capacity` bytes whose storage may hold `physical`.
    /// A percentage is of the capacity and rounds down to a byte (but not to 0).
    ///
    /// # Errors
    /// [`ControlError`] of the code `invalid` for unknown flags, more than 100 %, or a threshold
    /// that lies beyond the disk.
    pub fn bytes(&self, capacity: Option<u64>, physical: Option<u64>) -> Result<u64, ControlError> {
        check_flags(self.flags, ThresholdFlags::ALL)?;
        if self.flags & ThresholdFlags::PERCENTAGE != 0 {
            let too_much = || {
                ControlError::invalid(format!(
                    "the threshold {} is more than 100 % ({WHOLE} thousandths of a percent)",
                    self.threshold
                ))
            };
            let thousandths = u32::try_from(self.threshold).ok().filter(|&t| t <= WHOLE);
            let thousandths = thousandths.ok_or_else(too_much)?;
            let unknown =
                || ControlError::invalid(format!("the size of {} is not known", self.disk));
            return Ok(percent::part_of(capacity.ok_or_else(unknown)?, thousandths));
        }
        match capacity.max(physical) {
            Some(most) if self.threshold > most => Err(ControlError::invalid(format!(
                "the threshold of {} bytes lies beyond {}, which has {most}",
                self.threshold, self.disk
            ))),
            _ => Ok(self.threshold),
        }
    }
}

/// Refuses bits that mean nothing here.
pub(crate) fn check_flags(flags: u32, known: u32) -> Result<(), ControlError> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(ControlError::invalid(format!("unknown flags {unknown:#x}"))),
    }
}

/// Why a request was not granted: a word for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The word.
    pub code: ErrorCode,
    /// What happened and what to do.
    pub message: String,
}

/// The kinds of [`ControlError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request makes no sense: an unknown word, a number out of range.
    Invalid,
    /// No such domain or disk.
    NotFound,
    /// No block job on the disk.
    NoJob,
    /// Not permitted, or QEMU refused.
    Refused,
    /// Another request is under way, or too many clients are connected.
    Busy,
    /// The domain does not answer now.
    Disconnected,
    /// The time that the caller gave is over.
    TimedOut,
    /// The connection broke before the answer.
    UnknownOutcome,
    /// The domain has ended.
    Gone,
    /// A code of a later version of this program.
    #[serde(other)]
    Other,
}

impl ControlError {
    /// An error of this code.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    pub(crate) fn disconnected() -> Self {
        Self::new(ErrorCode::Disconnected, "QEMU is not connected now: try again")
    }

    pub(crate) fn stuck() -> Self {
        Self::new(ErrorCode::Disconnected, "QEMU does not answer now: try again")
    }

    pub(crate) fn gone() -> Self {
        Self::new(ErrorCode::Gone, "the domain has ended, or is no longer observed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(threshold: u64, flags: u32) -> SetRequest {
        SetRequest { disk: "vda".to_owned(), threshold, flags }
    }

    #[test]
    fn percentages_are_of_the_capacity_and_round_down() {
        let size = Some(1_000_003);
        assert_eq!(set(80_000, 1).bytes(size, None), Ok(800_002));
        assert_eq!(set(100_000, 1).bytes(Some(u64::MAX), None), Ok(u64::MAX));
        assert_eq!(set(1, 1).bytes(Some(5), None), Ok(1), "not 0, which would disarm");
        assert_eq!(set(0, 1).bytes(size, None), Ok(0));
        assert_eq!(set(100_001, 1).bytes(size, None).unwrap_err().code, ErrorCode::Invalid);
        assert_eq!(set(1, 1).bytes(None, None).unwrap_err().code, ErrorCode::Invalid);
    }

    #[test]
    fn bytes_lie_within_the_disk_and_flags_are_known() {
        assert_eq!(set(100, 0).bytes(Some(100), Some(7)), Ok(100));
        assert_eq!(set(101, 0).bytes(Some(100), Some(200)), Ok(101));
        assert_eq!(set(101, 0).bytes(Some(100), None).unwrap_err().code, ErrorCode::Invalid);
        let why = set(1, 6).bytes(Some(100), None).unwrap_err();
        assert_eq!(why.message, "unknown flags 0x6");
    }
}
