//! Sums of shares in a snapshot, next to the records that devices have themselves.

use domstat_layout::GroupDesc;

use super::Meta;
use crate::error::ReadError;
use crate::read::patience::Waiting;
use crate::read::shares::sum::{Index, MOST_WORDS, Pass, Pending, pass};
use crate::read::shares::{Kind, restless};
use crate::read::{Copied, Reading};
use crate::region::Region;

/// Groups of the devices of one kind that are sums of shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Summed {
    index: Index,
    /// Devices that have shares, in order, and where their groups begin in `groups`.
    devices: Vec<(u32, usize)>,
    groups: Vec<Group>,
    words: Vec<u64>,
    /// Reads of groups other than those for the index.
    reads: u64,
}

/// How the sum of one group went.
#[derive(Clone, Copy, Debug)]
struct Group {
    bit: u32,
    meta: Meta,
    /// Where its words begin.
    start: usize,
    /// Of a queue.
    pending: Pending,
}

/// Groups of one device.
#[derive(Clone, Copy, Debug)]
pub(super) struct SummedGroups<'a> {
    groups: &'a [Group],
    words: &'a [u64],
}

impl Summed {
    pub(super) fn clear(&mut self) {
        self.devices.clear();
        self.groups.clear();
        self.words.clear();
        (self.index.reads, self.reads) = (0, 0);
    }

    /// Adds up the shares of all devices. `generation` says which tenant the copy of a device's record
    /// is of. `false` if a slot was given to another meanwhile: the sums are then to be filled again,
    /// unless this is the `last` pass.
    pub(super) fn fill(
        &mut self,
        region: &Region,
        kind: &'static Kind,
        generation: impl Fn(u32) -> Option<u32>,
        last: bool,
        waiting: &mut Waiting,
    ) -> bool {
        let Self { index, devices, groups, words, reads } = self;
        devices.clear();
        groups.clear();
        words.clear();
        // Of memory that went away, nothing can be read.
        if index.fill(region, kind, None, waiting).is_err() {
            return true;
        }
        for shares in index.devices() {
            let Some(first) = shares.first() else { continue };
            let is_copied = generation(first.device).is_none_or(|copy| copy == first.generation);
            devices.push((first.device, groups.len()));
            for shared in kind.groups {
                let mut sum = [0; MOST_WORDS];
                let sum = sum.get_mut(..shared.whole.payload_words()).unwrap_or_default();
                *reads = reads.saturating_add(shares.len() as u64);
                let mut pending = Pending::NONE;
                let found = pass(region, kind, *shared, shares, sum, &mut pending, waiting);
                let found = match found {
                    Ok(found) if is_copied => Ok(found),
                    Ok(_) => Ok(Pass::Again),
                    Err(error) => Err(error),
                };
                let meta = match found {
                    Ok(Pass::Sum(reading)) => Meta::from(Ok(reading)),
                    Ok(Pass::NoShare) => continue,
                    Ok(Pass::Again) if !last => return false,
                    Ok(Pass::Again) => Meta::Failed(restless(*shared, first.device)),
                    Err(error) => Meta::Failed(error),
                };
                groups.push(Group { bit: shared.whole.bit, meta, start: words.len(), pending });
                words.extend_from_slice(sum);
            }
        }
        true
    }

    /// The sums of a device, if it has shares.
    pub(super) fn get(&self, device: u32) -> Option<SummedGroups<'_>> {
        let at = self.devices.binary_search_by_key(&device, |(device, _)| *device).ok()?;
        let (_, start) = *self.devices.get(at)?;
        let end = self.devices.get(at + 1).map_or(self.groups.len(), |(_, next)| *next);
        Some(SummedGroups { groups: self.groups.get(start..end)?, words: &self.words })
    }

    pub(super) const fn reads(&self) -> u64 {
        self.index.reads.saturating_add(self.reads)
    }

    pub(super) fn memory(&self) -> usize {
        self.index.memory()
            + self.devices.capacity() * size_of::<(u32, usize)>()
            + self.groups.capacity() * size_of::<Group>()
            + self.words.capacity() * size_of::<u64>()
    }
}

impl<'a> SummedGroups<'a> {
    /// How the sum of a group went, and its words; `None` if no share has it.
    pub(super) fn get(&self, desc: &GroupDesc) -> Option<(Meta, &'a [u64])> {
        let group = self.groups.iter().find(|group| group.bit == desc.bit)?;
        let words = self.words.get(group.start..)?.get(..desc.payload_words())?;
        Some((group.meta, words))
    }

    /// What the sum of a queue lacks; `None` if no share has the group.
    pub(super) fn pending(&self, desc: &GroupDesc) -> Option<Pending> {
        self.groups.iter().find(|group| group.bit == desc.bit).map(|group| group.pending)
    }
}

impl From<Result<Reading<Copied>, ReadError>> for Meta {
    fn from(result: Result<Reading<Copied>, ReadError>) -> Self {
        match result {
            Ok(Reading::Active(Copied { seq, updated_ns, generation })) => {
                Self::Active { seq, generation, updated_ns }
            }
            Ok(Reading::Inactive) => Self::Inactive,
            Ok(Reading::Unknown) => Self::Unknown,
            Err(error) => Self::Failed(error),
        }
    }
}
