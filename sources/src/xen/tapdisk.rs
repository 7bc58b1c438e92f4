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

    /// Which of the rules ([`Rule`]) these counters break, each with what was found. `before` is an earlier
    /// look at the same file. Words can be one request of each direction apart.
    #[must_use]
    pub fn broken_rules(&self, before: Option<&Self>) -> Vec<(Rule, String)> {
        let mut broken = Vec::new();
        for (what, now) in [("reads", self.reads()), ("writes", self.writes())] {
            let Direction { submitted, completed, sectors, usecs } = now;
            if let Some(completed) = completed
                && completed > submitted.saturating_add(1)
            {
                let found = format!("{what}: {completed} completed of {submitted} submitted");
                broken.push((Rule::Completed, found));
            }
            if submitted == 0 && sectors > MAX_SECTORS {
                broken.push((Rule::Sectors, format!("{what}: {sectors} sectors and no request")));
            }
            if let (Some(0), Some(usecs)) = (completed, usecs)
                && usecs > 0
            {
                broken.push((Rule::Times, format!("{what}: {usecs} us and none completed")));
            }
        }
        for (name, now) in self.cumulative() {
            let past = before.and_then(|before| before.cumulative().find(|(n, _)| *n == name));
            if let Some((_, past)) = past
                && now < past
            {
                broken.push((Rule::Monotonic, format!("{name}: {now} after {past}")));
            }
        }
        broken
    }

    const fn reads(&self) -> Direction {
        let (submitted, completed) = (self.rd_submitted, self.rd_completed);
        Direction { submitted, completed, sectors: self.rd_sectors, usecs: self.rd_usecs }
    }

    const fn writes(&self) -> Direction {
        let (submitted, completed) = (self.wr_submitted, self.wr_completed);
        Direction { submitted, completed, sectors: self.wr_sectors, usecs: self.wr_usecs }
    }

    /// The fields by name; `None` where the structure has none.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        [
            ("oo_req", Some(self.oo_req)),
            ("rd_submitted", Some(self.rd_submitted)),
            ("rd_completed", self.rd_completed),
            ("rd_sectors", Some(self.rd_sectors)),
            ("rd_usecs", self.rd_usecs),
            ("wr_submitted", Some(self.wr_submitted)),
            ("wr_completed", self.wr_completed),
            ("wr_sectors", Some(self.wr_sectors)),
            ("wr_usecs", self.wr_usecs),
            ("io_errors", self.io_errors),
        ]
        .into_iter()
    }

    /// All but the times, which go back with the clock.
    fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.fields().filter(|(name, _)| !name.ends_with("_usecs"));
        counts.filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Reads, or writes.
struct Direction {
    submitted: u64,
    completed: Option<u64>,
    sectors: u64,
    usecs: Option<u64>,
}

/// Rules that every file of tapdisk keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is long enough, and its version is known.
    Structure,
    /// No more requests are completed than submitted.
    Completed,
    /// Sectors come with requests.
    Sectors,
    /// Time passes only with requests.
    Times,
    /// No count decreases while the file is watched.
    Monotonic,
}

impl Rule {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::Structure, Self::Completed, Self::Sectors, Self::Times, Self::Monotonic];

    /// Number and title.
    #[must_use]
    pub const fn title(self) -> (&'static str, &'static str) {
        match self {
            Self::Structure => ("T01", "the file holds the structure: long enough, version known"),
            Self::Completed => ("T02", "no more requests are completed than submitted"),
            Self::Sectors => ("T03", "sectors come with requests"),
            Self::Times => ("T04", "time is counted only for completed requests"),
            Self::Monotonic => ("T05", "no count decreases while the file is watched"),
        }
    }
}

/// What a path of tapdisk's names: td3-PID/vbd-DOMID-DEVID or vbd3-DOMID-DEVID/statistics.
#[must_use]
pub fn layout_of(path: &Path) -> Option<Layout> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let (file, directory) = (name(path)?, path.parent().and_then(name)?);
    let numbers = |text: &str| {
        let mut parts = text.split('-');
        parts.by_ref().take(2).filter(|part| part.parse::<u32>().is_ok()).count() == 2
            && parts.next().is_none()
    };
    if directory.starts_with("td3-") && file.strip_prefix("vbd-").is_some_and(numbers) {
        Some(Layout::Metrics)
    } else if file == "statistics" && directory.strip_prefix("vbd3-").is_some_and(numbers) {
        Some(Layout::Blkback)
    } else {
        None
    }
}

/// One look at a file of tapdisk's.
///
/// # Errors
/// Whatever opening and reading say; [`io::ErrorKind::InvalidData`] if it is not such a file.
pub fn look(path: &Path, layout: Layout) -> io::Result<Counters> {
    let file = Statistics::open(path, layout, |_| true)?;
    file.read().map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        None => io::Error::new(io::ErrorKind::InvalidData, error),
    })
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

    pub(super) const fn layout(&self) -> Layout {
        self.layout
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
