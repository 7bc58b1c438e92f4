//! Writers of records whose memory another process handed over.

use std::os::fd::AsFd;

use domstat_layout::{Group, GroupDesc, RecordKind};
use zerocopy::IntoBytes;

use super::{
    BlkHistWriter, BlkQueueWriter, BlkWriter, DomWriter, NetQueueWriter, NetWriter, RecordWriter,
    VcpuHistWriter, VcpuWriter,
};
use crate::arch::ArchWriter;
use crate::error::FrameError;
use crate::frame::OpenFrame;
use crate::pieces::Piece;
use crate::predecessor::{LastGroup, Predecessor};
use crate::record::RecordCore;

mod sealed {
    pub trait Sealed {}
}

/// Writers of all that lies in one frame: those that are handed over together, such as `(BlkWriter, BlkHistWriter)`
/// where block devices have distributions.
pub trait FrameWriters: sealed::Sealed + Sized {
    #[doc(hidden)]
    const KINDS: &'static [RecordKind];
    #[doc(hidden)]
    fn place(&self) -> (RecordKind, u32);
    #[doc(hidden)]
    fn are_whole(&self) -> bool;
    #[doc(hidden)]
    fn open(frame: &OpenFrame) -> Result<Self, FrameError>;

    /// Writers of a record whose frame the owner of the region handed to this process
    /// ([`crate::Unpublished::hand_over`]), from the descriptor and its description.
    ///
    /// Neither is believed: length, seals and header of the memory are checked against the description, and
    /// that against the rules of the layout. What is active in the record stays as it is; a group that an earlier process left in
    /// mid-update is made whole. Tell the owner when this has returned: then it can seal the frame and publish.
    ///
    /// # Errors
    /// [`FrameError`], which says what to do.
    fn from_frame(fd: impl AsFd, description: &[u8]) -> Result<Self, FrameError> {
        let frame = OpenFrame::map(fd.as_fd(), description)?;
        let ([kind, ..], (found, index)) = (Self::KINDS, frame.place()) else {
            return Err(FrameError::NotMemory);
        };
        if *kind != found {
            return Err(FrameError::OtherRecord { found, index, expected: *kind });
        }
        Self::open(&frame)
    }
}

macro_rules! frame_writers {
    ($($name:ident, $kind:ident, $arch:expr;)+) => {
        $(
            impl sealed::Sealed for $name {}
            impl FrameWriters for $name {
                const KINDS: &'static [RecordKind] = &[RecordKind::$kind];
                fn place(&self) -> (RecordKind, u32) {
                    (RecordKind::$kind, self.0.index)
                }
                fn are_whole(&self) -> bool {
                    self.0.has_all_groups()
                }
                fn open(frame: &OpenFrame) -> Result<Self, FrameError> {
                    RecordWriter::open(frame, RecordKind::$kind, $arch).map(Self)
                }
            }
        )+
    };
}
frame_writers! {
    DomWriter, Dom, Some(RecordKind::ArchDom);
    VcpuWriter, Vcpu, Some(RecordKind::ArchVcpu);
    BlkWriter, Blk, Some(RecordKind::ArchBlk);
    NetWriter, Net, Some(RecordKind::ArchNet);
    BlkQueueWriter, BlkQueue, None;
    NetQueueWriter, NetQueue, None;
    VcpuHistWriter, VcpuHist, None;
    BlkHistWriter, BlkHist, None;
}

macro_rules! pairs {
    ($($name:ident, $hist:ident, $kind:ident, $hist_kind:ident;)+) => {
        $(
            impl sealed::Sealed for ($name, $hist) {}
            impl FrameWriters for ($name, $hist) {
                const KINDS: &'static [RecordKind] = &[RecordKind::$kind, RecordKind::$hist_kind];
                fn place(&self) -> (RecordKind, u32) {
                    self.0.place()
                }
                fn are_whole(&self) -> bool {
                    self.0.are_whole() && self.1.are_whole() && self.0.0.index == self.1.0.index
                }
                fn open(frame: &OpenFrame) -> Result<Self, FrameError> {
                    Ok(($name::open(frame)?, $hist::open(frame)?))
                }
            }
        )+
    };
}
pairs! {
    VcpuWriter, VcpuHistWriter, Vcpu, VcpuHist;
    BlkWriter, BlkHistWriter, Blk, BlkHist;
}

impl RecordWriter {
    fn open(
        frame: &OpenFrame,
        kind: RecordKind,
        arch: Option<RecordKind>,
    ) -> Result<Self, FrameError> {
        let piece = frame.record(kind)?;
        let arch = arch.and_then(|arch| Some((arch, frame.arch(arch)?)));
        let arch = arch.map(|(kind, (piece, spans))| ArchWriter::adopt(piece, kind, spans));
        Ok(Self::adopt(piece, kind, frame.groups(kind), arch, frame.generation))
    }

    /// Takes a record that another process wrote, and makes whole what it left in mid-update.
    /// `generation` is that of the tenant that the other process was handed, if it is known.
    fn adopt(
        piece: Piece,
        kind: RecordKind,
        groups: &'static [&'static GroupDesc],
        arch: Option<ArchWriter>,
        generation: Option<u32>,
    ) -> Self {
        let old = Predecessor::of_record(piece.mem().as_read());
        let last = old.groups(0, kind, groups);
        let now = if kind.generation_offset().is_some() { old.generation(0) } else { 0 };
        let is_renewed = generation.is_some_and(|generation| generation != now);
        let index = index_of(&piece, kind);
        let record = RecordCore::adopt(piece, kind, groups.iter().map(|group| group.span()));
        let mut writer = Self {
            record,
            groups,
            generation: now,
            arch,
            last: Vec::new(),
            taken: Vec::new(),
            index,
        };
        for desc in groups.iter().filter(|desc| desc.twin_of.is_none()) {
            let twin = desc.twin_in(groups);
            let is_odd = |of: &GroupDesc| old.is_odd(of);
            if !writer.record.is_active(desc.span()) || !(is_odd(desc) || twin.is_some_and(is_odd))
            {
                continue;
            }
            // Where no copy is whole, words may be what lay there before the first write: of nobody, or of the
            // tenant before.
            let is_repaired = is_odd(desc) && twin.is_none_or(is_odd);
            let is_first = is_repaired && (is_renewed || old.was_never_written(desc));
            let found = last.iter().find(|last| last.desc.bit == desc.bit);
            match found.filter(|_| !is_first) {
                Some(found) => {
                    let spans = domstat_layout::revision::spans(desc);
                    writer.record.write(&spans, found.updated_ns, &found.words);
                }
                None => writer.deactivate(desc),
            }
        }
        let active = |last: &LastGroup| writer.record.is_active(last.desc.span());
        writer.last = last.into_iter().filter(active).collect();
        writer
    }

    /// Whether no group has a writer of its own.
    fn has_all_groups(&self) -> bool {
        self.taken.is_empty()
    }

    /// What an earlier process left of a group.
    pub(super) fn last<G: Group>(&self) -> Option<G> {
        let last = self.last.iter().find(|last| last.desc.bit == G::DESC.bit)?;
        G::read_from_bytes(last.words.as_slice().as_bytes()).ok()
    }
}

/// The position of a record in its array, as its header says.
pub(super) fn index_of(piece: &Piece, kind: RecordKind) -> u32 {
    let at = (kind != RecordKind::Dom).then_some(domstat_layout::header::record::INDEX);
    at.and_then(|at| piece.mem().as_read().load_u32(at)).unwrap_or(0)
}
