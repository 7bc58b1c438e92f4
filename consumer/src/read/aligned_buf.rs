//! Cache-line aligned buffer for whole records.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Words that start on a cache line, so that records copied side by side are stored across as few
/// line boundaries as can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct AlignedBuf {
    lines: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u64; 8]);

impl AlignedBuf {
    /// Makes it `len` words long; allocates only if it never was that long.
    pub(crate) fn resize(&mut self, len: usize) {
        self.lines.resize(len.div_ceil(8), Line::default());
        self.len = len;
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    pub(crate) fn get(&self) -> &[u64] {
        // Lines are made of words, so this never fails.
        let words = <[u64]>::ref_from_bytes(self.lines.as_bytes()).unwrap_or_default();
        words.get(..self.len).unwrap_or_default()
    }

    pub(crate) fn get_mut(&mut self) -> &mut [u64] {
        let words = <[u64]>::mut_from_bytes(self.lines.as_mut_bytes()).unwrap_or_default();
        words.get_mut(..self.len).unwrap_or_default()
    }
}
