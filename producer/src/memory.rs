//! The memory of a region that is being built, in one run or in frames.

use domstat_layout::header::record;
use domstat_layout::{Geometry, RecordKind};

use crate::mapping::Piece;

/// Lengths of the frames that follow the dom record's: one for each vCPU record, and one for what
/// follows them, if anything does.
pub(crate) fn frame_lens(g: &Geometry) -> impl Iterator<Item = usize> {
    let vcpus = g.array(RecordKind::Vcpu);
    let rest = g.end().saturating_sub(vcpus.end());
    (0..vcpus.nr).map(move |_| vcpus.stride).chain((rest > 0).then_some(rest))
}

/// `whole` holds the dom record and, unless there are frames, all that follows it.
pub(crate) struct Memory<'a> {
    pub(crate) whole: Piece,
    pub(crate) frames: &'a [Piece],
    pub(crate) geometry: Geometry,
}

impl Memory<'_> {
    /// `len` bytes of the region from `offset` on; `None` if they are not in one run.
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<Piece> {
        let vcpus = self.geometry.array(RecordKind::Vcpu);
        if self.frames.is_empty() || offset < vcpus.offs {
            return self.whole.sub(offset, len);
        }
        if offset >= vcpus.end() {
            return self.frames.get(vcpus.nr as usize)?.sub(offset - vcpus.end(), len);
        }
        let in_array = offset - vcpus.offs;
        self.frames.get(in_array.checked_div(vcpus.stride)?)?.sub(in_array % vcpus.stride, len)
    }

    /// Stores zero everywhere.
    pub(crate) fn clear(&self) -> Option<()> {
        let g = &self.geometry;
        if self.frames.is_empty() {
            return self.whole.mem().clear(0, g.end().next_multiple_of(8));
        }
        self.whole.mem().clear(0, g.vcpu_offs())?;
        for (frame, len) in self.frames.iter().zip(frame_lens(g)) {
            frame.mem().clear(0, len.next_multiple_of(8))?;
        }
        Some(())
    }

    /// The record of an array at `offset`, with its header filled in.
    pub(crate) fn record(
        &self,
        kind: RecordKind,
        index: u32,
        offset: usize,
        size: usize,
    ) -> Option<Piece> {
        let piece = self.at(offset, size)?;
        piece.mem().store_u32(record::MAGIC, kind.magic())?;
        piece.mem().store_u32(record::INDEX, index)?;
        Some(piece)
    }

    /// Every record of a kind with its index and its header filled in.
    pub(crate) fn records(&self, kind: RecordKind) -> Option<impl Iterator<Item = (u32, Piece)>> {
        let array = self.geometry.array(kind);
        let mut records = Vec::with_capacity(array.nr as usize);
        for index in 0..array.nr {
            records.push((index, self.record(kind, index, array.offset(index)?, array.size)?));
        }
        Some(records.into_iter())
    }
}
