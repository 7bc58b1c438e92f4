//! A mapping that nothing guards, for tests that show what a guard is for.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ptr;

/// The start of a file, mapped read-only as any program maps files.
pub struct Plain {
    base: *const u8,
    len: usize,
}

impl Plain {
    /// Maps `len` bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn map(file: &File, len: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        // SAFETY: no address is asked for, so no existing mapping is touched.
        let base =
            unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Self { base: base.cast(), len })
    }

    /// The first byte; kills the process if the file is empty by now.
    #[must_use]
    pub fn first_byte(&self) -> u8 {
        // SAFETY: mapped readable; that the access may fail is what this is for.
        unsafe { self.base.read_volatile() }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody borrows from `self` any more.
        let _ = unsafe { rustix::mm::munmap(self.base.cast_mut().cast(), self.len) };
    }
}
