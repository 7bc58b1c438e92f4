//! One-shot watches: each fires once, when a field exceeds a threshold.

use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::percent::{self, part_of};
use domstat_layout::{Field, Group, GroupDesc, Ns, RecordKind, Stat, Word};

use crate::error::ReadError;
use crate::read::patience::Waiting;
use crate::read::{Copied, Reading};
use crate::region::Region;

/// A watch of one field of one record, as libvirt's virDomainBlockSetWriteThreshold keeps one of a
/// disk's allocation.
///
/// It fires once, at the first update that is seen past the threshold, and is then disarmed: its
/// threshold is 0. What is past the threshold already when it is set fires at the next update.
///
/// ```no_run
/// use domstat_consumer::Region;
/// use domstat_consumer::watch::{Threshold, ThresholdEvent, ThresholdWatch};
/// use domstat_layout::latest::BlkExtent;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let region = Region::open("/run/domstat/web1.domstat")?;
/// let mut watch = ThresholdWatch::new(0, BlkExtent::allocation_bytes)
///     .relative_to(0, BlkExtent::capacity_bytes);
/// let bytes = watch.set(&region, Threshold::Thousandths(90_000))?; // 90 %
/// assert_eq!(watch.threshold(), bytes);
/// if let ThresholdEvent::Exceeded { threshold, excess, .. } = watch.check(&region)? {
///     println!("{excess} bytes past {threshold}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ThresholdWatch {
    field: WatchedField,
    capacity: Option<WatchedField>,
    threshold: u64,
    /// The write that was looked at last, and the slot's tenant since the watch was set.
    seen: Option<(u32, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct WatchedField {
    index: u32,
    desc: &'static GroupDesc,
    word: usize,
}

/// How far a field may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// A number in the field's own unit: bytes, as a rule. 0 disarms.
    Bytes(u64),
    /// Thousandths of a percent of the capacity field, 0 to [`Threshold::WHOLE`], rounded down to a whole
    /// byte, and up to 1 byte where that would be 0. 0 disarms.
    Thousandths(u32),
}

impl Threshold {
    /// Thousandths of a percent in the whole.
    pub const WHOLE: u32 = percent::WHOLE;
}

/// What a look at a watched field saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThresholdEvent {
    /// Nothing to report: disarmed, no update since the last look, or not past the threshold.
    Quiet,
    /// The field is past the threshold; the watch is disarmed.
    Exceeded {
        /// The threshold that was set, in bytes.
        threshold: u64,
        /// What the field says.
        value: u64,
        /// By how much it is past the threshold.
        excess: u64,
        /// When it was written, on the region's clock.
        updated: Ns,
    },
    /// The slot was given to something else, to which the threshold does not apply; the watch is
    /// disarmed.
    SlotReused,
}

/// Why a threshold was not set. The watch is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// More than everything.
    #[error("a threshold is 0 to {} thousandths of a percent, not {found}", Threshold::WHOLE)]
    OutOfRange {
        /// What was asked for.
        found: u32,
    },
    /// Parts of what?
    #[error("a threshold in thousandths of a percent needs a capacity field: use bytes")]
    NoCapacity,
    /// The capacity is not a number now.
    #[error("the capacity is not known ({found}): use bytes")]
    CapacityUnknown {
        /// What the field says.
        found: Stat,
    },
    /// A part of nothing is nothing, which would disarm.
    #[error("the capacity is 0, and a part of it would disarm the watch: use bytes")]
    NoBytes,
    /// The fields cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl WatchedField {
    fn new<G: Group>(index: u32, field: Field<G>) -> Self {
        let desc = G::DESC;
        let word = (field.offset() - desc.offset - GROUP_HEADER_LEN) / 8;
        let index = if desc.record == RecordKind::Dom { 0 } else { index };
        Self { index, desc, word }
    }

    fn read(&self, region: &Region) -> Result<Reading<(Word, Copied)>, ReadError> {
        let Some(record) = region.record(self.desc.record, self.index) else {
            return Ok(Reading::Unknown);
        };
        let mut words = vec![0; self.desc.payload_words()];
        let waiting = &mut Waiting::new(region.patience());
        Ok(match record.copy(self.desc, &mut words, waiting)? {
            Reading::Active(copied) => {
                let raw = words.get(self.word).copied();
                Reading::Active((raw.map_or(Word::NOT_PRODUCED, Word::from_raw), copied))
            }
            Reading::Inactive => Reading::Inactive,
            Reading::Unknown => Reading::Unknown,
        })
    }
}

impl ThresholdWatch {
    /// A watch of `field` of the record at `index` of its array (of no meaning in the dom record),
    /// disarmed.
    #[must_use]
    pub fn new<G: Group>(index: u32, field: Field<G>) -> Self {
        Self { field: WatchedField::new(index, field), capacity: None, threshold: 0, seen: None }
    }

    /// Names the field that [`Threshold::Thousandths`] are parts of.
    #[must_use]
    pub fn relative_to<G: Group>(mut self, index: u32, field: Field<G>) -> Self {
        self.capacity = Some(WatchedField::new(index, field));
        self
    }

    /// Arms the watch, or disarms it with 0; returns the threshold in bytes.
    ///
    /// # Errors
    /// [`ThresholdError`]; the watch is as it was.
    pub fn set(&mut self, region: &Region, threshold: Threshold) -> Result<u64, ThresholdError> {
        let bytes = match threshold {
            Threshold::Bytes(bytes) => bytes,
            Threshold::Thousandths(0) => 0,
            Threshold::Thousandths(found) if found > Threshold::WHOLE => {
                return Err(ThresholdError::OutOfRange { found });
            }
            Threshold::Thousandths(parts) => {
                let capacity = self.capacity.ok_or(ThresholdError::NoCapacity)?;
                let found = capacity.read(region)?.stat(|(word, _)| *word);
                let Stat::Value(capacity) = found else {
                    return Err(ThresholdError::CapacityUnknown { found });
                };
                if capacity == 0 {
                    return Err(ThresholdError::NoBytes);
                }
                part_of(capacity, parts)
            }
        };
        let now = if bytes == 0 { None } else { self.field.read(region)?.active() };
        self.seen = now.map(|(_, copied)| (copied.seq, copied.generation));
        self.threshold = bytes;
        Ok(bytes)
    }

    /// The threshold in bytes; 0 while the watch is disarmed.
    #[must_use]
    pub const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Looks whether the field went past the threshold. Does not look while disarmed.
    ///
    /// # Errors
    /// [`ReadError`]; the watch stays armed.
    pub fn check(&mut self, region: &Region) -> Result<ThresholdEvent, ReadError> {
        if self.threshold == 0 {
            return Ok(ThresholdEvent::Quiet);
        }
        let Some((word, copied)) = self.field.read(region)?.active() else {
            return Ok(ThresholdEvent::Quiet);
        };
        match self.seen {
            Some((_, generation)) if generation != copied.generation => {
                self.disarm();
                return Ok(ThresholdEvent::SlotReused);
            }
            Some((seq, _)) if seq == copied.seq => return Ok(ThresholdEvent::Quiet),
            _ => self.seen = Some((copied.seq, copied.generation)),
        }
        let value = match word.get() {
            Stat::Value(value) => value,
            // The largest number that a word can hold, at least.
            Stat::Saturated => u64::MAX - 1,
            Stat::NotProduced | Stat::GroupInactive => return Ok(ThresholdEvent::Quiet),
        };
        let threshold = self.threshold;
        if value <= threshold {
            return Ok(ThresholdEvent::Quiet);
        }
        self.disarm();
        let (excess, updated) = (value - threshold, Ns(copied.updated_ns));
        Ok(ThresholdEvent::Exceeded { threshold, value, excess, updated })
    }

    fn disarm(&mut self) {
        (self.threshold, self.seen) = (0, None);
    }
}
