//! Regions in the vCPU-only layout of Matias Vara Larsen's RFC v3: see
//! [`domstat_layout::rfc_v3`] for what it says and what it leaves open.

use std::os::fd::OwnedFd;
use std::path::Path;

use domstat_layout::rfc_v3::{self, Geometry, GeometryError, Header, Record};
use domstat_layout::{Busy, Form, ReadMem, RecordKind};

use crate::mapping::Mapping;
use crate::read::Waiting;
use crate::{AttachError, Backing, Mapped, Patience, WriterStalled};

/// A region in the layout of RFC v3, attached: mapped read-only, its header copied and validated.
pub struct LegacyRegion {
    mapping: Mapping,
    header: Header,
    geometry: Geometry,
    backing: Backing,
    patience: Patience,
}

impl Mapped {
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
        let (mapping, backing, what) = self.into_parts();
        LegacyRegion::validate(mapping, backing, &what)
    }
}

impl LegacyRegion {
    /// Attaches to the region at `path`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        Mapped::open(path)?.attach_rfc_v3()
    }

    /// Attaches to the region in `fd`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        Mapped::from_fd(fd)?.attach_rfc_v3()
    }

    pub(crate) fn validate(
        mapping: Mapping,
        backing: Backing,
        what: &str,
    ) -> Result<Self, AttachError> {
        let bad = |source| AttachError::Legacy { what: what.to_owned(), source };
        let mem = mapping.mem(Form::BASELINE);
        let mapped_len = mem.len();
        let header = Header::load(mem).ok_or(bad(GeometryError::TooShort { mapped_len }))?;
        let geometry = Geometry::validate(&header, mapped_len).map_err(bad)?;
        Ok(Self { mapping, header, geometry, backing, patience: Patience::default() })
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
    /// [`WriterStalled`] when patience is at its end.
    #[must_use]
    pub fn vcpu(&self, index: u32) -> Option<Result<Record, WriterStalled>> {
        self.read(index, &mut Waiting::new(self.patience))
    }

    /// Reads every record that fits the mapping, in order. Waits for all writers together no
    /// longer than for one.
    pub fn vcpus(&self) -> impl Iterator<Item = Result<Record, WriterStalled>> {
        let mut waiting = Waiting::new(self.patience);
        (0..self.geometry.nr_records()).map_while(move |index| self.read(index, &mut waiting))
    }

    fn read(&self, index: u32, waiting: &mut Waiting) -> Option<Result<Record, WriterStalled>> {
        let mem = self.mem();
        match self.geometry.try_read(mem, index)? {
            Ok(record) => Some(Ok(record)),
            Err(busy) => {
                // A record that was read once lies inside: `None` cannot come any more.
                let again = || self.geometry.try_read(mem, index).unwrap_or(Err(busy));
                let stalled = |Busy { seq }, retries, waited| {
                    let (record, group) = (RecordKind::Vcpu, "running time");
                    WriterStalled { record, index: Some(index), group, seq, retries, waited }
                };
                Some(waiting.retry(busy, again, stalled))
            }
        }
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
        self.mapping.mem(Form::BASELINE)
    }
}
