//! Snapshots: copies of whole domains in reusable buffers.

use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN, GROUP_UPDATED_NS, Kind};
use domstat_layout::geometry::Array;
use domstat_layout::latest::BlkQueue;
use domstat_layout::{
    BlkGroup, CopiedGroups, DomGroup, Group, GroupDesc, NetGroup, Ns, RecordArray, RecordKind,
    VcpuGroup, Word, latest,
};
use zerocopy::IntoBytes as _;

use super::aligned_buf::AlignedBuf;
use super::patience::Waiting;
use super::shares::{self, MOST_PASSES};
use super::{Reading, Record, Sample};
use crate::attach::StalledRecord;
use crate::attach::truncation::Truncated;
use crate::error::ReadError;
use crate::region::Region;

mod summed;

use summed::{Summed, SummedGroups};

/// The groups of a kind of record that a snapshot copies, and the words that they need.
macro_rules! copied_groups {
    ($groups:ident, $nr:ident, $words:ident, $latest:path) => {
        const $nr: usize = CopiedGroups::count($latest);
        const $groups: &CopiedGroups<$nr> = &CopiedGroups::of($latest);
        const $words: usize = $groups.words();
    };
}
copied_groups!(DOM, DOM_NR, DOM_WORDS, latest::DOM_GROUPS);
copied_groups!(VCPU, VCPU_NR, VCPU_WORDS, latest::VCPU_GROUPS);
copied_groups!(BLK, BLK_NR, BLK_WORDS, latest::BLK_GROUPS);
copied_groups!(NET, NET_NR, NET_WORDS, latest::NET_GROUPS);

/// Every group of a domain that this build knows, each as of one write. The groups of devices that
/// have shares are the sums of these, as [`Region::shares`] has them; [`SnapshotRecord::own`] has the
/// device's own.
///
/// The buffer is sized by the first [`Region::snapshot`] and used again by the next: taking a
/// snapshot allocates nothing once the largest domain was seen. It takes at most
/// [`Snapshot::MAX_MULTIPLE`] times as much memory as the largest region has.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    dom: Rows<DOM_WORDS, DOM_NR>,
    vcpus: Rows<VCPU_WORDS, VCPU_NR>,
    blks: Rows<BLK_WORDS, BLK_NR>,
    nets: Rows<NET_WORDS, NET_NR>,
    blk_sums: Summed,
    net_sums: Summed,
    taken: Option<Ns>,
    incarnation: u64,
    lost: Option<Truncated>,
    retries: u64,
    /// Records whose old values are not to be taken for those of now, in order.
    stalled: Vec<StalledRecord>,
}

/// Copies of records of one kind.
#[derive(Clone, Debug, Default)]
struct Rows<const WORDS: usize, const GROUPS: usize> {
    /// The records as they lie in the region, one after the other, each as long as this build
    /// knows it, and no longer than it is in the region. Words of twins are not copied.
    words: AlignedBuf,
    /// Words of one record.
    row: usize,
    /// Records that could not be copied as a whole, by index, and where their groups begin in
    /// `metas`.
    odd: Vec<(u32, usize)>,
    /// How each group of these records went, by its bit.
    metas: Vec<(u32, Meta)>,
    /// How long the records are in the region.
    size: usize,
    nr: u32,
}

impl<const WORDS: usize, const GROUPS: usize> Rows<WORDS, GROUPS> {
    #[inline]
    fn take(
        &mut self,
        region: &Region,
        kind: RecordKind,
        groups: &'static CopiedGroups<GROUPS>,
        waiting: &mut Waiting,
    ) {
        let Array { offs, size, stride, nr } = region.geometry().array(kind);
        let row = WORDS.min(size / 8);
        self.words.resize(nr as usize * row);
        self.odd.clear();
        self.metas.clear();
        (self.row, self.size, self.nr) = (row, size, nr);
        if nr == 0 {
            return;
        }
        let mem = region.mem();
        // The geometry proves that the array is inside.
        let Some(records) = mem.sub(offs, nr as usize * stride) else { return };
        let Self { words, odd, metas, .. } = self;
        let mut each = |i, words: &mut [u64; WORDS]| {
            let index = u32::try_from(i).ok();
            if let Some((index, record)) = index.and_then(|i| Some((i, region.record(kind, i)?))) {
                odd.push((index, metas.len()));
                copy(record, groups.groups(), size, words, waiting, metas);
            }
        };
        let array = RecordArray { kind, size, stride };
        if row == WORDS {
            return records.copy_records(array, groups, words.get_mut(), each);
        }
        for (i, row) in words.get_mut().chunks_exact_mut(row.max(1)).enumerate() {
            let mut record = [0; WORDS];
            if let Some(one) = records.sub(i * stride, size) {
                one.copy_records(array, groups, &mut record, |_, words| each(i, words));
            }
            row.iter_mut().zip(record).for_each(|(to, from)| *to = from);
        }
    }

    fn memory(&self) -> usize {
        let odd = self.odd.capacity() * size_of::<(u32, usize)>();
        self.words.memory() + odd + self.metas.capacity() * size_of::<(u32, Meta)>()
    }

    fn get(&self, index: u32, lost: Option<Truncated>) -> Option<SnapshotRecord<'_>> {
        let at = index as usize * self.row;
        let words = self.words.get().get(at..at + self.row).filter(|_| index < self.nr)?;
        let odd = self.odd.binary_search_by_key(&index, |(odd, _)| *odd).ok().and_then(|i| {
            let start = self.odd.get(i)?.1;
            let end = self.odd.get(i + 1).map_or(self.metas.len(), |(_, next)| *next);
            self.metas.get(start..end)
        });
        Some(SnapshotRecord { words, size: self.size, lost, odd, sums: None, stalled: None })
    }

    /// Which tenant of a slot its copy is of, if a group of it is active.
    fn generation(&self, index: u32) -> Option<u32> {
        let record = self.get(index, None)?;
        let Some(odd) = record.odd else {
            return record.first_of(RecordKind::Blk.generation_offset()?);
        };
        odd.iter().find_map(|(_, meta)| match meta {
            Meta::Active { generation, .. } => Some(*generation),
            _ => None,
        })
    }
}

/// How the copy of one group went.
#[derive(Clone, Copy, Debug)]
enum Meta {
    Active { seq: u32, generation: u32, updated_ns: u64 },
    Inactive,
    Unknown,
    Failed(ReadError),
}

impl Region {
    /// Copies every group of the domain into `snapshot`.
    ///
    /// A group whose writer is stalled does not spoil the others: reading it from the snapshot
    /// gives the error. If the memory went away, reading any group gives that error. All groups
    /// together are waited for no longer than one read would be.
    pub fn snapshot(&self, snapshot: &mut Snapshot) {
        self.snapshot_at(self.now(), snapshot);
    }

    /// As [`Region::snapshot`], for a pass over many domains with one look at the clock: `now` is
    /// noted as the time at which the snapshot was taken.
    pub fn snapshot_at(&self, now: Option<Ns>, snapshot: &mut Snapshot) {
        let waiting = &mut Waiting::new(self.patience());
        snapshot.taken = now;
        snapshot.stalled.clear();
        snapshot.incarnation = self.header().incarnation;
        snapshot.dom.take(self, RecordKind::Dom, DOM, waiting);
        snapshot.vcpus.take(self, RecordKind::Vcpu, VCPU, waiting);
        let Snapshot { blks, blk_sums, nets, net_sums, .. } = snapshot;
        take_devices(self, &shares::BLK, (blks, BLK), blk_sums, waiting);
        take_devices(self, &shares::NET, (nets, NET), net_sums, waiting);
        snapshot.lost = self.intact().err();
        snapshot.retries = waiting.retries();
    }
}

/// Copies the records of devices, and adds up their shares.
#[inline]
fn take_devices<const WORDS: usize, const GROUPS: usize>(
    region: &Region,
    kind: &'static shares::Kind,
    (rows, groups): (&mut Rows<WORDS, GROUPS>, &'static CopiedGroups<GROUPS>),
    sums: &mut Summed,
    waiting: &mut Waiting,
) {
    rows.take(region, kind.device, groups, waiting);
    sums.clear();
    if kind.share_records(region) > 0 {
        add_up(region, kind, (rows, groups), sums, waiting);
    }
}

/// Adds up the shares of all devices; copies the records again if a slot was given to another
/// meanwhile.
#[cold]
#[inline(never)]
fn add_up<const WORDS: usize, const GROUPS: usize>(
    region: &Region,
    kind: &'static shares::Kind,
    (rows, groups): (&mut Rows<WORDS, GROUPS>, &'static CopiedGroups<GROUPS>),
    sums: &mut Summed,
    waiting: &mut Waiting,
) {
    for pass in 1..=MOST_PASSES {
        let of = |index| rows.generation(index);
        if sums.fill(region, kind, of, pass == MOST_PASSES, waiting) {
            return;
        }
        rows.take(region, kind.device, groups, waiting);
    }
}

/// Copies the groups of a record of `size` bytes to the same offsets of `words`, one by one, waiting
/// where a writer is in mid-update; notes how each went.
#[cold]
fn copy(
    record: Record<'_>,
    groups: &[&'static GroupDesc],
    size: usize,
    words: &mut [u64],
    waiting: &mut Waiting,
    metas: &mut Vec<(u32, Meta)>,
) {
    for desc in groups.iter().filter(|desc| desc.end() <= size) {
        let result = match payload_mut(words, desc) {
            Some(to) => record.copy(desc, to, waiting),
            None => Ok(Reading::Unknown),
        };
        metas.push((desc.bit, Meta::from(result)));
    }
}

fn payload_mut<'w>(words: &'w mut [u64], desc: &GroupDesc) -> Option<&'w mut [u64]> {
    let end = desc.end() / 8;
    words.get_mut(end - desc.payload_words()..end)
}

impl Snapshot {
    /// Memory of a snapshot at most, in multiples of the region's length: the words of the records,
    /// and what is noted of each group that cannot be copied.
    pub const MAX_MULTIPLE: usize = 4;

    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Memory that it takes, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let rows = [self.dom.memory(), self.vcpus.memory(), self.blks.memory(), self.nets.memory()];
        rows.iter().sum::<usize>() + self.blk_sums.memory() + self.net_sums.memory()
    }

    /// When it was taken, on the region's clock; `None` if this host cannot read that clock.
    #[must_use]
    pub const fn taken(&self) -> Option<Ns> {
        self.taken
    }

    /// The region's incarnation; 0 before a snapshot was taken.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How often a read was tried again because its writer was in mid-update.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// How often a group of a share was read: the work that the sums were.
    #[must_use]
    pub const fn share_reads(&self) -> u64 {
        self.blk_sums.reads() + self.net_sums.reads()
    }

    /// vCPU records in it.
    #[must_use]
    pub const fn nr_vcpus(&self) -> u32 {
        self.vcpus.nr
    }

    /// Block device records in it.
    #[must_use]
    pub const fn nr_blks(&self) -> u32 {
        self.blks.nr
    }

    /// Network interface records in it.
    #[must_use]
    pub const fn nr_nets(&self) -> u32 {
        self.nets.nr
    }

    /// The dom record; without any group before a snapshot was taken.
    #[must_use]
    pub fn dom(&self) -> SnapshotRecord<'_> {
        let (words, stalled) = (&[][..], self.stalled_at(RecordKind::Dom, 0));
        let lost = self.lost;
        let none = SnapshotRecord { words, size: 0, odd: None, lost, sums: None, stalled: None };
        let record = self.dom.get(0, self.lost).unwrap_or(none);
        SnapshotRecord { stalled, ..record }
    }

    /// The record of vCPU `index`; `None` past the domain's maximum.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<SnapshotRecord<'_>> {
        let stalled = self.stalled_at(RecordKind::Vcpu, index);
        Some(SnapshotRecord { stalled, ..self.vcpus.get(index, self.lost)? })
    }

    /// The records whose writers are stalled, as of the last [`Attachment::snapshot`](crate::Attachment::snapshot),
    /// in order: also those that are not copied, such as shares and distributions.
    #[must_use]
    pub fn stalled(&self) -> &[StalledRecord] {
        &self.stalled
    }

    /// Notes the records whose writers are stalled, in order.
    pub(crate) fn withhold(&mut self, stalled: Vec<StalledRecord>) {
        self.stalled = stalled;
    }

    fn stalled_at(&self, kind: RecordKind, index: u32) -> Option<&StalledRecord> {
        if self.stalled.is_empty() {
            return None;
        }
        let of = |stalled: &StalledRecord| (stalled.record, stalled.index);
        self.stalled.get(self.stalled.binary_search_by_key(&(kind, index), of).ok()?)
    }

    /// The record of block device slot `index`; `None` past the last.
    #[must_use]
    pub fn blk(&self, index: u32) -> Option<SnapshotRecord<'_>> {
        let sums = self.blk_sums.get(index);
        let stalled = self.stalled_at(RecordKind::Blk, index);
        Some(SnapshotRecord { sums, stalled, ..self.blks.get(index, self.lost)? })
    }

    /// The record of network interface slot `index`; `None` past the last.
    #[must_use]
    pub fn net(&self, index: u32) -> Option<SnapshotRecord<'_>> {
        let sums = self.net_sums.get(index);
        let stalled = self.stalled_at(RecordKind::Net, index);
        Some(SnapshotRecord { sums, stalled, ..self.nets.get(index, self.lost)? })
    }
}

/// One record of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRecord<'a> {
    words: &'a [u64],
    size: usize,
    odd: Option<&'a [(u32, Meta)]>,
    lost: Option<Truncated>,
    /// What the device's shares sum to.
    sums: Option<SummedGroups<'a>>,
    /// If its writer is stalled.
    stalled: Option<&'a StalledRecord>,
}

impl SnapshotRecord<'_> {
    /// The record as its owner wrote it, without the sums of shares.
    #[must_use]
    pub const fn own(self) -> Self {
        Self { sums: None, ..self }
    }

    /// A group of the dom record.
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn dom_group<G: DomGroup>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        self.read()
    }

    /// A group of a vCPU's record.
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn vcpu_group<G: VcpuGroup>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        self.read()
    }

    /// A group of a block device's record.
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn blk_group<G: BlkGroup>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        self.read()
    }

    /// The queue of a block device as of `now`, as [`Shares::queue_at`](super::Shares::queue_at).
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn queue_at(&self, now: Ns) -> Result<Reading<Sample<BlkQueue>>, ReadError> {
        let pending = self.sums.and_then(|sums| sums.pending(BlkQueue::DESC));
        Ok(self.blk_group::<BlkQueue>()?.map(|queue| {
            let group = pending.map_or_else(|| queue.at(now), |pending| pending.at(&queue, now));
            Sample { group, ..queue }
        }))
    }

    /// A group of a network interface's record.
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn net_group<G: NetGroup>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        self.read()
    }

    fn read<G: Group>(&self) -> Result<Reading<Sample<G>>, ReadError> {
        Ok(match self.fields(G::DESC)? {
            Reading::Active(fields) => match G::read_from_bytes(fields.words.as_bytes()) {
                Ok(group) => Reading::Active(Sample {
                    group,
                    updated: fields.updated,
                    seq: fields.seq,
                    generation: fields.generation,
                }),
                Err(_) => Reading::Unknown,
            },
            Reading::Inactive => Reading::Inactive,
            Reading::Unknown => Reading::Unknown,
        })
    }

    /// A group by its row in the descriptor table, for tools that show whatever there is. Twins
    /// are not copied: [`Reading::Unknown`].
    ///
    /// # Errors
    /// [`ReadError`] if it could not be copied.
    pub fn fields(&self, desc: &'static GroupDesc) -> Result<Reading<Fields<'_>>, ReadError> {
        let (meta, words) = self.group(desc);
        let (seq, generation, updated_ns) = match meta {
            Meta::Active { seq, generation, updated_ns } => (seq, generation, updated_ns),
            Meta::Inactive => return Ok(Reading::Inactive),
            Meta::Unknown => return Ok(Reading::Unknown),
            Meta::Failed(error) => return Err(error),
        };
        Ok(match words {
            Some(words) => {
                Reading::Active(Fields { desc, words, updated: Ns(updated_ns), seq, generation })
            }
            None => Reading::Unknown,
        })
    }

    /// One field of a group, for tools that know fields by their place: the group's row in the
    /// descriptor table, and the field's offset from the start of its record.
    ///
    /// # Errors
    /// [`ReadError`] if the group could not be copied.
    pub fn word(
        &self,
        desc: &'static GroupDesc,
        offset: usize,
    ) -> Result<Reading<Word>, ReadError> {
        let (meta, words) = self.group(desc);
        Ok(match meta {
            Meta::Active { .. } if (desc.offset..desc.end()).contains(&offset) => {
                let at = offset.checked_sub(desc.offset + GROUP_HEADER_LEN);
                let word = at.and_then(|at| words?.get(at / 8));
                word.map_or(Reading::Unknown, |raw| Reading::Active(Word::from_raw(*raw)))
            }
            Meta::Active { .. } | Meta::Unknown => Reading::Unknown,
            Meta::Inactive => Reading::Inactive,
            Meta::Failed(error) => return Err(error),
        })
    }

    /// How the copy of a group went, and its words.
    fn group(&self, desc: &GroupDesc) -> (Meta, Option<&[u64]>) {
        if let Some(sums) = &self.sums
            && self.lost.is_none()
            && let Some((meta, words)) = sums.get(desc)
        {
            return (meta, Some(words));
        }
        let end = desc.end() / 8;
        (self.meta(desc), self.words.get(end - desc.payload_words()..end))
    }

    /// The first of the two u32 in the word at `offset`.
    fn first_of(&self, offset: usize) -> Option<u32> {
        let word = u64::from_le(*self.words.get(offset / 8)?);
        u32::try_from(word & u64::from(u32::MAX)).ok()
    }

    /// How the copy of a group went; of a record whose writer is stalled, a group that was not written since
    /// failed, unless it says what the record is.
    fn meta(&self, desc: &GroupDesc) -> Meta {
        let meta = self.copied_meta(desc);
        match (meta, self.stalled) {
            (Meta::Active { updated_ns, .. }, Some(stalled))
                if Some(Ns(updated_ns)) <= stalled.newest.max(Some(Ns(0))) && !names(desc) =>
            {
                Meta::Failed(stalled.writer.into())
            }
            _ => meta,
        }
    }

    /// As noted, or, if the record was copied whole, as it says.
    fn copied_meta(&self, desc: &GroupDesc) -> Meta {
        if let Some(lost) = self.lost {
            return Meta::Failed(lost.into());
        }
        if let Some(odd) = self.odd {
            let found = odd.iter().find(|(bit, _)| *bit == desc.bit);
            return found.map_or(Meta::Unknown, |(_, meta)| *meta);
        }
        if desc.end() > self.size || desc.twin_of.is_some() {
            return Meta::Unknown;
        }
        let word = |offset: usize| self.words.get(offset / 8).copied().map_or(0, u64::from_le);
        if word(desc.record.active_offset()) & desc.mask() == 0 {
            return Meta::Inactive;
        }
        // Both are the first of the two u32 in their word.
        let first = |offset| self.first_of(offset).unwrap_or(0);
        let generation = desc.record.generation_offset().map_or(0, first);
        let updated_ns = word(desc.offset + GROUP_UPDATED_NS);
        Meta::Active { seq: first(desc.offset), generation, updated_ns }
    }
}

/// Whether a group says what its record is: it has text in it, and is written once for each tenant.
fn names(desc: &GroupDesc) -> bool {
    desc.fields.iter().any(|field| field.kind == Kind::Text)
}

/// The fields of a group whose type is known at run time only, all as of one write.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    desc: &'static GroupDesc,
    words: &'a [u64],
    /// When they were written, on the region's clock.
    pub updated: Ns,
    /// The sequence number of the write.
    pub seq: u32,
    /// Which tenant of the slot they are of.
    pub generation: u32,
}

impl<'a> Fields<'a> {
    /// Each field with its bytes as they lie in memory.
    pub fn iter(&self) -> impl Iterator<Item = (&'static FieldDesc, &'a [u8])> {
        let (bytes, start) = (self.words.as_bytes(), self.desc.offset + GROUP_HEADER_LEN);
        self.desc.fields.iter().filter_map(move |field| {
            let at = field.offset - start;
            Some((field, bytes.get(at..at + field.width)?))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "in a test, a panic is the report")]

    use super::*;
    use domstat_layout::latest::VCPU_GROUPS;

    #[test]
    fn not_a_word_is_copied_past_the_last_group_that_is_not_a_twin() {
        let last = |groups: &[&'static GroupDesc]| {
            groups.iter().rfind(|g| g.twin_of.is_none()).map_or(0, |g| g.end())
        };
        let words = [DOM_WORDS, VCPU_WORDS, BLK_WORDS, NET_WORDS].map(|words| words * 8);
        let latest = [&latest::DOM_GROUPS[..], VCPU_GROUPS, latest::BLK_GROUPS, latest::NET_GROUPS];
        assert_eq!(words, latest.map(last));
    }

    #[test]
    fn groups_of_a_record_copied_one_by_one_are_found_by_their_bits() {
        static AFTER_TWINS: GroupDesc = GroupDesc { bit: 5, ..*VCPU_GROUPS[2] };
        let (first, twin) = (VCPU_GROUPS[0], VCPU_GROUPS[3]);
        let active = Meta::Active { seq: 2, generation: 0, updated_ns: 1 };
        let odd = [(0, Meta::Inactive), (1, Meta::Unknown), (5, active)];
        let record = SnapshotRecord {
            words: &[0; 64],
            size: 512,
            odd: Some(&odd),
            lost: None,
            sums: None,
            stalled: None,
        };
        assert!(matches!(record.meta(first), Meta::Inactive));
        assert!(matches!(record.meta(twin), Meta::Unknown), "twins are not copied");
        assert!(matches!(record.meta(&AFTER_TWINS), Meta::Active { seq: 2, .. }));
        // All bits set, copied as a whole.
        let record = SnapshotRecord {
            words: &[u64::MAX; 64],
            size: 512,
            odd: None,
            lost: None,
            sums: None,
            stalled: None,
        };
        assert!(matches!(record.meta(first), Meta::Active { .. }));
        assert!(matches!(record.meta(twin), Meta::Unknown), "nor when their words are there");
    }
}
