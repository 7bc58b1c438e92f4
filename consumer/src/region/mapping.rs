//! Read-only mappings of regions.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use domstat_layout::{CopyWidth, ReadMem};
use domstat_sigbus::{Access, Guard};
use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{MapFlags, ProtFlags};

use crate::attach::truncation::Shrinkable;
use crate::error::AttachError;

/// Memory that holds a region, readable for as long as this lives.
pub(crate) enum Mapping {
    /// One mapping of one file.
    One(MmapRaw),
    /// Several mappings side by side in one reserved range.
    Frames(Reserved),
    /// Pages that the caller mapped.
    Caller { base: NonNull<u8>, len: usize },
}

// SAFETY: a mapping is a range of addresses, readable from any thread; the caller's pages are
// promised to be so (`from_pages`).
unsafe impl Send for Mapping {}
// SAFETY: nothing in it changes while it is shared.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` read-only; the file is at least that long.
    pub(crate) fn map_file(file: &File, len: usize) -> std::io::Result<Self> {
        Ok(Self::One(MmapOptions::new().len(len).map_raw_read_only(file)?))
    }

    /// As [`Mapping::guard`], for a mapping of that many bytes of each of some files.
    ///
    /// # Errors
    /// [`AttachError::Os`] if the handler cannot be installed.
    pub(crate) fn shrinkable(&self, lens: Vec<u64>) -> Result<Option<Shrinkable>, AttachError> {
        let guard = self.guard().map_err(|e| AttachError::os("install a handler of SIGBUS", e))?;
        Ok(guard.map(|guard| Shrinkable::new(guard, lens)))
    }

    /// Keeps accesses that fail from killing the process, for as long as the result lives; it has
    /// to be dropped before this is.
    fn guard(&self) -> std::io::Result<Option<Guard>> {
        let (base, len) = match self {
            Self::One(map) => (NonNull::new(map.as_mut_ptr()), map.len()),
            Self::Frames(frames) => (Some(frames.base), frames.len),
            Self::Caller { .. } => (None, 0),
        };
        let Some(base) = base else { return Ok(None) };
        let len = len.next_multiple_of(rustix::param::page_size());
        // SAFETY: a mapping of ours, in whole pages; nothing reaches it but through `mem`, and its
        // readers ask whether it was lost before they hand out what they read.
        unsafe { Guard::register(base, len, Access::Read) }.map(Some)
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        let address = match self {
            Self::One(map) => map.as_mut_ptr().addr(),
            Self::Frames(frames) => frames.base.as_ptr().addr(),
            Self::Caller { base, .. } => base.as_ptr().addr(),
        };
        address as u64
    }

    /// The memory, to be copied in `form`.
    pub(crate) fn mem(&self, form: CopyWidth) -> ReadMem<'_> {
        let (base, len) = match self {
            Self::One(map) => (NonNull::new(map.as_mut_ptr()), map.len()),
            Self::Frames(frames) => (Some(frames.base), frames.len),
            Self::Caller { base, len } => (Some(*base), *len),
        };
        let Some(base) = base else {
            // SAFETY: no byte is read through an empty run; the address is aligned.
            return unsafe { ReadMem::new(NonNull::<u64>::dangling().cast(), 0) };
        };
        // SAFETY: the bytes are mapped readable from a page boundary (or as the caller of
        // `from_pages` promised) and stay so while `self` is borrowed. The lengths of
        // files were checked when they were mapped; where a file can be truncated later, a guard
        // is registered that replaces the bytes by zeros before an access to them fails. This
        // process has no writable access to them but that of a producer in it, which uses atomics.
        unsafe { ReadMem::new(base, len) }.with_form(form)
    }
}

/// A reserved range of addresses with files mapped into it, unmapped as a whole.
pub(crate) struct Reserved {
    base: NonNull<u8>,
    len: usize,
}

impl Reserved {
    /// Reserves `len` bytes, a multiple of the page size; nothing in them can be read yet.
    pub(crate) fn new(len: usize) -> std::io::Result<Self> {
        let flags = MapFlags::PRIVATE;
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags)?
        };
        let base = NonNull::new(base.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Maps `len` bytes of `fd`, from its start, at `offset`; false if they would not fit.
    pub(crate) fn map(
        &mut self,
        offset: usize,
        len: usize,
        fd: impl AsFd,
    ) -> std::io::Result<bool> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Ok(false);
        }
        // SAFETY: offset <= self.len, inside the reserved range.
        let at = unsafe { self.base.add(offset) };
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the range lies inside the one that this value reserved and owns, so replacing
        // what is mapped there takes nothing from anyone; `&mut self` keeps readers away.
        unsafe { rustix::mm::mmap(at.as_ptr().cast(), len, ProtFlags::READ, flags, fd, 0)? };
        Ok(true)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the range is ours, whole, and nobody can borrow from `self` any more.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
