//! Reading groups and fields.

use std::ops::Deref;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::header::record;
use domstat_layout::latest::Runstate;
use domstat_layout::{
    Busy, DomGroup, Field, Group, GroupDesc, Ns, ReadGroup, ReadMem, RecordKind, Stat, VcpuGroup,
    Word,
};
use zerocopy::FromBytes;

use crate::WriterStalled;

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
}

impl Waiting {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { patience, since: None }
    }

    /// Calls `attempt` until it is not busy or patience is at its end.
    #[inline]
    pub(crate) fn retry<T>(
        &mut self,
        mut attempt: impl FnMut() -> Result<T, Busy>,
        stalled: impl FnOnce(Busy, u32, Duration) -> WriterStalled,
    ) -> Result<T, WriterStalled> {
        match attempt() {
            Ok(value) => Ok(value),
            Err(busy) => self.retry_slowly(busy, attempt, stalled),
        }
    }

    #[cold]
    fn retry_slowly<T>(
        &mut self,
        mut busy: Busy,
        mut attempt: impl FnMut() -> Result<T, Busy>,
        stalled: impl FnOnce(Busy, u32, Duration) -> WriterStalled,
    ) -> Result<T, WriterStalled> {
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
    pub(crate) mem: ReadMem<'a>,
    pub(crate) kind: RecordKind,
    pub(crate) index: Option<u32>,
}

/// What is read between the two looks at `seq`, beside the fields.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    pub(crate) active: u64,
    pub(crate) generation: u32,
}

/// A copy of a group: its sequence number, when it was written, and the slot's generation.
pub(crate) struct Copied {
    pub(crate) seq: u32,
    pub(crate) updated_ns: u64,
    pub(crate) generation: u32,
}

impl<'a> Record<'a> {
    #[inline]
    fn guarded(&self) -> Guarded {
        let generation = match self.kind {
            RecordKind::Dom => 0,
            RecordKind::Vcpu => self.mem.load_u32(record::GENERATION).unwrap_or(0),
        };
        Guarded { active: self.active(), generation }
    }

    #[inline]
    fn active(&self) -> u64 {
        self.mem.load_u64(self.kind.active_offset()).unwrap_or(0)
    }

    #[inline]
    fn group(&self, desc: &GroupDesc) -> Option<ReadGroup<'a>> {
        self.mem.group(desc.offset, desc.size)
    }

    /// Copies a group's fields (raw words) to `to`.
    #[inline]
    pub(crate) fn copy(
        &self,
        desc: &'static GroupDesc,
        to: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Reading<Copied>, WriterStalled> {
        let Some(group) = self.group(desc) else { return Ok(Reading::Unknown) };
        let attempt = || {
            // Looked at first as well, because a group that is not active is left in mid-update.
            if self.active() & desc.mask() == 0 {
                return Ok(Reading::Inactive);
            }
            let (seq, updated_ns, guarded) = group.try_read(to, || self.guarded())?;
            if guarded.active & desc.mask() == 0 {
                return Ok(Reading::Inactive);
            }
            Ok(Reading::Active(Copied { seq, updated_ns, generation: guarded.generation }))
        };
        waiting.retry(attempt, |busy, retries, waited| self.stalled(desc, busy, retries, waited))
    }

    fn read<G: Group>(&self, patience: Patience) -> Result<Reading<Sample<G>>, WriterStalled> {
        let mut group = G::NOT_PRODUCED;
        let Ok(words) = <[u64]>::mut_from_bytes(group.as_mut_bytes()) else {
            return Ok(Reading::Unknown);
        };
        let reading = self.copy(G::DESC, words, &mut Waiting::new(patience))?;
        Ok(match reading {
            Reading::Active(Copied { seq, updated_ns, generation }) => {
                Reading::Active(Sample { group, updated: Ns(updated_ns), seq, generation })
            }
            Reading::Inactive => Reading::Inactive,
            Reading::Unknown => Reading::Unknown,
        })
    }

    fn stat<G: Group>(&self, field: Field<G>, patience: Patience) -> Result<Stat, WriterStalled> {
        let desc = G::DESC;
        let Some(group) = self.group(desc) else { return Ok(Stat::GroupInactive) };
        let index = (field.offset() - desc.offset - GROUP_HEADER_LEN) / 8;
        let attempt = || {
            if self.active() & desc.mask() == 0 {
                return Ok(Stat::GroupInactive);
            }
            let (word, active) = group.try_read_word(index, || self.active())?;
            Ok(match word {
                Some(raw) if active & desc.mask() != 0 => Word::from_raw(raw).get(),
                _ => Stat::GroupInactive,
            })
        };
        Waiting::new(patience)
            .retry(attempt, |busy, retries, waited| self.stalled(desc, busy, retries, waited))
    }

    fn stalled(
        &self,
        desc: &'static GroupDesc,
        busy: Busy,
        retries: u32,
        waited: Duration,
    ) -> WriterStalled {
        let (record, index) = (self.kind, self.index);
        WriterStalled { record, index, group: desc.name, seq: busy.seq, retries, waited }
    }
}

/// The dom record of an attached region.
#[derive(Clone, Copy)]
pub struct Dom<'a> {
    record: Record<'a>,
    patience: Patience,
}

impl<'a> Dom<'a> {
    pub(crate) const fn new(mem: ReadMem<'a>, patience: Patience) -> Self {
        Self { record: Record { mem, kind: RecordKind::Dom, index: None }, patience }
    }

    /// Reads a whole group, as of one write.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn read<G: DomGroup>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
        self.record.read(self.patience)
    }

    /// Reads one field.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn stat<G: DomGroup>(&self, field: Field<G>) -> Result<Stat, WriterStalled> {
        self.record.stat(field, self.patience)
    }

    pub(crate) const fn record(&self) -> Record<'a> {
        self.record
    }
}

/// One vCPU's record of an attached region.
#[derive(Clone, Copy)]
pub struct Vcpu<'a> {
    record: Record<'a>,
    index: u32,
    patience: Patience,
}

impl<'a> Vcpu<'a> {
    pub(crate) const fn new(mem: ReadMem<'a>, index: u32, patience: Patience) -> Self {
        Self { record: Record { mem, kind: RecordKind::Vcpu, index: Some(index) }, index, patience }
    }

    /// The vCPU's number.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads a whole group, as of one write.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn read<G: VcpuGroup>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
        self.record.read(self.patience)
    }

    /// Reads one field.
    ///
    /// # Errors
    /// [`WriterStalled`] when patience is at its end.
    #[inline]
    pub fn stat<G: VcpuGroup>(&self, field: Field<G>) -> Result<Stat, WriterStalled> {
        self.record.stat(field, self.patience)
    }

    pub(crate) const fn record(&self) -> Record<'a> {
        self.record
    }
}
