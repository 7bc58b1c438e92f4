//! One writer per record.

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::header::{dom, record};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{DomGroup, Field, Group, GroupDesc, Ns, VcpuGroup, Word};
use zerocopy::FromBytes;

use crate::mapping::Piece;

/// What the writers of both record kinds share: one record, and which of its groups are active.
struct RecordWriter {
    piece: Piece,
    active: u64,
    active_offset: usize,
}

impl RecordWriter {
    /// Takes a record whose header is in place and whose groups were never published: leaves
    /// each in mid-update, as groups are whose bit is clear.
    fn new(piece: Piece, active_offset: usize, groups: &[&GroupDesc]) -> Self {
        for group in groups {
            if let Some(mut words) = piece.mem().group(group.offset, group.size) {
                words.suspend();
            }
        }
        Self { piece, active: 0, active_offset }
    }

    fn set_active(&mut self, active: u64) {
        self.active = active;
        // Always inside: the record holds at least its header.
        let _ = self.piece.mem().store_u64(self.active_offset, active);
    }

    #[inline]
    fn write<G: Group>(&mut self, group: &G, now: Ns) {
        let desc = G::DESC;
        if self.active & desc.mask() == 0 {
            // The group's seq is odd here, so no reader takes what lies there for a value.
            self.set_active(self.active | desc.mask());
        }
        // Both are always there: the record is as long as this revision's, and a group is made
        // of aligned words.
        if let (Some(mut words), Ok(from)) = (
            self.piece.mem().group(desc.offset, desc.size),
            <[u64]>::ref_from_bytes(group.as_bytes()),
        ) {
            words.write(now.0, from);
        }
    }

    #[inline]
    fn set<G: Group>(&mut self, field: Field<G>, value: Word, now: Ns) {
        let desc = G::DESC;
        if self.active & desc.mask() == 0 {
            // A group is published whole or not at all.
            return self.write(&with(G::NOT_PRODUCED, word_index(field), value), now);
        }
        if let Some(mut words) = self.piece.mem().group(desc.offset, desc.size) {
            words.write_word(now.0, word_index(field), value.to_raw());
        }
    }

    fn deactivate(&mut self, desc: &GroupDesc) {
        if self.active & desc.mask() == 0 {
            return;
        }
        if let Some(mut words) = self.piece.mem().group(desc.offset, desc.size) {
            words.suspend();
        }
        self.set_active(self.active & !desc.mask());
    }

    fn deactivate_all(&mut self, groups: &[&GroupDesc]) {
        for desc in groups {
            self.deactivate(desc);
        }
    }
}

/// Index of a field among its group's words.
#[inline]
fn word_index<G: Group>(field: Field<G>) -> usize {
    (field.offset() - G::DESC.offset - GROUP_HEADER_LEN) / 8
}

fn with<G: Group>(mut group: G, index: usize, value: Word) -> G {
    if let Ok(words) = <[u64]>::mut_from_bytes(group.as_mut_bytes())
        && let Some(word) = words.get_mut(index)
    {
        *word = value.to_raw();
    }
    group
}

/// Writes the dom record of one region. `Send`; there is one per region.
pub struct DomWriter(RecordWriter);

impl DomWriter {
    pub(crate) fn new(piece: Piece) -> Self {
        let groups = domstat_layout::latest::DOM_GROUPS;
        Self(RecordWriter::new(piece, dom::STATS_ACTIVE, groups))
    }

    /// Publishes the whole group as of `now` (on the region's clock) and marks it active.
    #[inline]
    pub fn write<G: DomGroup>(&mut self, group: &G, now: Ns) {
        self.0.write(group, now);
    }

    /// Updates one field as of `now`. In a group that was not active the others are not produced.
    #[inline]
    pub fn set<G: DomGroup>(&mut self, field: Field<G>, value: impl Into<Word>, now: Ns) {
        self.0.set(field, value.into(), now);
    }

    /// Marks the group as no longer produced.
    pub fn deactivate<G: DomGroup>(&mut self) {
        self.0.deactivate(G::DESC);
    }
}

impl DomSink for DomWriter {
    fn write<G: DomGroup>(&mut self, group: &G, now: Ns) {
        Self::write(self, group, now);
    }
    fn deactivate<G: DomGroup>(&mut self) {
        Self::deactivate::<G>(self);
    }
}

/// Writes one vCPU's record. `Send`; there is one per vCPU, for the thread that runs it.
pub struct VcpuWriter {
    record: RecordWriter,
    generation: u32,
}

impl VcpuWriter {
    pub(crate) fn new(piece: Piece) -> Self {
        let groups = domstat_layout::latest::VCPU_GROUPS;
        Self { record: RecordWriter::new(piece, record::STATS_ACTIVE, groups), generation: 0 }
    }

    /// Publishes the whole group as of `now` (on the region's clock) and marks it active.
    #[inline]
    pub fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        self.record.write(group, now);
    }

    /// Updates one field as of `now`. In a group that was not active the others are not produced.
    #[inline]
    pub fn set<G: VcpuGroup>(&mut self, field: Field<G>, value: impl Into<Word>, now: Ns) {
        self.record.set(field, value.into(), now);
    }

    /// Marks the group as no longer produced, for example of a vCPU that was unplugged.
    pub fn deactivate<G: VcpuGroup>(&mut self) {
        self.record.deactivate(G::DESC);
    }

    /// Gives the slot to something else: every group off, `generation` bumped.
    pub fn renew(&mut self) {
        self.record.deactivate_all(domstat_layout::latest::VCPU_GROUPS);
        self.generation = self.generation.wrapping_add(1);
        // Always inside: the record holds at least its header.
        let _ = self.record.piece.mem().store_u32(record::GENERATION, self.generation);
    }
}

impl VcpuSink for VcpuWriter {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        Self::write(self, group, now);
    }
    fn deactivate<G: VcpuGroup>(&mut self) {
        Self::deactivate::<G>(self);
    }
    fn renew(&mut self) {
        Self::renew(self);
    }
}
