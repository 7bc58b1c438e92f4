//! Regions in the vCPU-only layout of Matias Vara Larsen's RFC v3: see
//! [`domstat_layout::rfc_v3`] for what it says and what it leaves open.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use domstat_layout::rfc_v3::{self, Geometry, GeometryError, Header, Record};
use domstat_layout::{Busy, CopyWidth, ReadMem, RecordKind};

use crate::attach::truncation::{Shrinkable, Truncated};
use crate::error::{AttachError, ReadError, StalledWriter};
use crate::read::patience::{Patience, Waiting};
use crate::region::mapping::Mapping;
use crate::region::{Backing, MappedFile};

/// A region in the layout of RFC v3, attached: mapped read-only, its header copied and validated.
pub struct LegacyRegion {
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    file: Option<File>,
    header: Header,
    geometry: Geometry,
    backing: Backing,
    patience: Patience,
}

impl MappedFile {
    /// Whether the file holds the layout of RFC v3, as far as its magic says.
    #[must_use]
    pub fn is_rfc_v3(&self) -> bool {
        rfc_v3::recognized(self.mem())
    }

    /// Validates the header of a region in the layout of RFC v3.
    ///
    /// # Errors
    /// [`AttachError::Legacy`] if it does not describe a usable region.
    pub fn attach_rfc_v3(self) -> Result<LegacyRegion, AttachError> {
        let (mapping, shrinkable, backing, file, what) = self.into_parts();
        LegacyRegion::validate(mapping, shrinkable, backing, Some(file), &what)
    }
}

impl LegacyRegion {
    /// Attaches to the region at `path`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        MappedFile::open(path)?.attach_rfc_v3()
    }

    /// Attaches to the region in `fd`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        MappedFile::from_fd(fd)?.attach_rfc_v3()
    }

    pub(crate) fn validate(
        mapping: Mapping,
        shrinkable: Option<Shrinkable>,
        backing: Backing,
        file: Option<File>,
        what: &str,
    ) -> Result<Self, AttachError> {
        let bad = |source| AttachError::Legacy { what: what.to_owned(), source };
        let mem = mapping.mem(CopyWidth::BASELINE);
        let mapped_len = mem.len();
        let header = Header::load(mem).ok_or(bad(GeometryError::TooShort { mapped_len }))?;
        let geometry = Geometry::validate(&header, mapped_len).map_err(bad)?;
        let patience = Patience::default();
        let region = Self { shrinkable, mapping, file, header, geometry, backing, patience };
        region.intact().map_err(AttachError::Truncated)?;
        Ok(region)
    }

    /// Whether the memory is still the file's; reads ask by themselves.
    ///
    /// # Errors
    /// [`Truncated`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Truncated> {
        self.shrinkable.as_ref().map_or(Ok(()), |s| s.check(&self.file))
    }

    /// Sets how long reads wait for a writer that is in mid-update.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Reads the record of vCPU `index`, as of one write; `None` past the last record that fits
    /// the mapping.
    ///
    /// # Errors
    /// [`ReadError`] when patience is at its end, or the memory went away.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<Result<Record, ReadError>> {
        self.read(index, &mut Waiting::new(self.patience))
    }

    /// Reads every record that fits the mapping, in order. Waits for all writers together no
    /// longer than for one.
    pub fn vcpus(&self) -> impl Iterator<Item = Result<Record, ReadError>> {
        let mut waiting = Waiting::new(self.patience);
        (0..self.geometry.nr_records()).map_while(move |index| self.read(index, &mut waiting))
    }

    fn read(&self, index: u32, waiting: &mut Waiting) -> Option<Result<Record, ReadError>> {
        let mem = self.mem();
        let read = match self.geometry.try_read(mem, index)? {
            Ok(record) => Ok(record),
            Err(busy) => {
                // A record that was read once lies inside: `None` cannot come any more.
                let again = || self.geometry.try_read(mem, index).unwrap_or(Err(busy));
                let stalled = |Busy { seq }, retries, waited| {
                    let (record, group) = (Some(RecordKind::Vcpu), Some("running time"));
                    StalledWriter { record, index: Some(index), group, seq, retries, waited }
                };
                waiting.retry(busy, again, stalled)
            }
        };
        Some(self.intact().map_err(ReadError::from).and(read.map_err(ReadError::from)))
    }

    /// Where the records lie.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The header as it was when the region was attached.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the bytes come from.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// The raw shared memory, for tools that judge it.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(CopyWidth::BASELINE)
    }
}
