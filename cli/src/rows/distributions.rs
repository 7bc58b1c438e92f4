//! Distributions of a domain's waits and requests, and their percentiles.

use domstat_consumer::{Reading, Region};
use domstat_exporter::distributions::{NO_WAITING, Shares};
use domstat_layout::latest::{
    BlkQueueFlLatency, BlkQueueRdLatency, BlkQueueWrLatency, FlLatency, RdLatency, Wait, WrLatency,
};
use domstat_layout::{BlkHistGroup, BlkQueueGroup, HistogramGroup, RecordKind, Share};

use super::Interval;

/// Histograms of one sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distributions {
    /// By slot: of reads, writes and flushes.
    blks: Vec<[Option<Vec<u64>>; 3]>,
    vcpus: Vec<Option<Vec<u64>>>,
}

/// Bounds of the bucket that a percentile lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Percentile {
    /// Not more nanoseconds.
    AtMost(u64),
    /// That many nanoseconds or more: the last bucket.
    AtLeast(u64),
}

impl Percentile {
    /// Its bound, for sorting.
    pub(crate) const fn bound(self) -> u64 {
        match self {
            Self::AtMost(ns) | Self::AtLeast(ns) => ns,
        }
    }
}

/// The buckets, if all are produced.
fn counts<G: HistogramGroup>(group: &G) -> Option<Vec<u64>> {
    group.buckets().iter().map(|bucket| bucket.value()).collect()
}

fn blk<G, S>(region: &Region, shares: &Shares, index: u32) -> Option<Vec<u64>>
where
    G: HistogramGroup + BlkHistGroup,
    S: BlkQueueGroup + Share<Of = G>,
{
    counts(&shares.histogram::<S>(region, index).ok()??)
}

impl Distributions {
    /// Reads those that the region has, and waits for no writer from then on.
    pub(crate) fn of(region: &Region) -> Self {
        region.set_patience(NO_WAITING);
        let nr = |kind| region.geometry().array(kind).nr;
        let vcpus = region.vcpu_hists().map(|vcpu| {
            let wait = vcpu.read::<Wait>().ok().and_then(Reading::active)?;
            counts(&wait.group)
        });
        let vcpus = vcpus.collect();
        if nr(RecordKind::BlkHist) == 0 && nr(RecordKind::BlkQueue) == 0 {
            return Self { blks: Vec::new(), vcpus };
        }
        let shares = Shares::of(region);
        let of_blk = |index| {
            [
                blk::<RdLatency, BlkQueueRdLatency>(region, &shares, index),
                blk::<WrLatency, BlkQueueWrLatency>(region, &shares, index),
                blk::<FlLatency, BlkQueueFlLatency>(region, &shares, index),
            ]
        };
        Self { blks: (0..nr(RecordKind::Blk)).map(of_blk).collect(), vcpus }
    }

    /// Buckets of a disk's reads, writes and flushes.
    pub(crate) fn blk(&self, index: u32) -> impl Iterator<Item = Option<&[u64]>> {
        self.latencies(index).into_iter().flatten().map(|counts| counts.as_deref())
    }

    fn latencies(&self, index: u32) -> Option<&[Option<Vec<u64>>; 3]> {
        self.blks.get(index as usize)
    }

    fn waits(&self, index: u32) -> Option<&Vec<u64>> {
        self.vcpus.get(index as usize)?.as_ref()
    }
}

/// The bucket in which the value lies that `share` of all are not larger than, of those that were
/// counted since `then`.
fn percentile(now: &[u64], then: Option<&[u64]>, share: f64) -> Option<Percentile> {
    let grown = |(bucket, count): (usize, &u64)| match then {
        // Of another tenant of the slot if it is less.
        Some(then) => count.checked_sub(*then.get(bucket)?),
        None => Some(*count),
    };
    let counts: Vec<u64> = now.iter().enumerate().map(grown).collect::<Option<_>>()?;
    let total = counts.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    #[allow(clippy::cast_possible_truncation, reason = "it is at most the total")]
    #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
    let rank = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
    let mut below = 0u64;
    let bucket = counts.iter().position(|n| {
        below = below.saturating_add(*n);
        below >= rank
    })?;
    let (least, most) = domstat_layout::histogram::bounds(bucket, counts.len())?;
    Some(most.map_or(Percentile::AtLeast(least), Percentile::AtMost))
}

impl<'a> Interval<'a> {
    /// Adds the distributions now, and those at the interval's begin.
    pub(crate) const fn with_distributions(
        mut self,
        now: &'a Distributions,
        then: &'a Distributions,
    ) -> Self {
        self.distributions = Some((now, then));
        self
    }

    fn percentile(
        &self,
        of: impl Fn(&'a Distributions) -> Option<&'a Vec<u64>>,
        share: f64,
    ) -> Option<Percentile> {
        let (now, then) = self.distributions?;
        match self.has_rates() {
            true => percentile(of(now)?, Some(of(then)?), share),
            false => percentile(of(now)?, None, share),
        }
    }

    /// p50 and p99 of a disk's reads, writes and flushes: in the interval, or else since they are
    /// counted.
    pub(super) fn blk_percentiles(&self, index: u32) -> [[Option<Percentile>; 2]; 3] {
        [0, 1, 2].map(|operation| {
            [0.5, 0.99].map(|share| {
                self.percentile(|d| d.latencies(index)?.get(operation)?.as_ref(), share)
            })
        })
    }

    /// p99 of a vCPU's single waits for a CPU.
    pub(super) fn wait_percentile(&self, index: u32) -> Option<Percentile> {
        self.percentile(|d| d.waits(index), 0.99)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_bucket() {
        let mut counts = vec![0; 40];
        assert_eq!(percentile(&counts, None, 0.5), None, "nothing was counted");
        (counts[10], counts[20]) = (99, 1);
        assert_eq!(percentile(&counts, None, 0.5), Some(Percentile::AtMost(1023)));
        assert_eq!(percentile(&counts, None, 0.99), Some(Percentile::AtMost(1023)));
        assert_eq!(percentile(&counts, None, 0.991), Some(Percentile::AtMost((1 << 20) - 1)));
        let then = counts.clone();
        assert_eq!(percentile(&counts, Some(&then), 0.5), None, "nothing since");
        counts[39] = 1;
        assert_eq!(percentile(&counts, Some(&then), 0.5), Some(Percentile::AtLeast(1 << 38)));
        counts[10] = 98;
        assert_eq!(percentile(&counts, Some(&then), 0.5), None, "counted from the start again");
    }
}
