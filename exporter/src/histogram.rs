//! Histograms whose buckets are bit lengths, as the formats want them.
//!
//! Bucket `i` counts the values whose bit length is `i`: 0, 1, 2 to 3, 4 to 7 and so on; the last
//! one counts all above, too. Values are whole nanoseconds or bytes, so that the largest value of a
//! bucket, 2^i - 1, is an exact bound of the formats that want "not greater than". Counts at such
//! bounds stay exact however few of them are exported.

use crate::family::Unit;

/// Counts and sum of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram<'a> {
    /// Number of values by bit length.
    pub buckets: &'a [u64],
    /// Sum of the values, if it is known.
    pub sum: Option<u64>,
    /// The largest value, if it is known.
    pub max: Option<u64>,
}

/// Bounds that are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bounds {
    /// Every second one, from 1 us to 17 s and from 511 bytes to 32 MiB.
    #[default]
    Few,
    /// All, so that a quantile is known up to a factor of 2.
    All,
}

/// Largest value of a bucket that is not the last.
#[must_use]
pub const fn bound(bucket: usize) -> u64 {
    // Buckets are fewer than 64; another number of them would be a defect of the caller.
    if bucket < 64 { (1 << bucket) - 1 } else { u64::MAX }
}

impl Bounds {
    /// Buckets of `nr` that end at an exported bound. The last bucket has no bound.
    pub fn buckets(self, unit: Unit, nr: usize) -> impl Iterator<Item = usize> {
        let few = match unit {
            // 1.023 us, 4.095 us ... 17.2 s.
            Unit::Seconds => 10..35,
            // Requests are mostly powers of two from 512 bytes on: 511, 2047, 8191 ... keep 512
            // apart from 4096, and that from 16384.
            Unit::Bytes | Unit::None => 9..26,
        };
        let (range, step) = match self {
            Self::Few => (few, 2),
            Self::All => (0..nr, 1),
        };
        range.step_by(step).take_while(move |bucket| bucket + 1 < nr)
    }
}

impl Histogram<'_> {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Number of values up to the end of a bucket.
    #[must_use]
    pub fn up_to(&self, bucket: usize) -> u64 {
        self.buckets.iter().take(bucket.saturating_add(1)).fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values of all magnitudes, and the powers of two around which bounds lie.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        let any = (0u32..40, any::<u64>()).prop_map(|(bits, n)| n & ((1 << bits) - 1));
        let edge = (0u32..39, 0u64..3).prop_map(|(bits, n)| ((1u64 << bits) + n).saturating_sub(1));
        proptest::collection::vec(prop_oneof![any, edge], 0..200)
    }

    fn buckets(values: &[u64], nr: usize) -> Vec<u64> {
        let mut buckets = vec![0; nr];
        for value in values {
            let length = (u64::BITS - value.leading_zeros()) as usize;
            buckets[length.min(nr - 1)] += 1;
        }
        buckets
    }

    proptest! {
        #[test]
        fn counts_at_every_bound_are_those_of_the_values(values in values()) {
            for (unit, nr) in [(Unit::Seconds, 40), (Unit::Bytes, 32)] {
                let buckets = buckets(&values, nr);
                let histogram = Histogram { buckets: &buckets, sum: None, max: None };
                prop_assert_eq!(histogram.count(), values.len() as u64);
                for bounds in [Bounds::Few, Bounds::All] {
                    for bucket in bounds.buckets(unit, nr) {
                        let naive = values.iter().filter(|v| **v <= bound(bucket)).count();
                        prop_assert_eq!(histogram.up_to(bucket), naive as u64, "{}", bucket);
                    }
                }
            }
        }
    }

    #[test]
    fn few_bounds_are_every_second_of_a_useful_range() {
        let bounds = |unit, nr| -> Vec<u64> { Bounds::Few.buckets(unit, nr).map(bound).collect() };
        let times = bounds(Unit::Seconds, 40);
        assert_eq!((times.len(), times[0], times[12]), (13, 1023, 17_179_869_183));
        let sizes = bounds(Unit::Bytes, 32);
        assert_eq!((sizes.len(), sizes[0], sizes[8]), (9, 511, 33_554_431));
        let all: Vec<usize> = Bounds::All.buckets(Unit::Seconds, 40).collect();
        assert_eq!(all, (0..39).collect::<Vec<_>>(), "the last bucket has no bound");
        let short: Vec<usize> = Bounds::Few.buckets(Unit::Seconds, 12).collect();
        assert_eq!(short, [10], "fewer buckets have fewer bounds");
    }
}
