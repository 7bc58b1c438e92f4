//! Where the records of a region go.

use domstat_layout::latest::{DOM_SIZE, VCPU_SIZE};
use domstat_layout::{DomHeader, Geometry, MAX_VCPUS};

use crate::PlanError;

/// How records are placed. A consumer cannot tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// As close together as the alignment allows: one run of pages.
    Packed,
    /// Each record at the start of a page, so that it can have frames of its own.
    PageGranular,
}

/// The header words that shape a region, checked against the rules of the ABI.
///
/// Holding one proves that the words satisfy I03 to I09 and that [`Plan::total_len`] bytes hold
/// the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) geometry: Geometry,
    pub(crate) header: DomHeader,
    total_len: usize,
}

/// What may be chosen; `None` means the default of the placement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) nr_vcpus: u32,
    pub(crate) placement: Placement,
    pub(crate) align: Option<u32>,
    pub(crate) vcpu_offs: Option<u32>,
    pub(crate) vcpu_stride: Option<u32>,
}

/// Default alignment of packed records: a cache line of every architecture in use but s390x.
const PACKED_ALIGN: u32 = 64;

impl Plan {
    pub(crate) fn new(wishes: Wishes, page_size: usize) -> Result<Self, PlanError> {
        if wishes.nr_vcpus == 0 || wishes.nr_vcpus > MAX_VCPUS {
            return Err(PlanError::Vcpus { found: wishes.nr_vcpus, max: MAX_VCPUS });
        }
        let page = u32::try_from(page_size).map_err(|_| PlanError::TooLarge)?;
        let (default_align, least) = match wishes.placement {
            Placement::Packed => (PACKED_ALIGN, 8),
            Placement::PageGranular => (page, page),
        };
        let align = wishes.align.unwrap_or(default_align);
        if !align.is_power_of_two() || align < least {
            return Err(PlanError::Align { found: align, least });
        }
        let dom_size = u32::try_from(DOM_SIZE).map_err(|_| PlanError::TooLarge)?;
        let vcpu_size = u32::try_from(VCPU_SIZE).map_err(|_| PlanError::TooLarge)?;
        let place = |word, size: u32, wish: Option<u32>| match wish {
            None => size.checked_next_multiple_of(align).ok_or(PlanError::TooLarge),
            Some(found) if found < size || !found.is_multiple_of(align) => {
                Err(PlanError::Word { word, found, least: size, align })
            }
            Some(found) => Ok(found),
        };
        let vcpu_offs = place("vcpu_offs", dom_size, wishes.vcpu_offs)?;
        let vcpu_stride = place("vcpu_stride", vcpu_size, wishes.vcpu_stride)?;
        let header = DomHeader {
            magic: domstat_layout::DOM_MAGIC,
            dom_size,
            vcpu_offs,
            vcpu_size,
            vcpu_stride,
            nr_vcpus: wishes.nr_vcpus,
            align,
            incarnation: 0,
            revision: domstat_layout::latest::REVISION,
            clock: 0,
        };
        // The consumer's own validation has the last word on what was planned.
        let geometry = Geometry::validate(&header, usize::MAX).map_err(|_| PlanError::TooLarge)?;
        let total_len =
            geometry.end().checked_next_multiple_of(page_size).ok_or(PlanError::TooLarge)?;
        Ok(Self { geometry, header, total_len })
    }

    /// Where the records lie.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of the whole region: whole pages.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len
    }
}
