//! Times of the queues of block devices, up to now.
//!
//! Between two writes the number of requests in flight stands still, so that both times are known at
//! any moment. They end with staleness, as the times of vCPUs do, and never decrease.

use domstat_consumer::{Reading, Sample, Snapshot};
use domstat_layout::Ns;
use domstat_layout::latest::BlkQueue;

/// Busy and queued time of a device, in nanoseconds.
pub(crate) type Times = [Option<u64>; 2];

/// Times shown of a domain's devices, by slot.
#[derive(Debug, Default)]
pub(crate) struct QueueTimes(Vec<Slot>);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    shown: [u64; 2],
}

impl QueueTimes {
    /// Fills `queues` with the queue times of a snapshot; of a domain that is not live they are as
    /// written.
    pub(crate) fn fill(&mut self, snapshot: &Snapshot, is_live: bool, queues: &mut Vec<Times>) {
        queues.clear();
        self.0.resize(snapshot.nr_blks() as usize, Slot::default());
        let until = snapshot.taken().filter(|_| is_live);
        queues.extend((0..).zip(&mut self.0).map(|(index, slot)| {
            let queue = snapshot.blk(index).and_then(|blk| blk.blk_group::<BlkQueue>().ok());
            queue.and_then(Reading::active).map_or([None; 2], |queue| slot.times(&queue, until))
        }));
    }
}

impl Slot {
    fn times(&mut self, queue: &Sample<BlkQueue>, until: Option<Ns>) -> Times {
        if self.generation != queue.generation {
            *self = Self { generation: queue.generation, shown: [0; 2] };
        }
        let mut times = at(queue, until);
        for (time, shown) in times.iter_mut().zip(&mut self.shown) {
            if let Some(time) = time {
                *time = (*time).max(*shown);
                *shown = *time;
            }
        }
        times
    }
}

/// The times as of `until`, or as written.
fn at(queue: &Sample<BlkQueue>, until: Option<Ns>) -> Times {
    let queue = until.map_or(queue.group, |until| queue.at(until));
    [queue.busy_ns.value(), queue.queued_ns.value()]
}

#[cfg(test)]
mod tests {
    use domstat_layout::{Group, Word};

    use super::*;

    fn queue(submitted: u64, updated: u64) -> Sample<BlkQueue> {
        let group = BlkQueue {
            busy_ns: Word::from(100),
            queued_ns: Word::from(150),
            submitted: Word::from(submitted),
            completed: Word::from(5),
        };
        Sample { group, updated: Ns(updated), seq: 2, generation: 0 }
    }

    #[test]
    fn both_times_grow_with_the_requests_in_flight_while_the_domain_lives() {
        let mut slot = Slot::default();
        assert_eq!(slot.times(&queue(5, 10), Some(Ns(30))), [Some(100), Some(150)], "idle");
        assert_eq!(slot.times(&queue(8, 10), Some(Ns(30))), [Some(120), Some(210)], "3 in flight");
        assert_eq!(slot.times(&queue(8, 10), None), [Some(120), Some(210)], "never back");
        assert_eq!(Slot::default().times(&queue(8, 10), None), [Some(100), Some(150)], "stale");
        let mut absent = queue(8, 10);
        absent.group = BlkQueue { submitted: Word::NOT_PRODUCED, ..absent.group };
        assert_eq!(at(&absent, Some(Ns(30))), [Some(100), Some(150)], "in flight is not known");
        absent.group = BlkQueue { queued_ns: Word::from(7), ..BlkQueue::NOT_PRODUCED };
        assert_eq!(at(&absent, Some(Ns(30))), [None, Some(7)]);
        let other = Sample { generation: 1, ..queue(5, 10) };
        assert_eq!(slot.times(&other, None), [Some(100), Some(150)], "another device starts over");
    }
}
