//! Reading what only the region's own schema knows.

use std::time::Duration;

use domstat_layout::header::record;
use domstat_layout::schema::{MAX_LEN, MAX_RECORD_LEN, SchemaGroup, SchemaRecord};
use domstat_layout::{Busy, Ns, RecordKind};

use crate::read::Waiting;
use crate::{Lost, Reading, Region};

/// A group that was read by its description, as of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// When it was written, on the region's clock.
    pub updated: Ns,
    /// The sequence number of the write.
    pub seq: u32,
    /// Which tenant of the slot it is of; 0 in the dom record.
    pub generation: u32,
}

/// A group stayed in mid-update for as long as the reader was willing to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its writer is stalled: in mid-update (seq {seq}) after {retries} retries in {waited:?}")]
pub struct Stalled {
    /// The sequence number last seen.
    pub seq: u32,
    /// How often the read was tried again.
    pub retries: u32,
    /// How long.
    pub waited: Duration,
}

/// Why a group that was read by its description gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescribedError {
    /// Its writer is stopped or gone.
    #[error(transparent)]
    Stalled(#[from] Stalled),
    /// The memory went away under the reader.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Region {
    /// A copy of the region's schema, to be parsed by [`domstat_layout::Schema::parse`]; `None`
    /// if it has none, or one that is longer than any reader looks at, or it was [`Lost`].
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

    /// Reads the group of record `index` that `group` describes: its fields go to `words`, raw, as
    /// many as the group has. [`Reading::Unknown`] for what does not lie inside the region, and for
    /// a group that is longer than [`MAX_RECORD_LEN`].
    ///
    /// # Errors
    /// [`DescribedError`] when patience is at its end, or the memory went away.
    pub fn read_described(
        &self,
        record: &SchemaRecord<'_>,
        index: u32,
        group: &SchemaGroup<'_>,
        words: &mut Vec<u64>,
    ) -> Result<Reading<Described>, DescribedError> {
        let mem = self.mem();
        let found = || {
            let at = record.offset(index).filter(|_| record.fits(mem.len()))?;
            if group.size > MAX_RECORD_LEN {
                return None;
            }
            let record = mem.sub(at, record.size)?;
            Some((record, record.group(group.offset, group.size)?))
        };
        let Some((mem, read)) = found() else { return Ok(Reading::Unknown) };
        words.clear();
        words.resize((group.size - domstat_layout::descriptor::GROUP_HEADER_LEN) / 8, 0);
        let is_active = || {
            let active = mem.load_u64(record.active).unwrap_or(0);
            group.bit < 64 && active & (1 << group.bit) != 0
        };
        let generation = || {
            let has = record.kind != RecordKind::Dom.number() && record.header > record::GENERATION;
            has.then(|| mem.load_u32(record::GENERATION)).flatten().unwrap_or(0)
        };
        let mut attempt = || match read.try_read(words, || (is_active(), generation())) {
            Ok((seq, updated_ns, (true, generation))) => {
                Ok(Reading::Active(Described { updated: Ns(updated_ns), seq, generation }))
            }
            Ok((_, _, (false, _))) => Ok(Reading::Inactive),
            Err(busy) if is_active() => Err(busy),
            Err(_) => Ok(Reading::Inactive),
        };
        let reading = match attempt() {
            Ok(reading) => Ok(reading),
            Err(busy) => {
                let stalled = |Busy { seq }, retries, waited| Stalled { seq, retries, waited };
                Waiting::new(self.patience()).retry(busy, attempt, stalled)
            }
        };
        self.intact()?;
        Ok(reading?)
    }
}
