//! Regions in pages that the caller has mapped.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::Region;
use super::file::Backing;
use super::mapping::Mapping;
use crate::error::AttachError;
use crate::legacy::LegacyRegion;

impl Region {
    /// Attaches to a region in pages that the caller has mapped, for example a hypervisor
    /// resource.
    ///
    /// # Safety
    /// Until the region is dropped, the `len` bytes at `base` are mapped and readable, `base` is
    /// a multiple of 8, and nothing in this process writes them but through atomics.
    ///
    /// # Errors
    /// [`AttachError::Geometry`] if the header does not describe a usable region.
    pub unsafe fn from_pages(base: NonNull<u8>, len: usize) -> Result<Self, AttachError> {
        let mapping = Mapping::Caller { base, len };
        Self::validate(mapping, None, Backing::Pages, Vec::new(), "the pages")
    }
}

impl LegacyRegion {
    /// Attaches to a region in pages that the caller has mapped: the resource of the hypervisor.
    ///
    /// # Safety
    /// As for [`Region::from_pages`].
    ///
    /// # Errors
    /// [`AttachError::Legacy`] if the header does not describe a usable region.
    pub unsafe fn from_pages(base: NonNull<u8>, len: usize) -> Result<Self, AttachError> {
        Self::validate(Mapping::Caller { base, len }, None, Backing::Pages, None, "the pages")
    }
}
