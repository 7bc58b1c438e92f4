//! Writers, one per record, and those of single groups that were taken out of one.

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::revision::spans;
use domstat_layout::sink::{BlkShareSink, BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{
    BlkGroup, BlkHistGroup, BlkQueueGroup, DomGroup, Field, Group, GroupDesc, NetGroup,
    NetQueueGroup, Ns, RecordKind, VcpuGroup, VcpuHistGroup, Word,
};
use zerocopy::FromBytes;

use crate::arch::ArchWriter;
use crate::pieces::Piece;
use crate::predecessor::LastGroup;
use crate::record::RecordCore;
use crate::slots::sealed::Slot;

mod distribution;
mod from_frame;
mod group;
mod requests;

pub use from_frame::FrameWriters;
pub use group::GroupWriter;
pub use requests::{BlkDevice, BlkOp, Request, RequestRecords, RequestTracker};

/// What the writers of all record kinds share.
struct RecordWriter {
    record: RecordCore,
    /// The groups of the record that the region's revision knows.
    groups: &'static [&'static GroupDesc],
    generation: u32,
    arch: Option<ArchWriter>,
    /// What an earlier process left, until it is taken.
    last: Vec<LastGroup>,
    /// The groups that have writers of their own.
    taken: Vec<group::Taken>,
    /// The record's position in its array.
    index: u32,
}

impl RecordWriter {
    fn new(
        piece: Piece,
        kind: RecordKind,
        groups: &'static [&'static GroupDesc],
        arch: Option<ArchWriter>,
    ) -> Self {
        let index = from_frame::index_of(&piece, kind);
        let record = RecordCore::new(piece, kind, groups.iter().map(|group| group.span()));
        Self { record, groups, generation: 0, arch, last: Vec::new(), taken: Vec::new(), index }
    }

    /// Takes over what an earlier process left of the record.
    fn restore(&mut self, generation: u32, last: Vec<LastGroup>) {
        self.generation = generation;
        self.record.set_generation(generation);
        for group in &last {
            self.record.write(&spans(group.desc), group.updated_ns, &group.words);
        }
        self.last = last;
    }

    /// Publishes a group. An older revision's record ends before a group that it does not know.
    #[inline]
    fn write<G: Group>(&mut self, group: &G, now: Ns) {
        // Always so: a group is made of aligned words.
        if let Ok(from) = <[u64]>::ref_from_bytes(group.as_bytes()) {
            self.record.write(const { &spans(G::DESC) }, now.0, from);
        }
    }

    #[inline]
    fn set<G: Group>(&mut self, field: Field<G>, value: Word, now: Ns) {
        if !self.record.is_active(G::DESC.span()) {
            return self.set_first(field, value, now);
        }
        let spans = const { spans(G::DESC) };
        self.record.write_word(spans, now.0, word_index(field), value.to_raw());
    }

    /// As [`RecordWriter::set`], in a group that is not active: it is published whole or not at all.
    #[cold]
    #[inline(never)]
    fn set_first<G: Group>(&mut self, field: Field<G>, value: Word, now: Ns) {
        self.write(&with(G::NOT_PRODUCED, word_index(field), value), now);
    }

    fn deactivate(&mut self, desc: &GroupDesc) {
        self.record.deactivate(spans(desc));
    }

    /// False, and nothing changes, while a group has a writer of its own: it would write for the old tenant.
    fn renew(&mut self) -> bool {
        if !self.take_back_dropped() {
            return false;
        }
        self.clear();
        self.generation = self.generation.wrapping_add(1);
        self.record.set_generation(self.generation);
        if let Some(arch) = &mut self.arch {
            arch.renew(self.generation);
        }
        true
    }

    /// Switches off every group that has no writer of its own.
    fn clear(&mut self) {
        for desc in self.groups.iter().filter(|desc| desc.twin_of.is_none()) {
            self.deactivate(desc);
        }
    }

    /// Whether no group is active and none has a writer of its own.
    fn is_blank(&mut self) -> bool {
        // First: a group that was taken is not active here.
        self.take_back_dropped()
            && !self.groups.iter().any(|desc| self.record.is_active(desc.span()))
    }

    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        self.arch.as_mut().is_some_and(|arch| arch.write(index, words, now))
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
    pub(crate) fn new(
        piece: Piece,
        groups: &'static [&'static GroupDesc],
        arch: Option<ArchWriter>,
    ) -> Self {
        Self(RecordWriter::new(piece, RecordKind::Dom, groups, arch))
    }

    pub(crate) fn restore(&mut self, last: Vec<LastGroup>) {
        self.0.restore(0, last);
    }

    pub(crate) fn take_last(&mut self) -> Vec<LastGroup> {
        std::mem::take(&mut self.0.last)
    }

    /// What an earlier process left of a group, as [`BlkWriter::last`].
    #[must_use]
    pub fn last<G: DomGroup>(&self) -> Option<G> {
        self.0.last()
    }

    /// Publishes the group that was described at position `index` of the domain's arch slot
    /// ([`crate::RegionBuilder::arch_dom`]), a word for each of its words. False if there is no such
    /// group, or it has another number of words.
    pub fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        self.0.write_arch(index, words, now)
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

    /// Takes a group out of this writer, for another thread: from here on only the result writes it, and
    /// writing it here does nothing. `None` if its writer still lives; one that was dropped left the group as
    /// it is.
    pub fn take<G: DomGroup>(&mut self) -> Option<GroupWriter<G>> {
        self.0.take()
    }
}

impl DomSink for DomWriter {
    fn write<G: DomGroup>(&mut self, group: &G, now: Ns) {
        Self::write(self, group, now);
    }
    fn deactivate<G: DomGroup>(&mut self) {
        Self::deactivate::<G>(self);
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        Self::write_arch(self, index, words, now);
    }
}

/// Declares the writer of one record of an array.
macro_rules! array_writer {
    ($(#[doc = $doc:literal])+ $name:ident, $group:ident, $kind:expr) => {
        $(#[doc = $doc])+
        pub struct $name(RecordWriter);

        impl $name {
            pub(crate) fn new(
                piece: Piece,
                groups: &'static [&'static GroupDesc],
                arch: Option<ArchWriter>,
            ) -> Self {
                Self(RecordWriter::new(piece, $kind, groups, arch))
            }

            pub(crate) fn restore(&mut self, generation: u32, last: Vec<LastGroup>) {
                self.0.restore(generation, last);
            }

            /// Publishes the whole group as of `now` (on the region's clock) and marks it active.
            /// A group that the region's revision does not know is left out.
            #[inline]
            pub fn write<G: $group>(&mut self, group: &G, now: Ns) {
                self.0.write(group, now);
            }

            /// Updates one field as of `now`. In a group that was not active the others are not
            /// produced.
            #[inline]
            pub fn set<G: $group>(&mut self, field: Field<G>, value: impl Into<Word>, now: Ns) {
                self.0.set(field, value.into(), now);
            }

            /// Marks the group as no longer produced, for example of what was unplugged.
            pub fn deactivate<G: $group>(&mut self) {
                self.0.deactivate(G::DESC);
            }

            /// What an earlier process left of a group in the memory that this one took over, for counters to
            /// go on from; `None` if it left nothing, or nothing was taken over.
            #[must_use]
            pub fn last<G: $group>(&self) -> Option<G> {
                self.0.last()
            }

            /// Which tenant of the slot is written.
            #[must_use]
            pub const fn generation(&self) -> u32 {
                self.0.generation
            }

            /// Gives the slot to something else: every group off, `generation` bumped. False, and
            /// nothing changes, while a writer that was taken out of this one lives.
            pub fn renew(&mut self) -> bool {
                self.0.renew()
            }

            /// Takes a group out of this writer, for another thread: from here on only the result
            /// writes it, and writing it here does nothing. `None` if its writer still lives; one
            /// that was dropped left the group as it is.
            pub fn take<G: $group>(&mut self) -> Option<GroupWriter<G>> {
                self.0.take()
            }
        }

        impl Slot for $name {
            fn is_blank(&mut self) -> bool {
                self.0.is_blank()
            }
            fn renew_all(&mut self) -> bool {
                self.0.renew()
            }
            fn clear(&mut self) {
                self.0.clear();
            }
        }
    };
}

array_writer! {
    /// Writes one vCPU's record. `Send`; there is one per vCPU, for the thread that runs it.
    VcpuWriter, VcpuGroup, RecordKind::Vcpu
}
array_writer! {
    /// Writes one block device's record. `Send`; there is one per slot, for the code that serves the
    /// device.
    BlkWriter, BlkGroup, RecordKind::Blk
}
array_writer! {
    /// Writes one network interface's record. `Send`; there is one per slot, for the code that serves
    /// the interface.
    NetWriter, NetGroup, RecordKind::Net
}

array_writer! {
    /// Writes one vCPU's distributions. `Send`; its slot is renewed with that of the vCPU.
    VcpuHistWriter, VcpuHistGroup, RecordKind::VcpuHist
}
array_writer! {
    /// Writes one block device's distributions. `Send`; its slot is renewed with that of the device.
    BlkHistWriter, BlkHistGroup, RecordKind::BlkHist
}
array_writer! {
    /// Writes one share of a block device. `Send`; there is one per slot, for the code that serves the
    /// queue.
    BlkQueueWriter, BlkQueueGroup, RecordKind::BlkQueue
}
array_writer! {
    /// Writes one share of a network interface. `Send`; there is one per slot, for the code that serves
    /// the queue.
    NetQueueWriter, NetQueueGroup, RecordKind::NetQueue
}

/// Publishes the one group of a record that is written once and has no writer.
pub(crate) fn write_once<G: Group>(piece: Piece, group: &G, now: Ns) {
    RecordWriter::new(piece, G::DESC.record, &[G::DESC], None).write(group, now);
}

impl BlkWriter {
    /// As [`DomWriter::write_arch`], in this device's arch slot
    /// ([`crate::RegionBuilder::arch_blk`]).
    pub fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        self.0.write_arch(index, words, now)
    }
}

impl NetWriter {
    /// As [`DomWriter::write_arch`], in this interface's arch slot
    /// ([`crate::RegionBuilder::arch_net`]).
    pub fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        self.0.write_arch(index, words, now)
    }
}

impl VcpuWriter {
    pub(crate) fn take_last(&mut self) -> Vec<LastGroup> {
        std::mem::take(&mut self.0.last)
    }

    /// As [`DomWriter::write_arch`], in this vCPU's arch slot
    /// ([`crate::RegionBuilder::arch_vcpu`]).
    pub fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) -> bool {
        self.0.write_arch(index, words, now)
    }
}

impl VcpuSink for VcpuWriter {
    fn write<G: VcpuGroup>(&mut self, group: &G, now: Ns) {
        Self::write(self, group, now);
    }
    fn deactivate<G: VcpuGroup>(&mut self) {
        Self::deactivate::<G>(self);
    }
    fn write_arch(&mut self, index: usize, words: &[Word], now: Ns) {
        Self::write_arch(self, index, words, now);
    }
    fn renew(&mut self) {
        let _ = Self::renew(self);
    }
}

/// What a writer of one record does, as the sink that a source takes.
macro_rules! array_sink {
    ($sink:ident, $group:ident, $name:ident) => {
        impl $sink for $name {
            fn write<G: $group>(&mut self, group: &G, now: Ns) {
                Self::write(self, group, now);
            }
            fn deactivate<G: $group>(&mut self) {
                Self::deactivate::<G>(self);
            }
            fn renew(&mut self) {
                let _ = Self::renew(self);
            }
        }
    };
}
array_sink! { BlkSink, BlkGroup, BlkWriter }
array_sink! { NetSink, NetGroup, NetWriter }

impl BlkShareSink for BlkQueueWriter {
    fn write<G: BlkQueueGroup>(&mut self, group: &G, now: Ns) {
        Self::write(self, group, now);
    }
    fn deactivate<G: BlkQueueGroup>(&mut self) {
        Self::deactivate::<G>(self);
    }
    fn renew(&mut self) {
        let _ = Self::renew(self);
    }
}
