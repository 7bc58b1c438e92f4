//! Frames of a region: memory of one record each, which another process can write.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use domstat_layout::directory::FRAME_PREFIX;
use domstat_layout::frame::{Description, HEAD_LEN, SCHEMA_AT};
use domstat_layout::geometry::{Frame as Place, FramePart};
use domstat_layout::header::{DOM_HEADER_LEN, dom, record};
use domstat_layout::{DOM_MAGIC, Geometry, RecordKind, Revision, Schema, WriteMem};
use rustix::fs::{FallocateFlags, Mode, OFlags, SealFlags};

use crate::arch::{ArchSpan, spans_of};
use crate::error::{FrameError, HandOverError};
use crate::memfd::{map, memfd, os};
use crate::pieces::Piece;
use crate::writer::FrameWriters;
use crate::{CreateError, PlanError};

/// The memory of one record, for the process that is to write it: a descriptor and what describes it. Pass both
/// (the descriptor by `SCM_RIGHTS` or inheritance) and drop this; the other process makes the record's writer of them
/// ([`FrameWriters::from_frame`]).
#[derive(Debug)]
pub struct Frame {
    fd: OwnedFd,
    description: Vec<u8>,
}

impl Frame {
    /// Bytes that say what lies in the frame, as [`domstat_layout::frame`] specifies them. They are longer than most
    /// messages of datagrams: some kilobytes.
    #[must_use]
    pub fn description(&self) -> &[u8] {
        &self.description
    }

    /// The descriptor, and the description.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Vec<u8>) {
        (self.fd, self.description)
    }
}

impl AsFd for Frame {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Memory of a frame.
struct Memory {
    fd: OwnedFd,
    /// The same, opened for reading before another process could change its mode.
    for_reading: Option<OwnedFd>,
    piece: Piece,
}

/// One of a region's frames.
struct FrameFile {
    place: Place,
    memory: Memory,
    /// The record's generation when it was handed out; `None` while this process writes the record.
    handed_out: Option<u32>,
    /// What takes its place when another process has mapped it.
    next: Option<Memory>,
}

/// The frames of a region, in order.
pub(crate) struct FrameFiles {
    files: Vec<FrameFile>,
    name: String,
    mode: Option<u32>,
    page: usize,
    /// Header and schema, as every description repeats them.
    shape: Vec<u8>,
}

/// Seals that each frame has from the beginning: no process can take memory away that others have mapped.
const FIRST_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
/// Seals of a frame whose writer has mapped it.
const LAST_SEALS: SealFlags = FIRST_SEALS.union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// What a frame is called in errors.
fn name_of(place: &Place) -> String {
    match place.part {
        FramePart::Record { kind: RecordKind::Dom, .. } => "the dom record's frame".to_owned(),
        FramePart::Record { kind, index } => format!("the frame of {} {index}", kind.name()),
        FramePart::Schema => "the schema's frame".to_owned(),
    }
}

/// Memory for a frame.
fn make(place: &Place, name: &str, mode: Option<u32>) -> Result<Memory, CreateError> {
    let file = memfd(FRAME_PREFIX, name, place.len, mode)?;
    rustix::fs::fcntl_add_seals(&file, FIRST_SEALS)
        .map_err(|e| os(|| "seal a frame".into())(e.into()))?;
    let piece = map(&file, place.len, "map a frame")?;
    Ok(Memory { fd: file.into(), for_reading: None, piece })
}

impl Memory {
    /// The descriptor for consumers.
    fn shown(&self) -> BorrowedFd<'_> {
        self.for_reading.as_ref().unwrap_or(&self.fd).as_fd()
    }

    /// A descriptor for the process that is to write it. From here on its mode says nothing to this one.
    fn hand_out(&mut self) -> Result<OwnedFd, HandOverError> {
        let os = |action: &str, e: rustix::io::Errno| HandOverError::Os {
            action: action.to_owned(),
            source: e.into(),
        };
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        // Without /proc consumers get it opened as it is.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        self.for_reading = rustix::fs::open(&path, flags, Mode::empty()).ok();
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 3).map_err(|e| os("duplicate a descriptor", e))
    }

    /// Seals the frame, and checks what another process may have done to it.
    fn seal(&self, place: &Place, handed_out: bool) -> Result<(), CreateError> {
        let refused = |why: &'static str| CreateError::Frame { what: name_of(place), why };
        match rustix::fs::fcntl_add_seals(&self.fd, LAST_SEALS) {
            Ok(()) => {}
            Err(_) if handed_out => return Err(refused("its process sealed it against seals")),
            Err(e) => return Err(os(|| "seal a frame".into())(e.into())),
        }
        if !handed_out {
            return Ok(());
        }
        // Holes that were punched: consumers refuse memory that is not allocated to its end.
        rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), 0, place.len as u64)
            .map_err(|e| os(|| format!("allocate {}", name_of(place)))(e.into()))?;
        if let FramePart::Record { kind, index } = place.part
            && kind != RecordKind::Dom
        {
            let mem = self.piece.mem().as_read();
            let is_whole = mem.load_u32(record::MAGIC) == Some(kind.magic())
                && mem.load_u32(record::INDEX) == Some(index);
            if !is_whole {
                return Err(refused("its process overwrote the record's header"));
            }
        }
        Ok(())
    }
}

impl FrameFiles {
    pub(crate) fn create(g: &Geometry, name: &str, mode: Option<u32>) -> Result<Self, CreateError> {
        let page = rustix::param::page_size();
        let places = g.frames(page).map_err(|e| CreateError::Plan(PlanError::Frames(e)))?;
        let files = places.map(|place| {
            let memory = make(&place, name, mode)?;
            Ok::<_, CreateError>(FrameFile { place, memory, handed_out: None, next: None })
        });
        let files = files.collect::<Result<_, _>>()?;
        Ok(Self { files, name: name.to_owned(), mode, page, shape: Vec::new() })
    }

    /// The memory, for the records to be laid out in it.
    pub(crate) fn runs(&self) -> Vec<(usize, Piece)> {
        self.files.iter().map(|f| (f.place.offs, f.memory.piece.clone())).collect()
    }

    /// Notes the header, which is in place but for its magic, and the schema.
    pub(crate) fn describe(&mut self, header: WriteMem<'_>, schema: &[u8]) {
        let mem = header.as_read();
        let word = |at| mem.load_u32(at).unwrap_or(0).to_le_bytes();
        self.shape = (0..DOM_HEADER_LEN).step_by(4).flat_map(word).collect();
        for (to, from) in self.shape.iter_mut().skip(dom::MAGIC).zip(DOM_MAGIC.to_le_bytes()) {
            *to = from;
        }
        self.shape.extend_from_slice(schema);
    }

    /// The descriptors for consumers.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.files.iter().map(|file| file.memory.shown()).collect()
    }

    /// Seals every frame against further writers.
    pub(crate) fn seal(&self) -> Result<(), CreateError> {
        let seal = |f: &FrameFile| f.memory.seal(&f.place, f.handed_out.is_some());
        self.files.iter().try_for_each(seal)
    }

    fn description(&self, kind: RecordKind, index: u32) -> Vec<u8> {
        let len = HEAD_LEN + self.shape.len();
        let page = u32::try_from(self.page).unwrap_or(0);
        let mut bytes = Description::head(kind, index, page, len as u64).to_vec();
        bytes.extend_from_slice(&self.shape);
        bytes
    }

    /// The frame of what these writers write, if it is theirs alone.
    fn of<W: FrameWriters>(
        &mut self,
        index: u32,
    ) -> Result<(&mut FrameFile, Vec<u8>), HandOverError> {
        let [kind, ..] = W::KINDS else { return Err(HandOverError::NotInFrames) };
        let bytes = self.description(*kind, index);
        let description = Description::parse(Piece::of_bytes(&bytes).mem().as_read())
            .map_err(|_| HandOverError::NoSuchFrame { kind: *kind, index })?;
        let shared = WITH_WRITERS
            .iter()
            .find(|other| !W::KINDS.contains(other) && description.place(**other).is_some());
        if let Some(with) = shared {
            return Err(HandOverError::Shared { kind: *kind, index, with: *with });
        }
        let file = self.files.iter_mut().find(|file| file.place == description.frame);
        let file = file.ok_or(HandOverError::NoSuchFrame { kind: *kind, index })?;
        Ok((file, bytes))
    }

    /// Hands out the memory that these writers write.
    pub(crate) fn hand_over<W: FrameWriters>(
        &mut self,
        writers: W,
    ) -> Result<Frame, HandOverError> {
        let (kind, index) = writers.place();
        if !writers.are_whole() {
            return Err(HandOverError::GroupTaken { kind, index });
        }
        let (file, description) = self.of::<W>(index)?;
        let fd = file.memory.hand_out()?;
        file.handed_out = Some(generation(&file.memory.piece, kind));
        Ok(Frame { fd, description })
    }

    /// As [`FrameFiles::hand_over`], of a region that is published: in new memory, which takes the place of the
    /// old when it is sealed.
    pub(crate) fn hand_over_anew<W: FrameWriters>(
        &mut self,
        writers: W,
    ) -> Result<Frame, HandOverError> {
        let (kind, index) = writers.place();
        if kind == RecordKind::Dom {
            return Err(HandOverError::DomIsLive);
        }
        if !writers.are_whole() {
            return Err(HandOverError::GroupTaken { kind, index });
        }
        let (name, mode) = (self.name.clone(), self.mode);
        let (file, description) = self.of::<W>(index)?;
        let mut next = make(&file.place, &name, mode)?;
        let (from, to) = (file.memory.piece.mem().as_read(), next.piece.mem());
        for at in (0..file.place.len).step_by(8) {
            // Both are as long as the frame. Nobody but the writers changes these words.
            let word = from.load_u64(at).unwrap_or(0);
            if word != 0 {
                let _ = to.store_u64(at, word);
            }
        }
        Shape::of(&description)?.write_headers(&next.piece);
        let fd = next.hand_out()?;
        file.handed_out = Some(generation(&file.memory.piece, kind));
        file.next = Some(next);
        Ok(Frame { fd, description })
    }

    /// Puts the memory that was handed out since in the place of the old.
    pub(crate) fn replace(&mut self) -> Result<usize, CreateError> {
        let mut nr = 0;
        for i in 0..self.files.len() {
            let Some(file) = self.files.get_mut(i) else { break };
            let FramePart::Record { kind, index } = file.place.part else { continue };
            let Some(next) = &file.next else { continue };
            next.seal(&file.place, true)?;
            let old = file.next.take().map(|next| std::mem::replace(&mut file.memory, next));
            nr += 1;
            let bytes = self.description(kind, index);
            if let Some((old, open)) = old.zip(Shape::of(&bytes).ok()) {
                open.stand_still(&old.piece);
            }
        }
        Ok(nr)
    }

    /// The writers of a record that was handed out, for this process.
    pub(crate) fn take_back<W: FrameWriters>(&mut self, index: u32) -> Result<W, HandOverError> {
        let (file, description) = self.of::<W>(index)?;
        let FramePart::Record { kind, .. } = file.place.part else {
            return Err(HandOverError::NotInFrames);
        };
        let generation = file.handed_out.ok_or(HandOverError::NotHandedOut { kind, index })?;
        let piece = file.memory.piece.clone();
        let shape = Shape::of(&description)?;
        // As its process had to leave them.
        shape.write_headers(&piece);
        let frame = shape.with(piece, Some(generation));
        let writers = W::open(&frame)?;
        file.handed_out = None;
        file.next = None;
        Ok(writers)
    }
}

/// The records that have writers; the others are written by the writer of the record that they belong to, or once.
const WITH_WRITERS: [RecordKind; 8] = [
    RecordKind::Dom,
    RecordKind::Vcpu,
    RecordKind::Blk,
    RecordKind::Net,
    RecordKind::BlkQueue,
    RecordKind::NetQueue,
    RecordKind::VcpuHist,
    RecordKind::BlkHist,
];

fn generation(piece: &Piece, kind: RecordKind) -> u32 {
    let at = kind.generation_offset();
    at.and_then(|at| piece.mem().as_read().load_u32(at)).unwrap_or(0)
}

/// What a description says, checked.
pub(crate) struct Shape {
    pub(crate) description: Description,
    revision: &'static Revision,
    arch: Vec<(RecordKind, Arc<[ArchSpan]>)>,
}

impl Shape {
    fn of(bytes: &[u8]) -> Result<Self, FrameError> {
        let description = Description::parse(Piece::of_bytes(bytes).mem().as_read())?;
        // Of a later revision this build knows the groups of its own.
        let newest = Revision::of(domstat_layout::latest::REVISION);
        let revision = Revision::of(description.header.revision).or(newest);
        let revision = revision.ok_or(FrameError::Schema)?;
        let mut arch = Vec::new();
        for kind in RecordKind::ALL.into_iter().filter(|kind| kind.is_arch()) {
            let Some(place) = description.place(kind) else { continue };
            let schema = bytes.get(SCHEMA_AT..).unwrap_or_default();
            let schema = Schema::parse(schema).map_err(|_| FrameError::Schema)?;
            let spans = spans_of(&schema, kind, place.size).ok_or(FrameError::Schema)?;
            arch.push((kind, spans));
        }
        Ok(Self { description, revision, arch })
    }

    fn with(self, piece: Piece, generation: Option<u32>) -> OpenFrame {
        OpenFrame { shape: self, piece, generation }
    }

    /// Writes what tells records from others into those of the frame, which another process could write.
    fn write_headers(&self, piece: &Piece) {
        let kinds = RecordKind::ALL.into_iter().filter(|kind| *kind != RecordKind::Dom);
        for kind in kinds {
            let Some(place) = self.description.place(kind) else { continue };
            if let Some(piece) = piece.sub(place.offs, place.size) {
                // Both are words of the header, which every record has.
                let _ = piece.mem().store_u32(record::MAGIC, kind.magic());
                let _ = piece.mem().store_u32(record::INDEX, self.description.index);
            }
        }
    }

    /// Leaves each active group of the record in mid-update, as it is in memory that no writer writes any more;
    /// that of a share which says whose it is stays.
    fn stand_still(&self, piece: &Piece) {
        for kind in RecordKind::ALL {
            let Some(place) = self.description.place(kind) else { continue };
            let Some(record) = piece.sub(place.offs, place.size) else { continue };
            let mem = record.mem();
            let active = mem.as_read().load_u64(kind.active_offset()).unwrap_or(0);
            let known = self.revision.groups(kind).iter().map(|desc| (desc.name, desc.span()));
            let arch = self.arch_spans(kind).iter().map(|arch| ("", arch.span));
            for (name, span) in known.chain(arch) {
                if active & span.mask != 0
                    && name != "of"
                    && let Some(mut group) = mem.group(span.offset, span.size)
                {
                    group.suspend();
                }
            }
        }
    }

    fn arch_spans(&self, kind: RecordKind) -> &[ArchSpan] {
        self.arch.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, spans)| spans)
    }
}

/// A frame that was mapped and checked, for the writers of its records.
pub struct OpenFrame {
    shape: Shape,
    piece: Piece,
    /// The record's when it was handed out, if that is known.
    pub(crate) generation: Option<u32>,
}

impl OpenFrame {
    /// Maps a frame that another process handed over.
    pub(crate) fn map(fd: BorrowedFd<'_>, description: &[u8]) -> Result<Self, FrameError> {
        let os = |action: &str| {
            let action = action.to_owned();
            move |source: std::io::Error| FrameError::Os { action, source }
        };
        let shape = Shape::of(description)?;
        let len = shape.description.frame.len;
        let file = File::from(fd.try_clone_to_owned().map_err(os("duplicate the descriptor"))?);
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| FrameError::NotMemory)?;
        if seals.intersects(SealFlags::FUTURE_WRITE | SealFlags::WRITE) {
            return Err(FrameError::Sealed);
        }
        if !seals.contains(SealFlags::SHRINK) {
            return Err(FrameError::NotMemory);
        }
        let meta = file.metadata().map_err(os("look at the frame"))?;
        if meta.len() != len as u64 {
            return Err(FrameError::Length { found: meta.len(), expected: len as u64 });
        }
        if meta.blocks().saturating_mul(512) < len as u64 {
            return Err(FrameError::NotAllocated);
        }
        let piece = map(&file, len, "map the frame").map_err(|e| match e {
            CreateError::Os { action, source } => FrameError::Os { action, source },
            _ => FrameError::NotMemory,
        })?;
        let frame = shape.with(piece, None);
        frame.record(frame.shape.description.kind)?;
        Ok(frame)
    }

    /// Kind and index of the record.
    pub(crate) fn place(&self) -> (RecordKind, u32) {
        (self.shape.description.kind, self.shape.description.index)
    }

    /// The groups of a kind that the region's revision has.
    pub(crate) fn groups(&self, kind: RecordKind) -> &'static [&'static domstat_layout::GroupDesc] {
        self.shape.revision.groups(kind)
    }

    /// A record in the frame, with magic and index as they must be.
    pub(crate) fn record(&self, kind: RecordKind) -> Result<Piece, FrameError> {
        let (of, index) = self.place();
        let missing = FrameError::NoSuchRecord { kind, of, index };
        let Some(place) = self.shape.description.place(kind) else { return Err(missing) };
        let Some(piece) = self.piece.sub(place.offs, place.size) else { return Err(missing) };
        let word = |at| piece.mem().as_read().load_u32(at).unwrap_or(0);
        if kind != RecordKind::Dom {
            for (field, at, expected) in
                [("magic", record::MAGIC, kind.magic()), ("index", record::INDEX, index)]
            {
                let found = word(at);
                if found != expected {
                    return Err(FrameError::Record { kind, field, found, expected });
                }
            }
        }
        Ok(piece)
    }

    /// The arch slot of the record, if it has one.
    pub(crate) fn arch(&self, kind: RecordKind) -> Option<(Piece, Arc<[ArchSpan]>)> {
        let (_, spans) = self.shape.arch.iter().find(|(of, _)| *of == kind)?;
        Some((self.record(kind).ok()?, Arc::clone(spans)))
    }
}
