//! Regions of an earlier process, and how a new region takes over their contents.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;

use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN, GROUP_UPDATED_NS, Kind};
use domstat_layout::header::{DOM_HEADER_LEN, dom, record};
use domstat_layout::labels::LabelText;
use domstat_layout::latest::{Identity, Labels};
use domstat_layout::{DOM_MAGIC, Group, GroupDesc, ReadMem, RecordKind, State, Word, histogram};

use crate::memfd::os;
use crate::{CreateError, Created, Plan, RegionBuilder};

/// A copy of a region whose writer has exited. Its bytes are as untrusted as those of any other
/// process.
pub(crate) struct Predecessor {
    bytes: Vec<u8>,
}

/// The last contents of a group.
#[derive(Clone, Debug)]
pub(crate) struct LastGroup {
    pub(crate) desc: &'static GroupDesc,
    pub(crate) updated_ns: u64,
    /// Raw words.
    pub(crate) words: Vec<u64>,
}

impl Predecessor {
    /// Reads the region in `fd`; `None` if it has another length than `plan`.
    pub(crate) fn read(fd: impl AsFd, plan: &Plan) -> io::Result<Option<Self>> {
        let mut file = File::from(fd.as_fd().try_clone_to_owned()?);
        if file.metadata()?.len() != plan.total_len() as u64 {
            return Ok(None);
        }
        file.rewind()?;
        let mut bytes = vec![0; plan.total_len()];
        file.read_exact(&mut bytes)?;
        Ok(Some(Self { bytes }))
    }

    /// A record that another process wrote.
    pub(crate) fn of_record(mem: ReadMem<'_>) -> Self {
        let words = (0..mem.len() / 8).map(|i| mem.load_u64(i * 8).unwrap_or(0).to_le_bytes());
        Self { bytes: words.flatten().collect() }
    }

    /// Whether a copy of a group was left in mid-update.
    pub(crate) fn is_odd(&self, desc: &GroupDesc) -> bool {
        self.u32(desc.offset) & 1 == 1
    }

    /// Whether no update of a group ever ended.
    pub(crate) fn was_never_written(&self, desc: &GroupDesc) -> bool {
        // Odd since the record was made, and the next odd number in the first update.
        matches!(self.u32(desc.offset), 1 | 3)
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes
            .get(at..at.saturating_add(4))
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        self.bytes
            .get(at..at.saturating_add(8))
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.u64(dom::INCARNATION)
    }

    pub(crate) fn notify(&self) -> u32 {
        self.u32(dom::NOTIFY)
    }

    pub(crate) fn generation(&self, base: usize) -> u32 {
        self.u32(base + record::GENERATION)
    }

    /// Whether it is live, of this shape, and of this domain: `header` and `schema` are those of
    /// the new region.
    pub(crate) fn is_same(
        &self,
        plan: &Plan,
        header: &[u8],
        schema: &[u8],
        who: &Identity,
        labels: Option<LabelText>,
    ) -> bool {
        // Words that differ from one region to the next.
        let own = [dom::MAGIC..4, dom::STATS_ACTIVE..32, dom::STATE..52];
        let same = |at: usize| {
            own.iter().any(|own| own.contains(&at)) || self.bytes.get(at) == header.get(at)
        };
        let section = plan.geometry().schema();
        let identity = self.group(0, Identity::DESC, None, RecordKind::Dom);
        let old_labels = plan.geometry().array(RecordKind::Labels).offset(0).map(|base| {
            let last = self.group(base, Labels::DESC, None, RecordKind::Labels);
            last.map(|last| last.words)
        });
        let labels = labels.map(|LabelText(bytes)| {
            let (words, _) = bytes.as_chunks::<8>();
            Some(words.iter().map(|word| u64::from_ne_bytes(*word)).collect::<Vec<u64>>())
        });
        self.u32(dom::MAGIC) == DOM_MAGIC
            && old_labels == labels
            && self.u32(dom::STATE) == State::Live as u32
            && header.len() == DOM_HEADER_LEN
            && (0..DOM_HEADER_LEN).all(same)
            && self.bytes.get(section.offs..section.end()) == Some(schema)
            && identity.is_some_and(|last| {
                zerocopy::IntoBytes::as_bytes(last.words.as_slice())
                    == zerocopy::IntoBytes::as_bytes(who)
            })
    }

    /// The active groups of the record at `base`, second copies left out.
    pub(crate) fn groups(
        &self,
        base: usize,
        kind: RecordKind,
        groups: &'static [&'static GroupDesc],
    ) -> Vec<LastGroup> {
        let first_copies = groups.iter().filter(|desc| desc.twin_of.is_none());
        first_copies.filter_map(|desc| self.group(base, desc, desc.twin_in(groups), kind)).collect()
    }

    fn group(
        &self,
        base: usize,
        desc: &'static GroupDesc,
        twin: Option<&GroupDesc>,
        kind: RecordKind,
    ) -> Option<LastGroup> {
        let active = self.u64(base + kind.active_offset());
        if active & desc.mask() == 0 {
            return None;
        }
        let copy = |of: &GroupDesc| {
            let words = (0..of.payload_words())
                .map(|i| self.u64(base + of.offset + GROUP_HEADER_LEN + i * 8).to_le());
            let updated_ns = self.u64(base + of.offset + GROUP_UPDATED_NS);
            LastGroup { desc, updated_ns, words: words.collect() }
        };
        let is_whole = |of: &GroupDesc| self.u32(base + of.offset) & 1 == 0;
        if is_whole(desc) {
            return Some(copy(desc));
        }
        // Killed in mid-update of the first copy: the second is of the write before.
        if let Some(twin) = twin.filter(|twin| active & twin.mask() != 0 && is_whole(twin)) {
            return Some(copy(twin));
        }
        repair(copy(desc))
    }
}

/// The usable part of a group whose writer was killed in mid-update and that has no other copy.
/// Each word is from before the update or from the update itself. For counters either will do,
/// since neither goes back; the other words are marked as not produced.
fn repair(mut group: LastGroup) -> Option<LastGroup> {
    let fields = group.desc.fields;
    if fields.iter().any(|field| field.width != 8 && field.kind != Kind::LogHistogram) {
        return None;
    }
    let mut words = group.words.iter_mut();
    for field in fields {
        for word in words.by_ref().take(field.width / 8) {
            if !field.kind.never_decreases() {
                *word = Word::NOT_PRODUCED.to_raw();
            }
        }
    }
    // Bucket, sum and maximum of the last value need not be of the same update.
    if let [sum, max, buckets @ ..] = group.words.as_mut_slice()
        && let [_, _, FieldDesc { kind: Kind::LogHistogram, .. }] = fields
    {
        histogram::settle(sum, max, buckets);
    }
    Some(group)
}

impl RegionBuilder {
    /// Creates the region in a memfd, as [`RegionBuilder::create_memfd`] does, and continues the
    /// region in `memfd`, which an earlier process left: the same incarnation and generations, and
    /// the last values of every group. A group that the earlier process left in mid-update is
    /// repaired. Sealed memory cannot be mapped writable again, so the new region is a copy;
    /// consumers of the old one reattach.
    ///
    /// Only a live region of exactly the same shape, schema and identity is continued; otherwise
    /// the region is a new one. [`crate::Unpublished::continues`] tells the two cases apart. Put
    /// writers behind [`crate::MonotonicSink`] if the source's counters can be lower than before.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn continue_memfd(self, memfd: impl AsFd) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let schema = match plan.geometry().schema().size {
            0 => Vec::new(),
            _ => self.encode_schema(&plan),
        };
        let (identity, labels) = (self.identity, self.labels);
        let mut created = self.create_memfd()?;
        let read = Predecessor::read(memfd, &plan)
            .map_err(os(|| "read the region of the earlier process".into()))?;
        let header = created.unpublished.header_bytes();
        if let Some(old) =
            read.filter(|old| old.is_same(&plan, &header, &schema, &identity, labels))
        {
            created.restore(&old, &plan);
        }
        Ok(created)
    }
}

impl Created {
    fn restore(&mut self, old: &Predecessor, plan: &Plan) {
        let (g, groups) = (plan.geometry(), |kind| plan.revision.groups(kind));
        let of = |kind, index| {
            let base = g.array(kind).offset(index).unwrap_or(0);
            (old.generation(base), old.groups(base, kind, groups(kind)))
        };
        self.dom.restore(of(RecordKind::Dom, 0).1);
        macro_rules! restore {
            ($($writers:ident $kind:ident;)+) => {
                $( for (index, writer) in (0..).zip(&mut self.$writers) {
                    let (generation, groups) = of(RecordKind::$kind, index);
                    writer.restore(generation, groups);
                } )+
            };
        }
        restore! {
            vcpus Vcpu;
            blks Blk;
            nets Net;
            vcpu_hists VcpuHist;
            blk_hists BlkHist;
            blk_queues BlkQueue;
            net_queues NetQueue;
        }
        self.unpublished.take_over(old.incarnation(), old.notify());
    }
}
