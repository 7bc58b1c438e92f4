//! Reading groups and fields.

use std::ops::Deref;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::Runstate;
use domstat_layout::revision::twin_of;
use domstat_layout::{Busy, Field, Group, GroupDesc, Ns, ReadGroup, ReadMem, Stat, Word};
use zerocopy::FromBytes;

use crate::{ReadError, Region, WriterStalled};

/// How long a read waits for a writer that is in mid-update: first by spinning, then, so that a
/// writer on the same CPU can go on, by yielding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Attempts made by spinning, without a system call.
    pub spins: u32,
    /// Time spent yielding after that.
    pub yielding: Duration,
}

impl Default for Patience {
    /// 64 attempts by spinning, then 20 ms: long enough for a writer that lost its CPU.
    fn default() -> Self {
        Self { spins: 64, yielding: Duration::from_millis(20) }
    }
}

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

/// The deadline of one read or one snapshot; the clock is first looked at when spinning was in
/// vain.
pub(crate) struct Waiting {
    patience: Patience,
    since: Option<Instant>,
    /// Reads that were tried again, of all that waited.
    retries: u64,
}

impl Waiting {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { patience, since: None, retries: 0 }
    }

    /// How often a read was tried again.
    pub(crate) const fn retries(&self) -> u64 {
        self.retries
    }

    /// Calls `attempt`, which was busy once already, until it is not or patience is at its end.
    pub(crate) fn retry<T, E>(
        &mut self,
        mut busy: Busy,
        mut attempt: impl FnMut() -> Result<T, Busy>,
        stalled: impl FnOnce(Busy, u32, Duration) -> E,
    ) -> Result<T, E> {
        if let Some(waited) = self.since.map(|since| since.elapsed())
            && waited >= self.patience.yielding
        {
            // Others were waited for until patience was at its end.
            return Err(stalled(busy, 0, waited));
        }
        let backoff = Backoff::new();
        let mut retries = 0;
        loop {
            if retries < self.patience.spins {
                backoff.spin();
            } else {
                let since = *self.since.get_or_insert_with(Instant::now);
                let waited = since.elapsed();
                if waited >= self.patience.yielding {
                    return Err(stalled(busy, retries, waited));
                }
                std::thread::yield_now();
            }
            retries = retries.saturating_add(1);
            self.retries = self.retries.saturating_add(1);
            match attempt() {
                Ok(value) => return Ok(value),
                Err(b) => busy = b,
            }
        }
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
    pub(crate) fn read<G: Group>(
        &self,
        patience: Patience,
    ) -> Result<Reading<Sample<G>>, ReadError> {
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
                let waiting = &mut Waiting::new(patience);
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
    pub(crate) fn stat<G: Group>(
        &self,
        field: Field<G>,
        patience: Patience,
    ) -> Result<Stat, ReadError> {
        if self.region.can_be_lost() {
            self.stat_guarded(field, patience)
        } else {
            self.stat_now(field, patience)
        }
    }

    /// As `stat_now`, of memory that can go away.
    #[cold]
    fn stat_guarded<G: Group>(
        &self,
        field: Field<G>,
        patience: Patience,
    ) -> Result<Stat, ReadError> {
        let stat = self.stat_now(field, patience)?;
        self.region.intact()?;
        Ok(stat)
    }

    #[inline(always)]
    fn stat_now<G: Group>(&self, field: Field<G>, patience: Patience) -> Result<Stat, ReadError> {
        let desc = G::DESC;
        let Some(group) = self.mem.group(desc.offset, desc.size) else {
            return Ok(Stat::GroupInactive);
        };
        let index = (field.offset() - desc.offset - GROUP_HEADER_LEN) / 8;
        let reading = match self.attempt_word(desc, group, index) {
            Ok(reading) => reading,
            Err(_) => self.word_slowly(desc, group, const { twin_of(G::DESC) }, index, patience)?,
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
        patience: Patience,
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
                Waiting::new(patience).retry(busy, attempt, stalled)
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
        let (record, index) = (desc.record, self.index);
        WriterStalled { record, index, group: desc.name, seq: busy.seq, retries, waited }.into()
    }
}
