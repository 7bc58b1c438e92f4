//! Sums of the shares of a device.
//!
//! A device that several threads or processes serve has a share for each of them. While it has one
//! that is active, of its own generation, the truth is their sum; its own groups are that sum as of
//! when they were written, for readers that know no shares.

use domstat_layout::latest::{BlkQueue as Queue, BlkQueueOf, NetQueueOf};
use domstat_layout::share::{Share, Whole};
use domstat_layout::{Group, Ns, RecordKind, Word};
use zerocopy::{FromBytes, IntoBytes};

use super::{Blk, Net, Reading, Record, Sample};
use crate::error::{ReadError, StalledWriter};
use crate::region::Region;

/// How often a pass over the shares begins again because a slot was given to another meanwhile: that
/// happens when devices are plugged, so twice in a row is rare already.
const MOST_PASSES: u32 = 8;

/// Which device a share is of, and which generation of it.
trait Of: Group {
    fn device(&self) -> [Word; 2];
}

impl Of for BlkQueueOf {
    fn device(&self) -> [Word; 2] {
        [self.device, self.generation]
    }
}

impl Of for NetQueueOf {
    fn device(&self) -> [Word; 2] {
        [self.device, self.generation]
    }
}

impl Sample<Queue> {
    /// The queue as of `now` (on the region's clock): until the next write the requests in flight
    /// stand still, and both times grow as they say. Of a sum of shares, the busy time is that of its
    /// shares, which were brought to the same time before they were added.
    ///
    /// Unchanged if `now` is earlier than the write.
    #[must_use]
    pub fn at(&self, now: Ns) -> Queue {
        let (mut queue, passed) = (self.group, now.since(self.updated));
        let [submitted, completed] = [queue.submitted.value(), queue.completed.value()];
        if let (Some(submitted), Some(completed)) = (submitted, completed) {
            let in_flight = submitted.saturating_sub(completed);
            let busy = if in_flight > 0 { passed } else { 0 };
            queue.busy_ns = queue.busy_ns.plus(busy.into());
            queue.queued_ns = queue.queued_ns.plus(passed.saturating_mul(in_flight).into());
        }
        queue
    }
}

/// The share brought to `now`, if it is one of a queue: sums are of one moment.
fn at<G: Whole>(sample: Sample<G>, now: Ns) -> G {
    let (mut group, bytes) = (sample.group, sample.group.as_bytes());
    if G::DESC == Queue::DESC
        && let Ok(queue) = Queue::read_from_bytes(bytes)
    {
        let Sample { updated, seq, generation, .. } = sample;
        let queue = Sample { group: queue, updated, seq, generation }.at(now);
        if let Ok(same) = G::read_from_bytes(queue.as_bytes()) {
            group = same;
        }
    }
    group
}

/// A pass over the shares of a device.
enum Pass<G> {
    /// What they sum to.
    Sum(Reading<Sample<G>>),
    /// The device has no share that counts.
    NoShare,
    /// A slot was given to another during the pass.
    Again,
}

impl Region {
    fn pass<G: Whole, O: Of>(&self, device: &Record<'_>) -> Result<Pass<G>, ReadError> {
        let generation = device.generation();
        let of = [Word::from(device.index.map(u64::from)), Word::new(generation.into())];
        let kind = <G::Share as Group>::DESC.record;
        let mut shares = Vec::new();
        for index in 0..self.geometry().array(kind).nr {
            let Some(record) = self.record(kind, index) else { continue };
            let Reading::Active(found) = record.read::<O>()? else { continue };
            if found.device() != of {
                continue;
            }
            match record.read::<G::Share>()? {
                Reading::Active(share) if share.generation != found.generation => {
                    return Ok(Pass::Again);
                }
                Reading::Active(share) => shares.push(share),
                // What one share does not say, the sum does not.
                Reading::Inactive if record.generation() == found.generation => {
                    return Ok(Pass::Sum(Reading::Inactive));
                }
                Reading::Inactive => return Ok(Pass::Again),
                Reading::Unknown => return Ok(Pass::Sum(Reading::Unknown)),
            }
        }
        if device.generation() != generation {
            return Ok(Pass::Again);
        }
        let newest = shares.iter().map(|share| share.updated).max();
        let Some(updated) = newest else { return Ok(Pass::NoShare) };
        let seq = shares.iter().fold(0, |sum: u32, share| sum.wrapping_add(share.seq));
        let mut whole =
            shares.into_iter().map(|Sample { group, updated: written, seq, generation }| {
                at(Sample { group: group.whole(), updated: written, seq, generation }, updated)
            });
        let Some(mut group) = whole.next() else { return Ok(Pass::NoShare) };
        whole.for_each(|other| G::Share::share(other).add_to(&mut group));
        Ok(Pass::Sum(Reading::Active(Sample { group, updated, seq, generation })))
    }

    /// The sum over a device's shares, or, if it has none that counts, its own group.
    fn read_summed<G: Whole, O: Of>(
        &self,
        device: Record<'_>,
    ) -> Result<Reading<Sample<G>>, ReadError> {
        for _ in 0..MOST_PASSES {
            match self.pass::<G, O>(&device)? {
                Pass::Sum(reading) => return Ok(reading),
                Pass::NoShare => {
                    // Its own group, which need not lie in its own record.
                    let own = self.record(G::DESC.record, device.index.unwrap_or(0));
                    return own.map_or(Ok(Reading::Unknown), |record| record.read());
                }
                Pass::Again => {}
            }
        }
        let (record, group) = (Some(G::Share::DESC.record), Some(G::DESC.name));
        let waited = std::time::Duration::ZERO;
        let (index, seq, retries) = (device.index, 0, MOST_PASSES);
        Err(StalledWriter { record, index, group, seq, retries, waited }.into())
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
    /// As [`Blk::read`], of what the device's shares sum to while it has any, and of its own group
    /// otherwise; also of the groups of [`crate::BlkHist`]. Each share is read whole, in one pass.
    ///
    /// `updated` is that of the newest share, `seq` the sum of theirs. A sum is not produced unless
    /// every share is.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn read_summed<G: Whole>(&self) -> Result<Reading<Sample<G>>, ReadError>
    where
        G::Share: domstat_layout::BlkQueueGroup,
    {
        self.record.region.read_summed::<G, BlkQueueOf>(self.record)
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
        self.record.region.read_summed::<G, NetQueueOf>(self.record)
    }
}
