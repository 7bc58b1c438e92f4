//! Times of the queues of block devices, up to now.
//!
//! Between two writes the number of requests in flight stands still, so that both times are known at
//! any moment. They end with staleness, as the times of vCPUs do, and never decrease.

use domstat_consumer::{Sample, Snapshot};
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
            let queue = snapshot.blk(index).and_then(|blk| match until {
                Some(until) => blk.queue_at(until).ok()?.active(),
                None => blk.blk_group::<BlkQueue>().ok()?.active(),
            });
            queue.map_or([None; 2], |queue| slot.times(&queue))
        }));
    }
}

impl Slot {
    fn times(&mut self, queue: &Sample<BlkQueue>) -> Times {
        if self.generation != queue.generation {
            *self = Self { generation: queue.generation, shown: [0; 2] };
        }
        let mut times = [queue.busy_ns.value(), queue.queued_ns.value()];
        for (time, shown) in times.iter_mut().zip(&mut self.shown) {
            if let Some(time) = time {
                *time = (*time).max(*shown);
                *shown = *time;
            }
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use domstat_layout::{Group, Ns, Word};

    use super::*;

    fn queue(busy: u64, queued: u64) -> Sample<BlkQueue> {
        let [busy_ns, queued_ns] = [busy, queued].map(Word::from);
        let group = BlkQueue { busy_ns, queued_ns, ..BlkQueue::NOT_PRODUCED };
        Sample { group, updated: Ns(10), seq: 2, generation: 0 }
    }

    #[test]
    fn both_times_never_decrease_while_the_device_is_the_same() {
        let mut slot = Slot::default();
        assert_eq!(slot.times(&queue(100, 150)), [Some(100), Some(150)]);
        assert_eq!(slot.times(&queue(120, 210)), [Some(120), Some(210)], "up to now");
        assert_eq!(slot.times(&queue(100, 220)), [Some(120), Some(220)], "never back");
        let mut absent = queue(130, 0);
        absent.group.queued_ns = Word::NOT_PRODUCED;
        assert_eq!(slot.times(&absent), [Some(130), None]);
        let other = Sample { generation: 1, ..queue(1, 2) };
        assert_eq!(slot.times(&other), [Some(1), Some(2)], "another device starts over");
    }
}
