//! Truncation of mapped files: detection after each read.

use std::os::fd::AsFd;

use domstat_sigbus::Guard;

/// The memory behind a region went away under its reader: its file was truncated, or could not be
/// read any more. Nothing that is read from then on is a value; attach again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the region was lost under its reader: {}", why(*.mapped_len, *.file_len))]
pub struct Truncated {
    /// Bytes that were mapped.
    pub mapped_len: u64,
    /// Bytes that the file has now.
    pub file_len: u64,
}

fn why(mapped_len: u64, file_len: u64) -> String {
    if file_len < mapped_len {
        format!("its file was truncated from {mapped_len} bytes to {file_len}")
    } else {
        "its memory could not be read".to_owned()
    }
}

/// What is asked about the mapping of files that can shrink: whether they did.
pub(crate) struct Shrinkable {
    guard: Guard,
    /// Bytes that were mapped of each file.
    lens: Vec<u64>,
}

impl Shrinkable {
    pub(crate) fn new(guard: Guard, lens: Vec<u64>) -> Self {
        Self { guard, lens }
    }

    /// Asks after a read: if this succeeds, the files were long enough all the time, unless their
    /// owner lengthened them again, which is no more than writing zeros.
    ///
    /// A system call for each file: a truncation to the middle of a page raises no fault, but
    /// replaces by zeros what lies behind.
    pub(crate) fn check<F: AsFd>(
        &self,
        files: impl IntoIterator<Item = F>,
    ) -> Result<(), Truncated> {
        for (file, mapped_len) in files.into_iter().zip(&self.lens) {
            let len = rustix::fs::fstat(file).map_or(0, |stat| stat.st_size);
            let lost =
                Truncated { mapped_len: *mapped_len, file_len: u64::try_from(len).unwrap_or(0) };
            if lost.file_len < lost.mapped_len || self.guard.is_lost() {
                return Err(lost);
            }
        }
        Ok(())
    }
}
