//! # Frames in other processes
//!
//! How the process that owns a page-granular region lets another one write a record of it. The record's
//! [`Frame`] is a memfd of its own; its owner passes the descriptor, and these bytes, which
//! say what lies in it:
//!
//! | offset | type | field | meaning |
//! |---|---|---|---|
//! | 0 | u32 | magic | [`MAGIC`]: the format and its incompatible version in one word |
//! | 4 | u32 | kind | number of the kind of the record ([`RecordKind::number`]) |
//! | 8 | u32 | index | of the record in its array |
//! | 12 | u32 | page | bytes of the pages by which frames were cut |
//! | 16 | u64 | len | of these bytes, to their end |
//! | 24 | u64 | | 0 |
//! | 32 | | header | the region's dom header, `magic` included |
//! | 160 | | schema | the region's schema, if it has one |
//!
//! ## Rules
//!
//! * The bytes are an allegation, as a region is: [`Description::parse`] validates header and table of records by
//!   the rules for regions, and whoever uses the frame checks its length, and magic and index in it.
//! * The frame's memfd is allocated to its end and sealed against shrinking and growing before it is passed. When every
//!   process has mapped its frames, the owner seals them against future writing and further sealing, and
//!   publishes the region.
//! * A process that has a frame writes nothing but the groups of its records, their `stats_active` bits and their
//!   `generation`. It can write all of the frame and nothing outside of it; so consumers validate a frame's record as
//!   any other, and nothing else depends on it. Whoever has the dom record's frame has the region's header.
//! * A group of a process that was killed may stay in mid-update for ever. The owner of the region, who has every
//!   frame mapped, makes it whole: from the group's twin, or counter by counter.
//! * Sealed memory cannot be mapped writable again. For the next process the owner makes new memory for the frame,
//!   leaves the groups of the old one in mid-update, but for those that say which device a share is of, and
//!   hands the new one to consumers; the region's incarnation stays.

use core::fmt;

use crate::geometry::{Frame, FrameError, Geometry, GeometryError, RecordTable, RecordTableError};
use crate::geometry::{FramePart, Section};
use crate::header::{DOM_HEADER_LEN, DomHeader, MAX_REGION_LEN, dom};
use crate::mem::ReadMem;
use crate::record::RecordKind;
use crate::schema;

/// `FRM` and the incompatible version 1, as bytes of a description.
pub const MAGIC: u32 = u32::from_le_bytes(*b"FRM\x01");
/// Bytes before the header.
pub const HEAD_LEN: usize = 32;
/// Where the schema begins.
pub const SCHEMA_AT: usize = HEAD_LEN + DOM_HEADER_LEN;
/// Longest description.
pub const MAX_LEN: usize = SCHEMA_AT + schema::MAX_LEN;
/// Largest page by which frames are cut: the largest base page of an architecture in use.
const MAX_PAGE: u32 = 1 << 16;

/// A description of a frame that was checked.
///
/// Holding one proves that header and table of records describe a usable region, and that the record and what
/// belongs to it lie in the frame. It says nothing about the frame's memory.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The kind of the record.
    pub kind: RecordKind,
    /// Its position in its array.
    pub index: u32,
    /// The region's header.
    pub header: DomHeader,
    /// The region's shape.
    pub geometry: Geometry,
    /// Where the frame lies in the region.
    pub frame: Frame,
}

/// A description that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptionError {
    /// Fewer bytes than a header, or more than the longest schema.
    Length {
        /// Bytes there are.
        found: usize,
    },
    /// A word of the description itself is wrong.
    Word {
        /// Name of the word.
        field: &'static str,
        /// Where it lies.
        offset: usize,
        /// What it is.
        found: u64,
    },
    /// The header does not describe a usable region.
    Geometry(GeometryError),
    /// The table of records cannot be used.
    Records(RecordTableError),
    /// The region has no frames.
    Frames(FrameError),
    /// There is no such record, or it lies in the frame of another.
    NoSuchRecord {
        /// The kind.
        kind: RecordKind,
        /// The index.
        index: u32,
    },
}

impl fmt::Display for DescriptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => {
                write!(f, "a frame's description has {SCHEMA_AT} to {MAX_LEN} bytes, not {found}")
            }
            Self::Word { field, offset, found } => {
                write!(f, "a frame's description: {field} at byte {offset} is {found:#x}")
            }
            Self::Geometry(n) => write!(f, "a frame's description: {n}"),
            Self::Records(n) => write!(f, "a frame's description: {n}"),
            Self::Frames(n) => write!(f, "a frame's description: {n}"),
            Self::NoSuchRecord { kind, index } => write!(
                f,
                "a frame's description: the region has no frame of {} {index}",
                kind.name()
            ),
        }
    }
}

impl core::error::Error for DescriptionError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Geometry(e) => Some(e),
            Self::Records(e) => Some(e),
            Self::Frames(e) => Some(e),
            _ => None,
        }
    }
}

impl From<GeometryError> for DescriptionError {
    fn from(e: GeometryError) -> Self {
        Self::Geometry(e)
    }
}

impl From<RecordTableError> for DescriptionError {
    fn from(e: RecordTableError) -> Self {
        Self::Records(e)
    }
}

impl From<FrameError> for DescriptionError {
    fn from(e: FrameError) -> Self {
        Self::Frames(e)
    }
}

impl Description {
    /// Checks a description.
    ///
    /// # Errors
    /// [`DescriptionError`].
    pub fn parse(mem: ReadMem<'_>) -> Result<Self, DescriptionError> {
        let found = mem.len();
        let length = DescriptionError::Length { found };
        if !(SCHEMA_AT..=MAX_LEN).contains(&found) {
            return Err(length);
        }
        let word = |at| mem.load_u32(at).unwrap_or(0);
        let ensure = |holds: bool, field, offset, found: u64| {
            if holds { Ok(()) } else { Err(DescriptionError::Word { field, offset, found }) }
        };
        ensure(word(0) == MAGIC, "magic", 0, word(0).into())?;
        let kind = RecordKind::from_number(word(4));
        let kind =
            kind.ok_or(DescriptionError::Word { field: "kind", offset: 4, found: word(4).into() })?;
        let (index, page) = (word(8), word(12));
        let is_page = page.is_power_of_two() && (8..=MAX_PAGE).contains(&page);
        ensure(is_page, "page", 12, page.into())?;
        let len = mem.load_u64(16).unwrap_or(0);
        ensure(len == found as u64, "length", 16, len)?;
        let header = DomHeader::load(mem.sub(HEAD_LEN, DOM_HEADER_LEN).ok_or(length)?);
        let header = header.ok_or(length)?;
        let mut geometry = Geometry::validate(&header, MAX_REGION_LEN)?;
        let schema = geometry.schema();
        let rest = found - SCHEMA_AT;
        let is_whole = schema.size == rest;
        ensure(is_whole, "length of the schema", HEAD_LEN + dom::SCHEMA_SIZE, rest as u64)?;
        if schema.size > 0 {
            let mem = mem.sub(SCHEMA_AT, rest).ok_or(length)?;
            let table = RecordTable::load(mem, Section { offs: 0, size: rest })?;
            geometry = geometry.with_records(&table, MAX_REGION_LEN)?;
        }
        let frame = geometry.frame_of(kind, index, page as usize)?;
        let is_it = |frame: &Frame| frame.part == FramePart::Record { kind, index };
        let frame = frame.filter(is_it).ok_or(DescriptionError::NoSuchRecord { kind, index })?;
        Ok(Self { kind, index, header, geometry, frame })
    }

    /// The words before the header, of a description of so many bytes.
    #[must_use]
    pub fn head(kind: RecordKind, index: u32, page: u32, len: u64) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        let words = [MAGIC, kind.number(), index, page];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).chain(len.to_le_bytes());
        for (to, from) in head.iter_mut().zip(bytes) {
            *to = from;
        }
        head
    }

    /// Where the record of a kind that belongs to this one lies in the frame, and how long it is; this one for its
    /// own kind. `None` if the frame has none.
    #[must_use]
    pub fn place(&self, kind: RecordKind) -> Option<Section> {
        let array = self.geometry.array(kind);
        let offs = array.offset(self.index)?.checked_sub(self.frame.offs)?;
        let is_own = kind == self.kind || kind.base() == Some(self.kind);
        let fits = offs.checked_add(array.size)? <= self.frame.len;
        (is_own && fits).then_some(Section { offs, size: array.size })
    }
}
