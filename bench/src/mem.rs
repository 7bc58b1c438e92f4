//! Memory that is shared between the threads of the bench, and the floor: `memcpy`.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use domstat_layout::{ReadMem, WriteMem};

/// A page of shared words, for the rest of the program.
#[derive(Clone, Copy)]
pub struct Shared(NonNull<u8>);

// SAFETY: the page is never unmapped, and reached only as atomic words or, for the floor, by memcpy.
unsafe impl Send for Shared {}
// SAFETY: as for Send.
unsafe impl Sync for Shared {}

impl Shared {
    /// Bytes of it.
    pub const LEN: usize = 4096;

    /// A page of zeros.
    pub fn new() -> Self {
        let mut page = memmap2::MmapMut::map_anon(Self::LEN).expect("a page of memory");
        let start = NonNull::from(&mut page[..]).cast();
        std::mem::forget(page);
        Self(start)
    }

    /// To write it.
    pub fn write(self) -> WriteMem<'static> {
        // SAFETY: never unmapped; only reached as atomic words (but for `torn_copy`).
        unsafe { WriteMem::new(self.0, Self::LEN) }
    }

    /// To read it.
    pub fn read(self) -> ReadMem<'static> {
        self.write().as_read()
    }

    /// Copies words out without any protocol, as C programs do: next to a writer they are torn.
    #[inline(always)]
    pub fn torn_copy<const N: usize>(self, offset: usize, to: &mut [u64; N]) {
        assert!(offset + N * 8 <= Self::LEN);
        let from = self.0.as_ptr().wrapping_add(offset);
        // SAFETY: inside the page and inside `to`. That another thread writes meanwhile is what
        // this is about; the C library's copy is opaque to the compiler, so no more than the bytes
        // can be wrong.
        unsafe { libc::memcpy(to.as_mut_ptr().cast(), from.cast(), N * 8) };
    }
}

/// Where words are copied to: far from the offsets in a page that anything is copied from, because
/// a load waits for an earlier store to the same offset of another page.
#[repr(C, align(4096))]
pub struct Target<const N: usize> {
    before: [u64; 384],
    /// The words.
    pub words: [u64; N],
}

impl<const N: usize> Target<N> {
    /// All zero.
    pub fn new() -> Box<Self> {
        Box::new(Self { before: [0; 384], words: [0; N] })
    }
}

impl Shared {
    /// As [`Shared::torn_copy`], by the compiler's own copy: the floor of a thread that is alone.
    #[inline(always)]
    pub fn copy<const N: usize>(self, offset: usize, to: &mut [u64; N]) {
        assert!(offset + N * 8 <= Self::LEN);
        let from = self.0.as_ptr().wrapping_add(offset).cast::<u64>();
        // SAFETY: inside the page and inside `to`; nobody writes the page meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), N) };
    }

    /// The floor of a writer that is alone.
    #[inline(always)]
    pub fn fill<const N: usize>(self, offset: usize, from: &[u64; N]) {
        assert!(offset + N * 8 <= Self::LEN);
        let to = self.0.as_ptr().wrapping_add(offset).cast::<u64>();
        // SAFETY: inside the page and inside `from`; nobody else looks at the page meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, N) };
    }
}

/// A region's file, mapped once more for the floor.
pub struct Floor(memmap2::MmapRaw);

impl Floor {
    /// Maps the whole file.
    pub fn of(file: impl memmap2::MmapAsRawDesc) -> std::io::Result<Self> {
        Ok(Self(memmap2::MmapOptions::new().map_raw_read_only(file)?))
    }

    /// Copies one record after the other, `R` bytes each, `stride` apart from `offset` on.
    ///
    /// Panics unless all of them lie inside.
    pub fn copy_records<const R: usize>(&self, offset: usize, stride: usize, to: &mut [[u8; R]]) {
        let Some(last) = to.len().checked_sub(1) else { return };
        assert!(offset + last * stride + R <= self.0.len());
        let base = self.0.as_ptr().wrapping_add(offset);
        for (i, to) in to.iter_mut().enumerate() {
            let from = base.wrapping_add(i * stride);
            // SAFETY: the record lies inside the mapping (checked above), and nothing writes it
            // while the floor is measured.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), R) };
        }
    }
}
