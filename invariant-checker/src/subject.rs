//! Subject of a check: a region's bytes and their origin.

use std::os::fd::BorrowedFd;

use domstat_layout::ReadMem;

use crate::Books;

/// A region to be judged: its bytes, and what is known about their origin.
pub struct Subject<'a> {
    pub(crate) mem: ReadMem<'a>,
    pub(crate) file: Option<BorrowedFd<'a>>,
    pub(crate) frames: Vec<FrameId>,
    pub(crate) has_writer: bool,
    pub(crate) books: Option<Box<dyn Fn() -> Option<Books> + 'a>>,
}

/// Identity of a frame's memory: the file's device and inode, and the frame's start in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameId {
    /// Device of the file (`st_dev`).
    pub device: u64,
    /// Inode of the file (`st_ino`).
    pub inode: u64,
    /// Byte offset in the file.
    pub offset: u64,
}

impl<'a> Subject<'a> {
    /// Bytes of unknown origin.
    #[must_use]
    pub fn new(mem: ReadMem<'a>) -> Self {
        Self { mem, file: None, frames: Vec::new(), has_writer: true, books: None }
    }

    /// The file that was mapped.
    #[must_use]
    pub fn with_file(mut self, file: BorrowedFd<'a>) -> Self {
        self.file = Some(file);
        self
    }

    /// A region that nobody writes any more, such as a copy from another host: its times are not
    /// compared with the clock of this one.
    #[must_use]
    pub fn without_writer(mut self) -> Self {
        self.has_writer = false;
        self
    }

    /// The books of the threads that run the vCPUs, read at each look (I26).
    #[must_use]
    pub fn with_books(mut self, books: impl Fn() -> Option<Books> + 'a) -> Self {
        self.books = Some(Box::new(books));
        self
    }

    /// The frames of a page-granular region that were mapped side by side: the dom record's, then
    /// each vCPU's.
    #[must_use]
    pub fn with_frames(mut self, frames: Vec<FrameId>) -> Self {
        self.frames = frames;
        self
    }
}
