//! Capture of a region in the layout of RFC v3 at one look.

use std::time::{Duration, Instant};

use crossbeam_utils::Backoff;
use domstat_layout::rfc_v3::{Geometry, HEADER_LEN, Header, MAX_RECORDS, Record, record};
use domstat_layout::{Busy, ReadMem};

/// Result of one look at a region.
pub(super) struct Capture {
    pub(super) header: Header,
    pub(super) mapped_len: usize,
    pub(super) geometry: Option<Geometry>,
    /// Every record that fits the mapping, in order; none without a geometry.
    pub(super) records: Vec<RecordAt>,
    /// The first word of each gap that is not zero.
    pub(super) gaps: Vec<GapWord>,
}

/// A record at one look.
pub(super) struct RecordAt {
    pub(super) index: u32,
    pub(super) base: usize,
    pub(super) pad: u32,
    pub(super) look: RecordLook,
}

/// State of a record at one look.
#[derive(Clone, Copy)]
pub(super) enum RecordLook {
    /// Copied as of one write.
    Whole(Record),
    /// In mid-update with the same number until the deadline.
    Stalled { seq: u32 },
    /// Its writer was faster than the look until the deadline.
    Unsettled,
}

impl RecordAt {
    pub(super) const fn whole(&self) -> Option<Record> {
        match self.look {
            RecordLook::Whole(record) => Some(record),
            RecordLook::Stalled { .. } | RecordLook::Unsettled => None,
        }
    }

    /// Whether anything was ever written to it.
    pub(super) fn is_written(&self) -> bool {
        self.whole().is_none_or(|record| record.seq != 0 || record.word.unwrap_or(0) != 0)
    }
}

/// A word of a gap that is not zero.
pub(super) struct GapWord {
    pub(super) offset: usize,
    pub(super) what: String,
    pub(super) found: u64,
}

impl Capture {
    /// Looks at the region now; waits until `deadline` for all records in mid-update together.
    pub(super) fn take(mem: ReadMem<'_>, deadline: Duration) -> Option<Self> {
        let header = Header::load(mem)?;
        let geometry = Geometry::validate(&header, mem.len()).ok();
        let (records, gaps) = match &geometry {
            Some(g) => (records(mem, g, deadline), gaps(mem, g)),
            None => (Vec::new(), Vec::new()),
        };
        Some(Self { header, mapped_len: mem.len(), geometry, records, gaps })
    }
}

fn records(mem: ReadMem<'_>, g: &Geometry, deadline: Duration) -> Vec<RecordAt> {
    let mut busy = Vec::new();
    let mut records: Vec<RecordAt> = (0..g.nr_records())
        .filter_map(|index| {
            let base = g.record_offset(index)?;
            let pad = mem.load_u32(base + record::PAD)?;
            let look = match g.try_read(mem, index)? {
                Ok(record) => RecordLook::Whole(record),
                Err(Busy { seq }) => {
                    busy.push((index, seq));
                    RecordLook::Stalled { seq }
                }
            };
            Some(RecordAt { index, base, pad, look })
        })
        .collect();
    let backoff = Backoff::new();
    let start = Instant::now();
    while !busy.is_empty() && start.elapsed() < deadline {
        backoff.snooze();
        busy.retain(|(index, first)| {
            let Some(at) = records.get_mut(*index as usize) else { return false };
            match g.try_read(mem, *index) {
                Some(Ok(record)) => at.look = RecordLook::Whole(record),
                Some(Err(Busy { seq })) if seq != *first => at.look = RecordLook::Unsettled,
                Some(Err(_)) | None => {}
            }
            at.whole().is_none()
        });
    }
    records
}

fn gaps(mem: ReadMem<'_>, g: &Geometry) -> Vec<GapWord> {
    let first = |from: usize, to: usize, what: &dyn Fn() -> String| {
        (from..to).step_by(8).find_map(|offset| {
            let found = mem.load_u64(offset).filter(|word| *word != 0)?;
            Some(GapWord { offset, what: what(), found })
        })
    };
    let mut found = Vec::new();
    found.extend(first(HEADER_LEN, g.offset(), &|| "gap after the header".to_owned()));
    for index in 0..g.nr_records() {
        let Some(base) = g.record_offset(index) else { break };
        let last = index + 1 == g.nr_records() && index + 1 < MAX_RECORDS;
        let end = if last { mem.len() } else { base + g.stride() };
        found.extend(first(base + g.size(), end, &|| format!("gap after vcpu[{index}]")));
    }
    found
}
