//! Errors, one type per operation.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use domstat_layout::RecordKind;
use domstat_layout::directory::NAME_RULE;
use domstat_layout::frame::DescriptionError;

/// Why a region of the wanted shape cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The number of vCPUs is out of range (rule I07).
    Vcpus {
        /// What was asked for.
        found: u32,
        /// The cap.
        max: u32,
    },
    /// The alignment is no power of two of at least 8, or below the page size where records are
    /// page-granular (rule I09).
    Align {
        /// What was asked for.
        found: u32,
        /// The least that would do.
        least: u32,
    },
    /// A chosen offset or stride is too small or not aligned (rules I04, I05, I09).
    Word {
        /// Which header word.
        word: &'static str,
        /// What was asked for.
        found: u32,
        /// The least that would do.
        least: u32,
        /// What it must be a multiple of.
        align: u32,
    },
    /// There are too many devices of a kind (rule I07).
    Devices {
        /// What was asked for.
        found: u32,
        /// The cap.
        max: u32,
    },
    /// No such revision is known.
    Revision {
        /// What was asked for.
        found: u32,
        /// The newest there is.
        newest: u32,
    },
    /// The revision asked for does not have this part.
    NotInRevision {
        /// The revision asked for.
        revision: u32,
        /// The part.
        what: &'static str,
    },
    /// A group that is described at run time is not legal.
    Described {
        /// Why.
        why: &'static str,
    },
    /// Records would share frames.
    Frames(domstat_layout::geometry::FrameError),
    /// Longer than [`domstat_layout::MAX_REGION_LEN`].
    TooLarge,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpus { found, max } => {
                write!(f, "a region describes 1 to {max} vCPUs, not {found}")
            }
            Self::Align { found, least } => {
                write!(f, "an alignment is a power of two of at least {least}, not {found}")
            }
            Self::Word { word, found, least, align } => {
                write!(f, "{word} must be at least {least} and a multiple of {align}, not {found}")
            }
            Self::Devices { found, max } => {
                write!(f, "a region describes at most {max} devices of a kind, not {found}")
            }
            Self::Revision { found, newest } => {
                write!(f, "revision {found} is not known: 1 to {newest} are")
            }
            Self::NotInRevision { revision, what } => {
                write!(f, "a region of revision {revision} has no {what}")
            }
            Self::Described { why } => write!(f, "a described group is not legal: {why}"),
            Self::Frames(e) => e.fmt(f),
            Self::TooLarge => write!(
                f,
                "the region would be longer than {} bytes: use a smaller alignment or stride",
                domstat_layout::MAX_REGION_LEN
            ),
        }
    }
}

impl Error for PlanError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Frames(e) => e.source(),
            _ => None,
        }
    }
}

/// Why a region cannot be created or published. Nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// Its shape cannot be laid out.
    Plan(PlanError),
    /// The operating system refused.
    Os {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
    /// The file exists and another producer writes it.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The path names something that is not a region, which will not be replaced.
    NotARegion {
        /// The file.
        path: PathBuf,
    },
    /// The descriptor is not that of a memfd that can be sealed and still be written.
    NotSealable,
    /// Another process did to the frame that it was handed what it must not.
    Frame {
        /// Which frame.
        what: String,
        /// What was done.
        why: &'static str,
    },
    /// The caller's pages do not fit the plan.
    Pages {
        /// Which of them.
        what: String,
        /// How long it is.
        found: usize,
        /// How long it should be.
        expected: usize,
    },
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(e) => e.fmt(f),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}{}", hint(source)),
            Self::InUse { path } => write!(
                f,
                "{} is in use by another producer: stop it or choose another path",
                path.display()
            ),
            Self::NotARegion { path } => write!(
                f,
                "{} exists and is not a domstat region: remove it or choose another path",
                path.display()
            ),
            Self::NotSealable => write!(
                f,
                "the descriptor is not a writable memfd that can be sealed: make it with MFD_ALLOW_SEALING"
            ),
            Self::Frame { what, why } => write!(
                f,
                "{what} cannot be published: {why}; take it back, and do not trust that process"
            ),
            Self::Pages { what, found, expected } => write!(
                f,
                "{what} has {found} bytes, {expected} are needed and a start at a multiple of 8"
            ),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Plan(e) => e.source(),
            _ => None,
        }
    }
}

impl From<PlanError> for CreateError {
    fn from(e: PlanError) -> Self {
        Self::Plan(e)
    }
}

/// Why a record cannot be handed to another process, or taken back.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandOverError {
    /// The region's records have no frames of their own.
    NotInFrames,
    /// There is no such record, or it lies in the frame of another.
    NoSuchFrame {
        /// The kind of the record.
        kind: RecordKind,
        /// Its index.
        index: u32,
    },
    /// Another record with a writer lies in the same frame.
    Shared {
        /// The kind of the record.
        kind: RecordKind,
        /// Its index.
        index: u32,
        /// The kind of the other.
        with: RecordKind,
    },
    /// A writer of a single group lives in this process, or two writers are of different records.
    GroupTaken {
        /// The kind of the record.
        kind: RecordKind,
        /// Its index.
        index: u32,
    },
    /// The record was not handed out, or was taken back.
    NotHandedOut {
        /// The kind of the record.
        kind: RecordKind,
        /// Its index.
        index: u32,
    },
    /// The dom record of a published region, whose header this process writes.
    DomIsLive,
    /// The record as its process left it cannot be used.
    Frame(FrameError),
    /// No memory for it.
    Create(CreateError),
    /// The operating system refused.
    Os {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for HandOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInFrames => write!(
                f,
                "the region's records have no memory of their own: create it with create_memfd_frames, or have the other \
         program publish a region of its own, named after the domain and a dot"
            ),
            Self::NoSuchFrame { kind, index } => {
                write!(f, "the region has no frame of {} {index}", kind.name())
            }
            Self::Shared { kind, index, with } => write!(
                f,
                "the frame of {} {index} holds its {} record, too: hand both writers over together, as a pair",
                kind.name(),
                with.name()
            ),
            Self::GroupTaken { kind, index } => write!(
                f,
                "a group of {} {index} has a writer of its own here, or the writers are of two records",
                kind.name()
            ),
            Self::NotHandedOut { kind, index } => write!(
                f,
                "{} {index} is not handed out: its writer is in this process",
                kind.name()
            ),
            Self::DomIsLive => {
                write!(f, "the dom record can be handed over before the region is published only")
            }
            Self::Frame(e) => e.fmt(f),
            Self::Create(e) => e.fmt(f),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for HandOverError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Frame(e) => e.source(),
            Self::Create(e) => e.source(),
            _ => None,
        }
    }
}

impl From<FrameError> for HandOverError {
    fn from(e: FrameError) -> Self {
        Self::Frame(e)
    }
}

impl From<CreateError> for HandOverError {
    fn from(e: CreateError) -> Self {
        Self::Create(e)
    }
}

/// Why a frame that was handed over cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The description cannot be used.
    Description(DescriptionError),
    /// The schema does not describe the arch slots.
    Schema,
    /// The description is of a record of another kind.
    OtherRecord {
        /// The kind of its record.
        found: RecordKind,
        /// Its index.
        index: u32,
        /// What was expected.
        expected: RecordKind,
    },
    /// The frame does not hold such a record.
    NoSuchRecord {
        /// What was looked for.
        kind: RecordKind,
        /// The kind of the frame's record.
        of: RecordKind,
        /// Its index.
        index: u32,
    },
    /// Not a memfd that is sealed against shrinking.
    NotMemory,
    /// It was sealed before this process mapped it.
    Sealed,
    /// Another length than that of the frame in the region.
    Length {
        /// Bytes there are.
        found: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// Memory with holes: a write could find no page.
    NotAllocated,
    /// A record's header is not what it must be.
    Record {
        /// The kind of the record.
        kind: RecordKind,
        /// Which word.
        field: &'static str,
        /// What it is.
        found: u32,
        /// What it must be.
        expected: u32,
    },
    /// The operating system refused.
    Os {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description(e) => e.fmt(f),
            Self::Schema => {
                write!(f, "the description of the frame has no schema that describes its arch slot")
            }
            Self::OtherRecord { found, index, expected } => write!(
                f,
                "the frame is that of {} {index}, not of a {} record",
                found.name(),
                expected.name()
            ),
            Self::NoSuchRecord { kind, of, index } => {
                write!(f, "the frame of {} {index} holds no {} record", of.name(), kind.name())
            }
            Self::NotMemory => write!(
                f,
                "the descriptor is not that of a frame: a memfd, sealed against shrinking"
            ),
            Self::Sealed => write!(
                f,
                "the frame is sealed against writers already: the region was published before this process had mapped \
         it; the owner has to hand the record over again"
            ),
            Self::Length { found, expected } => {
                write!(f, "the frame's memory has {found} bytes, not {expected}")
            }
            Self::NotAllocated => write!(f, "the frame's memory is not allocated to its end"),
            Self::Record { kind, field, found, expected } => write!(
                f,
                "the {} record in the frame has {field} {found:#x}, not {expected:#x}",
                kind.name()
            ),
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for FrameError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            Self::Description(e) => e.source(),
            _ => None,
        }
    }
}

impl From<DescriptionError> for FrameError {
    fn from(e: DescriptionError) -> Self {
        Self::Description(e)
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => " (make room there, or publish without --file, in memory)",
        io::ErrorKind::NotFound => " (create the directory first)",
        io::ErrorKind::PermissionDenied => " (choose a directory that you may write)",
        _ => "",
    }
}

/// Why a region cannot be made known in a directory.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The name is taken by a live region.
    NameTaken {
        /// The domain's name.
        name: String,
    },
    /// A domain's name becomes a file name.
    BadName {
        /// The domain's name.
        name: String,
    },
    /// The region is not one that others can be pointed at.
    NoDescriptor,
    /// The entry would lead consumers to another process, or nowhere: `/proc` is not there, or shows the
    /// processes of another namespace.
    NotInProc {
        /// The number that the process has for itself.
        pid: u32,
    },
    /// The process does not hold a region's memory at this descriptor.
    NotARegion {
        /// The process.
        pid: u32,
        /// Its descriptor.
        fd: u32,
    },
    /// The operating system refused.
    Os {
        /// What was tried.
        action: String,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for AnnounceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { name } => write!(
                f,
                "a domain named {name} is published already: stop its producer or choose another name"
            ),
            Self::BadName { name } => {
                write!(f, "{name:?} cannot be the name of a domain: use {NAME_RULE}")
            }
            Self::NoDescriptor => {
                write!(f, "only a region in one memfd can be announced in a directory")
            }
            Self::NotInProc { pid } => write!(
                f,
                "process {pid} is not this one in /proc, so an entry would mislead consumers: have the launcher announce \
         the region, serve it at a socket, or leave it to a collector that looks into processes \
         (domstat ls --scan)"
            ),
            Self::NotARegion { pid, fd } => {
                write!(f, "descriptor {fd} of process {pid} is not the memory of a region")
            }
            Self::Os { action, source } => write!(f, "cannot {action}: {source}"),
        }
    }
}

impl Error for AnnounceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The file of a published region was truncated, so that nothing that is written to it reaches
/// consumers any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionTruncated {
    /// The file.
    pub path: PathBuf,
    /// Bytes that were mapped.
    pub mapped_len: u64,
    /// Bytes that the file has now.
    pub file_len: u64,
}

impl fmt::Display for RegionTruncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mapped_len, file_len } = self;
        write!(
            f,
            "{} was truncated from {mapped_len} bytes to {file_len}: nothing that is written there is read any \
     more; publish in memory, or where nobody else can write",
            path.display()
        )
    }
}

impl Error for RegionTruncated {}
