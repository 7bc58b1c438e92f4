//! Regions: mapped read-only and validated.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::header::dom;
use domstat_layout::{
    Clock, CopyWidth, DomHeader, Geometry, GeometryError, Ns, ReadMem, RecordTable,
    RecordTableError, State,
};

use crate::attach::time_namespace::ProducerClocks;
use crate::attach::truncation::{Shrinkable, Truncated};
use crate::clock;
use crate::error::AttachError;
use crate::read::patience::{Patience, SharedPatience};

pub(crate) mod file;
mod frames;
pub(crate) mod mapping;
mod pages;
mod unvalidated;
mod xen;

use file::is_held;
use mapping::Mapping;

pub use file::Backing;
pub use unvalidated::MappedFile;

/// A region, attached: mapped read-only, its header copied and validated.
pub struct Region {
    /// Ends before the mapping does. `None` if nothing can take the memory away.
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    header: DomHeader,
    geometry: Geometry,
    /// Whether the kinds of records beyond the header can be used.
    beyond_header: Result<(), RecordTableError>,
    backing: Backing,
    /// Kept for who wants to look at the file itself; `None` for pages.
    files: Vec<OwnedFd>,
    patience: SharedPatience,
    form: CopyWidth,
    clocks: ProducerClocks,
}

/// The words of a region that change during its life, as they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Live, or retired; `None` for a number that this build does not know.
    pub state: Option<State>,
    /// How often a discrete event was announced.
    pub notify: u32,
    /// Whether the region is still the one that was attached.
    pub same_incarnation: bool,
}

impl Region {
    /// Attaches to the region at `path`: a producer's file, or an entry made by
    /// `domstat_producer`'s `announce`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        MappedFile::open(path)?.attach()
    }

    /// Attaches to the region in `fd`, for example a memfd that the producer passed on.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        MappedFile::from_fd(fd)?.attach()
    }

    pub(crate) fn validate(
        mapping: Mapping,
        shrinkable: Option<Shrinkable>,
        backing: Backing,
        files: Vec<OwnedFd>,
        what: &str,
    ) -> Result<Self, AttachError> {
        let intact = || shrinkable.as_ref().map_or(Ok(()), |s| s.check(&files));
        let bad = |source| match intact() {
            Ok(()) => AttachError::Geometry { what: what.to_owned(), source },
            Err(lost) => AttachError::Truncated(lost),
        };
        let form = CopyWidth::widest();
        let mem = mapping.mem(form);
        let mapped_len = mem.len();
        let header = DomHeader::load(mem).ok_or(bad(GeometryError::TooShort { mapped_len }))?;
        let geometry = Geometry::validate(&header, mapped_len).map_err(bad)?;
        // What is wrong there spoils nothing of what the header describes.
        let whole = match geometry.schema() {
            schema if schema.size == 0 => Ok(geometry),
            schema => RecordTable::load(mem, schema)
                .and_then(|table| geometry.with_records(&table, mapped_len)),
        };
        let beyond_header = whole.map(|_| ());
        let geometry = whole.unwrap_or(geometry);
        intact().map_err(AttachError::Truncated)?;
        let patience = SharedPatience::new(Patience::default());
        let clocks = ProducerClocks::default();
        Ok(Self {
            shrinkable,
            mapping,
            header,
            geometry,
            beyond_header,
            backing,
            files,
            patience,
            form,
            clocks,
        })
    }

    /// Sets how long reads wait for a writer that is in mid-update.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        self.patience.set(patience);
        self
    }

    /// Sets how long reads wait from now on.
    pub fn set_patience(&self, patience: Patience) {
        self.patience.set(patience);
    }

    /// Sets how words are copied; the default is the widest form that this CPU has. Groups of fewer
    /// than 64 bytes, read one by one, are copied in no wider form than the baseline.
    #[must_use]
    pub fn with_form(mut self, form: CopyWidth) -> Self {
        self.form = form;
        self
    }

    /// Sets the clocks by which the producer tells the time.
    pub(crate) fn with_clocks(mut self, clocks: ProducerClocks) -> Self {
        self.clocks = clocks;
        self
    }

    pub(crate) fn sub(&self, offset: usize, len: usize) -> ReadMem<'_> {
        let mem = self.mapping.mem(self.form);
        mem.sub(offset, len).or_else(|| mem.sub(0, 0)).unwrap_or(mem)
    }

    /// Whether the domain is live, as of now. A region that was [`Truncated`] has no state.
    #[must_use]
    pub fn status(&self) -> Status {
        let mem = self.mapping.mem(self.form);
        let word = |offset| mem.load_published(offset).unwrap_or(0);
        let mut status = Status {
            state: State::from_number(word(dom::STATE)),
            notify: word(dom::NOTIFY),
            same_incarnation: mem.load_u64(dom::INCARNATION) == Some(self.header.incarnation),
        };
        if self.intact().is_err() {
            (status.state, status.same_incarnation) = (None, false);
        }
        status
    }

    /// Whether the memory is still the file's: reads ask by themselves, and who looks at
    /// [`Region::mem`] asks afterwards.
    ///
    /// # Errors
    /// [`Truncated`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Truncated> {
        match &self.shrinkable {
            None => Ok(()),
            Some(shrinkable) => shrinkable.check(&self.files),
        }
    }

    /// Whether a producer holds the file: it keeps a lock on it for as long as it lives. `None` for
    /// what is no plain file; there the memory goes with its producer. `None` also where locks
    /// cannot be asked for.
    ///
    /// A producer that is not of this project may keep no lock.
    #[must_use]
    pub fn is_held(&self) -> Option<bool> {
        is_held(self.backing, self.files.first()?.as_fd())
    }

    /// Whether something can take the memory away.
    #[inline(always)]
    pub(crate) const fn can_be_lost(&self) -> bool {
        self.shrinkable.is_some()
    }

    /// Where the records lie.
    #[must_use]
    pub const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Whether the kinds of records beyond the header were taken in: shares of devices, distributions,
    /// labels and arch slots of devices. If they were not, the region has none of them for this
    /// reader, and all that the header describes.
    ///
    /// # Errors
    /// [`RecordTableError`]: what is wrong with the schema's table of records.
    pub const fn beyond_header(&self) -> Result<(), RecordTableError> {
        self.beyond_header
    }

    /// The header as it was when the region was attached.
    #[must_use]
    pub const fn header(&self) -> &DomHeader {
        &self.header
    }

    /// What every point in time in the region counts.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        Clock::from_number(self.header.clock)
    }

    /// Now on the region's clock; `None` if this host cannot read it. That of a producer in another
    /// time namespace is its own, where [`Attachment`](crate::Attachment) knows the process.
    #[must_use]
    pub fn now(&self) -> Option<Ns> {
        let clock = self.clock();
        self.clocks.at(clock, clock::now(clock)?)
    }

    /// What the bytes come from.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// The files behind the region: one, one for each record, or none.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }

    /// The raw shared memory, for tools that judge it.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(self.form)
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience.get()
    }
}

impl MappedFile {
    /// Validates the header.
    ///
    /// # Errors
    /// [`AttachError::Geometry`] if it does not describe a usable region.
    pub fn attach(self) -> Result<Region, AttachError> {
        let (mapping, shrinkable, backing, file, what) = self.into_parts();
        Region::validate(mapping, shrinkable, backing, vec![file.into()], &what)
    }
}
