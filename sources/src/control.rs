//! The control protocol of a daemon: requests, answers and events as lines of JSON.
//!
//! A client sends a [`Request`] as one line, `{"op": ..., "domain": ..., ...}`, and receives an
//! [`Answer`] as one line, `{"ok": ...}` or `{"error": {"code": ..., "message": ...}}`. After
//! `{"op": "subscribe"}` and its answer each line is an [`EventLine`].

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::contract::{ControlError, Event};

/// The longest request, in bytes, its newline included: names of domains and disks and a few
/// numbers fit many times over.
pub const MAX_REQUEST: usize = 64 << 10;

/// The longest answer or event that a client reads, in bytes: the disks of a VM with thousands of
/// images fit.
pub const MAX_ANSWER: usize = 64 << 20;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// The domains that the daemon observes; the answer is a list of [`DomainLine`].
    Domains,
    /// Disks and backing images; the answer is a list of [`crate::contract::DiskInfo`].
    BlockList {
        /// The domain.
        domain: String,
    },
    /// Block jobs; the answer is a list of [`crate::contract::JobStatus`].
    BlockJobs {
        /// The domain.
        domain: String,
    },
    /// Arms or disarms a write threshold; the answer is a [`crate::contract::ThresholdSet`].
    BlockThreshold {
        /// The domain.
        domain: String,
        /// `vda`, `vda[1]`, or an unambiguous source.
        disk: String,
        /// In bytes, or with PERCENTAGE in thousandths of a percent; 0 disarms.
        threshold: u64,
        /// Bits of [`crate::contract::ThresholdFlags`].
        #[serde(default)]
        flags: u32,
    },
    /// Cancels a block job; the answer is a [`crate::contract::JobAborted`].
    BlockJobAbort {
        /// The domain.
        domain: String,
        /// The disk, or the job's id.
        disk: String,
        /// Bits of [`crate::contract::JobFlags`].
        #[serde(default)]
        flags: u32,
        /// How long to wait for the end, in milliseconds; without it, as long as it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Events from now on, or those since another one first; the answer is a [`Subscribed`].
    Subscribe {
        /// Only those of this domain.
        domain: Option<String>,
        /// Where to begin; without it, with the next event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Cursor>,
    },
}

impl Request {
    /// Whether it changes a domain.
    #[must_use]
    pub const fn changes_a_domain(&self) -> bool {
        matches!(self, Self::BlockThreshold { .. } | Self::BlockJobAbort { .. })
    }

    /// Reads the line of a client.
    ///
    /// # Errors
    /// [`ControlError`] of the code `invalid` that says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, ControlError> {
        serde_json::from_slice(line)
            .map_err(|e| ControlError::invalid(format!("not a request of this protocol: {e}")))
    }
}

/// An answer: a value, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// What was asked for.
    Ok(T),
    /// Why it was not granted.
    Error(ControlError),
}

impl<T> From<Result<T, ControlError>> for Answer<T> {
    fn from(result: Result<T, ControlError>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(error),
        }
    }
}

impl<T> From<Answer<T>> for Result<T, ControlError> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Error(error) => Err(error),
        }
    }
}

/// A domain that the daemon observes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainLine {
    /// Its name, while it is published.
    pub domain: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// Where it is reached: its QMP socket.
    pub qmp: String,
}

/// A place among the events of a daemon, `EPOCH:NUMBER` in text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The daemon that numbered them: another one begins at 0 again, and has an epoch of its own.
    /// Without it, the one that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// The number of the first event that is wanted.
    pub number: u64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.epoch {
            Some(epoch) => write!(f, "{epoch}:{}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

impl std::str::FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (epoch, number) = match text.split_once(':') {
            Some((epoch, number)) if !epoch.is_empty() => (Some(epoch.to_owned()), number),
            Some(_) => return Err("expected EPOCH:NUMBER or NUMBER".to_owned()),
            None => (None, text),
        };
        let number = number.parse().map_err(|_| "expected EPOCH:NUMBER or NUMBER".to_owned())?;
        Ok(Self { epoch, number })
    }
}

/// The answer to [`Request::Subscribe`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The domain whose events follow; of all domains if there is none.
    pub subscribed: Option<String>,
    /// The number of the daemon's next event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// An event of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// The domain; empty if the event is of none, or of all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Its place among the events of the daemon, all domains together; what is said to one subscriber
    /// alone has none.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Cursor>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A message as a line, its newline included.
#[must_use]
pub fn line(message: &impl Serialize) -> String {
    // These types have no map with keys that are not strings, the one thing that JSON refuses.
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// Reads a line that a daemon sent.
///
/// # Errors
/// What is wrong with it.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}

/// `timeout_ms` of a request.
#[must_use]
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
