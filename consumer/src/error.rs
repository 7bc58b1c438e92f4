//! Errors: one type per operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domstat_layout::handover::{MessageError, Refusal};
use domstat_layout::{GeometryError, RecordKind, rfc_v3};
use rustix::io::Errno;

use crate::attach::truncation::Truncated;

/// Why a region cannot be attached.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is nothing at the path.
    #[error("{} does not exist: is the domain published? `domstat ls` shows what is", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The path leads to a producer that has exited.
    #[error("the producer of {} has exited; the entry is left over and can be removed", path.display())]
    ProducerExited {
        /// The path.
        path: PathBuf,
    },
    /// The descriptor or file may not be read.
    #[error("not permitted to read {}: run as the producer's user or as root", path.display())]
    NotPermitted {
        /// The path.
        path: PathBuf,
    },
    /// Not a file that can be mapped.
    #[error("{what} is a {found}, not a region: name a file or memfd that a producer published")]
    NotMappable {
        /// The path or descriptor.
        what: String,
        /// What it is instead.
        found: &'static str,
    },
    /// A file without a byte in it.
    #[error("{what} is empty: its producer has not created the region, or never was one")]
    Empty {
        /// The path or descriptor.
        what: String,
    },
    /// More bytes than a region can have.
    #[error("{what} has {found} bytes, more than the {most} of the longest region: not mapped")]
    TooLong {
        /// The path or descriptor.
        what: String,
        /// Its length.
        found: u64,
        /// Longest that is mapped: [`domstat_layout::MAX_REGION_LEN`].
        most: u64,
    },
    /// The header does not describe a usable region.
    #[error("{what} cannot be used: {source}")]
    Geometry {
        /// The path or descriptor.
        what: String,
        /// What is wrong.
        source: GeometryError,
    },
    /// The header does not describe a usable region in the layout of RFC v3.
    #[error("{what} cannot be used: {source}")]
    Legacy {
        /// The path or descriptor.
        what: String,
        /// What is wrong.
        source: rfc_v3::GeometryError,
    },
    /// The file was truncated while it was attached.
    #[error(transparent)]
    Truncated(Truncated),
    /// Nobody listens at the socket.
    #[error("no daemon listens at {}: {source}", path.display())]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// The daemon closed the connection.
    #[error("the daemon at {} closed the connection", path.display())]
    Disconnected {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon refused.
    #[error("the daemon at {} refused: {refusal}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// The daemon did not answer in time.
    #[error("the daemon at {} did not answer within {deadline:?}", path.display())]
    TimedOut {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The daemon sent something that is not a message.
    #[error("the daemon at {} does not speak the hand-over protocol: {source}", path.display())]
    Message {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        source: MessageError,
    },
    /// The daemon sent what it must not.
    #[error("the daemon at {} does not keep to the hand-over protocol: {why}", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// No domain can have that name.
    #[error("{name:?} cannot be asked for: a domain's name is 1 to 255 bytes of text")]
    BadName {
        /// The name.
        name: String,
    },
    /// What was handed over is not sealed, or not all of it is allocated: reading could fail later.
    #[error(
        "the daemon at {} handed over memory of {name} that is not sealed, or not allocated to its end",
        path.display()
    )]
    NotSealed {
        /// The socket.
        path: PathBuf,
        /// The domain's name.
        name: String,
    },
    /// It is not known where the region came from.
    #[error("the region was given as a descriptor or pages, and cannot be looked for again")]
    CannotReattach,
    /// Frames do not have the length that the header asks for.
    #[error("frame {index} has {found} bytes, the header asks for {expected}")]
    Frame {
        /// Position in the list of frames.
        index: usize,
        /// Its length.
        found: u64,
        /// What was expected.
        expected: u64,
    },
    /// The region has more frames than a process can map.
    #[error("the region has {found} frames, more than the {most} that are mapped side by side")]
    TooManyFrames {
        /// Frames next to the dom record's.
        found: usize,
        /// Most that are mapped.
        most: usize,
    },
    /// The hypervisor's statistics cannot be mapped.
    #[error("cannot map {what}: {hint} ({source})")]
    Xen {
        /// Which domain's.
        what: String,
        /// The error of the host.
        source: Arc<io::Error>,
        /// What to do about it.
        hint: String,
    },
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Os {
        /// What was tried.
        action: String,
        /// The error.
        source: Arc<io::Error>,
    },
}

impl AttachError {
    /// Every [`AttachError::name`].
    pub const NAMES: [&'static str; 5] = ["dead", "not_permitted", "invalid", "timed_out", "error"];

    /// One word for how the domain stands that cannot be attached, next to
    /// [`Liveness::name`](crate::Liveness::name): `dead` if there is no producer, `not_permitted`,
    /// `invalid` if what was found is not a region, `timed_out`, or `error`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotFound { .. }
            | Self::ProducerExited { .. }
            | Self::NoDaemon { .. }
            | Self::Disconnected { .. } => "dead",
            Self::NotPermitted { .. } => "not_permitted",
            Self::NotMappable { .. }
            | Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::Geometry { .. }
            | Self::Legacy { .. }
            | Self::Message { .. }
            | Self::Protocol { .. }
            | Self::NotSealed { .. }
            | Self::Frame { .. }
            | Self::TooManyFrames { .. } => "invalid",
            Self::TimedOut { .. } => "timed_out",
            Self::Truncated(_)
            | Self::Refused { .. }
            | Self::BadName { .. }
            | Self::CannotReattach
            | Self::Xen { .. }
            | Self::Os { .. } => "error",
        }
    }

    /// Whether this process lacks descriptors or memory for the moment: says nothing of the region.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        let (Self::Os { source, .. } | Self::NoDaemon { source, .. } | Self::Xen { source, .. }) =
            self
        else {
            return false;
        };
        let shortages =
            [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INTR, Errno::AGAIN];
        Errno::from_io_error(source).is_some_and(|errno| shortages.contains(&errno))
    }

    pub(crate) fn os(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { action: action.into(), source: Arc::new(source.into()) }
    }
}

/// Why a read gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The group's writer was stopped or exited; other groups may be read.
    #[error(transparent)]
    Stalled(#[from] StalledWriter),
    /// The memory went away under the reader; nothing in it can be read any more.
    #[error(transparent)]
    Truncated(#[from] Truncated),
}

impl ReadError {
    /// What is known of the writer, if it is that.
    #[must_use]
    pub const fn stalled(&self) -> Option<&StalledWriter> {
        match self {
            Self::Stalled(stalled) => Some(stalled),
            Self::Truncated(_) => None,
        }
    }
}

/// A writer that has been in mid-update for longer than the reader was willing to wait: it is
/// stopped, was killed, or never pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the writer of {} is stalled: in mid-update (seq {seq}) {}",
    group_name(*record, *index, *group), waited_for(*retries, *waited)
)]
pub struct StalledWriter {
    /// The record's kind; `None` for one that only the region's schema describes.
    pub record: Option<RecordKind>,
    /// The record's index in its array; `None` for the dom record.
    pub index: Option<u32>,
    /// The group's name; `None` for one that only the region's schema describes.
    pub group: Option<&'static str>,
    /// The sequence number last seen.
    pub seq: u32,
    /// How often a read was tried again; 0 if several looks saw the same update.
    pub retries: u32,
    /// How long.
    pub waited: Duration,
}

fn group_name(record: Option<RecordKind>, index: Option<u32>, group: Option<&str>) -> String {
    let index = index.map_or_else(String::new, |index| format!(" {index}"));
    match (record, group) {
        (Some(record), Some(group)) => format!("{}{index}'s {group} group", record.name()),
        (Some(record), None) => format!("a group of {}{index}", record.name()),
        (None, _) => "the group".to_owned(),
    }
}

fn waited_for(retries: u32, waited: Duration) -> String {
    match retries {
        0 => format!("for {waited:?}"),
        retries => format!("after {retries} retries in {waited:?}"),
    }
}
