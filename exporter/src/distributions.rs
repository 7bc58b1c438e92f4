//! Distributions of a domain: histograms of its vCPUs and block devices, if they are selected.

use std::time::Duration;

use domstat_consumer::{Patience, Region, Shares};
use domstat_layout::latest::{FlLatency, RdLatency, RdSize, Wait, WrLatency, WrSize};
use domstat_layout::share::Whole;
use domstat_layout::{BlkHistGroup, BlkQueueGroup, Group, GroupDesc, HistogramGroup, RecordKind};

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
        let mut shares = region.shares();
        failed += self.blks::<RdLatency>(region, &mut shares, selected);
        failed += self.blks::<WrLatency>(region, &mut shares, selected);
        failed += self.blks::<FlLatency>(region, &mut shares, selected);
        failed += self.blks::<RdSize>(region, &mut shares, selected);
        failed + self.blks::<WrSize>(region, &mut shares, selected)
    }

    /// Copies one histogram of all block devices. Returns how many could not be read.
    fn blks<G>(&mut self, region: &Region, shares: &mut Shares<'_>, selected: &Groups) -> u64
    where
        G: HistogramGroup + BlkHistGroup + Whole<Share: BlkQueueGroup>,
    {
        if !selected.contains(G::DESC) {
            return 0;
        }
        let mut failed = 0;
        for index in 0..region.geometry().array(RecordKind::Blk).nr {
            match shares.blk::<G>(index) {
                Ok(group) => self.add(index, group.active().map(|sample| sample.group)),
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
