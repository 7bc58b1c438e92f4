//! A block device's statistics as libvirt's virDomainBlockStatsFlags hands them out: parameters by
//! name, of which there are as many as the producer supports.

use domstat_layout::latest::{BlkIo, BlkIoTimes, BlkVbd};
use domstat_layout::{Group, Word};

use super::block_stats::{BlockStatsError, signed};
use crate::error::ReadError;
use crate::read::{Blk, Reading, Sample};

/// One parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockParam {
    /// Its name, one of [`BLOCK_PARAMS`].
    pub name: &'static str,
    /// Its value, never negative.
    pub value: i64,
}

/// The names of all parameters, libvirt's VIR_DOMAIN_BLOCK_STATS_*, in the order in which they are
/// handed out.
pub const BLOCK_PARAMS: [&str; 9] = [
    "wr_bytes",
    "wr_operations",
    "rd_bytes",
    "rd_operations",
    "flush_operations",
    "wr_total_times",
    "rd_total_times",
    "flush_total_times",
    "errs",
];

impl Blk<'_> {
    /// With an empty `params`: how many parameters there can be. Otherwise fills in those that the
    /// producer supports, as many as have room, and says how many that are.
    ///
    /// # Errors
    /// [`BlockStatsError`]; nothing is filled in.
    ///
    /// ```no_run
    /// # use domstat_consumer::{Region, libvirt::BlockParam};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region = Region::open("/run/domstat/web1.domstat")?;
    /// for blk in region.blks() {
    ///     let mut params = vec![BlockParam::default(); blk.read_block_params(&mut [])?];
    ///     let supported = blk.read_block_params(&mut params)?;
    ///     println!("{:?}", &params[..supported]);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_block_params(&self, params: &mut [BlockParam]) -> Result<usize, BlockStatsError> {
        if params.is_empty() {
            return Ok(BLOCK_PARAMS.len());
        }
        let io = group(self.read_summed::<BlkIo>())?;
        let times = group(self.read_summed::<BlkIoTimes>())?;
        let values = [
            io.wr_bytes,
            io.wr_req,
            io.rd_bytes,
            io.rd_req,
            times.flush_req,
            times.wr_total_ns,
            times.rd_total_ns,
            times.flush_total_ns,
            self.errs(io.errs)?,
        ];
        let supported = BLOCK_PARAMS.into_iter().zip(values.map(signed));
        let supported = supported.filter(|(_, value)| *value >= 0);
        let mut filled = 0usize;
        for (param, (name, value)) in params.iter_mut().zip(supported) {
            *param = BlockParam { name, value };
            filled = filled.saturating_add(1);
        }
        Ok(filled)
    }

    /// What counts as errors here: the requests that failed; on Xen, whose backend does not count
    /// these, those that found no room to be queued, as libvirt has it.
    fn errs(&self, failed: Word) -> Result<Word, BlockStatsError> {
        match failed {
            Word::NOT_PRODUCED => Ok(group(self.read::<BlkVbd>())?.oo_req),
            failed => Ok(failed),
        }
    }
}

/// The group, not produced where it is not active.
fn group<G: Group>(read: Result<Reading<Sample<G>>, ReadError>) -> Result<G, BlockStatsError> {
    Ok(read?.active().map_or(G::NOT_PRODUCED, |sample| sample.group))
}
