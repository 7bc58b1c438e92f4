//! One look at a region: raw words, and a consistent copy of every active group.

use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::header::DOM_HEADER_LEN;
use domstat_layout::latest::REV;
use domstat_layout::{DomHeader, Geometry, GroupDesc, Ns, ReadMem, RecordKind};

use crate::Subject;

/// What one look at a region saw. The raw words are as of no single moment; each group's copy is.
pub struct Capture {
    /// The header, as alleged.
    pub header: DomHeader,
    /// Where the records lie, if the header says something that can be followed.
    pub geometry: Option<Geometry>,
    /// Bytes that are mapped.
    pub mapped_len: usize,
    /// Every group that this build knows and the producer's records hold.
    pub groups: Vec<GroupCopy>,
    /// Now on the region's clock, after everything was read.
    pub now: Option<Ns>,
    words: Vec<u64>,
}

/// A record and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    /// Its kind.
    pub kind: RecordKind,
    /// Its position in its array; 0 for the dom record.
    pub index: u32,
    /// Its start, from the start of the region.
    pub base: usize,
    /// Its length as the producer was built.
    pub size: usize,
}

impl RecordAt {
    /// `dom` or `vcpu[3]`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.kind {
            RecordKind::Dom | RecordKind::ArchDom => self.kind.name().to_owned(),
            _ => format!("{}[{}]", self.kind.name(), self.index),
        }
    }

    /// The groups that this build knows of this kind of record.
    #[must_use]
    pub fn known_groups(&self) -> &'static [&'static GroupDesc] {
        REV.groups(self.kind)
    }
}

/// A group as one look saw it.
#[derive(Clone, Debug)]
pub struct GroupCopy {
    /// The record that it lies in.
    pub record: RecordAt,
    /// Its row in the descriptor table.
    pub desc: &'static GroupDesc,
    /// What was seen.
    pub look: GroupLook,
}

/// What was seen of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupLook {
    /// Active, and copied as of one write.
    Whole {
        /// The sequence number.
        seq: u32,
        /// The record's generation at that moment; 0 in the dom record.
        generation: u32,
        /// `updated_ns`.
        updated_ns: u64,
        /// The fields.
        fields: Vec<u64>,
    },
    /// Active, and in mid-update for as long as was waited.
    Stalled {
        /// The sequence number last seen.
        seq: u32,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Its bit is clear. The raw words are from before and after the bit was seen to be.
    Inactive {
        /// The record's generation.
        generation: u32,
    },
    /// Its bit is set, but the record ends before the group does.
    Outside,
}

impl GroupCopy {
    /// `vcpu[3].runstate`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.record.name(), self.desc.name)
    }

    /// Start of the group, from the start of the region.
    #[must_use]
    pub fn base(&self) -> usize {
        self.record.base + self.desc.offset
    }
}

impl Capture {
    /// Looks at the region now; waits for a group in mid-update until `deadline` has passed.
    #[must_use]
    pub fn take(subject: &Subject<'_>, deadline: Duration) -> Option<Self> {
        let mem = subject.mem;
        let header = DomHeader::load(mem)?;
        let geometry = Geometry::validate(&header, mem.len()).ok();
        // Without a shape only the header can be judged.
        let len = geometry.map_or(DOM_HEADER_LEN, |g| g.end());
        let mut words = vec![0; len / 8];
        mem.load_words(0, &mut words)?;
        let mut capture =
            Self { header, geometry, mapped_len: mem.len(), groups: Vec::new(), now: None, words };
        for record in capture.records() {
            for desc in record.known_groups() {
                // The bit as it was when the raw words were copied.
                let was_active = capture.active(&record) & desc.mask() != 0;
                if let Some(look) = look(mem, &record, desc, was_active, deadline) {
                    capture.groups.push(GroupCopy { record, desc, look });
                }
            }
        }
        capture.now = (subject.clock)(domstat_layout::Clock::from_number(header.clock));
        Some(capture)
    }

    /// The u64 at `offset`, from the raw words; 0 past what was captured.
    #[must_use]
    pub fn u64(&self, offset: usize) -> u64 {
        self.words.get(offset / 8).copied().map_or(0, u64::from_le)
    }

    /// The u32 at `offset`, from the raw words; 0 past what was captured.
    #[must_use]
    pub fn u32(&self, offset: usize) -> u32 {
        let word = self.u64(offset & !7);
        let half = if offset & 4 == 0 { word } else { word >> 32 };
        u32::try_from(half & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// A record's `stats_active`, from the raw words.
    #[must_use]
    pub fn active(&self, record: &RecordAt) -> u64 {
        self.u64(record.base + record.kind.active_offset())
    }

    /// Every record, if the header can be followed; none otherwise.
    #[must_use]
    pub fn records(&self) -> Vec<RecordAt> {
        let Some(g) = self.geometry else { return Vec::new() };
        let records = RecordKind::ALL.into_iter().flat_map(|kind| {
            let array = g.array(kind);
            (0..array.nr).filter_map(move |index| {
                Some(RecordAt { kind, index, base: array.offset(index)?, size: array.size })
            })
        });
        records.collect()
    }

    /// `len` bytes from `offset` on, from the raw words; fewer past what was captured.
    #[must_use]
    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let words = self.words.get(offset / 8..).unwrap_or_default();
        words.iter().take(len / 8).flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// The bytes of the region's schema, if the header speaks of one.
    #[must_use]
    pub fn schema(&self) -> Option<Vec<u8>> {
        let section = self.geometry?.schema();
        (section.size > 0).then(|| self.bytes(section.offs, section.size))
    }
}

/// Looks at one group; `None` if the producer's record does not hold it and does not claim to.
fn look(
    mem: ReadMem<'_>,
    at: &RecordAt,
    desc: &'static GroupDesc,
    was_active: bool,
    deadline: Duration,
) -> Option<GroupLook> {
    let mem = mem.sub(at.base, at.size)?;
    let active =
        || mem.load_u64(at.kind.active_offset()).is_some_and(|active| active & desc.mask() != 0);
    let generation = || {
        let word = at.kind.generation_offset();
        word.and_then(|word| mem.load_u32(word)).unwrap_or(0)
    };
    let Some(group) = mem.group(desc.offset, desc.size) else {
        return active().then_some(GroupLook::Outside);
    };
    let mut fields = vec![0; desc.payload_words()];
    let backoff = Backoff::new();
    let start = Instant::now();
    loop {
        if !active() {
            // Clear now; if it was set when the raw words were copied, they are not of a group
            // at rest, and nothing is said of it.
            return (!was_active).then(|| GroupLook::Inactive { generation: generation() });
        }
        match group.try_read(&mut fields, || (active(), generation())) {
            Ok((seq, updated_ns, (true, generation))) => {
                let fields = fields.iter().map(|w| u64::from_le(*w)).collect();
                return Some(GroupLook::Whole { seq, generation, updated_ns, fields });
            }
            Ok((_, _, (false, _))) => {}
            Err(busy) => {
                let waited = start.elapsed();
                if waited >= deadline {
                    return Some(GroupLook::Stalled { seq: busy.seq, waited });
                }
                backoff.snooze();
            }
        }
    }
}
