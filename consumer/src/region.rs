//! Attaching to a region.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::header::{DOM_HEADER_LEN, dom};
use domstat_layout::{
    Clock, CopyWidth, DomHeader, Geometry, GeometryError, MAX_REGION_LEN, Ns, ReadMem, RecordKind,
    State,
};

use crate::intact::Shrinkable;
use crate::mapped::{Mapped, duplicate, guard, is_held, is_lasting, is_sealed, length};
use crate::mapping::{Mapping, Reserved};
use crate::read::Record;
use crate::{AttachError, Dom, Lost, Patience};

/// What a region's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file that is sealed against shrinking: reads cannot fault.
    Sealed,
    /// A file that its owner can truncate: every read asks whether it did.
    File,
    /// One sealed file for each record.
    Frames,
    /// Pages that the caller mapped.
    Pages,
    /// Frames of the hypervisor's, which only it writes.
    Resource,
}

/// A region, attached: mapped read-only, its header copied and validated.
pub struct Region {
    /// Ends before the mapping does. `None` if nothing can take the memory away.
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    header: DomHeader,
    geometry: Geometry,
    backing: Backing,
    /// Kept for who wants to look at the file itself; `None` for pages.
    files: Vec<OwnedFd>,
    patience: Patience,
    form: CopyWidth,
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
        Mapped::open(path)?.attach()
    }

    /// Attaches to the region in `fd`, for example a memfd that the producer passed on.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        Mapped::from_fd(fd)?.attach()
    }

    /// Attaches to a page-granular region whose records have frames of their own: `dom` holds the
    /// dom record and the domain's arch slot, `others` one vCPU record each, in order, and last,
    /// if the region has more than these, a frame with all that follows. They are mapped side by
    /// side.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do.
    pub fn from_frames(dom: impl AsFd, others: &[impl AsFd]) -> Result<Self, AttachError> {
        let what = "the dom record's frame";
        let mut files = vec![duplicate(&dom)?];
        let file = File::from(duplicate(&dom)?);
        let mut lasting = is_lasting(&file);
        let dom_len = length(&file, what)?;
        if dom_len < DOM_HEADER_LEN as u64 {
            return Err(AttachError::Empty { what: what.to_owned() });
        }
        let first = Mapping::of_file(&file, DOM_HEADER_LEN)
            .map_err(|source| AttachError::Os { action: format!("map {what}"), source })?;
        let first_guard = if lasting { None } else { guard(&first, vec![DOM_HEADER_LEN as u64])? };
        let bad = |source| AttachError::Geometry { what: what.to_owned(), source };
        let short = GeometryError::TooShort { mapped_len: 0 };
        let header = DomHeader::load(first.mem(CopyWidth::BASELINE)).ok_or(bad(short))?;
        first_guard.map_or(Ok(()), |s| s.check([&file])).map_err(AttachError::Lost)?;
        let geometry = Geometry::validate(&header, MAX_REGION_LEN).map_err(bad)?;
        let vcpus = geometry.array(RecordKind::Vcpu);
        let frame = |index, found, expected| AttachError::Frame { index, found, expected };
        let page = rustix::param::page_size();
        let whole_pages = vcpus.offs.is_multiple_of(page) && vcpus.stride.is_multiple_of(page);
        if !whole_pages || dom_len < vcpus.offs as u64 {
            return Err(frame(0, dom_len, vcpus.offs.next_multiple_of(page) as u64));
        }
        // Where each frame goes, and how much of it is looked at.
        let mut places = (0..vcpus.nr)
            .filter_map(|i| Some((vcpus.offset(i)?, vcpus.stride)))
            .collect::<Vec<_>>();
        if geometry.end() > vcpus.end() {
            places.push((vcpus.end(), geometry.end() - vcpus.end()));
        }
        if others.len() != places.len() {
            return Err(frame(others.len(), 0, vcpus.stride as u64));
        }
        let os = |source| AttachError::Os { action: "map the frames".into(), source };
        let mut range = Reserved::new(geometry.end().next_multiple_of(page)).map_err(os)?;
        range.map(0, vcpus.offs, &file).map_err(os)?;
        let mut lens = vec![vcpus.offs as u64];
        for (i, (fd, (at, len))) in others.iter().zip(places).enumerate() {
            let file = File::from(duplicate(fd)?);
            lasting &= is_lasting(&file);
            let found = length(&file, "a record's frame")?;
            if found < len as u64 || !range.map(at, len, &file).map_err(os)? {
                return Err(frame(i + 1, found, len as u64));
            }
            files.push(file.into());
            lens.push(len as u64);
        }
        // Frames that can be truncated are no better than a file.
        let sealed = files.iter().all(is_sealed);
        let backing = if sealed { Backing::Frames } else { Backing::File };
        let mapping = Mapping::Frames(range);
        let shrinkable = if lasting { None } else { guard(&mapping, lens)? };
        Self::validate(mapping, shrinkable, backing, files, what)
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
            Err(lost) => AttachError::Lost(lost),
        };
        let form = CopyWidth::widest();
        let mem = mapping.mem(form);
        let mapped_len = mem.len();
        let header = DomHeader::load(mem).ok_or(bad(GeometryError::TooShort { mapped_len }))?;
        let geometry = Geometry::validate(&header, mapped_len).map_err(bad)?;
        intact().map_err(AttachError::Lost)?;
        let patience = Patience::default();
        Ok(Self { shrinkable, mapping, header, geometry, backing, files, patience, form })
    }

    /// Sets how long reads wait for a writer that is in mid-update.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long reads wait from now on.
    pub const fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Sets how words are copied; the default is the widest form that this CPU has.
    #[must_use]
    pub fn with_form(mut self, form: CopyWidth) -> Self {
        self.form = form;
        self
    }

    /// The dom record.
    #[must_use]
    pub fn dom(&self) -> Dom<'_> {
        // The geometry proves that the record is inside; an empty one would have no groups.
        Dom::new(self, self.sub(0, self.geometry.dom_size()))
    }

    /// A record by its kind and index, for copies by descriptor.
    pub(crate) fn record(&self, kind: RecordKind, index: u32) -> Option<Record<'_>> {
        let array = self.geometry.array(kind);
        let mem = self.sub(array.offset(index)?, array.size);
        let index = (kind != RecordKind::Dom).then_some(index);
        Some(Record { region: self, mem, index })
    }

    pub(crate) fn sub(&self, offset: usize, len: usize) -> ReadMem<'_> {
        let mem = self.mapping.mem(self.form);
        mem.sub(offset, len).or_else(|| mem.sub(0, 0)).unwrap_or(mem)
    }

    /// Whether the domain is live, as of now. A region that was [`Lost`] has no state.
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
    /// [`Lost`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Lost> {
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

    /// Now on the region's clock; `None` if this host cannot read it.
    #[must_use]
    pub fn now(&self) -> Option<Ns> {
        crate::now(self.clock())
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

    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }
}
