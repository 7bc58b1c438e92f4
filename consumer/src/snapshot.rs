//! A whole domain, copied into a buffer that is used again.

use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN};
use domstat_layout::latest::{DOM_GROUPS, DOM_SIZE, VCPU_GROUPS, VCPU_SIZE};
use domstat_layout::{DomGroup, Group, GroupDesc, Ns, VcpuGroup};
use zerocopy::IntoBytes as _;

use crate::read::{Copied, Record, Waiting};
use crate::{Reading, Region, Sample, WriterStalled};

const DOM_WORDS: usize = DOM_SIZE / 8;
const VCPU_WORDS: usize = VCPU_SIZE / 8;

/// Every group of a domain that this build knows, each as of one write.
///
/// The buffer is sized by the first [`Region::snapshot`] and used again by the next: taking a
/// snapshot allocates nothing once the largest domain was seen.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    dom: Vec<u64>,
    dom_meta: Vec<Meta>,
    vcpus: Vec<u64>,
    vcpu_meta: Vec<Meta>,
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
        let mut waiting = Waiting::new(self.patience());
        let nr_vcpus = self.geometry().nr_vcpus();
        snapshot.nr_vcpus = nr_vcpus;
        snapshot.dom.resize(DOM_WORDS, 0);
        snapshot.dom_meta.clear();
        snapshot.vcpus.resize(nr_vcpus as usize * VCPU_WORDS, 0);
        snapshot.vcpu_meta.clear();
        snapshot.taken = self.now();
        copy(
            self.dom().record(),
            DOM_GROUPS,
            &mut snapshot.dom,
            &mut snapshot.dom_meta,
            &mut waiting,
        );
        for (vcpu, words) in self.vcpus().zip(snapshot.vcpus.chunks_exact_mut(VCPU_WORDS)) {
            copy(vcpu.record(), VCPU_GROUPS, words, &mut snapshot.vcpu_meta, &mut waiting);
        }
    }
}

/// Copies a record's groups to the same offsets of `words`, and how each went to `meta`.
fn copy(
    record: Record<'_>,
    groups: &'static [&'static GroupDesc],
    words: &mut [u64],
    meta: &mut Vec<Meta>,
    waiting: &mut Waiting,
) {
    for desc in groups {
        let result = match payload_mut(words, desc) {
            Some(to) => record.copy(desc, to, waiting),
            None => Ok(Reading::Unknown),
        };
        meta.push(match result {
            Ok(Reading::Active(Copied { seq, updated_ns, generation })) => {
                Meta::Active { seq, generation, updated_ns }
            }
            Ok(Reading::Inactive) => Meta::Inactive,
            Ok(Reading::Unknown) => Meta::Unknown,
            Err(stalled) => Meta::Stalled(stalled),
        });
    }
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
        SnapshotRecord { words: &self.dom, meta: &self.dom_meta }
    }

    /// The record of vCPU `index`; `None` past the domain's maximum.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<SnapshotRecord<'_>> {
        let (index, groups) = (index as usize, VCPU_GROUPS.len());
        Some(SnapshotRecord {
            words: self.vcpus.get(index * VCPU_WORDS..(index + 1) * VCPU_WORDS)?,
            meta: self.vcpu_meta.get(index * groups..(index + 1) * groups)?,
        })
    }
}

/// One record of a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotRecord<'a> {
    words: &'a [u64],
    meta: &'a [Meta],
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
        match self.meta.get(desc.bit as usize) {
            Some(Meta::Active { seq, generation, updated_ns }) => {
                let end = desc.end() / 8;
                Ok(match self.words.get(end - desc.payload_words()..end) {
                    Some(words) => Reading::Active(Fields {
                        desc,
                        words,
                        updated: Ns(*updated_ns),
                        seq: *seq,
                        generation: *generation,
                    }),
                    None => Reading::Unknown,
                })
            }
            Some(Meta::Inactive) => Ok(Reading::Inactive),
            Some(Meta::Stalled(stalled)) => Err(*stalled),
            Some(Meta::Unknown) | None => Ok(Reading::Unknown),
        }
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
