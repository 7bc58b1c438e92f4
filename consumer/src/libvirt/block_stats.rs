//! Block statistics as structures of libvirt, which only grow at their end,
//! and a size that says which one the caller was compiled with.

use domstat_layout::latest::{BlkIo, BlkIoTimes};
use domstat_layout::{Stat, Word};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::ReadError;
use crate::read::{Blk, Reading};

/// The statistics as libvirt's virDomainBlockStatsStruct began. -1: not produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockStatsV1 {
    /// Reads that were completed.
    pub rd_req: i64,
    /// Bytes that were read.
    pub rd_bytes: i64,
    /// Writes that were completed.
    pub wr_req: i64,
    /// Bytes that were written.
    pub wr_bytes: i64,
    /// Requests that failed.
    pub errs: i64,
}

/// The statistics with latencies appended. -1: not produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockStatsV2 {
    /// The structure as it began.
    pub v1: BlockStatsV1,
    /// Time that completed reads took, in nanoseconds.
    pub rd_total_times: i64,
    /// Time that completed writes took, in nanoseconds.
    pub wr_total_times: i64,
    /// Flushes that were completed.
    pub flush_req: i64,
    /// Time that completed flushes took, in nanoseconds.
    pub flush_total_times: i64,
}

/// The newest of the structures. Code that names it grows with the next one; code that names a
/// version does not.
pub type BlockStats = BlockStatsV2;

/// Why no statistics were handed out. The buffer is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockStatsError {
    /// The caller was compiled with a structure that is newer than this build.
    #[error("a structure of {found} bytes is newer than the newest known here, of {newest}")]
    TooLarge {
        /// Bytes of the caller's.
        found: usize,
        /// Bytes of [`BlockStats`].
        newest: usize,
    },
    /// The writer was stopped or exited, or the memory went away.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl BlockStatsV2 {
    const NOT_PRODUCED: Self = Self {
        v1: BlockStatsV1 { rd_req: -1, rd_bytes: -1, wr_req: -1, wr_bytes: -1, errs: -1 },
        rd_total_times: -1,
        wr_total_times: -1,
        flush_req: -1,
        flush_total_times: -1,
    };
}

/// A published word as these structures hold it.
pub(crate) fn signed(word: Word) -> i64 {
    match word.get() {
        Stat::Value(v) => i64::try_from(v).unwrap_or(i64::MAX),
        Stat::Saturated => i64::MAX,
        Stat::NotProduced | Stat::GroupInactive => -1,
    }
}

impl Blk<'_> {
    /// Fills the structure that the caller knows: as many bytes as `buffer` has, from any
    /// producer. What it does not produce is -1. Of a device that has shares they are the sums.
    ///
    /// # Errors
    /// [`BlockStatsError::TooLarge`] if the caller knows more than this build.
    ///
    /// ```no_run
    /// # use domstat_consumer::{Region, libvirt::BlockStatsV1};
    /// use zerocopy::{FromZeros, IntoBytes};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region = Region::open("/run/domstat/web1.domstat")?;
    /// for blk in region.blks() {
    ///     let mut stats = BlockStatsV1::new_zeroed();
    ///     blk.read_block_stats(stats.as_mut_bytes())?;
    ///     println!("{} reads", stats.rd_req);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_block_stats(&self, buffer: &mut [u8]) -> Result<(), BlockStatsError> {
        let (found, newest) = (buffer.len(), size_of::<BlockStats>());
        if found > newest {
            return Err(BlockStatsError::TooLarge { found, newest });
        }
        let mut all = BlockStats::NOT_PRODUCED;
        if let Reading::Active(io) = self.read_summed::<BlkIo>()? {
            all.v1 = BlockStatsV1 {
                rd_req: signed(io.rd_req),
                rd_bytes: signed(io.rd_bytes),
                wr_req: signed(io.wr_req),
                wr_bytes: signed(io.wr_bytes),
                errs: signed(io.errs),
            };
        }
        if found > size_of::<BlockStatsV1>()
            && let Reading::Active(times) = self.read_summed::<BlkIoTimes>()?
        {
            all.rd_total_times = signed(times.rd_total_ns);
            all.wr_total_times = signed(times.wr_total_ns);
            all.flush_req = signed(times.flush_req);
            all.flush_total_times = signed(times.flush_total_ns);
        }
        for (to, from) in buffer.iter_mut().zip(all.as_bytes()) {
            *to = *from;
        }
        Ok(())
    }
}
