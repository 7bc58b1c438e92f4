//! Frames: the runs of pages of a page-granular region, each of which holds one record.

use core::fmt;

use super::{Array, Geometry};
use crate::record::RecordKind;

/// Whole pages of a region that hold one record with what belongs to it, and nothing of another, or the
/// schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its start, from the region start.
    pub offs: usize,
    /// Its length.
    pub len: usize,
    /// What lies in it.
    pub part: FramePart,
}

/// What lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePart {
    /// Record `index` of an array, with its arch slot and distributions if these lie in its stride.
    Record {
        /// The kind of the array.
        kind: RecordKind,
        /// The record's position in it.
        index: u32,
    },
    /// The schema.
    Schema,
}

/// Why a region cannot be cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Records share pages.
    Packed {
        /// The kind of the records.
        kind: RecordKind,
        /// Start of the first.
        offs: usize,
        /// Distance between them.
        stride: usize,
        /// Bytes of a page.
        page: usize,
    },
    /// The schema shares a page with records.
    PackedSchema {
        /// Its start.
        offs: usize,
        /// Bytes of a page.
        page: usize,
    },
    /// Two arrays whose ranges overlap are not a record and what belongs to it.
    Among {
        /// The kind of the records.
        kind: RecordKind,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed { kind, offs, stride, page } => write!(
                f,
                "{} records are {stride} bytes apart from byte {offs} on, and so share pages of {page} bytes with others: \
         a record can have frames of its own in a page-granular region only",
                kind.name()
            ),
            Self::PackedSchema { offs, page } => write!(
                f,
                "the schema begins at byte {offs}, within a page of {page} bytes that holds a record"
            ),
            Self::Among { kind } => write!(
                f,
                "{} records lie among those of another kind, and not each with the record that it belongs to",
                kind.name()
            ),
        }
    }
}

impl core::error::Error for FrameError {}

/// Arrays that frames are cut of: the header's three, shares, and whatever else lies apart.
const MAX_PARTS: usize = RecordKind::ALL.len();

/// The frames of a region, in order; together they are the region. [`Geometry::frames`].
#[derive(Clone, Debug)]
pub struct Frames {
    parts: [(RecordKind, Array); MAX_PARTS],
    nr: usize,
    schema: Option<Frame>,
    /// The next frame: an array of `parts`, and a record of it.
    next: (usize, u32),
    page: usize,
}

impl Geometry {
    /// Cuts the region into frames of whole pages of `page` bytes, a power of two.
    ///
    /// # Errors
    /// [`FrameError`] if records share pages with others.
    pub fn frames(&self, page: usize) -> Result<Frames, FrameError> {
        let mut parts = [(RecordKind::Dom, Array::default()); MAX_PARTS];
        let mut nr = 0;
        for kind in RecordKind::ALL {
            let array = self.array(kind);
            let Some(part) = parts.get_mut(nr) else { break };
            if array.nr > 0 && !self.is_window(kind) {
                *part = (kind, array);
                nr += 1;
            }
        }
        let page = page.max(1);
        let used = parts.get_mut(..nr).unwrap_or_default();
        used.sort_unstable_by_key(|(_, array)| array.offs);
        for (kind, Array { offs, stride, .. }) in used.iter().skip(1).copied() {
            if !offs.is_multiple_of(page) || !stride.is_multiple_of(page) {
                return Err(FrameError::Packed { kind, offs, stride, page });
            }
        }
        let schema = self.schema();
        let end = self.end.next_multiple_of(page);
        let schema = match schema.size {
            0 => None,
            _ if !schema.offs.is_multiple_of(page) => {
                return Err(FrameError::PackedSchema { offs: schema.offs, page });
            }
            _ => Some(schema.offs),
        };
        // Each array extends to the next one: what lies in between is the gap of its last record.
        let mut before = 0;
        for (kind, array) in used.iter() {
            let offs = if *kind == RecordKind::Dom { 0 } else { array.offs };
            let is_before_schema = schema.is_none_or(|schema| array.end() <= schema);
            if offs < before || !is_before_schema {
                return Err(FrameError::Among { kind: *kind });
            }
            before = array.end();
        }
        let schema = schema.map(|offs| Frame { offs, len: end - offs, part: FramePart::Schema });
        Ok(Frames { parts, nr, schema, next: (0, 0), page })
    }

    /// Whether records of this kind lie in the frames of those that they belong to.
    fn is_window(&self, kind: RecordKind) -> bool {
        let array = self.array(kind);
        match kind.base() {
            Some(RecordKind::Dom) => true,
            Some(base) => {
                let base = self.array(base);
                let first = base.offs..base.offs + base.stride;
                array.stride == base.stride && array.nr == base.nr && first.contains(&array.offs)
            }
            None => kind == RecordKind::Labels && array.offs < self.vcpus.offs,
        }
    }

    /// The frame that record `index` of a kind lies in.
    ///
    /// # Errors
    /// [`FrameError`] if records share pages with others.
    pub fn frame_of(
        &self,
        kind: RecordKind,
        index: u32,
        page: usize,
    ) -> Result<Option<Frame>, FrameError> {
        let frames = self.frames(page)?;
        let Some(at) = self.array(kind).offset(index) else { return Ok(None) };
        Ok(frames.at(at))
    }
}

impl Frames {
    /// The frame of a record of an array that frames are cut of.
    fn frame(&self, part: usize, index: u32) -> Option<Frame> {
        let (kind, array) = *self.parts.get(..self.nr)?.get(part)?;
        let offs = array.offset(index)?;
        let next = match self.parts.get(..self.nr)?.get(part + 1) {
            Some((_, next)) => next.offs,
            None => {
                self.schema.map_or(array.end().next_multiple_of(self.page), |schema| schema.offs)
            }
        };
        let is_last = index + 1 == array.nr;
        let end = if is_last { next } else { offs + array.stride };
        Some(Frame { offs, len: end - offs, part: FramePart::Record { kind, index } })
    }

    /// The frame that holds the byte at `offset` of the region.
    fn at(&self, offset: usize) -> Option<Frame> {
        let parts = self.parts.get(..self.nr)?;
        let part = parts.partition_point(|(_, array)| array.offs <= offset).checked_sub(1)?;
        let (_, array) = parts.get(part)?;
        let index = (offset - array.offs).checked_div(array.stride)?;
        let index = u32::try_from(index).ok()?.min(array.nr.checked_sub(1)?);
        self.frame(part, index).filter(|frame| offset < frame.offs + frame.len)
    }
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let (part, index) = self.next;
        if let Some(frame) = self.frame(part, index) {
            self.next = (part, index + 1);
            return Some(frame);
        }
        if part < self.nr {
            self.next = (part + 1, 0);
            return self.next();
        }
        self.schema.take()
    }
}
