//! Groups of which there are two copies: twins.
//!
//! Beside a writer that never pauses a reader of one copy can starve; a reader of two cannot, and
//! when a writer dies in mid-update one copy is whole. The writer finishes the first copy before it
//! begins the second; a reader takes the first and, if that is busy, the second. The two updates
//! are not ordered against each other for a reader on a CPU that reorders loads and stores: it may
//! find both busy for a moment, which is why reading twins is an attempt, too.

use crate::descriptor::GroupDesc;
use crate::mem::{Busy, ReadGroup, ReadMem, WriteGroup, WriteMem};

/// A group and its twin, for reading.
#[derive(Clone, Copy)]
pub struct ReadTwins<'a> {
    /// The copy that is written first.
    pub first: ReadGroup<'a>,
    /// The copy that is written second.
    pub second: ReadGroup<'a>,
}

impl<'a> ReadTwins<'a> {
    /// The two groups of the record in `mem`; `None` unless it holds both.
    #[inline(always)]
    #[must_use]
    pub fn of(mem: ReadMem<'a>, first: &GroupDesc, twin: &GroupDesc) -> Option<Self> {
        Some(Self {
            first: mem.group(first.offset, first.size)?,
            second: mem.group(twin.offset, twin.size)?,
        })
    }

    /// As [`ReadGroup::try_read`], of whichever copy is whole.
    ///
    /// # Errors
    /// [`Busy`] if the writer was in the first copy, then in the second.
    #[inline(always)]
    pub fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl Fn() -> T,
    ) -> Result<(u32, u64, T), Busy> {
        if let Ok(read) = self.first.try_read(to, &guarded) {
            return Ok(read);
        }
        self.second.try_read(to, guarded)
    }
}

/// A group and its twin, for their one writer.
pub struct WriteTwins<'a> {
    /// The copy that is written first.
    pub first: WriteGroup<'a>,
    /// The copy that is written second.
    pub second: WriteGroup<'a>,
}

impl<'a> WriteTwins<'a> {
    /// The two groups of the record in `mem`; `None` unless it holds both.
    #[inline(always)]
    #[must_use]
    pub fn of(mem: WriteMem<'a>, first: &GroupDesc, twin: &GroupDesc) -> Option<Self> {
        Some(Self {
            first: mem.group(first.offset, first.size)?,
            second: mem.group(twin.offset, twin.size)?,
        })
    }

    /// Writes both copies, one after the other.
    #[inline(always)]
    pub fn write(&mut self, updated_ns: u64, from: &[u64]) {
        self.first.write(updated_ns, from);
        self.second.write(updated_ns, from);
    }

    /// Writes one field of both copies, one after the other.
    #[inline(always)]
    pub fn write_word(&mut self, updated_ns: u64, index: usize, raw: u64) {
        self.first.write_word(updated_ns, index, raw);
        self.second.write_word(updated_ns, index, raw);
    }
}
