//! Sums of the shares of devices.
//!
//! A device that several threads or processes serve has a share for each of them. While a share of
//! its own generation has a group active, the truth is the sum over its shares; the device's own
//! group is that sum as of when it was written, for readers that know no shares.
//!
//! [`Region::shares`] finds the shares of all devices in one pass; a [`Snapshot`](super::Snapshot)
//! and [`SchemaReader`](crate::schema::SchemaReader) have the sums already.

use domstat_layout::latest::BlkQueue;
use domstat_layout::share::Whole;
use domstat_layout::{Ns, RecordKind};
use zerocopy::FromBytes;

use self::sum::{Index, Pass, Pending, pass};
use super::patience::Waiting;
use super::{Blk, Copied, Net, Reading, Record, Sample};
use crate::error::{ReadError, StalledWriter};
use crate::region::Region;

pub(crate) mod sum;

pub(crate) use sum::{BLK, Kind, NET, Shared};

/// How often a pass over the shares begins again because a slot was given to another meanwhile: that
/// happens when devices are plugged, so twice in a row is rare already.
pub(crate) const MOST_PASSES: u32 = 8;

/// The error for a device whose shares were given to others in every pass.
pub(crate) fn restless(group: Shared, device: u32) -> ReadError {
    let (record, index) = (Some(group.share.record), Some(device));
    let (group, waited) = (Some(group.whole.name), std::time::Duration::ZERO);
    StalledWriter { record, index, group, seq: 0, retries: MOST_PASSES, waited }.into()
}

/// The devices of a region with their shares, for sums over many devices.
///
/// The shares are found at the first sum, and again if a slot was given to another since: make one of
/// these for each pass over the devices. All shares are looked at once and sorted; a sum looks at those
/// of its device only.
///
/// # What a sum promises
///
/// A sum adds what was written, and nothing else: each share is read whole, and none is brought to
/// another time. So counters, times, buckets and peaks of a sum are never smaller than in an earlier
/// read, and never larger than what was written, for as long as the device's generation lasts, its
/// shares stay active and their writers never decrease them. A share whose writer stopped in an update
/// makes the read an error, not the sum smaller.
///
/// The times of a queue grow between two writes, too. What they are up to now is an estimate, for which
/// [`Self::queue_at`] brings each share to now from its own last write. An estimate may be larger than
/// the next one: a writer that is late says afterwards that a request had ended.
///
/// ```no_run
/// use domstat_consumer::Region;
/// use domstat_layout::latest::RdLatency;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::open("/run/domstat/web1.domstat")?;
/// let mut shares = region.shares();
/// for blk in region.blks() {
///     let reads = shares.blk::<RdLatency>(blk.index())?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Shares<'r> {
    region: &'r Region,
    /// The only device of interest.
    only: Option<u32>,
    blks: Option<Index>,
    nets: Option<Index>,
    passes: u32,
    /// What the last sum lacks, if it is of queues; `None`: it was not a sum.
    pending: Option<Pending>,
}

impl<'r> Shares<'r> {
    const fn new(region: &'r Region, only: Option<u32>) -> Self {
        Self { region, only, blks: None, nets: None, passes: 0, pending: None }
    }

    /// A group of a block device, or of its distributions: what its shares sum to, or its own if none
    /// of them has it. Each share is read whole, in one pass.
    ///
    /// `updated` is that of the newest share, `seq` the sum of theirs. A sum is not produced unless
    /// every share is.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn blk<G: Whole>(&mut self, index: u32) -> Result<Reading<Sample<G>>, ReadError>
    where
        G::Share: domstat_layout::BlkQueueGroup,
    {
        self.read(index)
    }

    /// As [`Shares::blk`], of a network interface.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn net<G: Whole>(&mut self, index: u32) -> Result<Reading<Sample<G>>, ReadError>
    where
        G::Share: domstat_layout::NetQueueGroup,
    {
        self.read(index)
    }

    /// The queue of a block device as of `now`, on the region's clock: each share is brought there from
    /// its own last write, as [`Sample::at`] does it for one writer, so that `busy_ns` grows with every
    /// share that has a request in flight. An estimate ([what a sum promises](Shares#what-a-sum-promises)).
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn queue_at(
        &mut self,
        index: u32,
        now: Ns,
    ) -> Result<Reading<Sample<BlkQueue>>, ReadError> {
        let read = self.blk::<BlkQueue>(index)?;
        Ok(read.map(|queue| {
            let group =
                self.pending.map_or_else(|| queue.at(now), |pending| pending.at(&queue, now));
            Sample { group, ..queue }
        }))
    }

    /// Reads of groups of shares so far: the work that it was.
    #[must_use]
    pub fn reads(&self) -> u64 {
        [&self.blks, &self.nets].into_iter().flatten().map(|index| index.reads).sum()
    }

    fn read<G: Whole>(&mut self, device: u32) -> Result<Reading<Sample<G>>, ReadError> {
        let mut group = G::NOT_PRODUCED;
        // Always so: a group is made of aligned words.
        let Ok(words) = <[u64]>::mut_from_bytes(group.as_mut_bytes()) else {
            return Ok(Reading::Unknown);
        };
        let waiting = &mut Waiting::new(self.region.patience());
        let known = Kind::of_whole(G::DESC.record, G::DESC.bit);
        let sum = known.map(|(kind, shared)| self.sum(kind, shared, device, words, waiting));
        match sum.transpose()?.flatten() {
            Some(Reading::Active(Copied { seq, updated_ns, generation })) => {
                Ok(Reading::Active(Sample { group, updated: Ns(updated_ns), seq, generation }))
            }
            Some(Reading::Inactive) => Ok(Reading::Inactive),
            Some(Reading::Unknown) => Ok(Reading::Unknown),
            None => {
                let own = self.region.record(G::DESC.record, device);
                own.map_or(Ok(Reading::Unknown), |own| own.read())
            }
        }
    }

    /// What the shares of a device sum to; `None` if none of them has the group.
    pub(crate) fn sum(
        &mut self,
        kind: &'static Kind,
        group: Shared,
        device: u32,
        sum: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Option<Reading<Copied>>, ReadError> {
        let Self { region, only, blks, nets, passes, pending } = self;
        *pending = None;
        let mut found = Pending::NONE;
        if kind.share_records(region) == 0 {
            return Ok(None);
        }
        let index = if kind.device == RecordKind::Blk { blks } else { nets };
        loop {
            let index = match index {
                Some(index) => index,
                None => {
                    let index = index.insert(Index::default());
                    index.fill(region, kind, *only, waiting)?;
                    index
                }
            };
            match pass(region, kind, group, index.of(device), sum, &mut found, waiting)? {
                Pass::Sum(reading) => {
                    *pending = Some(found);
                    return Ok(Some(reading));
                }
                Pass::NoShare => return Ok(None),
                // Not for each device: a region may do nothing but give out its slots.
                Pass::Again if *passes < MOST_PASSES => {
                    *passes += 1;
                    index.fill(region, kind, *only, waiting)?;
                }
                Pass::Again => return Err(restless(group, device)),
            }
        }
    }
}

impl Region {
    /// The shares of all devices, to be summed device by device.
    #[must_use]
    pub const fn shares(&self) -> Shares<'_> {
        Shares::new(self, None)
    }
}

impl Record<'_> {
    /// Which tenant has the slot.
    fn generation(&self) -> u32 {
        // As in every record of an array.
        let at = RecordKind::Blk.generation_offset();
        at.and_then(|at| self.mem.load_u32(at)).unwrap_or(0)
    }
}

impl Blk<'_> {
    /// [`Shares::blk`] of this device alone. For many devices, [`Region::shares`] looks at the shares
    /// once, and this each time.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn read_summed<G: Whole>(&self) -> Result<Reading<Sample<G>>, ReadError>
    where
        G::Share: domstat_layout::BlkQueueGroup,
    {
        Shares::new(self.record.region, Some(self.index())).blk(self.index())
    }
}

impl Net<'_> {
    /// As [`Blk::read_summed`].
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn read_summed<G: Whole>(&self) -> Result<Reading<Sample<G>>, ReadError>
    where
        G::Share: domstat_layout::NetQueueGroup,
    {
        Shares::new(self.record.region, Some(self.index())).net(self.index())
    }
}
