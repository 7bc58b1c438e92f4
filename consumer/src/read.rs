//! Reads of groups, fields and whole domains.

use std::ops::Deref;
use std::time::Duration;

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::Runstate;
use domstat_layout::revision::twin_of;
use domstat_layout::{
    Busy, Field, Group, GroupDesc, Ns, ReadGroup, ReadMem, RecordKind, Stat, Word,
};
use zerocopy::FromBytes;

use crate::error::{ReadError, StalledWriter};
use crate::region::Region;

mod aligned_buf;
pub(crate) mod patience;
mod records;
mod snapshot;

pub use patience::Patience;
pub use records::{Blk, Dom, Net, Vcpu};
pub use snapshot::{Fields, Snapshot, SnapshotRecord};

use patience::Waiting;

/// What a producer says of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// The group is produced; this is what it says.
    Active(T),
    /// The producer knows the group and does not produce it, for now.
    Inactive,
    /// The producer's revision is older than the group.
    Unknown,
}

impl<T> Reading<T> {
    /// What the group says, if it is produced.
    pub fn active(self) -> Option<T> {
        match self {
            Self::Active(value) => Some(value),
            Self::Inactive | Self::Unknown => None,
        }
    }

    /// What one field says; [`Stat::GroupInactive`] unless the group is produced.
    pub fn stat(&self, field: impl FnOnce(&T) -> Word) -> Stat {
        match self {
            Self::Active(value) => field(value).get(),
            Self::Inactive | Self::Unknown => Stat::GroupInactive,
        }
    }
}

/// The fields of a group, all as of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<G> {
    /// The fields.
    pub group: G,
    /// When they were written, on the region's clock.
    pub updated: Ns,
    /// The sequence number of the write: even, two more for each write.
    pub seq: u32,
    /// Which tenant of the slot they are of; counters restart when it changes. 0 in the dom record.
    pub generation: u32,
}

impl<G> Deref for Sample<G> {
    type Target = G;
    fn deref(&self) -> &G {
        &self.group
    }
}

impl Sample<Runstate> {
    /// The runstate as of `now` (on the region's clock): the time since the write was spent in
    /// `state`, and is added to it, as `VCPUOP_get_runstate_info` does for a caller of Xen.
    ///
    /// Unchanged if the producer does not say the state, or `now` is earlier than the write. Not
    /// meant for a region that is retired: its time has ended.
    #[must_use]
    pub fn at(&self, now: Ns) -> Runstate {
        let mut runstate = self.group;
        if let Some(state) = runstate.vcpu_state() {
            let time = runstate.time_in_mut(state);
            if let Some(ns) = time.value() {
                *time = Word::from(ns.saturating_add(now.since(self.updated)));
            }
        }
        runstate
    }
}

/// One record of a region: the part of the mapping that it lies in, as long as the producer said.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Asked, after a read, whether the memory is still there.
    pub(crate) region: &'a Region,
    pub(crate) mem: ReadMem<'a>,
    pub(crate) index: Option<u32>,
}

impl Region {
    /// A record by its kind and index, for copies by descriptor.
    pub(crate) fn record(&self, kind: RecordKind, index: u32) -> Option<Record<'_>> {
        let array = self.geometry().array(kind);
        let mem = self.sub(array.offset(index)?, array.size);
        let index = (kind != RecordKind::Dom).then_some(index);
        Some(Record { region: self, mem, index })
    }
}

/// A copy of a group: its sequence number, when it was written, and the slot's generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    pub(crate) seq: u32,
    pub(crate) updated_ns: u64,
    pub(crate) generation: u32,
}

impl<'a> Record<'a> {
    #[inline(always)]
    fn is_active(&self, desc: &GroupDesc) -> bool {
        let active = self.mem.load_u64(desc.record.active_offset()).unwrap_or(0);
        active & desc.mask() != 0
    }

    #[inline(always)]
    fn generation(&self, desc: &GroupDesc) -> u32 {
        let at = desc.record.generation_offset();
        at.and_then(|at| self.mem.load_u32(at)).unwrap_or(0)
    }

    /// One attempt to copy a group's fields (raw words) to `to`.
    #[inline(always)]
    fn attempt(
        &self,
        desc: &GroupDesc,
        group: ReadGroup<'a>,
        to: &mut [u64],
    ) -> Result<Reading<Copied>, Busy> {
        let guarded = || (self.is_active(desc), self.generation(desc));
        match group.try_read(to, guarded) {
            Ok((seq, updated_ns, (true, generation))) => {
                Ok(Reading::Active(Copied { seq, updated_ns, generation }))
            }
            Ok((_, _, (false, _))) => Ok(Reading::Inactive),
            Err(busy) => self.unless_inactive(desc, busy),
        }
    }

    /// A group that is not active is left in mid-update: that is not busy.
    #[inline(always)]
    fn unless_inactive<T>(&self, desc: &GroupDesc, busy: Busy) -> Result<Reading<T>, Busy> {
        if self.is_active(desc) { Err(busy) } else { Ok(Reading::Inactive) }
    }

    /// One attempt to copy a group, or else its twin.
    fn attempt_both(
        &self,
        desc: &GroupDesc,
        group: ReadGroup<'a>,
        twin: Option<&GroupDesc>,
        to: &mut [u64],
    ) -> Result<Reading<Copied>, Busy> {
        let busy = match self.attempt(desc, group, to) {
            Err(busy) => busy,
            read => return read,
        };
        let Some(twin) = twin else { return Err(busy) };
        let Some(second) = self.mem.group(twin.offset, twin.size) else { return Err(busy) };
        match self.attempt(twin, second, to) {
            Ok(Reading::Active(copied)) => Ok(Reading::Active(copied)),
            // A twin whose bit is clear says nothing of the first copy.
            _ => Err(busy),
        }
    }

    /// Copies a group's fields (raw words) to `to`, waiting for a writer in mid-update.
    pub(crate) fn copy(
        &self,
        desc: &'static GroupDesc,
        to: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Reading<Copied>, ReadError> {
        let Some(group) = self.mem.group(desc.offset, desc.size) else {
            return Ok(Reading::Unknown);
        };
        let reading = match self.attempt(desc, group, to) {
            Ok(reading) => reading,
            Err(_) => {
                let twin = twin_of(desc);
                self.copy_slowly(desc, group, twin, to, waiting)?
            }
        };
        self.region.intact()?;
        Ok(reading)
    }

    #[cold]
    fn copy_slowly(
        &self,
        desc: &'static GroupDesc,
        group: ReadGroup<'a>,
        twin: Option<&'static GroupDesc>,
        to: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Reading<Copied>, ReadError> {
        let mut attempt = || self.attempt_both(desc, group, twin, to);
        match attempt() {
            Ok(reading) => Ok(reading),
            Err(busy) => {
                let stalled = |busy, retries, waited| self.stalled(desc, busy, retries, waited);
                waiting.retry(busy, attempt, stalled)
            }
        }
    }

    /// Whether what was read is to be believed.
    #[cold]
    #[inline(never)]
    fn vouch(&self) -> Result<(), ReadError> {
        Ok(self.region.intact()?)
    }

    #[inline(always)]
    pub(crate) fn read<G: Group>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        let mut fields = G::NOT_PRODUCED;
        let (Some(group), Ok(words)) = (
            self.mem.group(G::DESC.offset, G::DESC.size),
            <[u64]>::mut_from_bytes(fields.as_mut_bytes()),
        ) else {
            return Ok(Reading::Unknown);
        };
        let reading = match self.attempt(G::DESC, group, words) {
            Ok(reading) => reading,
            Err(_) => {
                let waiting = &mut Waiting::new(self.region.patience());
                self.copy_slowly(G::DESC, group, const { twin_of(G::DESC) }, words, waiting)?
            }
        };
        if self.region.can_be_lost() {
            self.vouch()?;
        }
        Ok(match reading {
            Reading::Active(Copied { seq, updated_ns, generation }) => {
                Reading::Active(Sample { group: fields, updated: Ns(updated_ns), seq, generation })
            }
            Reading::Inactive => Reading::Inactive,
            Reading::Unknown => Reading::Unknown,
        })
    }

    #[inline(always)]
    pub(crate) fn stat<G: Group>(&self, field: Field<G>) -> Result<Stat, ReadError> {
        if self.region.can_be_lost() { self.stat_guarded(field) } else { self.stat_now(field) }
    }

    /// As `stat_now`, of memory that can go away.
    #[cold]
    fn stat_guarded<G: Group>(&self, field: Field<G>) -> Result<Stat, ReadError> {
        let stat = self.stat_now(field)?;
        self.region.intact()?;
        Ok(stat)
    }

    #[inline(always)]
    fn stat_now<G: Group>(&self, field: Field<G>) -> Result<Stat, ReadError> {
        let desc = G::DESC;
        let Some(group) = self.mem.group(desc.offset, desc.size) else {
            return Ok(Stat::GroupInactive);
        };
        let index = (field.offset() - desc.offset - GROUP_HEADER_LEN) / 8;
        let reading = match self.attempt_word(desc, group, index) {
            Ok(reading) => reading,
            Err(_) => self.word_slowly(desc, group, const { twin_of(G::DESC) }, index)?,
        };
        Ok(reading.stat(|word| *word))
    }

    /// One attempt to read the one word at `index` of a group's fields.
    #[inline(always)]
    fn attempt_word(
        &self,
        desc: &GroupDesc,
        group: ReadGroup<'a>,
        index: usize,
    ) -> Result<Reading<Word>, Busy> {
        match group.try_read_word(index, || self.is_active(desc)) {
            Ok((Some(raw), true)) => Ok(Reading::Active(Word::from_raw(raw))),
            Ok(_) => Ok(Reading::Inactive),
            Err(busy) => self.unless_inactive(desc, busy),
        }
    }

    #[cold]
    fn word_slowly(
        &self,
        desc: &'static GroupDesc,
        group: ReadGroup<'a>,
        twin: Option<&'static GroupDesc>,
        index: usize,
    ) -> Result<Reading<Word>, ReadError> {
        let second = twin.and_then(|t| Some((t, self.mem.group(t.offset, t.size)?)));
        let attempt = || {
            let busy = match self.attempt_word(desc, group, index) {
                Err(busy) => busy,
                read => return read,
            };
            let Some((twin, second)) = second else { return Err(busy) };
            match self.attempt_word(twin, second, index) {
                Ok(Reading::Active(word)) => Ok(Reading::Active(word)),
                _ => Err(busy),
            }
        };
        match attempt() {
            Ok(reading) => Ok(reading),
            Err(busy) => {
                let stalled = |busy, retries, waited| self.stalled(desc, busy, retries, waited);
                Waiting::new(self.region.patience()).retry(busy, attempt, stalled)
            }
        }
    }

    fn stalled(
        &self,
        desc: &'static GroupDesc,
        busy: Busy,
        retries: u32,
        waited: Duration,
    ) -> ReadError {
        if let Err(lost) = self.region.intact() {
            return lost.into();
        }
        let (record, group) = (Some(desc.record), Some(desc.name));
        let (index, seq) = (self.index, busy.seq);
        StalledWriter { record, index, group, seq, retries, waited }.into()
    }
}
