//! Percentages of a size, in thousandths of a percent, as libvirt's write thresholds have them.

/// Thousandths of a percent in the whole: 100 %.
pub const WHOLE: u32 = 100_000;

/// `thousandths` of a percent of `size` bytes, rounded down to a whole byte, but up to 1 where a
/// part of something would be 0: a threshold of 0 disarms.
#[must_use]
pub fn part_of(size: u64, thousandths: u32) -> u64 {
    let part = u128::from(size) * u128::from(thousandths) / u128::from(WHOLE);
    let least = u64::from(thousandths > 0 && size > 0);
    u64::try_from(part).unwrap_or(u64::MAX).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_down_but_never_to_nothing() {
        assert_eq!(part_of(1_000_003, 80_000), 800_002);
        assert_eq!(part_of(u64::MAX, WHOLE), u64::MAX);
        assert_eq!(part_of(u64::MAX, u32::MAX), u64::MAX, "more than the whole saturates");
        assert_eq!(part_of(1000, 12_345), 123);
        assert_eq!(part_of(5, 1), 1);
        assert_eq!(part_of(5, 0), 0);
        assert_eq!(part_of(0, WHOLE), 0);
    }
}
