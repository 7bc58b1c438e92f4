//! Attaching to a region.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use domstat_layout::header::{DOM_HEADER_LEN, dom};
use domstat_layout::{
    Clock, DomHeader, Form, Geometry, GeometryError, MAX_DEVICES, MAX_VCPUS, Ns, ReadMem,
    RecordKind, State,
};
use rustix::fs::{FileType, Mode, OFlags, SealFlags};

use crate::intact::Shrinkable;
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
    form: Form,
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

/// No region is longer: what the largest strides that the header can express would need.
const MAX_LEN: u64 = u32::MAX as u64 * (MAX_VCPUS as u64 + 2 * MAX_DEVICES as u64 + 3);

/// A file mapped read-only, before anything in it is believed. For tools that judge what a
/// [`Region`] would refuse.
pub struct Mapped {
    shrinkable: Option<Shrinkable>,
    mapping: Mapping,
    backing: Backing,
    file: File,
    what: String,
}

impl Mapped {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AttachError> {
        let path = path.as_ref();
        let owned = || path.to_owned();
        // NONBLOCK: opening a FIFO without a writer would wait for one.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound if path.is_symlink() => {
                AttachError::ProducerGone { path: owned() }
            }
            io::ErrorKind::NotFound => AttachError::NotFound { path: owned() },
            io::ErrorKind::PermissionDenied => AttachError::NotPermitted { path: owned() },
            _ => AttachError::Os { action: format!("open {}", path.display()), source: e.into() },
        })?;
        Self::from_file(File::from(fd), path.display().to_string())
    }

    /// Maps the file behind `fd`.
    ///
    /// # Errors
    /// [`AttachError`], which says what to do; never for what the bytes say.
    pub fn from_fd(fd: impl Into<OwnedFd>) -> Result<Self, AttachError> {
        Self::from_file(File::from(fd.into()), "the descriptor".to_owned())
    }

    fn from_file(file: File, what: String) -> Result<Self, AttachError> {
        // Before its length is looked at: a seal cannot be taken off.
        let (sealed, lasting) = (is_sealed(&file), is_lasting(&file));
        let found = length(&file, &what)?;
        if found == 0 {
            return Err(AttachError::Empty { what });
        }
        let len = usize::try_from(found.min(MAX_LEN)).unwrap_or(usize::MAX);
        let mapping = Mapping::of_file(&file, len)
            .map_err(|source| AttachError::Os { action: format!("map {what}"), source })?;
        let backing = if sealed { Backing::Sealed } else { Backing::File };
        let shrinkable = if lasting { None } else { guard(&mapping, vec![len as u64])? };
        let mapped = Self { shrinkable, mapping, backing, file, what };
        mapped.intact().map_err(AttachError::Lost)?;
        Ok(mapped)
    }

    /// What was mapped in another way.
    pub(crate) fn of_mapping(mapping: Mapping, backing: Backing, file: File, what: String) -> Self {
        Self { shrinkable: None, mapping, backing, file, what }
    }

    /// The raw shared memory. If the file can be truncated, ask [`Mapped::intact`] after what was
    /// read.
    #[must_use]
    pub fn mem(&self) -> ReadMem<'_> {
        self.mapping.mem(Form::BASELINE)
    }

    /// Whether everything read so far was the file's.
    ///
    /// # Errors
    /// [`Lost`] if the file was truncated: zeros may have been read in its place.
    pub fn intact(&self) -> Result<(), Lost> {
        self.shrinkable.as_ref().map_or(Ok(()), |s| s.check([&self.file]))
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Validates the header.
    ///
    /// # Errors
    /// [`AttachError::Geometry`] if it does not describe a usable region.
    pub fn attach(self) -> Result<Region, AttachError> {
        let Self { shrinkable, mapping, backing, file, what } = self;
        Region::validate(mapping, shrinkable, backing, vec![file.into()], &what)
    }

    /// The mapping, what its bytes come from, and a name for them.
    pub(crate) fn into_parts(self) -> (Mapping, Option<Shrinkable>, Backing, File, String) {
        (self.mapping, self.shrinkable, self.backing, self.file, self.what)
    }
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
        let header = DomHeader::load(first.mem(Form::BASELINE)).ok_or(bad(short))?;
        first_guard.map_or(Ok(()), |s| s.check([&file])).map_err(AttachError::Lost)?;
        let geometry = Geometry::validate(&header, usize::MAX).map_err(bad)?;
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
        let form = Form::widest();
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
    pub fn with_form(mut self, form: Form) -> Self {
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
    #[inline]
    pub fn intact(&self) -> Result<(), Lost> {
        match &self.shrinkable {
            None => Ok(()),
            Some(shrinkable) => shrinkable.check(&self.files),
        }
    }

    /// Whether a producer holds the file: it keeps a lock on it for as long as it lives. `None` for
    /// what is no plain file; there the memory goes with its producer.
    ///
    /// A producer that is not of this project may keep no lock.
    #[must_use]
    pub fn is_held(&self) -> Option<bool> {
        is_held(self.backing, self.files.first()?.as_fd())
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

/// Whether a producer holds a lock on a plain file.
pub(crate) fn is_held(backing: Backing, file: BorrowedFd<'_>) -> Option<bool> {
    use rustix::fs::{FlockOperation, flock};
    if backing != Backing::File {
        return None;
    }
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = flock(file, FlockOperation::Unlock);
            Some(false)
        }
        Err(_) => Some(true),
    }
}

fn guard(mapping: &Mapping, lens: Vec<u64>) -> Result<Option<Shrinkable>, AttachError> {
    let guard = mapping.guard().map_err(|source| AttachError::Os {
        action: "catch accesses to a file that is truncated (SIGBUS)".into(),
        source,
    })?;
    Ok(guard.map(|guard| Shrinkable::new(guard, lens)))
}

/// Whether nobody can take the file's memory away, neither by shortening it nor by a hole in it.
pub(crate) fn is_lasting(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| {
        let no_holes = seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE);
        no_holes && seals.contains(SealFlags::SHRINK)
    })
}

/// Whether nobody can shorten the file.
fn is_sealed(file: impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

fn duplicate(fd: &impl AsFd) -> Result<OwnedFd, AttachError> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| AttachError::Os { action: "duplicate a descriptor".into(), source })
}

/// Length of a file that can be mapped.
fn length(file: &File, what: &str) -> Result<u64, AttachError> {
    let stat = rustix::fs::fstat(file)
        .map_err(|e| AttachError::Os { action: format!("look at {what}"), source: e.into() })?;
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Symlink | FileType::Unknown => "special file",
    };
    Err(AttachError::NotMappable { what: what.to_owned(), found })
}
