//! From wishes to a region that waits to be published.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domstat_layout::header::{dom, record};
use domstat_layout::latest::Identity;
use domstat_layout::{Clock, Group, Name, Ns, State, Uuid, VCPU_MAGIC, Word};
use memmap2::MmapOptions;
use rustix::fs::{FallocateFlags, MemfdFlags, Mode};

use crate::mapping::{Pages, Piece};
use crate::plan::Wishes;
use crate::region::Storage;
use crate::{CreateError, DomWriter, Placement, Plan, PlanError, Unpublished, VcpuWriter};

/// Says what a region is for and how it is laid out, then creates it.
#[derive(Clone, Debug)]
pub struct RegionBuilder {
    name: String,
    identity: Identity,
    clock: Clock,
    wishes: Wishes,
}

/// A region that was created and is not visible yet, and its writers.
///
/// Write every group that the region is to show from the first look on, then publish.
pub struct Created {
    /// To be published.
    pub unpublished: Unpublished,
    /// Writes the dom record.
    pub dom: DomWriter,
    /// Writes the vCPU records, in order.
    pub vcpus: Vec<VcpuWriter>,
}

impl RegionBuilder {
    /// A region for the domain called `name` (at most 127 bytes are kept), with one vCPU, packed.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: Identity { name: Name::new(name), ..Identity::NOT_PRODUCED },
            clock: Clock::Unknown,
            wishes: Wishes {
                nr_vcpus: 1,
                placement: Placement::Packed,
                align: None,
                vcpu_offs: None,
                vcpu_stride: None,
            },
        }
    }

    /// The host's number for the domain.
    #[must_use]
    pub fn domid(mut self, domid: u64) -> Self {
        self.identity.domid = Word::from(domid);
        self
    }

    /// The domain's UUID, in textual byte order.
    #[must_use]
    pub fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.identity.uuid = Uuid(uuid);
        self
    }

    /// When the domain was created, on the region's clock.
    #[must_use]
    pub fn created(mut self, created: Ns) -> Self {
        self.identity.created_ns = Word::from(created.0);
        self
    }

    /// Slots for vCPUs: the domain's maximum, 1 to [`domstat_layout::MAX_VCPUS`].
    #[must_use]
    pub fn vcpus(mut self, nr_vcpus: u32) -> Self {
        self.wishes.nr_vcpus = nr_vcpus;
        self
    }

    /// What every point in time counts that the writers are given.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How records are placed.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.wishes.placement = placement;
        self
    }

    /// Alignment of the records in bytes, a power of two; default 64 packed, a page otherwise.
    #[must_use]
    pub fn align(mut self, align: u32) -> Self {
        self.wishes.align = Some(align);
        self
    }

    /// Start of the vCPU array in bytes; default: as close to the dom record as `align` allows.
    #[must_use]
    pub fn vcpu_offs(mut self, vcpu_offs: u32) -> Self {
        self.wishes.vcpu_offs = Some(vcpu_offs);
        self
    }

    /// Distance between vCPU records in bytes; default: as close as `align` allows.
    #[must_use]
    pub fn vcpu_stride(mut self, vcpu_stride: u32) -> Self {
        self.wishes.vcpu_stride = Some(vcpu_stride);
        self
    }

    /// Where everything would go.
    ///
    /// # Errors
    /// [`PlanError`] if the wishes break a rule of the layout.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        Plan::new(self.wishes, rustix::param::page_size())
    }

    /// Creates the region in a memfd, which [`Unpublished::publish`] seals so that consumers can
    /// neither write nor truncate it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn create_memfd(self) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let file = memfd(&self.name, plan.total_len())?;
        let whole = map(&file, "map the region")?;
        self.create(plan, whole, &[], Storage::Memfd(OwnedFd::from(file)))
    }

    /// Creates the region in one memfd for the dom record and one for each vCPU record, which
    /// consumers map side by side. Page-granular placement only.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn create_memfd_frames(mut self) -> Result<Created, CreateError> {
        self.wishes.placement = Placement::PageGranular;
        let plan = self.plan()?;
        let geometry = plan.geometry();
        let dom_file = memfd(&self.name, geometry.vcpu_offs())?;
        let whole = map(&dom_file, "map the dom record")?;
        let mut files = vec![OwnedFd::from(dom_file)];
        let mut frames = Vec::new();
        for _ in 0..geometry.nr_vcpus() {
            let file = memfd(&self.name, geometry.vcpu_stride())?;
            frames.push(map(&file, "map a vcpu record")?);
            files.push(OwnedFd::from(file));
        }
        self.create(plan, whole, &frames, Storage::Frames(files))
    }

    /// Creates the region in a file that appears at `path`, whole, when it is published, and
    /// vanishes with the region. Put it on a tmpfs: a real disk can stall the writer.
    ///
    /// A region that lies there already is replaced unless its producer still runs.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn create_file(self, path: impl AsRef<Path>) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let path: PathBuf = path.as_ref().to_owned();
        crate::region::refuse_to_replace(&path)?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let temp = tempfile::Builder::new()
            .prefix(".domstat-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(dir)
            .map_err(os(|| format!("create a region in {}", dir.display())))?;
        let file = temp.as_file();
        let in_dir = || format!("allocate {} bytes in {}", plan.total_len(), dir.display());
        allocate(file, plan.total_len()).map_err(os(in_dir))?;
        file.lock().map_err(os(|| format!("lock {}", path.display())))?;
        let whole = map(file, "map the region")?;
        self.create(plan, whole, &[], Storage::File { temp: Some(temp), path })
    }

    /// Creates the region in pages that the caller owns: `dom` holds the dom record and, if
    /// `vcpus` is empty, everything else; otherwise `vcpus` holds one run of pages for each vCPU
    /// record. `owner` is kept until the region and every writer are dropped.
    ///
    /// # Errors
    /// [`CreateError::Pages`] if they do not fit the plan.
    pub fn create_in(
        self,
        dom: Pages,
        vcpus: &[Pages],
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let g = plan.geometry();
        let check = |what: String, pages: &Pages, expected: usize| {
            let found = pages.len();
            let fits = found >= expected && pages.is_aligned();
            if fits { Ok(()) } else { Err(CreateError::Pages { what, found, expected }) }
        };
        let frames: Vec<Piece> = if vcpus.is_empty() {
            check("the region".into(), &dom, g.end())?;
            Vec::new()
        } else {
            check("the dom record".into(), &dom, g.vcpu_offs())?;
            if vcpus.len() != g.nr_vcpus() as usize {
                let what = format!("the list of frames for {} vCPUs", g.nr_vcpus());
                return Err(CreateError::Pages {
                    what,
                    found: vcpus.len(),
                    expected: g.nr_vcpus() as usize,
                });
            }
            for (i, pages) in vcpus.iter().enumerate() {
                check(format!("vcpu {i}'s frame"), pages, g.vcpu_stride())?;
            }
            vcpus.iter().map(|p| Piece::of_pages(*p, Arc::clone(&owner))).collect()
        };
        self.create(plan, Piece::of_pages(dom, owner), &frames, Storage::Caller)
    }

    /// Fills in headers and hands out writers. `whole` holds the dom record, and the vCPU array
    /// too unless `frames` do.
    fn create(
        self,
        plan: Plan,
        whole: Piece,
        frames: &[Piece],
        storage: Storage,
    ) -> Result<Created, CreateError> {
        let g = plan.geometry();
        let misfit =
            || CreateError::Pages { what: "the region".into(), found: 0, expected: g.end() };
        let dom_piece = whole.sub(0, g.vcpu_offs()).ok_or_else(misfit)?;
        let incarnation = random()?;
        let fill_dom = || {
            let mem = dom_piece.mem();
            mem.clear(0, g.vcpu_offs())?;
            mem.store_u32(dom::DOM_SIZE, plan.header.dom_size)?;
            mem.store_u32(dom::VCPU_OFFS, plan.header.vcpu_offs)?;
            mem.store_u32(dom::VCPU_SIZE, plan.header.vcpu_size)?;
            mem.store_u32(dom::VCPU_STRIDE, plan.header.vcpu_stride)?;
            mem.store_u32(dom::NR_VCPUS, plan.header.nr_vcpus)?;
            mem.store_u32(dom::ALIGN, plan.header.align)?;
            mem.store_u32(dom::STATE, State::Initializing as u32)?;
            mem.store_u64(dom::INCARNATION, incarnation)?;
            mem.store_u32(dom::REVISION, plan.header.revision)?;
            mem.store_u32(dom::CLOCK, self.clock as u32)
        };
        fill_dom().ok_or_else(misfit)?;

        let mut vcpus = Vec::with_capacity(g.nr_vcpus() as usize);
        for index in 0..g.nr_vcpus() {
            let piece = match frames.get(index as usize) {
                Some(frame) => frame.sub(0, g.vcpu_stride()),
                None => g.vcpu_offset(index).and_then(|at| whole.sub(at, g.vcpu_stride())),
            };
            let piece = piece.ok_or_else(misfit)?;
            let fill_vcpu = || {
                let mem = piece.mem();
                mem.clear(0, g.vcpu_stride())?;
                mem.store_u32(record::MAGIC, VCPU_MAGIC)?;
                mem.store_u32(record::INDEX, index)
            };
            fill_vcpu().ok_or_else(misfit)?;
            vcpus.push(VcpuWriter::new(piece));
        }
        let mut dom = DomWriter::new(dom_piece.clone());
        // Identity is as of the domain's creation: nothing of it changes later.
        let as_of = Ns(self.identity.created_ns.value().unwrap_or(0));
        dom.write(&self.identity, as_of);
        let unpublished = Unpublished::new(dom_piece, storage, plan, incarnation);
        Ok(Created { unpublished, dom, vcpus })
    }
}

fn os(action: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::Os { action: action(), source }
}

fn memfd(name: &str, len: usize) -> Result<File, CreateError> {
    // The kernel takes up to 249 bytes; it is for people who look into /proc.
    let name = name.get(..name.floor_char_boundary(127)).unwrap_or_default().replace('\0', "");
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(format!("domstat-{name}"), flags)
        .map_err(|e| os(|| "create a memfd".into())(e.into()))?;
    let file = File::from(fd);
    allocate(&file, len).map_err(os(|| format!("allocate {len} bytes of memory")))?;
    // Readable by whoever may open it, writable by nobody who opens it anew.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))
        .map_err(|e| os(|| "set the memfd's mode".into())(e.into()))?;
    Ok(file)
}

/// Gives the file its length and its memory now, so that no later store finds none.
fn allocate(file: &File, len: usize) -> io::Result<()> {
    file.set_len(len as u64)?;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len as u64) {
        // A filesystem without fallocate: write the zeros.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(0), len as u64), &mut &*file).map(|_| ())
        }
        other => other.map_err(io::Error::from),
    }
}

fn map(file: &File, action: &str) -> Result<Piece, CreateError> {
    let map = MmapOptions::new().map_raw(file).map_err(os(|| action.to_owned()))?;
    let len = map.len();
    Piece::of_map(map).ok_or(CreateError::Pages {
        what: action.to_owned(),
        found: len,
        expected: len,
    })
}

fn random() -> Result<u64, CreateError> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| os(|| "draw an incarnation number".into())(e.into()))?;
    Ok(u64::from_ne_bytes(bytes))
}
