//! The shares that count, found once, and what those of one device sum to.

use domstat_layout::latest::{
    BLK_QUEUE_GROUPS, BlkQueue as Queue, BlkQueueDiscards, BlkQueueFailures, BlkQueueFlLatency,
    BlkQueueIo, BlkQueueIoTimes, BlkQueueOf, BlkQueueQueue, BlkQueueRdLatency, BlkQueueRdSize,
    BlkQueueWrLatency, BlkQueueWrSize, NET_QUEUE_GROUPS, NetQueueIo, NetQueueOf,
};
use domstat_layout::share::{Share, add};
use domstat_layout::{Group, GroupDesc, Ns, RecordKind, Word};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::ReadError;
use crate::read::patience::Waiting;
use crate::read::{Copied, Reading, Sample};
use crate::region::Region;

/// A group of a device, and that of its shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    pub(crate) whole: &'static GroupDesc,
    pub(crate) share: &'static GroupDesc,
}

const fn shared<S: Share>() -> Shared {
    Shared { whole: S::Of::DESC, share: S::DESC }
}

/// A kind of devices that have shares.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) device: RecordKind,
    pub(crate) share: RecordKind,
    /// The group that says which device a share is of, and which generation of it: its first words.
    of: &'static GroupDesc,
    /// Groups of the device's own record.
    pub(crate) groups: &'static [Shared],
    /// Groups of its distributions.
    hists: &'static [Shared],
}

pub(crate) static BLK: Kind = Kind {
    device: RecordKind::Blk,
    share: RecordKind::BlkQueue,
    of: BlkQueueOf::DESC,
    groups: &[
        shared::<BlkQueueIo>(),
        shared::<BlkQueueIoTimes>(),
        shared::<BlkQueueQueue>(),
        shared::<BlkQueueDiscards>(),
        shared::<BlkQueueFailures>(),
    ],
    hists: &[
        shared::<BlkQueueRdLatency>(),
        shared::<BlkQueueWrLatency>(),
        shared::<BlkQueueFlLatency>(),
        shared::<BlkQueueRdSize>(),
        shared::<BlkQueueWrSize>(),
    ],
};

pub(crate) static NET: Kind = Kind {
    device: RecordKind::Net,
    share: RecordKind::NetQueue,
    of: NetQueueOf::DESC,
    groups: &[shared::<NetQueueIo>()],
    hists: &[],
};

/// Words of the longest group of a share.
#[allow(clippy::indexing_slicing, reason = "runs in constant evaluation only")]
pub(crate) const MOST_WORDS: usize = {
    let (mut most, mut i) = (0, 0);
    while i < BLK_QUEUE_GROUPS.len() + NET_QUEUE_GROUPS.len() {
        let desc = match i.checked_sub(BLK_QUEUE_GROUPS.len()) {
            None => BLK_QUEUE_GROUPS[i],
            Some(i) => NET_QUEUE_GROUPS[i],
        };
        if desc.payload_words() > most {
            most = desc.payload_words();
        }
        i += 1;
    }
    most
};

impl Kind {
    /// How many records of shares a region has.
    pub(crate) fn share_records(&self, region: &Region) -> u32 {
        region.geometry().array(self.share).nr
    }

    /// The kind that has shares of this group.
    pub(crate) fn of_whole(record: RecordKind, bit: u32) -> Option<(&'static Self, Shared)> {
        [&BLK, &NET].into_iter().find_map(|kind| {
            let mut groups = kind.groups.iter().chain(kind.hists);
            let found = groups.find(|g| g.whole.record == record && g.whole.bit == bit)?;
            Some((kind, *found))
        })
    }
}

/// A share that counts: which device it is of, where it lies, and the generations of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) device: u32,
    slot: u32,
    /// Of the device.
    pub(crate) generation: u32,
    slot_generation: u32,
}

/// The shares of one kind of devices, by device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// Reads of groups of shares so far.
    pub(crate) reads: u64,
}

impl Index {
    /// Finds the shares of all devices, or of one. Looks at each share once.
    ///
    /// A share that is being given out, so that it cannot be read which device it is of, does not
    /// count yet.
    pub(crate) fn fill(
        &mut self,
        region: &Region,
        kind: &'static Kind,
        only: Option<u32>,
        waiting: &mut Waiting,
    ) -> Result<(), ReadError> {
        self.entries.clear();
        let nr = kind.share_records(region);
        self.reads = self.reads.saturating_add(nr.into());
        for slot in 0..nr {
            let Some(record) = region.record(kind.share, slot) else { continue };
            let mut words = [0; MOST_WORDS];
            let of = words.get_mut(..kind.of.payload_words()).unwrap_or_default();
            let found = match record.copy(kind.of, of, waiting) {
                Ok(Reading::Active(found)) => found,
                Ok(_) | Err(ReadError::Stalled(_)) => continue,
                Err(lost) => return Err(lost),
            };
            let [device, generation, ..] = words.map(|raw| Word::from_raw(raw).value());
            let device = device.and_then(|device| u32::try_from(device).ok());
            let Some(device) = device.filter(|device| only.is_none_or(|only| only == *device))
            else {
                continue;
            };
            let now = region.record(kind.device, device).map(|device| device.generation());
            if let Some(now) = now.filter(|now| generation == Some(u64::from(*now))) {
                let slot_generation = found.generation;
                self.entries.push(Entry { device, slot, generation: now, slot_generation });
            }
        }
        // Of each device in the order of their slots, in which they were found.
        self.entries.sort_by_key(|entry| entry.device);
        Ok(())
    }

    /// The shares of a device, which are read next.
    pub(super) fn of(&mut self, device: u32) -> &[Entry] {
        let first = self.entries.partition_point(|entry| entry.device < device);
        let end = self.entries.partition_point(|entry| entry.device <= device);
        let entries = self.entries.get(first..end).unwrap_or_default();
        self.reads = self.reads.saturating_add(entries.len() as u64);
        entries
    }

    /// The shares of each device that has any.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &[Entry]> {
        self.entries.chunk_by(|a, b| a.device == b.device)
    }

    pub(crate) fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

/// A pass over the shares of a device.
pub(crate) enum Pass {
    /// What they sum to.
    Sum(Reading<Copied>),
    /// None of them has the group.
    NoShare,
    /// A slot was given to another meanwhile.
    Again,
}

impl Sample<Queue> {
    /// The queue as of `now` (on the region's clock): until the next write the requests in flight
    /// stand still, and both times grow as they say. This is an estimate: the next write may say that a
    /// request ended before `now`, and then says less.
    ///
    /// Unchanged if `now` is earlier than the write. Of a sum of shares it is a lower bound, since the
    /// sample does not have the time of each of them: [`Shares::queue_at`](super::Shares::queue_at) and
    /// [`SnapshotRecord::queue_at`](crate::SnapshotRecord::queue_at) do.
    #[must_use]
    pub fn at(&self, now: Ns) -> Queue {
        let (mut queue, passed) = (self.group, now.since(self.updated));
        if let Some(in_flight) = in_flight(&queue) {
            grow(&mut queue, passed, in_flight.min(1), in_flight);
        }
        queue
    }
}

fn in_flight(queue: &Queue) -> Option<u64> {
    Some(queue.submitted.value()?.saturating_sub(queue.completed.value()?))
}

fn grow(queue: &mut Queue, passed: u64, busy: u64, in_flight: u64) {
    queue.busy_ns = queue.busy_ns.plus(Word::new(passed.saturating_mul(busy)));
    queue.queued_ns = queue.queued_ns.plus(Word::new(passed.saturating_mul(in_flight)));
}

/// Queues of several shares: what their sum lacks up to the newest of them, and how it grows from
/// then on. A sum has neither in it: a share that is read late, or whose writer is late, would take
/// back what was added for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    busy_ns: u64,
    queued_ns: u64,
    /// Shares with a request in flight.
    busy: u64,
    in_flight: u64,
}

impl Pending {
    pub(crate) const NONE: Self = Self { busy_ns: 0, queued_ns: 0, busy: 0, in_flight: 0 };

    /// Adds the share of `words`, written at `share_at`, to those of which the newest was written at
    /// `newest`.
    fn add(&mut self, newest: u64, words: &[u64], share_at: u64) {
        *self = self.after(share_at.saturating_sub(newest));
        let Some(in_flight) =
            Queue::read_from_bytes(words.as_bytes()).ok().as_ref().and_then(in_flight)
        else {
            return;
        };
        let share = Self { busy: in_flight.min(1), in_flight, ..Self::NONE };
        let share = share.after(newest.saturating_sub(share_at));
        self.busy_ns = self.busy_ns.saturating_add(share.busy_ns);
        self.queued_ns = self.queued_ns.saturating_add(share.queued_ns);
        self.busy = self.busy.saturating_add(share.busy);
        self.in_flight = self.in_flight.saturating_add(share.in_flight);
    }

    const fn after(mut self, ns: u64) -> Self {
        self.busy_ns = self.busy_ns.saturating_add(ns.saturating_mul(self.busy));
        self.queued_ns = self.queued_ns.saturating_add(ns.saturating_mul(self.in_flight));
        self
    }

    /// The sum as of `now`, or of its newest share if that is later.
    pub(crate) fn at(self, sum: &Sample<Queue>, now: Ns) -> Queue {
        let (mut queue, pending) = (sum.group, self.after(now.since(sum.updated)));
        queue.busy_ns = queue.busy_ns.plus(Word::new(pending.busy_ns));
        queue.queued_ns = queue.queued_ns.plus(Word::new(pending.queued_ns));
        queue
    }
}

/// Adds up the shares of a device into `sum`, as they were written; of queues, `pending` is what
/// that lacks. Looks at each of them once.
pub(crate) fn pass(
    region: &Region,
    kind: &'static Kind,
    group: Shared,
    entries: &[Entry],
    sum: &mut [u64],
    pending: &mut Pending,
    waiting: &mut Waiting,
) -> Result<Pass, ReadError> {
    let is_queue = (group.whole.record, group.whole.bit) == (Queue::DESC.record, Queue::DESC.bit);
    let (mut whole, mut lacks) = (None::<Copied>, false);
    *pending = Pending::NONE;
    for entry in entries {
        let Some(record) = region.record(kind.share, entry.slot) else { continue };
        let mut words = [0; MOST_WORDS];
        let share = words.get_mut(..sum.len()).unwrap_or_default();
        let copied = match record.copy(group.share, share, waiting)? {
            Reading::Active(copied) => copied,
            // What one share does not say, the sum does not.
            Reading::Inactive | Reading::Unknown => {
                if record.generation() != entry.slot_generation {
                    return Ok(Pass::Again);
                }
                lacks = true;
                continue;
            }
        };
        if copied.generation != entry.slot_generation {
            return Ok(Pass::Again);
        }
        let (before, so_far) = (whole, whole.get_or_insert(copied));
        if is_queue {
            pending.add(so_far.updated_ns, share, copied.updated_ns);
        }
        if before.is_some() {
            add(group.whole, sum, share);
            so_far.seq = so_far.seq.wrapping_add(copied.seq);
            so_far.updated_ns = so_far.updated_ns.max(copied.updated_ns);
        } else {
            sum.copy_from_slice(share);
        }
    }
    let device = entries.first().and_then(|entry| {
        let now = region.record(kind.device, entry.device)?.generation();
        Some((now, entry.generation))
    });
    let Some((now, generation)) = device else { return Ok(Pass::NoShare) };
    Ok(match whole {
        _ if now != generation => Pass::Again,
        Some(_) if lacks => Pass::Sum(Reading::Inactive),
        Some(copied) => Pass::Sum(Reading::Active(Copied { generation, ..copied })),
        None => Pass::NoShare,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_shares_is_summed() {
        for (kind, groups) in [(&BLK, &BLK_QUEUE_GROUPS[..]), (&NET, &NET_QUEUE_GROUPS[..])] {
            let summed = kind.groups.iter().chain(kind.hists).map(|shared| shared.share);
            let known: Vec<_> = std::iter::once(kind.of).chain(summed).collect();
            assert_eq!(known, groups);
            assert!(groups.iter().all(|desc| desc.record == kind.share));
            assert!(kind.groups.iter().all(|shared| shared.whole.record == kind.device));
            assert!(kind.hists.iter().all(|shared| shared.whole.record != kind.device));
        }
    }

    #[test]
    fn queues_are_brought_to_one_time_whatever_their_order() {
        let queue = |submitted, completed| Queue {
            busy_ns: Word::new(10),
            queued_ns: Word::new(20),
            submitted: Word::new(submitted),
            completed: Word::new(completed),
        };
        let shares = [(queue(7, 4), 100), (queue(5, 5), 130), (queue(2, 1), 120)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let (mut pending, mut sum, mut newest) = (Pending::NONE, None::<Queue>, 0);
            for (share, share_at) in order.map(|i: usize| shares[i]) {
                newest = if newest == 0 { share_at } else { newest };
                pending.add(newest, <[u64]>::ref_from_bytes(share.as_bytes()).unwrap(), share_at);
                match &mut sum {
                    Some(sum) => BlkQueueQueue::share(share).add_to(sum),
                    None => sum = Some(share),
                }
                newest = newest.max(share_at);
            }
            let group = sum.unwrap();
            assert_eq!([group.busy_ns, group.queued_ns], [30, 60].map(Word::new), "as written");
            let sum = Sample { group, updated: Ns(newest), seq: 6, generation: 0 };
            let at = |now| {
                let queue = pending.at(&sum, Ns(now));
                [queue.busy_ns, queue.queued_ns].map(|word| word.value().unwrap())
            };
            // 3 in flight for 30 ns, none, 1 for 10 ns.
            let at_130 = [30 + 30 + 10, 60 + 90 + 10];
            assert_eq!((at(130), at(90)), (at_130, at_130), "{order:?}");
            assert_eq!(at(135), [at_130[0] + 2 * 5, at_130[1] + 4 * 5], "two are busy");
        }
    }
}
