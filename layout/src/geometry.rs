//! Header validation: from what the other side alleges to a shape that reads can rely on.

use core::fmt;

use crate::header::{
    ARCH_DOM_WORDS, ARCH_VCPU_WORDS, ArrayWordOffsets, ArrayWords, BLK_WORDS, DOM_HEADER_LEN,
    DOM_MAGIC, DomHeader, NET_WORDS, RECORD_HEADER_LEN, SCHEMA_WORDS, SectionWordOffsets,
    SectionWords, VCPU_WORDS, dom,
};
use crate::record::RecordKind;
use crate::rule::Rule;

mod frames;
mod record_table;

pub use frames::{Frame, FrameError, FramePart, Frames};
pub use record_table::{RecordTable, RecordTableError};

/// The validated shape of a region.
///
/// Holding one proves, for the mapped length it was validated against: the dom record, every
/// record of every array, the arch slots and the schema lie inside the mapping, hold at least
/// their headers, do not overlap each other, and start at multiples of 8. It says nothing about
/// the bytes in them. Kinds of records beyond the header are among them once
/// [`Geometry::with_records`] took them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    dom_size: usize,
    vcpus: Array,
    blks: Array,
    nets: Array,
    arch_dom: Section,
    arch_vcpu: Section,
    schema: Section,
    /// The kinds beyond the header, in order of their numbers.
    beyond: [ArrayWords; RecordKind::OPTIONAL.len()],
    end: usize,
}

/// Records of one kind: where they lie. An array that a region does not have has no records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Array {
    /// Start of the first, from the region start.
    pub offs: usize,
    /// Length of each as the producer was built.
    pub size: usize,
    /// Distance between them.
    pub stride: usize,
    /// How many there are.
    pub nr: u32,
}

impl Array {
    /// Start of record `index`, or `None` past the end of the array.
    #[inline]
    #[must_use]
    pub const fn offset(&self, index: u32) -> Option<usize> {
        if index < self.nr { Some(self.offs + index as usize * self.stride) } else { None }
    }

    /// First byte after the array, the last record's gap included.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offs + self.nr as usize * self.stride
    }
}

/// A run of bytes; empty if the region does not have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its start.
    pub offs: usize,
    /// Its length.
    pub size: usize,
}

impl Section {
    /// First byte after it.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offs + self.size
    }
}

/// A header that cannot be used, and what a reader would have to see instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GeometryError {
    /// Fewer bytes than a dom header.
    TooShort {
        /// Bytes there are.
        mapped_len: usize,
    },
    /// `magic` is zero: the producer has not published yet.
    NotReady,
    /// The magic of a producer with the other byte order.
    WrongEndian,
    /// Not a region, or one of an incompatible ABI.
    WrongMagic {
        /// The word found.
        found: u32,
    },
    /// A header word is out of its bounds.
    Word {
        /// The rule of the ABI that it breaks.
        rule: Rule,
        /// Name of the word.
        field: &'static str,
        /// Where it lies.
        offset: usize,
        /// What would have been right.
        expected: Expected,
        /// What it is.
        found: u64,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { mapped_len } => write!(
                f,
                "the region has {mapped_len} bytes, fewer than the {DOM_HEADER_LEN} of a header"
            ),
            Self::NotReady => write!(f, "the region is not published yet (magic is 0)"),
            Self::WrongEndian => {
                write!(f, "the region is big-endian: its producer does not follow the layout")
            }
            Self::WrongMagic { found } => write!(
                f,
                "not a domstat region: magic at byte 0 is {found:#010x}, expected {DOM_MAGIC:#010x}"
            ),
            Self::Word { rule, field, offset, expected, found } => write!(
                f,
                "header word {field} at byte {offset} is {found}, expected {expected} (rule {rule})"
            ),
        }
    }
}

impl core::error::Error for GeometryError {}

/// What a header word should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// This and nothing else.
    Exactly(u64),
    /// At least this.
    AtLeast(u64),
    /// At most this.
    AtMost(u64),
    /// From the first to the second, both included.
    Between(u64, u64),
    /// A multiple of this.
    MultipleOf(u64),
    /// So that the array ends at this byte or before.
    ArrayEndAtMost(u64),
    /// Not from the first to before the second, where another part of the region lies.
    Outside(u64, u64),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(n) => write!(f, "{n}"),
            Self::AtLeast(n) => write!(f, "at least {n}"),
            Self::AtMost(n) => write!(f, "at most {n}"),
            Self::Between(a, b) => write!(f, "{a} to {b}"),
            Self::MultipleOf(n) => write!(f, "a multiple of {n}"),
            Self::ArrayEndAtMost(n) => write!(f, "an array that ends at byte {n} or before"),
            Self::Outside(a, b) => write!(f, "nothing between {a} and {b}, which are taken"),
        }
    }
}

impl Geometry {
    /// Validates a copy of the header against the bytes that are mapped.
    ///
    /// Only what a reader needs to stay inside the mapping is required here; the other rules are
    /// the invariant checker's. Larger sizes than this build knows are fine, smaller ones mean
    /// fewer groups.
    ///
    /// # Errors
    /// [`GeometryError`] with the word, its offset, what was expected and what was found.
    pub fn validate(header: &DomHeader, mapped_len: usize) -> Result<Self, GeometryError> {
        if mapped_len < DOM_HEADER_LEN {
            return Err(GeometryError::TooShort { mapped_len });
        }
        match header.magic {
            DOM_MAGIC => {}
            0 => return Err(GeometryError::NotReady),
            m if m.swap_bytes() == DOM_MAGIC => return Err(GeometryError::WrongEndian),
            found => return Err(GeometryError::WrongMagic { found }),
        }
        let mapped = mapped_len as u64;
        let h = header;
        if u64::from(h.dom_size) > mapped || (h.dom_size as usize) < DOM_HEADER_LEN {
            let range = Expected::Between(DOM_HEADER_LEN as u64, mapped);
            return Err(word(Rule::I03, DOM_SIZE_WORD, range, h.dom_size));
        }
        if h.vcpu.offs < h.dom_size {
            let least = Expected::AtLeast(u64::from(h.dom_size));
            return Err(word(Rule::I04, VCPU_WORDS.offs, least, h.vcpu.offs));
        }
        if !h.dom_size.is_multiple_of(8) {
            return Err(word(Rule::I08, DOM_SIZE_WORD, Expected::MultipleOf(8), h.dom_size));
        }
        let vcpus = array(&VCPU_WORDS, &h.vcpu, mapped)?;
        let geometry = Self {
            dom_size: h.dom_size as usize,
            vcpus,
            blks: optional_array(&BLK_WORDS, &h.blk, mapped)?,
            nets: optional_array(&NET_WORDS, &h.net, mapped)?,
            arch_dom: mapped_section(&ARCH_DOM_WORDS, &h.arch_dom, RECORD_HEADER_LEN, mapped)?,
            arch_vcpu: arch_vcpu(&h.arch_vcpu, &vcpus)?,
            schema: mapped_section(&SCHEMA_WORDS, &h.schema, crate::schema::HEADER_LEN, mapped)?,
            beyond: [ArrayWords::ABSENT; RecordKind::OPTIONAL.len()],
            end: 0,
        };
        let end = geometry.disjoint()?;
        Ok(Self { end, ..geometry })
    }

    /// Checks that no two parts of the region share a byte (I10); returns the end of the last.
    fn disjoint(&self) -> Result<usize, GeometryError> {
        let parts = [
            (DOM_SIZE_WORD, 0, self.dom_size),
            (VCPU_WORDS.offs, self.vcpus.offs, self.vcpus.end()),
            (BLK_WORDS.offs, self.blks.offs, self.blks.end()),
            (NET_WORDS.offs, self.nets.offs, self.nets.end()),
            (ARCH_DOM_WORDS.offs, self.arch_dom.offs, self.arch_dom.end()),
            (SCHEMA_WORDS.offs, self.schema.offs, self.schema.end()),
        ];
        let mut last = 0;
        for (i, (_, start, end)) in parts.into_iter().enumerate() {
            last = last.max(end);
            for (offs, other, other_end) in parts.into_iter().skip(i + 1) {
                if start < other_end && other < end {
                    let expected = Expected::Outside(start as u64, end as u64);
                    return Err(word(Rule::I10, offs, expected, other as u64));
                }
            }
        }
        Ok(last)
    }

    /// Length of the dom record as the producer was built.
    #[must_use]
    pub const fn dom_size(&self) -> usize {
        self.dom_size
    }

    /// Start of the vcpu array.
    #[must_use]
    pub const fn vcpu_offs(&self) -> usize {
        self.vcpus.offs
    }

    /// Length of a vcpu record as the producer was built.
    #[must_use]
    pub const fn vcpu_size(&self) -> usize {
        self.vcpus.size
    }

    /// Distance between vcpu records.
    #[must_use]
    pub const fn vcpu_stride(&self) -> usize {
        self.vcpus.stride
    }

    /// Records in the vcpu array.
    #[must_use]
    pub const fn nr_vcpus(&self) -> u32 {
        self.vcpus.nr
    }

    /// First byte after the last part of the region; inside the mapping.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.end
    }

    /// Start of vcpu record `index`, or `None` past the end of the array.
    #[must_use]
    pub const fn vcpu_offset(&self, index: u32) -> Option<usize> {
        self.vcpus.offset(index)
    }

    /// The records of a kind. The dom record is an array of one; so is the domain's arch slot,
    /// and the vCPUs' arch slots are as many as there are vCPUs, if there are any.
    #[inline]
    #[must_use]
    pub const fn array(&self, kind: RecordKind) -> Array {
        match kind {
            RecordKind::Dom => Array { offs: 0, size: self.dom_size, stride: self.dom_size, nr: 1 },
            RecordKind::Vcpu => self.vcpus,
            RecordKind::Blk => self.blks,
            RecordKind::Net => self.nets,
            RecordKind::ArchDom => {
                let Section { offs, size } = self.arch_dom;
                Array { offs, size, stride: size, nr: if size == 0 { 0 } else { 1 } }
            }
            RecordKind::ArchVcpu => {
                let Section { offs, size } = self.arch_vcpu;
                let nr = if size == 0 { 0 } else { self.vcpus.nr };
                Array { offs: self.vcpus.offs + offs, size, stride: self.vcpus.stride, nr }
            }
            _ => {
                let ArrayWords { offs, size, stride, nr } = *self.beyond(kind);
                Array { offs: offs as usize, size: size as usize, stride: stride as usize, nr }
            }
        }
    }

    /// The words of a kind beyond the header; all are 0 for a kind that the region does not have.
    #[inline]
    const fn beyond(&self, kind: RecordKind) -> &ArrayWords {
        let [blk_queue, net_queue, arch_blk, arch_net, vcpu_hist, blk_hist, labels] = &self.beyond;
        match kind {
            RecordKind::BlkQueue => blk_queue,
            RecordKind::NetQueue => net_queue,
            RecordKind::ArchBlk => arch_blk,
            RecordKind::ArchNet => arch_net,
            RecordKind::VcpuHist => vcpu_hist,
            RecordKind::BlkHist => blk_hist,
            RecordKind::Labels => labels,
            RecordKind::Dom
            | RecordKind::Vcpu
            | RecordKind::Blk
            | RecordKind::Net
            | RecordKind::ArchDom
            | RecordKind::ArchVcpu => &ArrayWords::ABSENT,
        }
    }

    /// Takes in the words of a kind beyond the header; nothing for one of the header's.
    fn set_beyond(&mut self, kind: RecordKind, words: ArrayWords) {
        let place = RecordKind::OPTIONAL.iter().position(|known| *known == kind);
        if let Some(place) = place.and_then(|i| self.beyond.get_mut(i)) {
            *place = words;
        }
    }

    /// Where a vCPU's arch slot lies in the stride of its record.
    #[must_use]
    pub const fn arch_vcpu(&self) -> Section {
        self.arch_vcpu
    }

    /// Where the schema lies.
    #[must_use]
    pub const fn schema(&self) -> Section {
        self.schema
    }
}

/// The header word that holds the length of the dom record.
const DOM_SIZE_WORD: (usize, &str) = (dom::DOM_SIZE, "dom_size");

/// The error for the header word `field` at `offset`.
fn word(
    rule: Rule,
    (offset, field): (usize, &'static str),
    expected: Expected,
    found: impl Into<u64>,
) -> GeometryError {
    GeometryError::Word { rule, field, offset, expected, found: found.into() }
}

/// Checks that each of these header words is a multiple of 8 (I08).
fn eights<const N: usize>(words: [((usize, &'static str), u32); N]) -> Result<(), GeometryError> {
    match words.into_iter().find(|(_, found)| !found.is_multiple_of(8)) {
        Some((at, found)) => Err(word(Rule::I08, at, Expected::MultipleOf(8), found)),
        None => Ok(()),
    }
}

/// Checks the words of an array: its shape, and that it ends inside the mapping. Whether it
/// overlaps other parts is for [`Geometry::disjoint`].
fn array(at: &ArrayWordOffsets, words: &ArrayWords, mapped: u64) -> Result<Array, GeometryError> {
    let least = RECORD_HEADER_LEN as u64;
    if u64::from(words.size) < least {
        return Err(word(Rule::I05, at.size, Expected::AtLeast(least), words.size));
    }
    if words.stride < words.size {
        let least = Expected::AtLeast(u64::from(words.size));
        return Err(word(Rule::I05, at.stride, least, words.stride));
    }
    if words.nr == 0 || words.nr > at.max {
        return Err(word(Rule::I07, at.nr, Expected::Between(1, u64::from(at.max)), words.nr));
    }
    eights([(at.offs, words.offs), (at.size, words.size), (at.stride, words.stride)])?;
    let last = mapped.saturating_sub(u64::from(words.size));
    if u64::from(words.offs) > last {
        return Err(word(Rule::I06, at.offs, Expected::AtMost(last), words.offs));
    }
    // No wrap: each factor is below 2^32, so the product and the sum are below 2^64.
    let end = u64::from(words.offs) + u64::from(words.nr) * u64::from(words.stride);
    if end > mapped {
        return Err(word(Rule::I06, at.nr, Expected::ArrayEndAtMost(mapped), words.nr));
    }
    Ok(Array {
        offs: words.offs as usize,
        size: words.size as usize,
        stride: words.stride as usize,
        nr: words.nr,
    })
}

/// Checks an array that a region need not have.
fn optional_array(
    at: &ArrayWordOffsets,
    words: &ArrayWords,
    mapped: u64,
) -> Result<Array, GeometryError> {
    if words.is_absent() { Ok(Array::default()) } else { array(at, words, mapped) }
}

/// Checks the words of a section that a region need not have, but not where it ends: that depends
/// on what it is a part of.
fn section(
    at: &SectionWordOffsets,
    words: &SectionWords,
    least: usize,
) -> Result<Section, GeometryError> {
    if words.is_absent() {
        return Ok(Section::default());
    }
    eights([(at.offs, words.offs), (at.size, words.size)])?;
    // A slot that is too small for its header is not inside its area (I23).
    if (words.size as usize) < least {
        return Err(word(Rule::I23, at.size, Expected::AtLeast(least as u64), words.size));
    }
    Ok(Section { offs: words.offs as usize, size: words.size as usize })
}

/// Checks a section that lies in the mapping by itself.
fn mapped_section(
    at: &SectionWordOffsets,
    words: &SectionWords,
    least: usize,
    mapped: u64,
) -> Result<Section, GeometryError> {
    let section = section(at, words, least)?;
    if section.size == 0 {
        return Ok(section);
    }
    if u64::from(words.offs) >= mapped {
        let last = mapped.saturating_sub(least as u64);
        return Err(word(Rule::I06, at.offs, Expected::AtMost(last), words.offs));
    }
    // No wrap: both were 32 bits wide.
    if u64::from(words.offs) + u64::from(words.size) > mapped {
        return Err(word(Rule::I06, at.size, Expected::ArrayEndAtMost(mapped), words.size));
    }
    Ok(section)
}

/// Checks the vCPUs' arch slots, each of which lies in the stride of its vcpu record.
fn arch_vcpu(words: &SectionWords, vcpus: &Array) -> Result<Section, GeometryError> {
    let at = &ARCH_VCPU_WORDS;
    let section = section(at, words, RECORD_HEADER_LEN)?;
    if section.size > 0 && section.offs < vcpus.size {
        let least = Expected::AtLeast(vcpus.size as u64);
        return Err(word(Rule::I23, at.offs, least, words.offs));
    }
    let last = vcpus.stride.saturating_sub(RECORD_HEADER_LEN);
    if section.size > 0 && section.offs > last {
        return Err(word(Rule::I23, at.offs, Expected::AtMost(last as u64), words.offs));
    }
    // No wrap: both were 32 bits wide.
    if section.end() > vcpus.stride {
        let most = Expected::ArrayEndAtMost(vcpus.stride as u64);
        return Err(word(Rule::I23, at.size, most, words.size));
    }
    Ok(section)
}

#[cfg(test)]
mod tests;
