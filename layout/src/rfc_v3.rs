//! The vCPU-only layout of Matias Vara Larsen's RFC v3, which came before this one: read-only.
//!
//! "\[RFC PATCH v3 0/3\] Add a new acquire resource to query vcpu statistics" (xen-devel, 31 October
//! 2023) exposes one counter of each vCPU. A hypervisor that carries those patches writes:
//!
//! | offset | type | header word (`vcpu_shmem_stats`) |
//! |---|---|---|
//! | 0 | u32 | magic: `0xaabbccdd` |
//! | 4 | u32 | offset: start of record 0 |
//! | 8 | u32 | size: length of a record as the producer was built |
//! | 12 | u32 | stride: distance between records |
//!
//! | offset | type | record word (`vcpu_stats`) |
//! |---|---|---|
//! | 0 | u32 | seq: odd while an update is in progress |
//! | 4 | u32 | pad: zero |
//! | 8 | u64 | running time in ns; with bit 63 set it is inactive, or has overflowed |
//!
//! What the layout does not say, a reader cannot know:
//!
//! * *How many vCPUs there are.* [`Geometry::nr_records`] is how many records fit the mapping.
//! * *Whether a record is in use.* Pages start as zeros, and a record is first written when its
//!   vCPU next changes its state: [`Running::NeverWritten`] may be no vCPU, or an idle one.
//! * *When a record was written.* There is no clock and no time of the write; a vCPU that runs on
//!   and on is not written until it stops.
//! * *Whether bit 63 means inactive or overflowed.*
//!
//! The patches as mailed scale the stride by the record's size, so that vCPU `n` is record
//! `n * size` and all but the first few lie outside the page: [`is_scaled`] recognizes it.

use core::fmt;

use crate::geometry::Expected;
use crate::header::MAX_VCPUS;
use crate::mem::ReadMem;
use crate::twins::Busy;

/// First word of the header.
pub const MAGIC: u32 = 0xaabb_ccdd;
/// Length of the header; its words follow each other.
pub const HEADER_LEN: usize = 16;
/// Length of a record as RFC v3 builds it.
pub const RECORD_LEN: usize = 16;
/// Least length of a record: `seq` and `pad`.
pub const MIN_RECORD_LEN: usize = 8;
/// Set in a counter that is inactive or has overflowed.
pub const INACTIVE: u64 = 1 << 63;
/// Most records that are looked at, however many fit the mapping.
pub const MAX_RECORDS: u32 = MAX_VCPUS;

/// Word offsets of the header.
pub mod header {
    /// u32: [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// u32: start of record 0.
    pub const OFFSET: usize = 4;
    /// u32: length of a record as the producer was built.
    pub const SIZE: usize = 8;
    /// u32: distance between records.
    pub const STRIDE: usize = 12;
}

/// Word offsets of a record.
pub mod record {
    /// u32: odd while an update is in progress.
    pub const SEQ: usize = 0;
    /// u32: zero.
    pub const PAD: usize = 4;
    /// u64: time on a physical CPU in ns, and [`super::INACTIVE`].
    pub const RUNNING_NS: usize = 8;
}

/// The header's words, copied once. Holding one proves nothing about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the word of the same name in `header`")]
pub struct Header {
    pub magic: u32,
    pub offset: u32,
    pub size: u32,
    pub stride: u32,
}

impl Header {
    /// Copies the header out of shared memory; `None` if `mem` is shorter than a header.
    #[must_use]
    pub fn load(mem: ReadMem<'_>) -> Option<Self> {
        let mem = mem.sub(0, HEADER_LEN)?;
        let magic = mem.load_published(header::MAGIC)?;
        Some(Self {
            magic,
            offset: mem.load_u32(header::OFFSET)?,
            size: mem.load_u32(header::SIZE)?,
            stride: mem.load_u32(header::STRIDE)?,
        })
    }

    /// Whether the magic is this layout's, in either byte order.
    #[must_use]
    pub const fn is_rfc_v3(&self) -> bool {
        self.magic == MAGIC || self.magic == MAGIC.swap_bytes()
    }
}

/// Whether `mem` holds this layout, as far as its magic says.
#[must_use]
pub fn recognized(mem: ReadMem<'_>) -> bool {
    Header::load(mem).is_some_and(|header| header.is_rfc_v3())
}

/// The validated shape of a region.
///
/// Holding one proves, for the mapped length it was validated against: there is a record, and
/// every record lies inside the mapping and behind the header, starts at a multiple of 8, holds at
/// least `seq`, and shares no byte with another. It says nothing about the bytes in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    offset: usize,
    size: usize,
    stride: usize,
    nr_records: u32,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// Fewer bytes than a header.
    TooShort {
        /// Bytes there are.
        mapped_len: usize,
    },
    /// The magic of a producer with the other byte order.
    WrongEndian,
    /// Another layout, or none.
    WrongMagic {
        /// The word found.
        found: u32,
    },
    /// A header word is out of its bounds.
    Word {
        /// The checker's rule that it breaks, for example `R02`.
        rule: &'static str,
        /// Name of the word.
        field: &'static str,
        /// Where it lies.
        offset: usize,
        /// What would have been right.
        expected: Expected,
        /// What it is.
        found: u32,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { mapped_len } => write!(
                f,
                "the region has {mapped_len} bytes, fewer than the {HEADER_LEN} of an RFC v3 header"
            ),
            Self::WrongEndian => {
                write!(f, "the RFC v3 region is big-endian, which is not supported")
            }
            Self::WrongMagic { found } => write!(
                f,
                "not an RFC v3 region: magic at byte 0 is {found:#010x}, expected {MAGIC:#010x}"
            ),
            Self::Word { field, offset, expected, found, .. } => write!(
                f,
                "RFC v3 header word {field} at byte {offset} is {found}, expected {expected}"
            ),
        }
    }
}

impl core::error::Error for GeometryError {}

impl Geometry {
    /// Validates a copy of the header against the bytes that are mapped.
    ///
    /// # Errors
    /// [`GeometryError`] with the word, its offset, what was expected and what was found.
    pub fn validate(h: &Header, mapped_len: usize) -> Result<Self, GeometryError> {
        let word = |rule, field, offset, expected, found| {
            Err(GeometryError::Word { rule, field, offset, expected, found })
        };
        if mapped_len < HEADER_LEN {
            return Err(GeometryError::TooShort { mapped_len });
        }
        match h.magic {
            MAGIC => {}
            m if m.swap_bytes() == MAGIC => return Err(GeometryError::WrongEndian),
            found => return Err(GeometryError::WrongMagic { found }),
        }
        if (h.offset as usize) < HEADER_LEN {
            let least = Expected::AtLeast(HEADER_LEN as u64);
            return word("R02", "offset", header::OFFSET, least, h.offset);
        }
        if (h.size as usize) < MIN_RECORD_LEN {
            let least = Expected::AtLeast(RECORD_LEN as u64);
            return word("R03", "size", header::SIZE, least, h.size);
        }
        if h.stride < h.size {
            let least = Expected::AtLeast(u64::from(h.size));
            return word("R04", "stride", header::STRIDE, least, h.stride);
        }
        let words = [
            ("offset", header::OFFSET, h.offset),
            ("size", header::SIZE, h.size),
            ("stride", header::STRIDE, h.stride),
        ];
        for (field, offset, found) in words {
            if !found.is_multiple_of(8) {
                return word("R06", field, offset, Expected::MultipleOf(8), found);
            }
        }
        let (offset, size, stride) = (h.offset as usize, h.size as usize, h.stride as usize);
        // Bytes in which a record may start. The stride is at least 8, so never 0.
        let Some(starts) = mapped_len.checked_sub(size).and_then(|n| n.checked_sub(offset)) else {
            let most = Expected::AtMost(mapped_len.saturating_sub(size) as u64);
            return word("R05", "offset", header::OFFSET, most, h.offset);
        };
        let fit = u32::try_from(starts / stride).unwrap_or(u32::MAX).saturating_add(1);
        Ok(Self { offset, size, stride, nr_records: fit.min(MAX_RECORDS) })
    }

    /// Start of record 0.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Length of a record as the producer was built.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Distance between records.
    #[must_use]
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// Records that fit the mapping, at most [`MAX_RECORDS`]; the vCPUs may be fewer.
    #[must_use]
    pub const fn nr_records(&self) -> u32 {
        self.nr_records
    }

    /// Start of record `index`, or `None` past the last.
    #[must_use]
    pub const fn record_offset(&self, index: u32) -> Option<usize> {
        if index < self.nr_records {
            Some(self.offset + index as usize * self.stride)
        } else {
            None
        }
    }

    /// One attempt to read record `index`; `None` past the last, or past the end of `mem`.
    ///
    /// # Errors
    /// [`Busy`] if an update is or was in progress.
    #[must_use]
    pub fn try_read(&self, mem: ReadMem<'_>, index: u32) -> Option<Result<Record, Busy>> {
        let mem = mem.sub(self.record_offset(index)?, self.size)?;
        // The record has the shape of a group without fields: `seq`, a word that is not looked
        // at, and the one that `seq` guards.
        let Some(words) = mem.group(record::SEQ, RECORD_LEN) else {
            return Some(Ok(Record { seq: mem.load_u32(record::SEQ)?, word: None }));
        };
        Some(words.try_read(&mut [], || ()).map(|(seq, word, ())| Record { seq, word: Some(word) }))
    }
}

/// A record, as of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The sequence number: two more for each write.
    pub seq: u32,
    /// The running time as it was stored, bit 63 included; `None` if the producer's records end
    /// before it.
    pub word: Option<u64>,
}

impl Record {
    /// What the record says of the vCPU's running time.
    #[must_use]
    pub const fn running(&self) -> Running {
        match (self.word, self.seq) {
            (None, _) => Running::Unknown,
            (Some(0), 0) => Running::NeverWritten,
            (Some(word), _) if word & INACTIVE != 0 => Running::InactiveOrOverflowed,
            (Some(ns), _) => Running::Ns(ns),
        }
    }
}

/// The answer to "how long did the vCPU run?"; none of the others is ever shown as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Time on a physical CPU in ns, as of the vCPU's last change of state.
    Ns(u64),
    /// Not produced, or more than 63 bits can hold: the layout does not tell them apart.
    InactiveOrOverflowed,
    /// The record is still as the pages were cleared: there is no such vCPU, or it did not change
    /// its state since.
    NeverWritten,
    /// The producer's records end before the counter.
    Unknown,
}

impl Running {
    /// The time in ns, if there is one.
    #[must_use]
    pub const fn ns(self) -> Option<u64> {
        match self {
            Self::Ns(ns) => Some(ns),
            Self::InactiveOrOverflowed | Self::NeverWritten | Self::Unknown => None,
        }
    }

    /// `active`, `inactive_or_overflowed`, `never_written` or `unknown`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ns(_) => "active",
            Self::InactiveOrOverflowed => "inactive_or_overflowed",
            Self::NeverWritten => "never_written",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether `written`, the records that were ever written, are what a producer leaves that scales
/// the stride by the record's size, as the patches did when they were mailed: a record outside of the
/// first, and none that is no multiple of the size.
#[must_use]
pub fn is_scaled(geometry: &Geometry, written: impl IntoIterator<Item = u32>) -> bool {
    let mut beside_the_first = false;
    for index in written {
        if !(index as usize).is_multiple_of(geometry.size) {
            return false;
        }
        beside_the_first |= index > 0;
    }
    beside_the_first
}

#[cfg(test)]
mod tests;
