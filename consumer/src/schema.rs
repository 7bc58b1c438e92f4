//! Reads by a region's own schema, for groups that this build does not know.

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::header::record;
use domstat_layout::schema::{MAX_LEN, MAX_RECORD_LEN, SchemaGroup, SchemaRecord};
use domstat_layout::{Busy, Ns, RecordKind};

use crate::error::{ReadError, StalledWriter};
use crate::read::patience::Waiting;
use crate::read::shares::{Kind, Shared};
use crate::read::{Copied, Reading, Shares};
use crate::region::Region;

/// The fields of a group that was read by its description, as of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaSample<'w> {
    /// When it was written, on the region's clock.
    pub updated: Ns,
    /// The sequence number of the write.
    pub seq: u32,
    /// Which tenant of the slot it is of; 0 in the dom record.
    pub generation: u32,
    /// The fields, raw, as they lie in the group after its header.
    pub words: &'w [u64],
}

/// Reads by schema, of as many groups as there are: all of them together wait for writers in
/// mid-update no longer than one read would. Groups of devices that have shares are the sums of these,
/// as [`Region::shares`] has them.
pub struct SchemaReader<'r> {
    region: &'r Region,
    shares: Shares<'r>,
    waiting: Waiting,
    words: Vec<u64>,
}

impl Region {
    /// A copy of the region's schema, to be parsed by [`domstat_layout::Schema::parse`]; `None`
    /// if it has none, or one that is longer than any reader looks at, or it was [`Truncated`](crate::attach::Truncated).
    #[must_use]
    pub fn copy_schema(&self) -> Option<Vec<u8>> {
        let section = self.geometry().schema();
        if section.size == 0 || section.size > MAX_LEN {
            return None;
        }
        let mem = self.mem().sub(section.offs, section.size)?;
        // Made of u32 and bytes, and never written again: copied by its smallest atomic part.
        let mut bytes = Vec::with_capacity(section.size);
        for at in (0..section.size).step_by(4) {
            bytes.extend(mem.load_u32(at)?.to_le_bytes());
        }
        self.intact().ok()?;
        Some(bytes)
    }

    /// Reads of what the region's own schema describes.
    #[must_use]
    pub fn schema_reader(&self) -> SchemaReader<'_> {
        let waiting = Waiting::new(self.patience());
        SchemaReader { region: self, shares: self.shares(), waiting, words: Vec::new() }
    }
}

impl SchemaReader<'_> {
    /// Reads the group of record `index` that `group` describes. [`Reading::Unknown`] for what does
    /// not lie inside the region, and for a group that is longer than [`MAX_RECORD_LEN`].
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    pub fn read(
        &mut self,
        record: &SchemaRecord<'_>,
        index: u32,
        group: &SchemaGroup<'_>,
    ) -> Result<Reading<SchemaSample<'_>>, ReadError> {
        let mem = self.region.mem();
        let found = || {
            let at = record.offset(index).filter(|_| record.fits(mem.len()))?;
            if group.size > MAX_RECORD_LEN {
                return None;
            }
            let record = mem.sub(at, record.size)?;
            Some((record, record.group(group.offset, group.size)?))
        };
        let Some((mem, read)) = found() else { return Ok(Reading::Unknown) };
        self.words.clear();
        self.words.resize((group.size - GROUP_HEADER_LEN) / 8, 0);
        match self.sum(record, index, group)? {
            None => {}
            Some(Reading::Active(Copied { seq, updated_ns, generation })) => {
                let (updated, words) = (Ns(updated_ns), self.words.as_slice());
                return Ok(Reading::Active(SchemaSample { updated, seq, generation, words }));
            }
            Some(Reading::Inactive) => return Ok(Reading::Inactive),
            Some(Reading::Unknown) => return Ok(Reading::Unknown),
        }
        let words = &mut self.words;
        let is_active = || {
            let active = mem.load_u64(record.active).unwrap_or(0);
            group.bit < 64 && active & (1 << group.bit) != 0
        };
        let generation = || {
            let has = record.kind != RecordKind::Dom.number() && record.header > record::GENERATION;
            has.then(|| mem.load_u32(record::GENERATION)).flatten().unwrap_or(0)
        };
        let mut attempt = || match read.try_read(words, || (is_active(), generation())) {
            Ok((seq, updated_ns, (true, generation))) => Ok(Some((seq, updated_ns, generation))),
            Ok((_, _, (false, _))) => Ok(None),
            Err(busy) if is_active() => Err(busy),
            Err(_) => Ok(None),
        };
        let copied = match attempt() {
            Ok(copied) => Ok(copied),
            Err(busy) => {
                let stalled = |Busy { seq }, retries, waited| StalledWriter {
                    record: None,
                    index: Some(index),
                    group: None,
                    seq,
                    retries,
                    waited,
                };
                self.waiting.retry(busy, attempt, stalled)
            }
        };
        self.region.intact()?;
        Ok(match copied? {
            Some((seq, updated_ns, generation)) => {
                let (updated, words) = (Ns(updated_ns), self.words.as_slice());
                Reading::Active(SchemaSample { updated, seq, generation, words })
            }
            None => Reading::Inactive,
        })
    }

    /// What the shares of a device sum to, if `group` is one of a device that this build knows, and
    /// some share has it.
    fn sum(
        &mut self,
        record: &SchemaRecord<'_>,
        index: u32,
        group: &SchemaGroup<'_>,
    ) -> Result<Option<Reading<Copied>>, ReadError> {
        let known = RecordKind::from_number(record.kind);
        let known = known.and_then(|kind| Kind::of_whole(kind, group.bit));
        let is_there = |&(kind, shared): &(&Kind, Shared)| {
            kind.share_records(self.region) > 0
                && (shared.whole.offset, shared.whole.size) == (group.offset, group.size)
        };
        let Some((kind, shared)) = known.filter(is_there) else { return Ok(None) };
        self.shares.sum(kind, shared, index, &mut self.words, &mut self.waiting)
    }
}
