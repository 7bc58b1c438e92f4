//! A whole domain, copied into a buffer that is used again.

use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN, GROUP_UPDATED_NS};
use domstat_layout::header::record;
use domstat_layout::latest::{DOM_GROUPS, DOM_SIZE, VCPU_GROUPS, VCPU_SIZE};
use domstat_layout::{DomGroup, Group, GroupDesc, Ns, RecordArray, RecordKind, VcpuGroup};
use zerocopy::IntoBytes as _;

use crate::read::{Copied, Record, Waiting};
use crate::words::Words;
use crate::{Reading, Region, Sample, WriterStalled};

const DOM_WORDS: usize = DOM_SIZE / 8;
const VCPU_WORDS: usize = VCPU_SIZE / 8;

/// Every group of a domain that this build knows, each as of one write.
///
/// The buffer is sized by the first [`Region::snapshot`] and used again by the next: taking a
/// snapshot allocates nothing once the largest domain was seen.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The records as they lie in the region, one after the other, each as long as this build
    /// knows it.
    dom: Words,
    vcpus: Words,
    /// Records that could not be copied as a whole, by index, and how each of their groups went.
    dom_odd: Vec<(u32, [Meta; DOM_GROUPS.len()])>,
    vcpus_odd: Vec<(u32, [Meta; VCPU_GROUPS.len()])>,
    /// How long the records are in the region.
    dom_size: usize,
    vcpu_size: usize,
    nr_vcpus: u32,
    taken: Option<Ns>,
}

/// How the copy of one group went.
#[derive(Clone, Copy, Debug)]
enum Meta {
    Active { seq: u32, generation: u32, updated_ns: u64 },
    Inactive,
    Unknown,
    Stalled(WriterStalled),
}

impl Region {
    /// Copies every group of the domain into `snapshot`.
    ///
    /// A group whose writer is stalled does not spoil the others: reading it from the snapshot
    /// gives the error. All groups together are waited for no longer than one read would be.
    pub fn snapshot(&self, snapshot: &mut Snapshot) {
        self.snapshot_at(self.now(), snapshot);
    }

    /// As [`Region::snapshot`], for a pass over many domains with one look at the clock: `now` is
    /// noted as the time at which the snapshot was taken.
    pub fn snapshot_at(&self, now: Option<Ns>, snapshot: &mut Snapshot) {
        let mut waiting = Waiting::new(self.patience());
        let geometry = self.geometry();
        let nr_vcpus = geometry.nr_vcpus();
        snapshot.dom.resize(DOM_WORDS);
        snapshot.vcpus.resize(nr_vcpus as usize * VCPU_WORDS);
        snapshot.dom_odd.clear();
        snapshot.vcpus_odd.clear();
        snapshot.dom_size = geometry.dom_size();
        snapshot.vcpu_size = geometry.vcpu_size();
        snapshot.nr_vcpus = nr_vcpus;
        snapshot.taken = now;

        let mem = self.mem();
        let waiting = &mut waiting;
        let dom = self.dom().record();
        let odd = &mut snapshot.dom_odd;
        let each = |_, words: &mut [u64; DOM_WORDS]| {
            odd.push((0, copy(dom, DOM_GROUPS, words, waiting)));
        };
        let to = snapshot.dom.get_mut();
        let size = geometry.dom_size();
        let array = RecordArray { kind: RecordKind::Dom, size, stride: size };
        mem.copy_records(array, DOM_GROUPS, to, each);

        let offs = geometry.vcpu_offs();
        // The geometry proves that the array is inside.
        let Some(records) = mem.sub(offs, geometry.end() - offs) else { return };
        let odd = &mut snapshot.vcpus_odd;
        let each = |i, words: &mut [u64; VCPU_WORDS]| {
            let vcpu = u32::try_from(i).ok().and_then(|index| self.vcpu(index));
            if let Some(vcpu) = vcpu {
                let meta = copy(vcpu.record(), VCPU_GROUPS, words, waiting);
                odd.push((vcpu.index(), meta));
            }
        };
        let to = snapshot.vcpus.get_mut();
        let (size, stride) = (geometry.vcpu_size(), geometry.vcpu_stride());
        let array = RecordArray { kind: RecordKind::Vcpu, size, stride };
        records.copy_records(array, VCPU_GROUPS, to, each);
    }
}

/// Copies a record's groups to the same offsets of `words`, one by one, waiting where a writer is
/// in mid-update; returns how each went.
#[cold]
fn copy<const GROUPS: usize>(
    record: Record<'_>,
    groups: &[&'static GroupDesc; GROUPS],
    words: &mut [u64],
    waiting: &mut Waiting,
) -> [Meta; GROUPS] {
    groups.map(|desc| {
        let result = match payload_mut(words, desc) {
            Some(to) => record.copy(desc, to, waiting),
            None => Ok(Reading::Unknown),
        };
        match result {
            Ok(Reading::Active(Copied { seq, updated_ns, generation })) => {
                Meta::Active { seq, generation, updated_ns }
            }
            Ok(Reading::Inactive) => Meta::Inactive,
            Ok(Reading::Unknown) => Meta::Unknown,
            Err(stalled) => Meta::Stalled(stalled),
        }
    })
}

fn payload_mut<'w>(words: &'w mut [u64], desc: &GroupDesc) -> Option<&'w mut [u64]> {
    let end = desc.end() / 8;
    words.get_mut(end - desc.payload_words()..end)
}

impl Snapshot {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When it was taken, on the region's clock; `None` if this host cannot read that clock.
    #[must_use]
    pub const fn taken(&self) -> Option<Ns> {
        self.taken
    }

    /// vCPU records in it.
    #[must_use]
    pub const fn nr_vcpus(&self) -> u32 {
        self.nr_vcpus
    }

    /// The dom record; without any group before a snapshot was taken.
    #[must_use]
    pub fn dom(&self) -> SnapshotRecord<'_> {
        SnapshotRecord {
            words: self.dom.get(),
            size: self.dom_size,
            odd: self.dom_odd.first().map(|(_, meta)| meta.as_slice()),
        }
    }

    /// The record of vCPU `index`; `None` past the domain's maximum.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<SnapshotRecord<'_>> {
        let at = index as usize * VCPU_WORDS;
        let odd = self.vcpus_odd.binary_search_by_key(&index, |(odd, _)| *odd);
        Some(SnapshotRecord {
            words: self.vcpus.get().get(at..at + VCPU_WORDS)?,
            size: self.vcpu_size,
            odd: odd.ok().and_then(|i| self.vcpus_odd.get(i)).map(|(_, meta)| meta.as_slice()),
        })
    }
}

/// One record of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRecord<'a> {
    words: &'a [u64],
    size: usize,
    odd: Option<&'a [Meta]>,
}

impl SnapshotRecord<'_> {
    /// A group of the dom record.
    ///
    /// # Errors
    /// [`WriterStalled`] if it could not be copied.
    pub fn dom_group<G: DomGroup>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
        self.read()
    }

    /// A group of a vCPU's record.
    ///
    /// # Errors
    /// [`WriterStalled`] if it could not be copied.
    pub fn vcpu_group<G: VcpuGroup>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
        self.read()
    }

    fn read<G: Group>(&self) -> Result<Reading<Sample<G>>, WriterStalled> {
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

    /// A group by its row in the descriptor table, for tools that show whatever there is.
    ///
    /// # Errors
    /// [`WriterStalled`] if it could not be copied.
    pub fn fields(&self, desc: &'static GroupDesc) -> Result<Reading<Fields<'_>>, WriterStalled> {
        let (seq, generation, updated_ns) = match self.meta(desc) {
            Meta::Active { seq, generation, updated_ns } => (seq, generation, updated_ns),
            Meta::Inactive => return Ok(Reading::Inactive),
            Meta::Unknown => return Ok(Reading::Unknown),
            Meta::Stalled(stalled) => return Err(stalled),
        };
        let end = desc.end() / 8;
        Ok(match self.words.get(end - desc.payload_words()..end) {
            Some(words) => {
                Reading::Active(Fields { desc, words, updated: Ns(updated_ns), seq, generation })
            }
            None => Reading::Unknown,
        })
    }

    /// How the copy of a group went: as noted, or, if the record was copied whole, as it says.
    fn meta(&self, desc: &GroupDesc) -> Meta {
        if let Some(odd) = self.odd {
            return odd.get(desc.bit as usize).copied().unwrap_or(Meta::Unknown);
        }
        if desc.end() > self.size {
            return Meta::Unknown;
        }
        let word = |offset: usize| self.words.get(offset / 8).copied().map_or(0, u64::from_le);
        if word(desc.record.active_offset()) & desc.mask() == 0 {
            return Meta::Inactive;
        }
        // Both are the first of the two u32 in their word.
        let first = |offset| u32::try_from(word(offset) & u64::from(u32::MAX)).unwrap_or(0);
        let generation = match desc.record {
            RecordKind::Dom => 0,
            RecordKind::Vcpu => first(record::GENERATION),
        };
        let updated_ns = word(desc.offset + GROUP_UPDATED_NS);
        Meta::Active { seq: first(desc.offset), generation, updated_ns }
    }
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
