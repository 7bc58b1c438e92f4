//! What may be asked of a VM's thread from outside, and the answers.

use std::sync::mpsc::Sender;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::disk::NoDisk;
use super::job::AbortError;
use super::threshold::part_of;

/// A request to a VM's thread. A dropped `reply` says that the thread has ended.
#[derive(Debug)]
pub enum Command {
    /// Arms or disarms a write threshold.
    SetThreshold(SetRequest, Reply),
    /// Cancels the block job of a disk.
    AbortJob {
        /// The disk, or QEMU's id of the job.
        disk: String,
        /// Bits of [`JobFlags`].
        flags: u32,
        /// How long to wait for the end; without, as long as it takes.
        timeout: Option<Duration>,
        /// Takes the answer.
        reply: Reply,
    },
    /// Lists disks and backing images.
    Disks(Reply),
    /// Lists block jobs.
    Jobs(Reply),
    /// Ends the thread.
    Stop,
}

/// Where an answer goes.
pub type Reply = Sender<Result<Value, ControlError>>;

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
            if self.threshold > 100_000 {
                let why = "is more than 100 % (100000 thousandths of a percent)";
                return Err(ControlError::invalid(format!(
                    "the threshold {} {why}",
                    self.threshold
                )));
            }
            let unknown =
                || ControlError::invalid(format!("the size of {} is not known", self.disk));
            return Ok(part_of(capacity.ok_or_else(unknown)?, self.threshold));
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
pub(super) fn check_flags(flags: u32, known: u32) -> Result<(), ControlError> {
    match flags & !known {
        0 => Ok(()),
        unknown => Err(ControlError::invalid(format!("unknown flags {unknown:#x}"))),
    }
}

/// Why a request was not granted: a word for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// `invalid`, `not_found`, `no_job`, `refused`, `busy`, `disconnected`, `timed_out`,
    /// `unknown_outcome` or `gone`.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
}

impl ControlError {
    /// An error of this code.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid", message)
    }

    pub(super) fn disconnected() -> Self {
        Self::new("disconnected", "QEMU is not connected now: try again")
    }

    pub(super) fn stuck() -> Self {
        Self::new("disconnected", "QEMU does not answer now: try again")
    }

    pub(super) fn gone() -> Self {
        Self::new("gone", "the domain has ended")
    }
}

impl From<NoDisk> for ControlError {
    fn from(error: NoDisk) -> Self {
        Self::new("not_found", error.to_string())
    }
}

impl From<AbortError> for ControlError {
    fn from(error: AbortError) -> Self {
        let code = match error {
            AbortError::NoJob => "no_job",
            AbortError::Refused(_) => "refused",
            AbortError::TimedOut => "timed_out",
            AbortError::DomainGone => "gone",
        };
        Self::new(code, error.to_string())
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
        assert_eq!(set(100_001, 1).bytes(size, None).unwrap_err().code, "invalid");
        assert_eq!(set(1, 1).bytes(None, None).unwrap_err().code, "invalid");
    }

    #[test]
    fn bytes_lie_within_the_disk_and_flags_are_known() {
        assert_eq!(set(100, 0).bytes(Some(100), Some(7)), Ok(100));
        assert_eq!(set(101, 0).bytes(Some(100), Some(200)), Ok(101));
        assert_eq!(set(101, 0).bytes(Some(100), None).unwrap_err().code, "invalid");
        let why = set(1, 6).bytes(Some(100), None).unwrap_err();
        assert_eq!(why.message, "unknown flags 0x6");
    }
}
