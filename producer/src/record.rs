//! One record of a region, for its one writer.

use domstat_layout::header::record;
use domstat_layout::{GroupSpan, RecordKind, TwinSpans, WriteMem};

use crate::pieces::Piece;

/// A record, and which of the groups that this writer writes are active.
///
/// Every step of the protocol that a writer takes is taken here, for the groups of the table and
/// for those of arch slots alike; what a step does to the copies of a group is
/// [`domstat_layout::twins`]' to say.
pub(crate) struct RecordCore {
    piece: Piece,
    kind: RecordKind,
    active: u64,
    /// Bits of the groups that have a writer of their own: not to be touched here.
    taken: u64,
}

impl RecordCore {
    /// Takes a record whose header is in place and whose groups were never published: leaves each
    /// of them in mid-update, as groups are whose bit is clear.
    pub(crate) fn new(
        piece: Piece,
        kind: RecordKind,
        groups: impl IntoIterator<Item = GroupSpan>,
    ) -> Self {
        for group in groups {
            if let Some(mut words) = piece.mem().group(group.offset, group.size) {
                words.suspend();
            }
        }
        Self { piece, kind, active: 0, taken: 0 }
    }

    /// Takes a record that another writer wrote: what is active stays, and the rest is left in mid-update.
    pub(crate) fn adopt(
        piece: Piece,
        kind: RecordKind,
        groups: impl IntoIterator<Item = GroupSpan>,
    ) -> Self {
        let mem = piece.mem();
        let bits = mem.as_read().load_u64(kind.active_offset()).unwrap_or(0);
        let mut active = 0;
        for span in groups {
            match mem.group(span.offset, span.size) {
                Some(_) if bits & span.mask != 0 => active |= span.mask,
                Some(mut group) => group.suspend(),
                None => {}
            }
        }
        Self { piece, kind, active, taken: 0 }
    }

    /// The record's memory.
    pub(crate) fn mem(&self) -> WriteMem<'_> {
        self.piece.mem()
    }

    #[inline(always)]
    pub(crate) fn is_active(&self, group: GroupSpan) -> bool {
        self.active & group.mask != 0
    }

    /// Writes every field of a group and marks it active; false if the record ends before it.
    #[inline(always)]
    pub(crate) fn write(&mut self, spans: &TwinSpans, updated_ns: u64, from: &[u64]) -> bool {
        if !self.is_active(spans.first) {
            return self.write_first(spans, updated_ns, from);
        }
        let Some(mut twins) = self.piece.mem().twins(*spans) else { return false };
        twins.write(updated_ns, from);
        true
    }

    /// As [`RecordCore::write`], of a group that is not active.
    #[cold]
    #[inline(never)]
    fn write_first(&mut self, spans: &TwinSpans, updated_ns: u64, from: &[u64]) -> bool {
        let mem = self.piece.mem();
        let Some(mut twins) = mem.twins(*spans) else { return false };
        if self.taken & spans.first.mask != 0 {
            return false;
        }
        // The seq of each copy is odd here, so no reader takes what lies there for a value.
        let bits = spans.mask_in(mem.len());
        self.active |= bits;
        // Always inside: the record holds at least its header.
        let _ = mem.set_bits(self.kind.active_offset(), bits);
        twins.write(updated_ns, from);
        true
    }

    /// Writes one field of a group that is active.
    #[inline(always)]
    pub(crate) fn write_word(&mut self, spans: TwinSpans, updated_ns: u64, index: usize, raw: u64) {
        if let Some(mut twins) = self.piece.mem().twins(spans) {
            twins.write_word(updated_ns, index, raw);
        }
    }

    /// Makes of some fields of a group that is active what `change` makes of what they are, in one
    /// update of each copy.
    #[inline(always)]
    pub(crate) fn change<const N: usize>(
        &mut self,
        spans: TwinSpans,
        updated_ns: u64,
        at: [usize; N],
        change: impl FnOnce([u64; N]) -> [u64; N],
    ) {
        if let Some(mut twins) = self.piece.mem().twins(spans) {
            twins.change(updated_ns, at, change);
        }
    }

    /// Marks a group as not produced.
    pub(crate) fn deactivate(&mut self, spans: TwinSpans) {
        let mem = self.piece.mem();
        let Some(mut twins) = mem.twins(spans) else { return };
        if self.active & spans.first.mask == 0 {
            return;
        }
        // Before the bits change: a reader that finds them clear finds seq odd.
        twins.suspend();
        let bits = spans.mask_in(mem.len());
        self.active &= !bits;
        let _ = mem.clear_bits(self.kind.active_offset(), bits);
    }

    /// Takes a group out: from here on only the result writes it.
    pub(crate) fn take(&mut self, spans: TwinSpans) -> Self {
        let bits = spans.mask_in(self.piece.mem().len());
        let active = self.active & bits;
        self.active &= !bits;
        self.taken |= bits;
        Self { piece: self.piece.clone(), kind: self.kind, active, taken: !bits }
    }

    /// Takes a group back whose writer was dropped.
    pub(crate) fn take_back(&mut self, spans: TwinSpans) {
        let mem = self.piece.mem();
        let bits = spans.mask_in(mem.len());
        self.taken &= !bits;
        // Only that writer changed these bits, and what it did happened before.
        let active = mem.as_read().load_u64(self.kind.active_offset()).unwrap_or(0);
        self.active |= active & bits;
    }

    /// Stores the slot's generation, if records of this kind have one. No group is active, or the
    /// region is not published yet.
    pub(crate) fn set_generation(&mut self, generation: u32) {
        if self.kind.generation_offset().is_some() {
            let _ = self.piece.mem().store_u32(record::GENERATION, generation);
        }
    }
}
