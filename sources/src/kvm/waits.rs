//! Single waits of a vCPU, told apart by their number.

/// Most waits that one look at the thread's schedstat accounts for: what was more is recorded as
/// longer waits.
const MAX_WAITS: u64 = 64;

/// Single waits of a vCPU, from its time in `runnable`: they sum to it.
///
/// A vCPU that is woken has waited once until it runs. The host's scheduler does not tell waits of
/// a thread apart, but it counts them: those that lay between two looks are taken to be of the same
/// length.
#[derive(Debug, Default)]
pub(super) struct Waits {
    recorded_ns: u64,
    /// How often the thread had been given a CPU.
    timeslices: Option<u64>,
}

impl Waits {
    /// The waits since the last call, the first of them with what is left over by the division.
    pub(super) fn take(
        &mut self,
        runnable_ns: u64,
        timeslices: Option<u64>,
    ) -> impl Iterator<Item = u64> {
        let waited = runnable_ns.saturating_sub(self.recorded_ns);
        self.recorded_ns = runnable_ns.max(self.recorded_ns);
        let given = match (self.timeslices, timeslices) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => 1,
        };
        self.timeslices = timeslices.or(self.timeslices);
        let waits = given.clamp(1, MAX_WAITS);
        let (each, rest) = (waited / waits, waited % waits);
        let first = (waited > 0).then(|| each.saturating_add(rest));
        let others = if each > 0 { waits - 1 } else { 0 };
        first.into_iter().chain((0..others).map(move |_| each))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_apart_by_their_number_and_sum_to_the_time() {
        let mut waits = Waits::default();
        let mut take = |ns, timeslices| waits.take(ns, timeslices).collect::<Vec<_>>();
        assert_eq!(take(0, Some(5)), [0; 0], "it did not wait");
        assert_eq!(take(700, Some(6)), [700], "one");
        assert_eq!(take(1710, Some(9)), [338, 336, 336], "three, of which only the sum is known");
        assert_eq!(take(1710, Some(20)), [0; 0]);
        assert_eq!(take(1712, Some(30)), [2], "none is empty");
        assert_eq!(take(2000, None), [288], "nobody counts them");
        let many = take(1_002_000, Some(1000));
        assert_eq!((many.len(), many.iter().sum::<u64>()), (64, 1_000_000));
    }
}
