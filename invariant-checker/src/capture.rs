//! Capture of a region at one look: raw words, and a consistent copy of every active group.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN};
use domstat_layout::header::{ArrayWords, DOM_HEADER_LEN};
use domstat_layout::latest::REV;
use domstat_layout::{
    DomHeader, Geometry, GroupDesc, MAX_REGION_LEN, Ns, ReadMem, RecordKind, RecordTable,
};

use crate::{Books, NotAttachable, Subject};

/// Pages are at least this long.
const PAGE: usize = 4096;

/// Result of one look at a region. The raw words are not as of a single moment; each group's copy is.
pub struct Capture {
    /// The header, as alleged.
    pub header: DomHeader,
    /// Where the records lie, if the header passes validation.
    pub geometry: Option<Geometry>,
    /// Arrays beyond the header, as the schema's table of records alleges them. They are part of the
    /// geometry if none of them breaks a rule.
    pub beyond_header: Vec<BeyondHeader>,
    /// Bytes that are mapped.
    pub mapped_len: usize,
    /// Groups that this build knows and the producer's records hold.
    pub groups: Vec<GroupCopy>,
    /// Now on the region's clock, after everything was read.
    pub now: Option<Ns>,
    /// The books of the vCPUs' threads, read after the groups and before `now`.
    pub books: Option<Books>,
    words: Vec<u64>,
}

/// An array beyond the header, as the schema's table of records alleges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeyondHeader {
    /// Its kind.
    pub kind: RecordKind,
    /// Its words.
    pub words: ArrayWords,
    /// Where its entry lies in the region.
    pub at: usize,
}

/// Place of a record.
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
            RecordKind::Dom | RecordKind::ArchDom | RecordKind::Labels => {
                self.kind.name().to_owned()
            }
            _ => format!("{}[{}]", self.kind.name(), self.index),
        }
    }

    /// The groups that this build knows of this kind of record.
    #[must_use]
    pub fn known_groups(&self) -> &'static [&'static GroupDesc] {
        REV.groups(self.kind)
    }
}

/// A group at one look.
#[derive(Clone, Debug)]
pub struct GroupCopy {
    /// The record that it lies in.
    pub record: RecordAt,
    /// Its row in the descriptor table.
    pub desc: &'static GroupDesc,
    /// Its state.
    pub look: GroupLook,
}

/// State of a group at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupLook {
    /// Active, and copied as of one write.
    Whole(WholeGroup),
    /// Active, and in mid-update until the deadline.
    Stalled {
        /// The sequence number last seen.
        seq: u32,
        /// Time waited.
        waited: Duration,
    },
    /// Its bit is clear. The raw words are from before and after the bit was seen to be.
    Inactive {
        /// The record's generation.
        generation: u32,
        /// The sequence number, if it stood still while the bit was clear.
        seq: Option<u32>,
    },
    /// Its bit is set, but the record ends before the group does.
    Outside,
}

/// An active group, as of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeGroup {
    /// The sequence number.
    pub seq: u32,
    /// The record's generation at that moment; 0 in the dom record.
    pub generation: u32,
    /// `updated_ns`.
    pub updated_ns: u64,
    /// The words of the fields.
    pub fields: Vec<u64>,
}

impl WholeGroup {
    /// The words of one of its fields; `desc` is the group's row in the descriptor table.
    #[must_use]
    pub fn words(&self, desc: &GroupDesc, field: &FieldDesc) -> Option<&[u64]> {
        let start = field.offset.checked_sub(desc.offset + GROUP_HEADER_LEN)? / 8;
        self.fields.get(start..start + field.width / 8)
    }
}

impl GroupCopy {
    /// What was seen of it, if it was active and at rest.
    #[must_use]
    pub const fn whole(&self) -> Option<&WholeGroup> {
        match &self.look {
            GroupLook::Whole(whole) => Some(whole),
            _ => None,
        }
    }

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
    /// Captures the region now. Waits for all groups in mid-update together, until `deadline` has
    /// passed.
    ///
    /// # Errors
    /// [`NotAttachable`] if there is less than a header, or more than can be copied.
    pub fn take(subject: &Subject<'_>, deadline: Duration) -> Result<Self, NotAttachable> {
        let mem = subject.mem;
        let too_short = NotAttachable::TooShort { len: mem.len() };
        let header = DomHeader::load(mem).ok_or(too_short)?;
        let geometry = Geometry::validate(&header, mem.len()).ok();
        let (geometry, beyond_header) = beyond_header(mem, geometry);
        // Without a geometry only the header can be judged; with one, everything up to the end
        // of the page in which the last record ends.
        let len =
            geometry.map_or(DOM_HEADER_LEN, |g| g.end().next_multiple_of(PAGE)).min(mem.len());
        if len > MAX_REGION_LEN {
            return Err(NotAttachable::TooLarge { len, most: MAX_REGION_LEN });
        }
        let mut words = vec![0; len / 8];
        mem.load_words(0, &mut words).ok_or(too_short)?;
        let mut capture = Self {
            header,
            geometry,
            beyond_header,
            mapped_len: mem.len(),
            groups: Vec::new(),
            now: None,
            books: None,
            words,
        };
        let mut busy = Vec::new();
        for record in capture.records() {
            for desc in record.known_groups() {
                // The bit as it was when the raw words were copied.
                let was_active = capture.active(&record) & desc.mask() != 0;
                let look = match look(mem, &record, desc, was_active) {
                    Seen::Nothing => continue,
                    Seen::Look(look) => look,
                    Seen::Busy { seq } => {
                        busy.push((capture.groups.len(), was_active));
                        GroupLook::Stalled { seq, waited: Duration::ZERO }
                    }
                };
                capture.groups.push(GroupCopy { record, desc, look });
            }
        }
        capture.wait_for(mem, busy, deadline);
        capture.books = subject.books.as_ref().and_then(|books| books());
        capture.now =
            domstat_consumer::clock::now(domstat_layout::Clock::from_number(header.clock));
        Ok(capture)
    }

    /// Reads groups in mid-update again, until none is left or the deadline has passed.
    fn wait_for(&mut self, mem: ReadMem<'_>, mut busy: Vec<(usize, bool)>, deadline: Duration) {
        let (start, backoff) = (Instant::now(), Backoff::new());
        let mut unseen = BTreeSet::new();
        while !busy.is_empty() {
            let waited = start.elapsed();
            busy.retain(|&(at, was_active)| {
                let Some(group) = self.groups.get_mut(at) else { return false };
                match look(mem, &group.record, group.desc, was_active) {
                    Seen::Nothing => {
                        unseen.insert(at);
                    }
                    Seen::Look(look) => group.look = look,
                    Seen::Busy { seq } => {
                        group.look = GroupLook::Stalled { seq, waited };
                        return true;
                    }
                }
                false
            });
            if waited >= deadline {
                break;
            }
            backoff.snooze();
        }
        let mut at = 0..;
        self.groups.retain(|_| at.next().is_none_or(|at| !unseen.contains(&at)));
    }

    /// Length of the captured bytes: up to the end of the page in which the last record ends, or
    /// of the mapping.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() * 8
    }

    /// Whether nothing was captured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The u64 at `offset`, from the raw words; 0 past the captured bytes.
    #[must_use]
    pub fn u64(&self, offset: usize) -> u64 {
        self.words.get(offset / 8).copied().map_or(0, u64::from_le)
    }

    /// The u32 at `offset`, from the raw words; 0 past the captured bytes.
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

    /// Every record, in the order in which they lie; none if the header does not pass validation.
    #[must_use]
    pub fn records(&self) -> Vec<RecordAt> {
        let Some(g) = self.geometry else { return Vec::new() };
        let records = RecordKind::ALL.into_iter().flat_map(|kind| {
            let array = g.array(kind);
            (0..array.nr).filter_map(move |index| {
                Some(RecordAt { kind, index, base: array.offset(index)?, size: array.size })
            })
        });
        let mut records: Vec<RecordAt> = records.collect();
        records.sort_by_key(|record| record.base);
        records
    }

    /// `len` bytes from `offset` on, from the raw words; fewer at the end of the captured bytes.
    #[must_use]
    pub fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        let words = self.words.get(offset / 8..).unwrap_or_default();
        words.iter().take(len / 8).flat_map(|w| w.to_ne_bytes()).collect()
    }

    /// The bytes of the region's schema, if it has one.
    #[must_use]
    pub fn schema(&self) -> Option<Vec<u8>> {
        let section = self.geometry?.schema();
        (section.size > 0).then(|| self.bytes(section.offs, section.size))
    }
}

/// The geometry with the kinds of records beyond the header, if they can be used, and what is alleged
/// of them.
fn beyond_header(
    mem: ReadMem<'_>,
    geometry: Option<Geometry>,
) -> (Option<Geometry>, Vec<BeyondHeader>) {
    let Some(g) = geometry.filter(|g| g.schema().size > 0) else { return (geometry, Vec::new()) };
    // A table that cannot be copied is not a legal schema (I22).
    let Ok(table) = RecordTable::load(mem, g.schema()) else { return (geometry, Vec::new()) };
    let alleged = table.entries().map(|(kind, words, at)| BeyondHeader { kind, words, at });
    (g.with_records(&table, mem.len()).ok().or(geometry), alleged.collect())
}

/// Result of one read of a group.
enum Seen {
    /// The producer's record does not hold it, or it was switched off while the raw words were
    /// copied.
    Nothing,
    Look(GroupLook),
    /// It is in mid-update.
    Busy {
        seq: u32,
    },
}

fn look(mem: ReadMem<'_>, at: &RecordAt, desc: &'static GroupDesc, was_active: bool) -> Seen {
    let Some(mem) = mem.sub(at.base, at.size) else { return Seen::Nothing };
    let active =
        || mem.load_u64(at.kind.active_offset()).is_some_and(|active| active & desc.mask() != 0);
    let generation = || {
        let word = at.kind.generation_offset();
        word.and_then(|word| mem.load_u32(word)).unwrap_or(0)
    };
    let Some(group) = mem.group(desc.offset, desc.size) else {
        return if active() { Seen::Look(GroupLook::Outside) } else { Seen::Nothing };
    };
    if !active() {
        // Clear now. If it was set when the raw words were copied, these are not of a group at
        // rest and cannot be judged.
        return match was_active {
            true => Seen::Nothing,
            false => {
                // Of a group that is switched on and off in between, the two numbers differ.
                let seq = Some(group.seq()).filter(|seq| !active() && group.seq() == *seq);
                Seen::Look(GroupLook::Inactive { generation: generation(), seq })
            }
        };
    }
    let mut fields = vec![0; desc.payload_words()];
    match group.try_read(&mut fields, || (active(), generation())) {
        Ok((seq, updated_ns, (true, generation))) => {
            let fields = fields.iter().map(|w| u64::from_le(*w)).collect();
            Seen::Look(GroupLook::Whole(WholeGroup { seq, generation, updated_ns, fields }))
        }
        Ok((seq, _, (false, _))) => Seen::Busy { seq },
        Err(busy) => Seen::Busy { seq: busy.seq },
    }
}
