//! History of a disk: how long its requests took, and how many were in flight.

use std::collections::VecDeque;

use super::graph;
use crate::output::ABSENT;
use crate::rows::BlkRow;

/// Samples of one dot, which is the highest of them: graphs of a few columns show minutes.
pub(super) const SAMPLES: usize = 5;
/// Columns of the widest graph, of two dots each: 10 minutes at one sample a second.
pub(super) const MAX_COLUMNS: usize = 64;

/// The highest values of some samples each, newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Peaks {
    dots: VecDeque<Option<f64>>,
    /// Samples of the newest dot.
    samples: usize,
}

impl Peaks {
    fn push(&mut self, value: Option<f64>) {
        match self.dots.back_mut().filter(|_| self.samples < SAMPLES) {
            Some(newest) => {
                *newest = [*newest, value].into_iter().flatten().reduce(f64::max);
                self.samples += 1;
            }
            None => {
                if self.dots.len() == MAX_COLUMNS * 2 {
                    self.dots.pop_front();
                }
                self.dots.push_back(value);
                self.samples = 1;
            }
        }
    }

    /// The highest of the dots that `width` columns show.
    pub(super) fn highest(&self, width: usize) -> Option<f64> {
        self.dots.iter().rev().take(width * 2).copied().flatten().reduce(f64::max)
    }

    /// A graph of `width` columns on its own scale; absent if nothing is known.
    pub(super) fn spark(&self, width: usize) -> String {
        if self.highest(width).is_none() {
            return ABSENT.to_owned();
        }
        graph::spark(&self.dots.iter().copied().collect::<Vec<_>>(), width)
    }
}

/// What is remembered of one disk.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskHistory {
    /// Mean time of a read or write, in nanoseconds.
    pub(super) latency: Peaks,
    /// Mean number of requests in flight.
    pub(super) queue: Peaks,
}

impl DiskHistory {
    pub(super) fn push(&mut self, blk: &BlkRow) {
        self.latency.push(blk.latency());
        self.queue.push(blk.queue_length());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_is_the_highest_of_its_samples_and_old_ones_leave() {
        let mut peaks = Peaks::default();
        assert_eq!(peaks.spark(2), ABSENT);
        for value in [None, Some(1.0), Some(4.0), Some(2.0), Some(0.0)] {
            peaks.push(value);
        }
        peaks.push(Some(2.0));
        assert_eq!(peaks.dots, [Some(4.0), Some(2.0)]);
        assert_eq!(peaks.spark(1), "⣧");
        for _ in 0..SAMPLES * (MAX_COLUMNS * 2 - 1) {
            peaks.push(Some(1.0));
        }
        assert_eq!(peaks.dots.len(), MAX_COLUMNS * 2);
        assert_eq!(peaks.highest(MAX_COLUMNS), Some(2.0), "the one that began before");
        (0..SAMPLES).for_each(|_| peaks.push(None));
        assert_eq!(peaks.highest(MAX_COLUMNS), Some(1.0));
        assert_eq!(peaks.dots.back(), Some(&None), "what is not known is no dot");
    }
}
