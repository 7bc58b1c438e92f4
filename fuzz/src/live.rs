//! A region in shared memory that changes while it is read.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use domstat_consumer::AttachError;
use domstat_consumer::region::MappedFile;
use rustix::fs::MemfdFlags;

/// Bytes of the script's entries.
const WRITE_LEN: usize = 7;
/// Most entries of a script.
const MAX_WRITES: usize = 15;
/// Most pages of a region.
const MAX_PAGES: usize = 63;
/// Times that a script is performed while a region is read, if reading takes that long.
const CYCLES: u32 = 4;
/// Times that a region is read while its script is performed.
const PASSES: u32 = 3;

/// What the fuzzer's bytes say: how many writes (low four bits of the first byte), how many pages
/// the file is extended to at least (second byte), the writes, and then the file's bytes.
pub struct Input<'a> {
    writes: Vec<Write>,
    pages: usize,
    bytes: &'a [u8],
}

/// A write to the region while it is read; one of no bytes truncates the file.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    at: u64,
    bytes: [u8; 4],
    len: usize,
}

impl<'a> Input<'a> {
    /// Takes the fuzzer's bytes apart; `None` if they are too short.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (&[first, pages], rest) = data.split_first_chunk()?;
        let nr = usize::from(first & 15).min(MAX_WRITES);
        let (script, bytes) = rest.split_at_checked(nr * WRITE_LEN)?;
        let pages = usize::from(pages).min(MAX_PAGES);
        let writes = script.as_chunks::<WRITE_LEN>().0.iter().map(|write| {
            let [at0, at1, len, value @ ..] = *write;
            // Words at their places, as everything in a region is, or bytes anywhere.
            let at = u64::from(u16::from_le_bytes([at0, at1]));
            match len & 3 {
                1 => Write { at, bytes: value, len: 1 },
                3 => Write { at, bytes: value, len: 0 },
                _ => Write { at: at & !3, bytes: value, len: 4 },
            }
        });
        Some(Self { writes: writes.collect(), pages, bytes })
    }

    /// The fuzzer's bytes for a region without trailing zeros, and writes of words to it.
    #[must_use]
    pub fn encode(region: &[u8], writes: &[(u16, u32)]) -> Vec<u8> {
        let len = region.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let nr = u8::try_from(writes.len().min(MAX_WRITES)).unwrap_or(0);
        let pages = u8::try_from(region.len().div_ceil(4096)).unwrap_or(u8::MAX);
        let mut data = vec![nr, pages];
        for (at, value) in writes.iter().take(usize::from(nr)) {
            data.extend(at.to_le_bytes());
            data.push(0);
            data.extend(value.to_le_bytes());
        }
        data.extend(&region[..len]);
        data
    }

    /// The file's bytes, as they are before anything is written.
    #[must_use]
    pub fn region(&self) -> Vec<u8> {
        let mut region = self.bytes.to_vec();
        region.resize(region.len().max(self.pages * 4096), 0);
        region
    }

    /// Calls `read` again and again while the writes are made, then makes each of them once more,
    /// and returns the file as it then is, to be looked at in peace.
    pub fn while_it_changes(&self, read: impl Fn(&File)) -> File {
        let file = memfd();
        file.write_all_at(self.bytes, 0).expect("room for a few pages");
        let len = (self.bytes.len()).max(self.pages * 4096) as u64;
        file.set_len(len).expect("room for a few pages");
        if self.writes.is_empty() {
            read(&file);
            return file;
        }
        let cycle = || {
            for write in &self.writes {
                // Never past where the end was at first: the file would grow.
                if write.at + write.len as u64 > len {
                    continue;
                }
                let _ = match write.len {
                    0 => file.set_len(write.at),
                    len => file.write_all_at(&write.bytes[..len], write.at),
                };
            }
        };
        let (done, cycles) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    cycle();
                    cycles.fetch_add(1, Ordering::Relaxed);
                }
            });
            for _ in 0..PASSES {
                read(&file);
                if cycles.load(Ordering::Relaxed) >= CYCLES {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
            // The scope waits for what the thread does, not for what the thread itself still frees.
            writer.join().expect("the writer's end");
        });
        cycle();
        file
    }
}

/// Maps the file, if there is a byte in it, and it is not truncated meanwhile.
pub(crate) fn mapped(file: &File) -> Option<MappedFile> {
    match MappedFile::from_fd(file.try_clone().expect("a descriptor")) {
        Ok(mapped) => Some(mapped),
        Err(AttachError::Empty { .. } | AttachError::Truncated(_)) => None,
        Err(error) => panic!("a memfd can be mapped: {error}"),
    }
}

/// An empty memfd; the same one each time.
fn memfd() -> File {
    thread_local! {
        static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
    }
    let file = FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| {
            let fd = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC);
            File::from(fd.expect("a memfd"))
        });
        file.try_clone().expect("a descriptor")
    });
    file.set_len(0).expect("a file can be emptied");
    file
}
