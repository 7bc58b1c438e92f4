//! Memory behind a region, and record-sized pieces of it that keep it alive.
#![allow(unsafe_code)]

use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use domstat_layout::header::record;
use domstat_layout::{Geometry, RecordKind, WriteMem};
#[cfg(feature = "file")]
use domstat_sigbus::{Access, Guard};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Pages that the caller owns: a hypervisor's own, or memory shared in some other way.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a Pages is an address and a length; what may be done with them is the promise made to
// `Pages::new`, which holds for any thread.
unsafe impl Send for Pages {}

impl Pages {
    /// Takes `len` bytes at `base` for a region's records.
    ///
    /// # Safety
    /// Until the region and its writers are dropped, and as long as the `owner` that is given
    /// with the pages lives: the bytes are mapped, readable and writable, and nothing in this
    /// process reaches them but the region, its writers, and consumers through atomics.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    /// Bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the first byte is where a record may start.
    pub(crate) fn is_aligned(&self) -> bool {
        self.base.as_ptr().addr().is_multiple_of(8)
    }
}

/// What keeps a region's memory alive.
type Owner = Arc<dyn Any + Send + Sync>;

/// A whole file, mapped readable and writable, shared with whoever else maps it.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length, to be unmapped once, which any thread may do.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is reached through a reference to it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the `len` bytes of `file`.
    pub(crate) fn new(file: impl AsFd, len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses: nothing lies there.
        let base = unsafe { mmap(null_mut(), len, access, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: a mapping of ours, and nothing of it is used any more: it lives as long as the pieces do.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The mapping of a file that others can truncate.
#[cfg(feature = "file")]
pub(crate) struct GuardedMap {
    // Before the mapping, so that it is dropped first.
    guard: Guard,
    _map: Mapping,
}

#[cfg(feature = "file")]
impl GuardedMap {
    pub(crate) fn is_lost(&self) -> bool {
        self.guard.is_lost()
    }
}

/// Shared memory that lives as long as the piece does. All of a region's pieces share one owner.
#[derive(Clone)]
pub(crate) struct Piece {
    // Valid for as long as `owner` lives, hence never handed out with this lifetime.
    mem: WriteMem<'static>,
    owner: Owner,
}

impl Piece {
    /// A whole mapping of ours.
    pub(crate) fn of_map(map: Mapping) -> Self {
        // SAFETY: the mapping is readable, writable, page-aligned and so long, and stays so
        // while `owner` below lives; Mapping gives out no references to its bytes; the file
        // behind it was allocated to its full length by us. The memory is reached through
        // WriteMem only.
        let mem = unsafe { WriteMem::new(map.base, map.len) };
        Self { mem, owner: Arc::new(map) }
    }

    /// As [`Piece::of_map`], of a file that others can truncate: an access past its end does not
    /// kill the process, and [`GuardedMap::is_lost`] says so.
    #[cfg(feature = "file")]
    pub(crate) fn of_file(map: Mapping) -> io::Result<(Self, Arc<GuardedMap>)> {
        let (base, len) = (map.base, map.len);
        // SAFETY: a mapping of ours, in whole pages, since a region's file is; it is reached through
        // atomics only, and that what is written to a lost mapping goes nowhere harms nobody. The
        // guard is dropped before the mapping is.
        let guard = unsafe {
            Guard::register(
                base,
                len.next_multiple_of(rustix::param::page_size()),
                Access::ReadWrite,
            )
        }?;
        let owner = Arc::new(GuardedMap { guard, _map: map });
        // SAFETY: as in `of_map`; an access that fails is made good by the guard.
        let mem = unsafe { WriteMem::new(base, len) };
        Ok((Self { mem, owner: Arc::clone(&owner) as Owner }, owner))
    }

    /// Memory of this process alone: a copy of these bytes, up to the last multiple of 8.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let words: Arc<Vec<AtomicU64>> =
            Arc::new(words.iter().map(|word| AtomicU64::new(u64::from_ne_bytes(*word))).collect());
        // The pointer of a vector dangles if that is empty, and is aligned.
        let base = NonNull::from(words.as_slice()).cast::<u8>();
        // SAFETY: so many bytes of a vector of atomics, which neither grows nor moves its words and lives
        // while `owner` below does; it is reached through atomics only.
        let mem = unsafe { WriteMem::new(base, words.len() * 8) };
        Self { mem, owner: words }
    }

    /// Pages of the caller's.
    pub(crate) fn of_pages(pages: Pages, owner: Owner) -> Self {
        // SAFETY: the promise made to `Pages::new` is the one asked for here, for as long as
        // `owner` lives, which this piece sees to.
        let mem = unsafe { WriteMem::new(pages.base, pages.len) };
        Self { mem, owner }
    }

    /// A part of this piece that keeps the whole alive.
    pub(crate) fn sub(&self, offset: usize, len: usize) -> Option<Self> {
        Some(Self { mem: self.mem.sub(offset, len)?, owner: Arc::clone(&self.owner) })
    }

    /// The memory, for as long as the piece is borrowed.
    #[inline]
    pub(crate) fn mem(&self) -> WriteMem<'_> {
        self.mem
    }
}

/// Where the pages of a caller go: the dom record's, one run for each vCPU record, and one for what follows
/// them, if anything does; each as offset and length.
pub(crate) fn caller_frames(g: &Geometry) -> Vec<(usize, usize)> {
    let vcpus = g.array(RecordKind::Vcpu);
    let rest = g.end().saturating_sub(vcpus.end());
    let first = std::iter::once((0, vcpus.offs));
    let each = (0..vcpus.nr).filter_map(|index| Some((vcpus.offset(index)?, vcpus.stride)));
    first.chain(each).chain((rest > 0).then_some((vcpus.end(), rest))).collect()
}

/// The memory of a region: runs of it with the offsets at which they begin, in order.
pub(crate) struct RegionMemory {
    pub(crate) runs: Vec<(usize, Piece)>,
    pub(crate) geometry: Geometry,
}

impl RegionMemory {
    /// A region that lies in one run.
    pub(crate) fn whole(piece: Piece, geometry: Geometry) -> Self {
        Self { runs: vec![(0, piece)], geometry }
    }

    /// `len` bytes of the region from `offset` on; `None` if they are not in one run.
    pub(crate) fn at(&self, offset: usize, len: usize) -> Option<Piece> {
        let after = self.runs.partition_point(|(start, _)| *start <= offset);
        let (start, piece) = self.runs.get(after.checked_sub(1)?)?;
        piece.sub(offset - start, len)
    }

    /// Stores zero everywhere.
    pub(crate) fn clear(&self) -> Option<()> {
        let end = self.geometry.end().next_multiple_of(8);
        let ends = self.runs.iter().skip(1).map(|(start, _)| *start).chain([end]);
        for ((start, piece), end) in self.runs.iter().zip(ends) {
            piece.mem().clear(0, end.checked_sub(*start)?)?;
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
