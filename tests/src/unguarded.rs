//! A mapping that nothing guards, for tests that show what a guard is for.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
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

/// Tries everything that could change the memory behind `fd`, or its length; `anew` says that the
/// descriptor was opened again, for writing.
///
/// # Panics
/// If anything succeeds.
pub fn assert_read_only(fd: BorrowedFd<'_>, len: usize, anew: bool) {
    use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate};
    use rustix::io::Errno;
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};

    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: no address is asked for, so no existing mapping is touched.
    let writable = unsafe { mmap(ptr::null_mut(), len, both, MapFlags::SHARED, fd, 0) };
    let or_sealed = |errno| if anew { Errno::PERM } else { errno };
    assert_eq!(writable, Err(or_sealed(Errno::ACCESS)), "mmap");

    // SAFETY: as above.
    let ours = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, fd, 0) };
    let ours = ours.expect("readable");
    // SAFETY: the range was mapped just now and is used by nothing else.
    let made = unsafe { mprotect(ours, len, MprotectFlags::READ | MprotectFlags::WRITE) };
    assert_eq!(made, Err(Errno::ACCESS), "mprotect");
    // SAFETY: as above, and not used any more.
    unsafe { munmap(ours, len) }.expect("unmapped");

    let refused = |result: Result<(), Errno>, errno, what: &str| {
        assert_eq!(result, Err(or_sealed(errno)), "{what}");
    };
    refused(ftruncate(fd, 0), Errno::INVAL, "ftruncate to 0");
    refused(ftruncate(fd, len as u64 * 2), Errno::INVAL, "ftruncate to twice the length");
    refused(rustix::io::pwrite(fd, &[1; 8], 0).map(|_| ()), Errno::BADF, "pwrite");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    refused(fallocate(fd, hole, 0, len as u64), Errno::BADF, "punch a hole");
    refused(fcntl_add_seals(fd, SealFlags::WRITE), Errno::PERM, "add a seal");
}
