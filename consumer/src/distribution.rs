//! Distributions of an interval: what a histogram gained between two reads.
//!
//! ```
//! use domstat_consumer::distribution::Distribution;
//! use domstat_consumer::{Reading, Sample};
//! use domstat_layout::Ns;
//! use domstat_layout::histogram::HistogramGroup;
//! use domstat_layout::latest::RdLatency;
//!
//! let sample = |group, seq| Reading::Active(Sample { group, updated: Ns(1), seq, generation: 0 });
//! let mut latency = RdLatency::EMPTY;
//! latency.record(70);
//! let then = sample(latency, 2);
//! [600, 700, 5_000].into_iter().for_each(|ns| latency.record(ns));
//! let reads = Distribution::between(&then, &sample(latency, 8)).unwrap();
//! assert_eq!((reads.count().value(), reads.mean()), (Some(3), Some(2_100.0)));
//! // Of three reads the second took 512 to 1023 ns: more than that is not known.
//! let median = reads.quantile(0.5).unwrap();
//! assert_eq!((median.least, median.most), (512, Some(1_023)));
//! ```

use domstat_layout::histogram::{HistogramGroup, bounds};
use domstat_layout::{Stat, Word};

use crate::read::{Reading, Sample};

/// No distribution has more buckets: values have 64 bits.
const MOST_BUCKETS: usize = 65;

/// What a histogram gained between two reads, or since the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    count: Stat,
    sum: Stat,
    buckets: [u64; MOST_BUCKETS],
    nr_buckets: usize,
}

/// The bounds of a bucket, both included: a value in it is known no better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest value that it counts.
    pub least: u64,
    /// The largest; the last bucket has none.
    pub most: Option<u64>,
}

impl Distribution {
    /// What was recorded between two reads. `None` if they cannot be compared: the slot was given to
    /// another tenant, or a number decreased.
    ///
    /// A group that was not produced at one of them makes count and sum
    /// [`Stat::GroupInactive`].
    #[must_use]
    pub fn between<G: HistogramGroup>(
        then: &Reading<Sample<G>>,
        now: &Reading<Sample<G>>,
    ) -> Option<Self> {
        let (Reading::Active(then), Reading::Active(now)) = (then, now) else {
            return Some(Self::inactive());
        };
        if then.generation != now.generation {
            return None;
        }
        let mut gained =
            Self { count: Stat::Value(0), nr_buckets: G::NR_BUCKETS, ..Self::inactive() };
        gained.sum = grown(then.sum(), now.sum())?;
        let pairs = then.buckets().iter().zip(now.buckets());
        for (bucket, (then, now)) in gained.buckets.iter_mut().zip(pairs) {
            let grown = grown(*then, *now)?;
            *bucket = grown.value().unwrap_or(0);
            gained.count = plus(gained.count, grown);
        }
        Some(gained)
    }

    /// All that was recorded so far.
    #[must_use]
    pub fn total<G: HistogramGroup>(now: &Reading<Sample<G>>) -> Self {
        let Reading::Active(now) = now else { return Self::inactive() };
        let mut total = Self { nr_buckets: G::NR_BUCKETS, ..Self::inactive() };
        (total.count, total.sum) = (now.count().get(), now.sum().get());
        for (bucket, word) in total.buckets.iter_mut().zip(now.buckets()) {
            *bucket = word.value().unwrap_or(0);
        }
        total
    }

    const fn inactive() -> Self {
        let none = Stat::GroupInactive;
        Self { count: none, sum: none, buckets: [0; MOST_BUCKETS], nr_buckets: 0 }
    }

    /// How many values there are: the sum of the buckets.
    #[must_use]
    pub const fn count(&self) -> Stat {
        self.count
    }

    /// The sum of the values.
    #[must_use]
    pub const fn sum(&self) -> Stat {
        self.sum
    }

    /// The mean of the values; `None` if there are none, or their number or sum is not known.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a mean is shown with a few digits")]
    pub fn mean(&self) -> Option<f64> {
        let (count, sum) = (self.count.value()?, self.sum.value()?);
        (count > 0).then(|| sum as f64 / count as f64)
    }

    /// The bounds between which the value lies that a share `q` of all values, from 0 to 1, is not
    /// larger than: 0.99 for the 99th percentile. `None` if there are no values, their number is not
    /// known, or `q` is not such a share.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "2^53 values are enough for a rank")]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=count"
    )]
    pub fn quantile(&self, q: f64) -> Option<Bounds> {
        let count = self.count.value().filter(|count| *count > 0)?;
        if !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0u64;
        let index = self.buckets.iter().position(|nr| {
            below = below.saturating_add(*nr);
            below >= rank
        })?;
        let (least, most) = bounds(index, self.nr_buckets)?;
        Some(Bounds { least, most })
    }

    /// Each bucket: its bounds, and how many values it has.
    pub fn buckets(&self) -> impl Iterator<Item = (Bounds, u64)> {
        let nr_buckets = self.nr_buckets;
        self.buckets.iter().take(nr_buckets).enumerate().filter_map(move |(index, nr)| {
            let (least, most) = bounds(index, nr_buckets)?;
            Some((Bounds { least, most }, *nr))
        })
    }
}

/// By how much a word grew; `None` if it decreased.
fn grown(then: Word, now: Word) -> Option<Stat> {
    Some(match (then.get(), now.get()) {
        (Stat::Value(then), Stat::Value(now)) => Stat::Value(now.checked_sub(then)?),
        (Stat::Saturated, Stat::Value(_)) => return None,
        (Stat::NotProduced, _) | (_, Stat::NotProduced) => Stat::NotProduced,
        _ => Stat::Saturated,
    })
}

/// The sum of two answers about fields of one group.
fn plus(a: Stat, b: Stat) -> Stat {
    match (a, b) {
        (Stat::Value(a), Stat::Value(b)) => Word::new(a.saturating_add(b)).get(),
        (Stat::NotProduced, _) | (_, Stat::NotProduced) => Stat::NotProduced,
        _ => Stat::Saturated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domstat_layout::Ns;
    use domstat_layout::latest::{RdLatency, Wait};

    fn read(group: Wait, generation: u32) -> Reading<Sample<Wait>> {
        Reading::Active(Sample { group, updated: Ns(1), seq: 2, generation })
    }

    fn waits(values: &[u64]) -> Wait {
        let mut waits = Wait::EMPTY;
        values.iter().for_each(|ns| waits.record(*ns));
        waits
    }

    #[test]
    fn an_interval_has_what_was_recorded_in_it() {
        let (then, now) = (waits(&[1_000_000; 50]), waits(&[1_000_000; 50]));
        let empty = Distribution::between(&read(then, 0), &read(now, 0)).unwrap();
        assert_eq!((empty.count(), empty.sum()), (Stat::Value(0), Stat::Value(0)));
        assert_eq!(
            (empty.mean(), empty.quantile(0.5)),
            (None, None),
            "of nothing there is no mean"
        );
        let mut now = now;
        (0..99).for_each(|_| now.record(5));
        now.record(u64::MAX);
        let gained = Distribution::between(&read(then, 0), &read(now, 0)).unwrap();
        assert_eq!(gained.count(), Stat::Value(100));
        assert_eq!(gained.sum(), Stat::Saturated);
        assert_eq!(gained.mean(), None);
        let small = Bounds { least: 4, most: Some(7) };
        assert_eq!([0.0, 0.5, 0.99].map(|q| gained.quantile(q)), [Some(small); 3]);
        assert_eq!(gained.quantile(1.0), Some(Bounds { least: 1 << 38, most: None }));
        assert_eq!([-0.1, 1.1, f64::NAN].map(|q| gained.quantile(q)), [None; 3]);
        assert_eq!(gained.buckets().map(|(_, nr)| nr).sum::<u64>(), 100);
        assert_eq!(Distribution::total(&read(now, 0)).count(), Stat::Value(150));
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        let (none, some) = (waits(&[]), waits(&[5, 9]));
        assert!(Distribution::between(&read(none, 0), &read(some, 1)).is_none(), "another tenant");
        assert!(Distribution::between(&read(some, 0), &read(none, 0)).is_none(), "it decreased");
    }

    #[test]
    fn four_answers_stay_four_answers() {
        let some = waits(&[5, 9]);
        let between =
            |then: Wait, now: Wait| Distribution::between(&read(then, 0), &read(now, 0)).unwrap();
        let mut absent = some;
        absent.ns.0[7] = Word::NOT_PRODUCED;
        let found = between(some, absent);
        assert_eq!((found.count(), found.sum()), (Stat::NotProduced, Stat::Value(0)));
        assert_eq!(found.quantile(0.5), None);
        let mut full = some;
        full.ns.0[3] = Word::SATURATED;
        assert_eq!(between(some, full).count(), Stat::Saturated);
        assert_eq!(between(some, full).quantile(0.5), None);
        for (then, now) in [(Reading::Inactive, read(some, 0)), (read(some, 0), Reading::Unknown)] {
            let found = Distribution::between(&then, &now).unwrap();
            assert_eq!((found.count(), found.mean()), (Stat::GroupInactive, None));
        }
        let unknown = Distribution::total::<RdLatency>(&Reading::Unknown);
        assert_eq!((unknown.sum(), unknown.quantile(0.5)), (Stat::GroupInactive, None));
    }
}
