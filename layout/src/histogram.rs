//! Logarithmic histograms: counters of values by their bit length, as KVM's own statistics have
//! them.
//!
//! Word `i` of a row of buckets counts values whose bit length is `i`: 0, 1, 2..3, 4..7 and so on;
//! the last counts all above. How many values were recorded is the sum of the buckets, never a word
//! of its own, so that it can not disagree with them.
//!
//! ```
//! use domstat_layout::histogram::TimeBuckets;
//! let mut waits = TimeBuckets::EMPTY;
//! for ns in [0, 1, 700, 900] {
//!     waits.record(ns);
//! }
//! assert_eq!(TimeBuckets::bucket_of(700), 10);
//! assert_eq!(TimeBuckets::bounds(10), Some((512, Some(1023))));
//! assert_eq!((waits.0[10].value(), waits.count().value()), (Some(2), Some(4)));
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::descriptor::{Field, Group};
use crate::value::Word;

/// A row of `N` buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Buckets<const N: usize>(pub [Word; N]);

/// Buckets of times in ns; the last begins at 2^38 ns, 275 s.
pub type TimeBuckets = Buckets<40>;
/// Buckets of sizes in bytes; the last begins at 2^30, 1 GiB.
pub type SizeBuckets = Buckets<32>;

/// Which of `nr` buckets counts `value`. There is one at least.
#[inline]
#[must_use]
pub const fn bucket_of(value: u64, nr: usize) -> usize {
    let bits = (u64::BITS - value.leading_zeros()) as usize;
    let last = nr.saturating_sub(1);
    if bits < last { bits } else { last }
}

/// The smallest and the largest value that bucket `index` of `nr` counts; the last has no largest.
/// `None` if there is no such bucket.
#[must_use]
pub const fn bounds(index: usize, nr: usize) -> Option<(u64, Option<u64>)> {
    if index >= nr || index > u64::BITS as usize {
        return None;
    }
    let least = if index == 0 { 0 } else { 1 << (index - 1) };
    let last = index + 1 == nr || index == u64::BITS as usize;
    let most = if last { None } else { Some((1 << index) - 1) };
    Some((least, most))
}

/// How many values were recorded: the sum of the buckets. Not produced if one of them is not,
/// saturated if one of them or the sum is.
#[must_use]
pub fn count(buckets: &[Word]) -> Word {
    buckets.iter().fold(Word::new(0), |sum, bucket| sum.plus(*bucket))
}

/// Bounds of the bucket of the value that `thousandths` of all values do not exceed, 500 for the
/// median: no more is known of it. `None` if there are no values, or a bucket is not a number.
#[must_use]
pub fn percentile(buckets: &[Word], thousandths: u32) -> Option<(u64, Option<u64>)> {
    let count = count(buckets).value().filter(|count| *count > 0)?;
    let thousandths = u128::from(thousandths.min(1000));
    let rank = (u128::from(count) * thousandths).div_ceil(1000).max(1);
    let mut below = 0;
    let index = buckets.iter().position(|bucket| {
        below += u128::from(bucket.value().unwrap_or(0));
        below >= rank
    });
    bounds(index?, buckets.len())
}

/// What the values that were recorded can be, by their buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Their sum is at least this.
    pub least_sum: u64,
    /// Their sum is at most this; `None` if one lies in the last bucket, or it is too large for a
    /// word.
    pub most_sum: Option<u64>,
    /// Bounds of the highest bucket that is not 0, in which the largest lies; `None` if there are no
    /// values.
    pub max: Option<(u64, Option<u64>)>,
}

/// What sum and maximum the buckets allow; `None` unless all of them are numbers.
#[must_use]
pub fn allowed(buckets: &[Word]) -> Option<Allowed> {
    let mut allowed = Allowed { least_sum: 0, most_sum: Some(0), max: None };
    for (index, bucket) in buckets.iter().enumerate() {
        let nr = bucket.value()?;
        if nr == 0 {
            continue;
        }
        let (least, most) = bounds(index, buckets.len())?;
        let sum = |sum: u64, each: u64| each.checked_mul(nr)?.checked_add(sum);
        allowed.least_sum = sum(allowed.least_sum, least).unwrap_or(u64::MAX);
        allowed.most_sum = allowed.most_sum.and_then(|most_sum| sum(most_sum, most?));
        allowed.max = Some((least, most));
    }
    Some(allowed)
}

/// Makes sum and maximum what the buckets allow, for words that are not as of one update: each is
/// changed by no more than it must be, and neither falls below what an earlier update said. Raw
/// words, as they lie in memory.
pub fn settle(sum: &mut u64, max: &mut u64, buckets: &[u64]) {
    let (nr, mut words) = (buckets.len(), [Word::NOT_PRODUCED; 64]);
    for (word, raw) in words.iter_mut().zip(buckets) {
        *word = Word::from_raw(*raw);
    }
    let Some(allowed) = words.get(..nr).and_then(allowed) else { return };
    let clamp = |raw: &mut u64, least: u64, most: Option<u64>| {
        if let Some(value) = Word::from_raw(*raw).value() {
            *raw = Word::new(value.max(least).min(most.unwrap_or(u64::MAX))).to_raw();
        }
    };
    clamp(sum, allowed.least_sum, allowed.most_sum);
    let (least, most) = allowed.max.unwrap_or((0, Some(0)));
    clamp(max, least, most);
}

impl<const N: usize> Buckets<N> {
    /// No bucket is produced.
    pub const NOT_PRODUCED: Self = Self([Word::NOT_PRODUCED; N]);
    /// Nothing was recorded.
    pub const EMPTY: Self = Self([Word::new(0); N]);

    /// Which bucket counts `value`.
    #[inline]
    #[must_use]
    pub const fn bucket_of(value: u64) -> usize {
        bucket_of(value, N)
    }

    /// The smallest and the largest value that bucket `index` counts; the last has no largest.
    /// `None` if there is no such bucket.
    #[must_use]
    pub const fn bounds(index: usize) -> Option<(u64, Option<u64>)> {
        bounds(index, N)
    }

    /// As [`count`].
    #[must_use]
    pub fn count(&self) -> Word {
        count(&self.0)
    }

    /// Counts `value` in its bucket.
    #[inline]
    pub fn record(&mut self, value: u64) {
        if let Some(bucket) = self.0.get_mut(Self::bucket_of(value)) {
            *bucket = bucket.plus(Word::new(1));
        }
    }
}

/// A group that is a distribution: sum, maximum and buckets of the values that were recorded.
pub trait HistogramGroup: Group {
    /// The sum of all values.
    const SUM: Field<Self>;
    /// The largest value.
    const MAX: Field<Self>;
    /// Where bucket 0 lies, from the start of its record.
    const BUCKETS_OFFSET: usize;
    /// How many buckets there are.
    const NR_BUCKETS: usize;
    /// Nothing was recorded.
    const EMPTY: Self;

    /// The sum of all values.
    fn sum(&self) -> Word;
    /// The largest value.
    fn max(&self) -> Word;
    /// The buckets.
    fn buckets(&self) -> &[Word];

    /// Adds a value: its bucket, the sum and, if it is the largest, the maximum. What is not
    /// produced stays so.
    fn record(&mut self, value: u64);

    /// How many values were recorded ([`count`]).
    fn count(&self) -> Word {
        count(self.buckets())
    }

    /// The bucket of `value`, as a field.
    #[inline]
    #[must_use]
    fn bucket(value: u64) -> Field<Self> {
        Field::at(Self::BUCKETS_OFFSET + bucket_of(value, Self::NR_BUCKETS) * 8)
    }
}

/// Makes groups distributions: `Wait: sum_ns, max_ns, ns;` names the three fields, and
/// `BlkQueueRdLatency as RdLatency;` a share whose fields are those of the other.
macro_rules! histograms {
    ( $( $group:ident: $sum:ident, $max:ident, $buckets:ident; )+ ) => {
        $(
            impl $crate::histogram::HistogramGroup for $group {
                const SUM: $crate::Field<Self> = Self::$sum;
                const MAX: $crate::Field<Self> = Self::$max;
                const BUCKETS_OFFSET: usize = Self::DESC.offset
                    + $crate::descriptor::GROUP_HEADER_LEN
                    + core::mem::offset_of!(Self, $buckets);
                const NR_BUCKETS: usize = Self::NOT_PRODUCED.$buckets.0.len();
                const EMPTY: Self = Self {
                    $sum: Word::new(0),
                    $max: Word::new(0),
                    $buckets: $crate::histogram::Buckets::EMPTY,
                };

                fn sum(&self) -> Word {
                    self.$sum
                }
                fn max(&self) -> Word {
                    self.$max
                }
                fn buckets(&self) -> &[Word] {
                    &self.$buckets.0
                }
                #[inline]
                fn record(&mut self, value: u64) {
                    self.$sum = self.$sum.plus(Word::new(value));
                    self.$max = self.$max.or_larger(Word::new(value));
                    self.$buckets.record(value);
                }
            }
        )+
    };
    ( $( $share:ident as $of:ident; )+ ) => {
        $(
            impl $crate::histogram::HistogramGroup for $share {
                const SUM: $crate::Field<Self> = $crate::Field::at(
                    <$of as $crate::histogram::HistogramGroup>::SUM.offset() - $of::DESC.offset
                        + Self::DESC.offset,
                );
                const MAX: $crate::Field<Self> = $crate::Field::at(
                    <$of as $crate::histogram::HistogramGroup>::MAX.offset() - $of::DESC.offset
                        + Self::DESC.offset,
                );
                const BUCKETS_OFFSET: usize = Self::DESC.offset - $of::DESC.offset
                    + <$of as $crate::histogram::HistogramGroup>::BUCKETS_OFFSET;
                const NR_BUCKETS: usize = <$of as $crate::histogram::HistogramGroup>::NR_BUCKETS;
                const EMPTY: Self = Self(<$of as $crate::histogram::HistogramGroup>::EMPTY);

                fn sum(&self) -> Word {
                    $crate::histogram::HistogramGroup::sum(&self.0)
                }
                fn max(&self) -> Word {
                    $crate::histogram::HistogramGroup::max(&self.0)
                }
                fn buckets(&self) -> &[Word] {
                    $crate::histogram::HistogramGroup::buckets(&self.0)
                }
                #[inline]
                fn record(&mut self, value: u64) {
                    $crate::histogram::HistogramGroup::record(&mut self.0, value);
                }
            }
        )+
    };
}
pub(crate) use histograms;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stat;
    use crate::latest::{BlkQueueRdLatency, RdLatency, RdSize};

    #[test]
    fn a_value_lies_within_the_bounds_of_its_bucket() {
        for nr in [1, 2, 32, 40, 64, 65] {
            let mut next = 0;
            for index in 0..nr {
                let (least, most) = bounds(index, nr).unwrap();
                assert_eq!(least, next, "buckets leave no hole");
                assert_eq!((bucket_of(least, nr), most.is_none()), (index, index + 1 == nr));
                assert_eq!(bucket_of(most.unwrap_or(u64::MAX), nr), index);
                next = most.map_or(0, |most| most + 1);
            }
            assert_eq!(bounds(nr, nr), None);
        }
        assert_eq!(bounds(70, 100), None, "no value is longer than 64 bits");
        assert_eq!(TimeBuckets::bounds(39), Some((1 << 38, None)));
        assert_eq!(SizeBuckets::bounds(31), Some((1 << 30, None)));
    }

    #[test]
    fn a_count_is_absent_or_saturated_with_its_buckets() {
        let mut buckets = SizeBuckets::EMPTY;
        assert_eq!(buckets.count().get(), Stat::Value(0));
        buckets.record(512);
        buckets.record(u64::MAX);
        assert_eq!((buckets.0[10].get(), buckets.0[31].get()), (Stat::Value(1), Stat::Value(1)));
        buckets.0[3] = Word::new(u64::MAX - 2);
        assert_eq!(buckets.count().get(), Stat::Saturated, "the sum is too large for a word");
        buckets.0[3] = Word::SATURATED;
        assert_eq!(buckets.count().get(), Stat::Saturated);
        buckets.0[4] = Word::NOT_PRODUCED;
        assert_eq!(buckets.count().get(), Stat::NotProduced);
        buckets.record(8);
        assert_eq!(buckets.0[4].get(), Stat::NotProduced, "what is not produced stays so");
    }

    #[test]
    fn one_value_changes_bucket_sum_and_maximum() {
        let mut latency = RdLatency::EMPTY;
        for ns in [900, 100, 0] {
            latency.record(ns);
        }
        assert_eq!((latency.sum().value(), latency.max().value()), (Some(1000), Some(900)));
        assert_eq!(latency.count().value(), Some(3));
        assert_eq!(latency.buckets().len(), RdLatency::NR_BUCKETS);
        let mut absent = RdLatency::NOT_PRODUCED;
        absent.record(1);
        assert_eq!(absent, RdLatency::NOT_PRODUCED);
    }

    #[test]
    fn buckets_bound_sum_and_maximum() {
        let mut latency = RdLatency::EMPTY;
        let none = Allowed { least_sum: 0, most_sum: Some(0), max: None };
        assert_eq!(allowed(latency.buckets()), Some(none));
        [5, 6, 900].into_iter().for_each(|ns| latency.record(ns));
        let some = Allowed {
            least_sum: 4 + 4 + 512,
            most_sum: Some(7 + 7 + 1023),
            max: Some((512, Some(1023))),
        };
        assert_eq!(allowed(latency.buckets()), Some(some));
        latency.record(1 << 40);
        let some = allowed(latency.buckets()).unwrap();
        assert_eq!((some.most_sum, some.max), (None, Some((1 << 38, None))));
        latency.ns.0[0] = Word::NOT_PRODUCED;
        assert_eq!(allowed(latency.buckets()), None);
    }

    #[test]
    fn a_percentile_is_a_bucket() {
        let mut latency = RdLatency::EMPTY;
        assert_eq!(percentile(latency.buckets(), 500), None);
        (0..98).for_each(|_| latency.record(100));
        [5000, 1 << 40].into_iter().for_each(|ns| latency.record(ns));
        let found = [0, 500, 980, 981, 990, 991, 1000, 2000]
            .map(|thousandths| percentile(latency.buckets(), thousandths).unwrap().0);
        assert_eq!(found, [64, 64, 64, 4096, 4096, 1 << 38, 1 << 38, 1 << 38]);
        latency.ns.0[1] = Word::NOT_PRODUCED;
        assert_eq!(percentile(latency.buckets(), 500), None);
    }

    #[test]
    fn words_of_two_updates_are_settled() {
        // 900 had been recorded; of 3000, sum and maximum were written and its bucket was not.
        let mut buckets = TimeBuckets::EMPTY;
        buckets.record(900);
        let raw = buckets.0.map(Word::to_raw);
        let (mut sum, mut max) = (Word::new(3900).to_raw(), Word::new(3000).to_raw());
        settle(&mut sum, &mut max, &raw);
        assert_eq!([sum, max].map(|raw| Word::from_raw(raw).value()), [Some(1023); 2]);
        // The bucket was, and they were not.
        buckets.record(3000);
        let raw = buckets.0.map(Word::to_raw);
        let (mut sum, mut max) = (Word::new(900).to_raw(), Word::new(900).to_raw());
        settle(&mut sum, &mut max, &raw);
        let settled = [sum, max].map(|raw| Word::from_raw(raw).value());
        assert_eq!(settled, [Some(512 + 2048), Some(2048)]);
        // What is absent stays so.
        let mut absent = Word::NOT_PRODUCED.to_raw();
        settle(&mut absent, &mut max, &raw);
        assert_eq!(Word::from_raw(absent), Word::NOT_PRODUCED);
    }

    #[test]
    fn the_places_of_a_distribution_are_those_of_its_fields() {
        fn places<H: HistogramGroup>() {
            let [sum, max, buckets] = H::DESC.fields else { panic!("{}", H::DESC.name) };
            let expected = (sum.offset, max.offset, buckets.offset, buckets.width / 8);
            let found = (H::SUM.offset(), H::MAX.offset(), H::BUCKETS_OFFSET, H::NR_BUCKETS);
            assert_eq!(found, expected, "{}", H::DESC.name);
            assert_eq!(H::bucket(0).offset(), buckets.offset);
            assert_eq!(H::bucket(u64::MAX).offset(), buckets.offset + buckets.width - 8);
        }
        places::<RdLatency>();
        places::<RdSize>();
        places::<BlkQueueRdLatency>();
    }
}
