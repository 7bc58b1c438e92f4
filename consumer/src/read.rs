//! Reads of groups, fields and whole domains.

use std::ops::Deref;
use std::time::Duration;

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::latest::Runstate;
use domstat_layout::revision::spans;
use domstat_layout::twins::TwinCopy;
use domstat_layout::{
    Busy, Field, Group, GroupDesc, Ns, ReadMem, RecordKind, Stat, TwinSpans, Word,
};
use zerocopy::FromBytes;

use crate::error::{ReadError, StalledWriter};
use crate::region::Region;

mod aligned_buf;
pub(crate) mod patience;
mod records;
pub(crate) mod shares;
mod snapshot;

pub use patience::Patience;
pub use records::{Blk, BlkHist, BlkQueue, Dom, Net, NetQueue, Vcpu, VcpuHist};
pub use shares::Shares;
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

    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Active(value) => Reading::Active(f(value)),
            Self::Inactive => Reading::Inactive,
            Self::Unknown => Reading::Unknown,
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
        if let Some(state) = runstate.run_state() {
            let time = runstate.time_in_mut(state);
            if let Some(ns) = time.value() {
                *time = Word::from(ns.saturating_add(now.since(self.updated)));
            }
        }
        runstate
    }
}

/// One record of a region: its part of the mapping, of the length that the header states.
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

impl Record<'_> {
    /// Whether the bits say that the group at `mask` is active.
    #[inline(always)]
    fn is_active(&self, kind: RecordKind, mask: u64) -> bool {
        self.mem.load_u64(kind.active_offset()).unwrap_or(0) & mask != 0
    }

    /// Whether that copy of the group is active: asked while the copy's `seq` guards the bit.
    #[inline(always)]
    fn is_copy_active(&self, kind: RecordKind, spans: TwinSpans, copy: TwinCopy) -> Option<()> {
        let mask = match copy {
            TwinCopy::First => spans.first.mask,
            TwinCopy::Second => spans.second?.mask,
        };
        self.is_active(kind, mask).then_some(())
    }

    /// As [`Record::is_copy_active`], and then the generation of the slot, which `seq` guards too.
    #[inline(always)]
    fn guarded(&self, kind: RecordKind, spans: TwinSpans, copy: TwinCopy) -> Option<u32> {
        self.is_copy_active(kind, spans, copy)?;
        let at = kind.generation_offset();
        Some(at.and_then(|at| self.mem.load_u32(at)).unwrap_or(0))
    }

    /// One attempt to copy a group's fields (raw words) to `to`.
    #[inline(always)]
    fn attempt(
        &self,
        kind: RecordKind,
        spans: TwinSpans,
        to: &mut [u64],
    ) -> Result<Reading<Copied>, Busy> {
        let Some(twins) = self.mem.twins(spans) else { return Ok(Reading::Unknown) };
        Ok(match twins.try_read(to, move |copy| self.guarded(kind, spans, copy))? {
            Some((seq, updated_ns, generation)) => {
                Reading::Active(Copied { seq, updated_ns, generation })
            }
            None => Reading::Inactive,
        })
    }

    /// Copies a group's fields (raw words) to `to`, waiting for a writer in mid-update.
    pub(crate) fn copy(
        &self,
        desc: &'static GroupDesc,
        to: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Reading<Copied>, ReadError> {
        let spans = spans(desc);
        let reading = match self.attempt(desc.record, spans, to) {
            Ok(reading) => reading,
            Err(busy) => self.copy_slowly(desc, busy, to, waiting)?,
        };
        self.region.intact()?;
        Ok(reading)
    }

    #[cold]
    fn copy_slowly(
        &self,
        desc: &'static GroupDesc,
        busy: Busy,
        to: &mut [u64],
        waiting: &mut Waiting,
    ) -> Result<Reading<Copied>, ReadError> {
        let spans = spans(desc);
        let attempt = || self.attempt(desc.record, spans, to);
        let stalled = |busy, retries, waited| self.stalled(desc, busy, retries, waited);
        waiting.retry(busy, attempt, stalled)
    }

    /// Reads a group. Of what a call finds nearly always, a first copy that is whole and active in
    /// memory that stays, no more than the copy itself is done here; the rest is out of line.
    #[inline(always)]
    pub(crate) fn read<G: Group>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        let spans = const { spans(G::DESC) };
        let mut fields = G::NOT_PRODUCED;
        let guarded = |copy| self.guarded(G::DESC.record, spans, copy);
        if let Some(twins) = self.mem.twins(spans)
            && let Ok(words) = <[u64]>::mut_from_bytes(fields.as_mut_bytes())
            && let Ok(Some((seq, updated_ns, generation))) = twins.try_first(words, guarded)
            && !self.region.can_be_lost()
        {
            let updated = Ns(updated_ns);
            return Ok(Reading::Active(Sample { group: fields, updated, seq, generation }));
        }
        self.read_whatever()
    }

    /// As [`Record::read`], of a group of any state.
    #[cold]
    #[inline(never)]
    fn read_whatever<G: Group>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        let mut fields = G::NOT_PRODUCED;
        // Always so: a group is made of aligned words.
        let Ok(words) = <[u64]>::mut_from_bytes(fields.as_mut_bytes()) else {
            return Ok(Reading::Unknown);
        };
        let waiting = &mut Waiting::new(self.region.patience());
        Ok(match self.copy(G::DESC, words, waiting)? {
            Reading::Active(Copied { seq, updated_ns, generation }) => {
                Reading::Active(Sample { group: fields, updated: Ns(updated_ns), seq, generation })
            }
            Reading::Inactive => Reading::Inactive,
            Reading::Unknown => Reading::Unknown,
        })
    }

    /// Reads a field; out of line is what is in [`Record::read`].
    #[inline(always)]
    pub(crate) fn stat<G: Group>(&self, field: Field<G>) -> Result<Stat, ReadError> {
        let spans = const { spans(G::DESC) };
        let index = (field.offset() - G::DESC.offset - GROUP_HEADER_LEN) / 8;
        let guarded = |copy| self.is_copy_active(G::DESC.record, spans, copy);
        if let Some(twins) = self.mem.twins(spans)
            && let Ok(Some((raw, ()))) = twins.try_first_word(index, guarded)
            && !self.region.can_be_lost()
        {
            return Ok(Word::from_raw(raw).get());
        }
        self.stat_whatever(G::DESC, index)
    }

    /// As [`Record::stat`], of a group of any state.
    #[cold]
    #[inline(never)]
    fn stat_whatever(&self, desc: &'static GroupDesc, index: usize) -> Result<Stat, ReadError> {
        let reading = match self.attempt_word(desc.record, spans(desc), index) {
            Ok(reading) => reading,
            Err(busy) => self.word_slowly(desc, index, busy)?,
        };
        self.region.intact()?;
        Ok(reading.stat(|word| *word))
    }

    /// One attempt to read the one word at `index` of a group's fields.
    #[inline(always)]
    fn attempt_word(
        &self,
        kind: RecordKind,
        spans: TwinSpans,
        index: usize,
    ) -> Result<Reading<Word>, Busy> {
        let Some(twins) = self.mem.twins(spans) else { return Ok(Reading::Unknown) };
        let guarded = move |copy| self.is_copy_active(kind, spans, copy);
        Ok(match twins.try_read_word(index, guarded)? {
            Some((raw, ())) => Reading::Active(Word::from_raw(raw)),
            None => Reading::Inactive,
        })
    }

    #[cold]
    fn word_slowly(
        &self,
        desc: &'static GroupDesc,
        index: usize,
        busy: Busy,
    ) -> Result<Reading<Word>, ReadError> {
        let spans = spans(desc);
        let attempt = || self.attempt_word(desc.record, spans, index);
        let stalled = |busy, retries, waited| self.stalled(desc, busy, retries, waited);
        Waiting::new(self.region.patience()).retry(busy, attempt, stalled)
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
