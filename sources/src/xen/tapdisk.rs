//! Counters that tapdisk, the disk backend of XenServer and XCP-ng, keeps in files of /dev/shm.
//!
//! Two files describe a disk, each a page of which a structure is the head, in the byte order of the
//! host. Words are aligned, and neither file has a sequence: each word is whole, and two of them can
//! be a request apart. Sectors have 512 bytes, times are microseconds.
//!
//! * [`Layout::Metrics`]: td3-PID/vbd-DOMID-DEVID, which xentop reads (`struct stats` of blktap's
//!   tapdisk-metrics-stats.h).
//! * [`Layout::Blkback`]: vbd3-DOMID-DEVID/statistics, from which XenServer's statistics are made
//!   (`struct blkback_stats` of blktap's blktap3.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// VBD_STATS_VERSION.
const VERSION: u32 = 1;
/// Words that are read at most: the longer of the two structures.
const WORDS: usize = 14;

/// Which of the two a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// 96 bytes; says its version.
    Metrics,
    /// 112 bytes, no version.
    Blkback,
}

impl Layout {
    /// Bytes of the structure.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Metrics => 96,
            Self::Blkback => 112,
        }
    }
}

/// What a file says of a disk; `None` where its structure has no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Which structure it was.
    pub layout: Layout,
    /// Requests that found no room in the ring.
    pub oo_req: u64,
    /// Reads that were accepted.
    pub rd_submitted: u64,
    /// Reads that were answered.
    pub rd_completed: Option<u64>,
    /// Sectors read, counted at acceptance.
    pub rd_sectors: u64,
    /// Microseconds that the reads answered took, in sum.
    pub rd_usecs: Option<u64>,
    /// Writes that were accepted; barriers among them.
    pub wr_submitted: u64,
    /// Writes that were answered.
    pub wr_completed: Option<u64>,
    /// Sectors written, counted at acceptance.
    pub wr_sectors: u64,
    /// Microseconds that the writes answered took, in sum.
    pub wr_usecs: Option<u64>,
    /// Requests that failed.
    pub io_errors: Option<u64>,
}

impl Counters {
    /// The structure at the beginning of `bytes`.
    ///
    /// # Errors
    /// Says what is wrong: too short, or a version that is not known.
    pub fn parse(layout: Layout, bytes: &[u8]) -> Result<Self, String> {
        let size = layout.size();
        let Some(structure) = bytes.get(..size) else {
            return Err(format!("{} bytes: tapdisk writes {size}", bytes.len()));
        };
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(structure.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        match layout {
            Layout::Metrics => {
                let version = structure.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
                if version != VERSION {
                    return Err(format!("version {version}: this program knows version {VERSION}"));
                }
                Ok(Self::of_metrics(words))
            }
            Layout::Blkback => Ok(Self::of_blkback(words)),
        }
    }

    const fn of_metrics(words: [u64; WORDS]) -> Self {
        let [_, oo_req, rd_submitted, rd_completed, rd_sectors, rd_usecs, ..] = words;
        let [.., wr_submitted, wr_completed, wr_sectors, wr_usecs, io_errors, _, _, _] = words;
        Self {
            layout: Layout::Metrics,
            oo_req,
            rd_submitted,
            rd_completed: Some(rd_completed),
            rd_sectors,
            rd_usecs: Some(rd_usecs),
            wr_submitted,
            wr_completed: Some(wr_completed),
            wr_sectors,
            wr_usecs: Some(wr_usecs),
            io_errors: Some(io_errors),
        }
    }

    fn of_blkback(words: [u64; WORDS]) -> Self {
        let [_, _, oo_req, rd_submitted, rd_count, rd_sectors, rd_sum, ..] = words;
        let [.., wr_submitted, wr_count, wr_sectors, wr_sum, _, _] = words;
        // Counts and sums are signed there.
        let positive = |word: u64| i64::try_from(word).is_ok().then_some(word);
        Self {
            layout: Layout::Blkback,
            oo_req,
            rd_submitted,
            rd_completed: positive(rd_count),
            rd_sectors,
            rd_usecs: positive(rd_sum),
            wr_submitted,
            wr_completed: positive(wr_count),
            wr_sectors,
            wr_usecs: positive(wr_sum),
            io_errors: None,
        }
    }

    /// Rules that every moment of a disk keeps; says which are broken. Words can be one request of
    /// each direction apart.
    #[must_use]
    pub fn broken_rules(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let directions = [
            ("reads", self.rd_submitted, self.rd_completed, self.rd_sectors, self.rd_usecs),
            ("writes", self.wr_submitted, self.wr_completed, self.wr_sectors, self.wr_usecs),
        ];
        for (what, submitted, completed, sectors, usecs) in directions {
            if let Some(completed) = completed
                && completed > submitted.saturating_add(1)
            {
                broken.push(format!("{what}: {completed} completed of {submitted} submitted"));
            }
            if submitted == 0 && sectors > MAX_SECTORS {
                broken.push(format!("{what}: {sectors} sectors and no request"));
            }
            if let (Some(0), Some(usecs)) = (completed, usecs)
                && usecs > 0
            {
                broken.push(format!("{what}: {usecs} us and none completed"));
            }
        }
        broken
    }
}

/// The most sectors of one request: 11 segments of 8, 256 indirect ones.
const MAX_SECTORS: u64 = 256 * 8;

/// A file that stays open.
#[derive(Debug)]
pub(super) struct Statistics {
    file: File,
    identity: (u64, u64),
    layout: Layout,
}

impl Statistics {
    /// Opens the file, which must be one that tapdisk can have made: regular, not reached by a link,
    /// and of root or this process' user. `is_ours` decides the latter.
    pub(super) fn open(path: &Path, layout: Layout, is_ours: fn(u32) -> bool) -> io::Result<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() || !is_ours(found.uid()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { file, identity: (found.dev(), found.ino()), layout })
    }

    /// Whether the file at `path` is still this one: tapdisk makes another when it connects again.
    pub(super) fn is_current(&self, path: &Path) -> bool {
        std::fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity)
    }

    pub(super) fn read(&self) -> io::Result<Counters> {
        let mut bytes = [0; WORDS * 8];
        let len = self.file.read_at(&mut bytes, 0)?;
        Counters::parse(self.layout, bytes.get(..len).unwrap_or_default()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
