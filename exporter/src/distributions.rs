//! Distributions of a domain: histograms of its vCPUs and block devices, if they are selected.

use std::time::Duration;

use domstat_consumer::{Patience, ReadError, Reading, Region, Sample};
use domstat_layout::latest::{
    BlkIdentity, BlkQueueFlLatency, BlkQueueOf, BlkQueueRdLatency, BlkQueueRdSize,
    BlkQueueWrLatency, BlkQueueWrSize, FlLatency, RdLatency, RdSize, Wait, WrLatency, WrSize,
};
use domstat_layout::{
    BlkHistGroup, BlkQueueGroup, Group, GroupDesc, HistogramGroup, RecordKind, Share,
};

use crate::histogram::Histogram;
use crate::selection::Groups;

/// How long a record is waited for: a region may have very many whose writers are stalled.
pub const NO_WAITING: Patience = Patience { spins: 64, yielding: Duration::ZERO };

/// Histograms of one scrape, with the group and the slot that each is of. The next scrape reuses
/// the buffers.
#[derive(Debug, Default)]
pub(crate) struct Distributions {
    entries: Vec<Entry>,
    nr_waits: usize,
    buckets: Vec<u64>,
}

#[derive(Debug)]
struct Entry {
    group: &'static GroupDesc,
    index: u32,
    start: usize,
    len: usize,
    sum: Option<u64>,
    max: Option<u64>,
}

impl Distributions {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.nr_waits = 0;
        self.buckets.clear();
    }

    /// Copies the selected histograms of a region, and waits for no writer. Returns how many could
    /// not be read.
    pub(crate) fn fill(&mut self, region: &Region, selected: &Groups) -> u64 {
        self.clear();
        region.set_patience(NO_WAITING);
        let mut failed = 0;
        if selected.contains(Wait::DESC) {
            for vcpu in region.vcpu_hists() {
                match vcpu.read::<Wait>() {
                    Ok(wait) => self.add(vcpu.index(), wait.active().map(|wait| wait.group)),
                    Err(_) => failed += 1,
                }
            }
        }
        self.nr_waits = self.entries.len();
        let shares = Shares::of(region);
        failed += self.blks::<RdLatency, BlkQueueRdLatency>(region, &shares, selected);
        failed += self.blks::<WrLatency, BlkQueueWrLatency>(region, &shares, selected);
        failed += self.blks::<FlLatency, BlkQueueFlLatency>(region, &shares, selected);
        failed += self.blks::<RdSize, BlkQueueRdSize>(region, &shares, selected);
        failed + self.blks::<WrSize, BlkQueueWrSize>(region, &shares, selected)
    }

    /// Copies one histogram of all block devices. Returns how many could not be read.
    fn blks<G, S>(&mut self, region: &Region, shares: &Shares, selected: &Groups) -> u64
    where
        G: HistogramGroup + BlkHistGroup,
        S: BlkQueueGroup + Share<Of = G>,
    {
        if !selected.contains(G::DESC) {
            return 0;
        }
        let mut failed = 0;
        for index in 0..region.geometry().array(RecordKind::Blk).nr {
            match shares.histogram::<S>(region, index) {
                Ok(group) => self.add(index, group),
                Err(_) => failed += 1,
            }
        }
        failed
    }

    /// Adds a histogram all of whose buckets are produced.
    fn add<G: HistogramGroup>(&mut self, index: u32, group: Option<G>) {
        let Some(group) = group else { return };
        let start = self.buckets.len();
        for bucket in group.buckets() {
            let Some(count) = bucket.value() else {
                self.buckets.truncate(start);
                return;
            };
            self.buckets.push(count);
        }
        let (sum, max) = (group.sum().value(), group.max().value());
        let len = self.buckets.len() - start;
        self.entries.push(Entry { group: G::DESC, index, start, len, sum, max });
    }

    /// The sum of a vCPU's waits (word 0), or one of their buckets.
    pub(crate) fn wait_word(&self, index: u32, word: usize) -> Option<u64> {
        // They are the first, in the order of their slots.
        let waits = self.entries.get(..self.nr_waits)?;
        let at = waits.binary_search_by_key(&index, |entry| entry.index).ok()?;
        let entry = waits.get(at)?;
        match word.checked_sub(1) {
            None => entry.sum,
            Some(bucket) if bucket < entry.len => self.buckets.get(entry.start + bucket).copied(),
            Some(_) => None,
        }
    }

    /// Replaces the waits of the vCPUs by their sum, in words as those of
    /// [`wait_word`](Self::wait_word).
    pub(crate) fn sum_waits(&mut self, words: &[Option<u64>]) {
        let max = self.of(Wait::DESC).filter_map(|(_, waits)| waits.max).max();
        self.entries.drain(..self.nr_waits);
        self.nr_waits = 0;
        let Some((sum, buckets)) = words.split_first() else { return };
        let buckets: Option<Vec<u64>> = buckets.iter().copied().collect();
        let Some(buckets) = buckets else { return };
        let (start, len) = (self.buckets.len(), buckets.len());
        self.buckets.extend(buckets);
        self.entries.push(Entry { group: Wait::DESC, index: 0, start, len, sum: *sum, max });
    }

    /// The histograms of a group, by slot.
    pub(crate) fn of(
        &self,
        group: &'static GroupDesc,
    ) -> impl Iterator<Item = (u32, Histogram<'_>)> {
        let entries = self.entries.iter().filter(move |entry| {
            (entry.group.record, entry.group.bit) == (group.record, group.bit)
        });
        entries.filter_map(|entry| {
            let buckets = self.buckets.get(entry.start..entry.start.checked_add(entry.len)?)?;
            Some((entry.index, Histogram { buckets, sum: entry.sum, max: entry.max }))
        })
    }
}

/// Shares of block devices that count: the devices that they are of, in order, and their slots.
#[derive(Debug)]
pub struct Shares(Vec<(u32, u32)>);

impl Shares {
    /// The shares of all devices of a region.
    #[must_use]
    pub fn of(region: &Region) -> Self {
        let share = |slot: u32| {
            let of = region.blk_queue(slot)?.read::<BlkQueueOf>().ok()?.active()?;
            let device = u32::try_from(of.device.value()?).ok()?;
            // A share of an earlier device of the slot no longer counts.
            let now = region.blk(device)?.read::<BlkIdentity>();
            let is_of_now = |now: Sample<BlkIdentity>| {
                of.group.generation.value() == Some(u64::from(now.generation))
            };
            let counts = now.ok().and_then(Reading::active).is_none_or(is_of_now);
            counts.then_some((device, slot))
        };
        let nr = region.geometry().array(RecordKind::BlkQueue).nr;
        let mut shares: Vec<_> = (0..nr).filter_map(share).collect();
        shares.sort_unstable();
        Self(shares)
    }

    /// A histogram of a device: the sum over its shares, or its own if no share has one.
    ///
    /// # Errors
    /// [`ReadError`] if the device's own cannot be read.
    pub fn histogram<S>(&self, region: &Region, device: u32) -> Result<Option<S::Of>, ReadError>
    where
        S: BlkQueueGroup + Share<Of: BlkHistGroup>,
    {
        if let Some(sum) = self.sum::<S>(region, device) {
            return Ok(sum);
        }
        let own = region.blk_hist(device).map(|blk| blk.read::<S::Of>()).transpose()?;
        Ok(own.and_then(Reading::active).map(|own| own.group))
    }

    /// The sum over a device's shares; `None` if none of them has the group. A share that does not
    /// have it next to others that do, or cannot be read, makes the sum absent.
    fn sum<S>(&self, region: &Region, device: u32) -> Option<Option<S::Of>>
    where
        S: BlkQueueGroup + Share,
    {
        let first = self.0.partition_point(|(of, _)| *of < device);
        let end = self.0.partition_point(|(of, _)| *of <= device);
        let slots = self.0.get(first..end).unwrap_or_default().iter().map(|(_, slot)| *slot);
        let (mut sum, mut lacks) = (None::<S::Of>, false);
        for slot in slots {
            match region.blk_queue(slot).map(|queue| queue.read::<S>()) {
                Some(Ok(Reading::Active(share))) => match &mut sum {
                    Some(sum) => share.group.add_to(sum),
                    None => sum = Some(share.group.whole()),
                },
                Some(Err(_)) => return Some(None),
                _ => lacks = true,
            }
        }
        sum.map(|sum| (!lacks).then_some(sum))
    }
}
