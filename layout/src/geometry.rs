//! Header validation: from what the other side alleges to a shape that reads can rely on.

use core::fmt;

use crate::header::{DOM_HEADER_LEN, DOM_MAGIC, DomHeader, MAX_VCPUS, RECORD_HEADER_LEN, dom};

/// The validated shape of a region.
///
/// Holding one proves, for the mapped length it was validated against: the dom record and every
/// vcpu record lie inside the mapping, hold at least their headers, do not overlap each other, and
/// start at multiples of 8. It says nothing about the bytes in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    dom_size: usize,
    vcpu_offs: usize,
    vcpu_size: usize,
    vcpu_stride: usize,
    nr_vcpus: u32,
}

/// Why a header cannot be used, with what a reader would have to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// Fewer bytes than a dom header.
    #[error("the region has {mapped_len} bytes, fewer than the {DOM_HEADER_LEN} of a header")]
    TooShort {
        /// Bytes there are.
        mapped_len: usize,
    },
    /// `magic` is zero: the producer has not published yet.
    #[error("the region is not published yet (magic is 0)")]
    NotReady,
    /// The magic of a producer with the other byte order.
    #[error("the region is big-endian: its producer does not follow the layout")]
    WrongEndian,
    /// Not a region, or one of an incompatible ABI.
    #[error("not a domstat region: magic at byte 0 is {found:#010x}, expected {DOM_MAGIC:#010x}")]
    WrongMagic {
        /// The word found.
        found: u32,
    },
    /// A header word is out of its bounds.
    #[error("header word {field} at byte {offset} is {found}, expected {expected}")]
    Word {
        /// The rule of the ABI that it breaks, for example `I04`.
        rule: &'static str,
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

/// What a header word should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
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
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(n) => write!(f, "at least {n}"),
            Self::AtMost(n) => write!(f, "at most {n}"),
            Self::Between(a, b) => write!(f, "{a} to {b}"),
            Self::MultipleOf(n) => write!(f, "a multiple of {n}"),
            Self::ArrayEndAtMost(n) => write!(f, "an array that ends at byte {n} or before"),
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
        let word = |rule, field, offset, expected, found: u32| {
            Err(GeometryError::Word { rule, field, offset, expected, found: u64::from(found) })
        };
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
            return word("I03", "dom_size", dom::DOM_SIZE, range, h.dom_size);
        }
        if h.vcpu_offs < h.dom_size {
            let least = Expected::AtLeast(u64::from(h.dom_size));
            return word("I04", "vcpu_offs", dom::VCPU_OFFS, least, h.vcpu_offs);
        }
        if (h.vcpu_size as usize) < RECORD_HEADER_LEN {
            let least = Expected::AtLeast(RECORD_HEADER_LEN as u64);
            return word("I05", "vcpu_size", dom::VCPU_SIZE, least, h.vcpu_size);
        }
        if h.vcpu_stride < h.vcpu_size {
            let least = Expected::AtLeast(u64::from(h.vcpu_size));
            return word("I05", "vcpu_stride", dom::VCPU_STRIDE, least, h.vcpu_stride);
        }
        if h.nr_vcpus == 0 || h.nr_vcpus > MAX_VCPUS {
            let range = Expected::Between(1, u64::from(MAX_VCPUS));
            return word("I07", "nr_vcpus", dom::NR_VCPUS, range, h.nr_vcpus);
        }
        let words = [
            ("dom_size", dom::DOM_SIZE, h.dom_size),
            ("vcpu_offs", dom::VCPU_OFFS, h.vcpu_offs),
            ("vcpu_size", dom::VCPU_SIZE, h.vcpu_size),
            ("vcpu_stride", dom::VCPU_STRIDE, h.vcpu_stride),
        ];
        for (field, offset, found) in words {
            if !found.is_multiple_of(8) {
                return word("I08", field, offset, Expected::MultipleOf(8), found);
            }
        }
        // No wrap: each factor is below 2^32, so the product and the sum are below 2^64.
        let array_end = u64::from(h.vcpu_offs) + u64::from(h.nr_vcpus) * u64::from(h.vcpu_stride);
        if array_end > mapped {
            let end = Expected::ArrayEndAtMost(mapped);
            return word("I06", "nr_vcpus", dom::NR_VCPUS, end, h.nr_vcpus);
        }
        Ok(Self {
            dom_size: h.dom_size as usize,
            vcpu_offs: h.vcpu_offs as usize,
            vcpu_size: h.vcpu_size as usize,
            vcpu_stride: h.vcpu_stride as usize,
            nr_vcpus: h.nr_vcpus,
        })
    }

    /// Length of the dom record as the producer was built.
    #[must_use]
    pub const fn dom_size(&self) -> usize {
        self.dom_size
    }

    /// Start of the vcpu array.
    #[must_use]
    pub const fn vcpu_offs(&self) -> usize {
        self.vcpu_offs
    }

    /// Length of a vcpu record as the producer was built.
    #[must_use]
    pub const fn vcpu_size(&self) -> usize {
        self.vcpu_size
    }

    /// Distance between vcpu records.
    #[must_use]
    pub const fn vcpu_stride(&self) -> usize {
        self.vcpu_stride
    }

    /// Records in the vcpu array.
    #[must_use]
    pub const fn nr_vcpus(&self) -> u32 {
        self.nr_vcpus
    }

    /// First byte after the vcpu array; inside the mapping.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.vcpu_offs + self.nr_vcpus as usize * self.vcpu_stride
    }

    /// Start of vcpu record `index`, or `None` past the end of the array.
    #[must_use]
    pub const fn vcpu_offset(&self, index: u32) -> Option<usize> {
        if index < self.nr_vcpus {
            Some(self.vcpu_offs + index as usize * self.vcpu_stride)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn good() -> DomHeader {
        DomHeader {
            magic: DOM_MAGIC,
            dom_size: 400,
            vcpu_offs: 448,
            vcpu_size: 96,
            vcpu_stride: 128,
            nr_vcpus: 4,
            align: 64,
            incarnation: 1,
            revision: 1,
            clock: 1,
        }
    }

    fn rule(header: DomHeader, len: usize) -> Option<&'static str> {
        match Geometry::validate(&header, len) {
            Err(GeometryError::Word { rule, .. }) => Some(rule),
            _ => None,
        }
    }

    #[test]
    fn bounds_are_exact() {
        assert!(Geometry::validate(&good(), 448 + 4 * 128).is_ok());
        assert_eq!(rule(good(), 448 + 4 * 128 - 1), Some("I06"));
        assert_eq!(rule(DomHeader { dom_size: 120, ..good() }, 4096), Some("I03"));
        assert_eq!(rule(DomHeader { dom_size: 4104, ..good() }, 4096), Some("I03"));
        assert_eq!(rule(DomHeader { vcpu_offs: 392, ..good() }, 4096), Some("I04"));
        assert_eq!(rule(DomHeader { vcpu_size: 24, ..good() }, 4096), Some("I05"));
        assert_eq!(rule(DomHeader { vcpu_stride: 88, ..good() }, 4096), Some("I05"));
        assert_eq!(rule(DomHeader { nr_vcpus: 0, ..good() }, 4096), Some("I07"));
        assert_eq!(rule(DomHeader { nr_vcpus: u32::MAX, ..good() }, 4096), Some("I07"));
        assert_eq!(rule(DomHeader { vcpu_offs: 452, ..good() }, 4096), Some("I08"));
        let swapped = DomHeader { magic: DOM_MAGIC.swap_bytes(), ..good() };
        assert_eq!(Geometry::validate(&swapped, 4096), Err(GeometryError::WrongEndian));
        let unpublished = DomHeader { magic: 0, ..good() };
        assert_eq!(Geometry::validate(&unpublished, 4096), Err(GeometryError::NotReady));
        assert!(matches!(Geometry::validate(&good(), 127), Err(GeometryError::TooShort { .. })));
    }

    proptest! {
        /// Whatever the header says, an accepted geometry stays inside the mapping.
        #[test]
        fn accepted_means_inside(
            words in prop::array::uniform5(prop_oneof![0u32..10_000, any::<u32>()]),
            len in 0usize..200_000,
        ) {
            let [dom_size, vcpu_offs, vcpu_size, vcpu_stride, nr_vcpus] = words.map(|w| w & !7);
            let header = DomHeader {
                dom_size, vcpu_offs, vcpu_size, vcpu_stride, nr_vcpus: nr_vcpus >> 3, ..good()
            };
            if let Ok(g) = Geometry::validate(&header, len) {
                prop_assert!(g.dom_size() >= DOM_HEADER_LEN && g.dom_size() <= g.vcpu_offs());
                let last = g.vcpu_offset(g.nr_vcpus() - 1).unwrap();
                prop_assert!(last + g.vcpu_size() <= g.end() && g.end() <= len);
                prop_assert!(last.is_multiple_of(8));
                prop_assert_eq!(g.vcpu_offset(g.nr_vcpus()), None);
            }
        }
    }
}
