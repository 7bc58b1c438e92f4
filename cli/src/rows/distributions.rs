//! Distributions of a domain's waits and requests, and their percentiles.

use domstat_consumer::distribution::{Bounds, Distribution};
use domstat_consumer::{ReadError, Reading, Region, Sample};
use domstat_exporter::distributions::NO_WAITING;
use domstat_layout::latest::{FlLatency, RdLatency, Wait, WrLatency};
use domstat_layout::{HistogramGroup, RecordKind};

use super::Interval;

/// Histograms of one sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distributions {
    /// By slot.
    blks: Vec<Latencies>,
    vcpus: Vec<Reading<Sample<Wait>>>,
}

/// Latencies of a disk.
#[derive(Clone, Debug)]
struct Latencies {
    read: Reading<Sample<RdLatency>>,
    write: Reading<Sample<WrLatency>>,
    flush: Reading<Sample<FlLatency>>,
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

impl From<Bounds> for Percentile {
    fn from(Bounds { least, most }: Bounds) -> Self {
        most.map_or(Self::AtLeast(least), Self::AtMost)
    }
}

/// A group that could not be read in time says nothing.
fn known<G>(read: Result<Reading<Sample<G>>, ReadError>) -> Reading<Sample<G>> {
    read.unwrap_or(Reading::Unknown)
}

/// The buckets, if all are produced.
fn counts<G: HistogramGroup>(reading: &Reading<Sample<G>>) -> Option<Vec<u64>> {
    let Reading::Active(sample) = reading else { return None };
    sample.buckets().iter().map(|bucket| bucket.value()).collect()
}

impl Distributions {
    /// Reads those that the region has, and waits for no writer from then on.
    pub(crate) fn of(region: &Region) -> Self {
        region.set_patience(NO_WAITING);
        let vcpus = region.vcpu_hists().map(|vcpu| known(vcpu.read())).collect();
        let mut shares = region.shares();
        let of_blk = |index| Latencies {
            read: known(shares.blk(index)),
            write: known(shares.blk(index)),
            flush: known(shares.blk(index)),
        };
        Self { blks: (0..nr_blks(region)).map(of_blk).collect(), vcpus }
    }

    /// Buckets of a disk's reads, writes and flushes.
    pub(crate) fn blk(&self, index: u32) -> [Option<Vec<u64>>; 3] {
        let Some(blk) = self.blks.get(index as usize) else { return [const { None }; 3] };
        [counts(&blk.read), counts(&blk.write), counts(&blk.flush)]
    }
}

/// Block devices that may have distributions, of their own or of their shares.
pub(crate) fn nr_blks(region: &Region) -> u32 {
    let nr = |kind| region.geometry().array(kind).nr;
    let has_any = nr(RecordKind::BlkHist) > 0 || nr(RecordKind::BlkQueue) > 0;
    if has_any { nr(RecordKind::Blk) } else { 0 }
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

    /// Percentiles of what was recorded in the interval, or else since it is counted.
    fn percentiles<G: HistogramGroup, const N: usize>(
        &self,
        of: impl Fn(&'a Distributions) -> Option<&'a Reading<Sample<G>>>,
        shares: [f64; N],
    ) -> [Option<Percentile>; N] {
        let distribution = || {
            let (now, then) = self.distributions?;
            match self.has_rates() {
                true => Distribution::between(of(then)?, of(now)?),
                false => Some(Distribution::total(of(now)?)),
            }
        };
        let distribution = distribution();
        shares.map(|share| distribution.as_ref()?.quantile(share).map(Percentile::from))
    }

    /// p50 and p99 of a disk's reads, writes and flushes.
    pub(super) fn blk_percentiles(&self, index: u32) -> [[Option<Percentile>; 2]; 3] {
        const SHARES: [f64; 2] = [0.5, 0.99];
        let at = index as usize;
        [
            self.percentiles(|d| Some(&d.blks.get(at)?.read), SHARES),
            self.percentiles(|d| Some(&d.blks.get(at)?.write), SHARES),
            self.percentiles(|d| Some(&d.blks.get(at)?.flush), SHARES),
        ]
    }

    /// p99 of a vCPU's single waits for a CPU.
    pub(super) fn wait_percentile(&self, index: u32) -> Option<Percentile> {
        let [p99] = self.percentiles(|d| d.vcpus.get(index as usize), [0.99]);
        p99
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

    use std::time::Duration;

    use domstat_consumer::{Liveness, Snapshot};
    use domstat_layout::latest::{BlkQueueOf, BlkQueueRdLatency};
    use domstat_layout::{Clock, Group, Ns, Share, Word};
    use domstat_producer::{Created, RegionBuilder};

    use super::*;

    fn sample(region: &Region) -> (Snapshot, Distributions) {
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        (snapshot, Distributions::of(region))
    }

    type Sampled = (Snapshot, Distributions);

    /// p50 and p99 of the reads of disk 0.
    fn reads(now: &Sampled, then: Option<&Sampled>) -> [Option<Percentile>; 2] {
        let snapshot = then.map(|(snapshot, _)| snapshot);
        let interval = Interval::new(&now.0, snapshot, &Liveness::Live, Duration::from_secs(10));
        let then = then.unwrap_or(now);
        interval.with_distributions(&now.1, &then.1).blk_percentiles(0)[0]
    }

    fn latency(values: impl IntoIterator<Item = u64>) -> RdLatency {
        let mut latency = RdLatency::EMPTY;
        values.into_iter().for_each(|ns| latency.record(ns));
        latency
    }

    #[test]
    fn percentiles_are_of_the_interval_and_of_one_disk() {
        let builder = RegionBuilder::new("swap").clock(Clock::Monotonic).blks(1);
        let builder = builder.blk_histograms(true).blk_queues(1);
        let Created { unpublished, mut blks, mut blk_hists, mut blk_queues, .. } =
            builder.create_memfd().unwrap();
        let producer = unpublished.publish().unwrap();
        let fd = producer.as_fd().unwrap().try_clone_to_owned().unwrap();
        let region = Region::from_fd(fd).unwrap();
        assert_eq!(reads(&sample(&region), None), [None; 2]);

        let slow = std::iter::repeat_n(1_000, 99).chain([1_000_000]);
        blk_hists[0].write(&latency(slow.clone()), Ns(1));
        let first = sample(&region);
        assert_eq!(reads(&first, None), [Some(Percentile::AtMost(1_023)); 2], "so far");
        assert_eq!(reads(&sample(&region), Some(&first)), [None; 2], "nothing since");
        let more = slow.chain([u64::MAX]);
        blk_hists[0].write(&latency(more.clone()), Ns(2));
        let second = sample(&region);
        assert_eq!(reads(&second, Some(&first)), [Some(Percentile::AtLeast(1 << 38)); 2]);

        // Another disk in the slot, whose every bucket has more than the one before had.
        for _ in 0..2 {
            blks[0].renew();
            blk_hists[0].renew();
        }
        blk_hists[0].write(&latency(more.clone().chain(more.clone())), Ns(3));
        let swapped = sample(&region);
        assert_eq!(reads(&swapped, Some(&second)), [None; 2], "of another disk");
        blk_hists[0].write(&latency(more.clone().chain(more).chain([5; 9])), Ns(4));
        let third = sample(&region);
        assert_eq!(reads(&third, Some(&swapped)), [Some(Percentile::AtMost(7)); 2]);

        // From here on a queue has its share, and the device's own stand still.
        let whole = latency([3; 400]);
        blk_queues[0].write(&BlkQueueRdLatency::share(whole), Ns(5));
        let [device, generation] = [Word::new(0), Word::new(2)];
        let of = BlkQueueOf { device, generation, ..BlkQueueOf::NOT_PRODUCED };
        blk_queues[0].write(&of, Ns(5));
        assert_eq!(reads(&sample(&region), None), [Some(Percentile::AtMost(3)); 2]);
    }
}
