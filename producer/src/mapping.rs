//! Memory behind a region, and record-sized pieces of it that keep it alive.
#![allow(unsafe_code)]

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use domstat_layout::WriteMem;
use memmap2::MmapRaw;

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

/// Shared memory that lives as long as the piece does. All of a region's pieces share one owner.
#[derive(Clone)]
pub(crate) struct Piece {
    // Valid for as long as `owner` lives, hence never handed out with this lifetime.
    mem: WriteMem<'static>,
    owner: Owner,
}

impl Piece {
    /// A whole mapping of ours.
    pub(crate) fn of_map(map: MmapRaw) -> Option<Self> {
        let base = NonNull::new(map.as_mut_ptr())?;
        let len = map.len();
        // SAFETY: the mapping is readable, writable, page-aligned and `len` long, and stays so
        // while `owner` below lives; MmapRaw gives out no references to its bytes; the file
        // behind it was allocated to its full length by us. The memory is reached through
        // WriteMem only.
        let mem = unsafe { WriteMem::new(base, len) };
        Some(Self { mem, owner: Arc::new(map) })
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
