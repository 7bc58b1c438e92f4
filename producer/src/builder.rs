//! Builder of regions: from options to a region that waits to be published.

use std::any::Any;
use std::fs::File;
use std::os::fd::OwnedFd;
#[cfg(feature = "file")]
use std::path::Path;
use std::sync::Arc;

use domstat_layout::directory::MEMFD_PREFIX;
use domstat_layout::header::dom;
use domstat_layout::labels::{LabelError, LabelText};
use domstat_layout::latest::{Identity, Labels};
use domstat_layout::schema::GroupSpec;
use domstat_layout::{Clock, Group, Name, Ns, RecordKind, State, Uuid, Word, WriteMem};

use rustix::fs::SealFlags;

use crate::arch::{ArchLayout, ArchWriter};
use crate::frame::FrameFiles;
use crate::memfd::{allocate, map, memfd, os, random};
use crate::pieces::{Pages, Piece, RegionMemory, caller_frames};
use crate::plan::LayoutOptions;
use crate::region::Storage;
#[cfg(feature = "file")]
use crate::region_file::RegionFile;
use crate::writer::write_once;
use crate::{
    BlkHistWriter, BlkQueueWriter, BlkWriter, CreateError, DomWriter, NetQueueWriter, NetWriter,
    Placement, Plan, PlanError, Unpublished, VcpuHistWriter, VcpuWriter, schema_writer,
};

/// Says what a region is for and how it is laid out, then creates it.
#[derive(Clone, Debug)]
pub struct RegionBuilder {
    name: String,
    pub(crate) identity: Identity,
    clock: Clock,
    options: LayoutOptions,
    mode: Option<u32>,
    schema: Option<bool>,
    arch_dom: ArchLayout,
    arch_vcpu: ArchLayout,
    arch_blk: ArchLayout,
    arch_net: ArchLayout,
    pub(crate) labels: Option<LabelText>,
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
    /// Writes the block device records, in order.
    pub blks: Vec<BlkWriter>,
    /// Writes the network interface records, in order.
    pub nets: Vec<NetWriter>,
    /// Writes the distributions of the vCPUs, in order; empty unless
    /// [`RegionBuilder::vcpu_histograms`].
    pub vcpu_hists: Vec<VcpuHistWriter>,
    /// Writes the distributions of the block devices, in order; empty unless
    /// [`RegionBuilder::blk_histograms`].
    pub blk_hists: Vec<BlkHistWriter>,
    /// Writes the shares of block devices ([`RegionBuilder::blk_queues`]).
    pub blk_queues: Vec<BlkQueueWriter>,
    /// Writes the shares of network interfaces ([`RegionBuilder::net_queues`]).
    pub net_queues: Vec<NetQueueWriter>,
}

impl RegionBuilder {
    /// A region for the domain called `name` (at most 127 bytes are kept), with one vCPU, packed.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            identity: Identity { name: Name::new(name), ..Identity::NOT_PRODUCED },
            clock: Clock::Unknown,
            options: LayoutOptions {
                revision: domstat_layout::latest::REVISION,
                nr_vcpus: 1,
                nr_blks: 0,
                nr_nets: 0,
                arch_dom_size: 0,
                arch_vcpu_size: 0,
                arch_blk_size: 0,
                arch_net_size: 0,
                nr_blk_queues: 0,
                nr_net_queues: 0,
                vcpu_hists: false,
                blk_hists: false,
                labels: false,
                schema_size: 0,
                placement: Placement::Packed,
                align: None,
                vcpu_offs: None,
                vcpu_stride: None,
            },
            mode: None,
            schema: None,
            arch_dom: ArchLayout::default(),
            arch_vcpu: ArchLayout::default(),
            arch_blk: ArchLayout::default(),
            arch_net: ArchLayout::default(),
            labels: None,
        }
    }

    /// Writes as a build of this revision would: its sizes, bits and header words. The default is
    /// the newest.
    #[must_use]
    pub fn revision(mut self, revision: u32) -> Self {
        self.options.revision = revision;
        self
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
        self.options.nr_vcpus = nr_vcpus;
        self
    }

    /// Slots for block devices: the most that the domain will have at one time. Revision 2.
    #[must_use]
    pub fn blks(mut self, nr_blks: u32) -> Self {
        self.options.nr_blks = nr_blks;
        self
    }

    /// Slots for network interfaces: the most that the domain will have at one time. Revision 4.
    #[must_use]
    pub fn nets(mut self, nr_nets: u32) -> Self {
        self.options.nr_nets = nr_nets;
        self
    }

    /// Whether each vCPU has a record of distributions. Revision 5.
    #[must_use]
    pub fn vcpu_histograms(mut self, histograms: bool) -> Self {
        self.options.vcpu_hists = histograms;
        self
    }

    /// Whether each block device slot has a record of distributions. Revision 5.
    #[must_use]
    pub fn blk_histograms(mut self, histograms: bool) -> Self {
        self.options.blk_hists = histograms;
        self
    }

    /// Slots for shares of block devices: one for each writer of a device that has more than one.
    /// Revision 5.
    #[must_use]
    pub fn blk_queues(mut self, nr_blk_queues: u32) -> Self {
        self.options.nr_blk_queues = nr_blk_queues;
        self
    }

    /// Slots for shares of network interfaces, as [`RegionBuilder::blk_queues`]. Revision 5.
    #[must_use]
    pub fn net_queues(mut self, nr_net_queues: u32) -> Self {
        self.options.nr_net_queues = nr_net_queues;
        self
    }

    /// What the operator calls the domain by, keys and values; constant within an incarnation.
    /// Revision 5.
    ///
    /// # Errors
    /// [`LabelError`] for keys or values that are not legal, and for more than there is room for.
    pub fn labels<'a>(
        mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, LabelError> {
        self.labels = Some(LabelText::new(labels)?);
        Ok(self)
    }

    /// Permission bits of the memfds, for 0o444: others that are handed one cannot open it for writing
    /// again. They cannot write to it in any case. A system call (`fchmod`) that sandboxes may forbid,
    /// so the default is the kernel's, 0o777.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Whether the region describes its groups; by default it does from revision 4 on. Kinds of
    /// records beyond the header are announced in any case.
    #[must_use]
    pub fn schema(mut self, schema: bool) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Groups of the domain that no table knows; [`DomWriter::write_arch`] writes them by their
    /// position here. Revision 4.
    ///
    /// # Errors
    /// [`PlanError::Described`].
    pub fn arch_dom(mut self, groups: &[GroupSpec<'_>]) -> Result<Self, PlanError> {
        self.arch_dom = ArchLayout::new(groups)?;
        Ok(self)
    }

    /// Groups of each vCPU that no table knows; [`VcpuWriter::write_arch`] writes them by their
    /// position here. Revision 4.
    ///
    /// # Errors
    /// [`PlanError::Described`].
    pub fn arch_vcpu(mut self, groups: &[GroupSpec<'_>]) -> Result<Self, PlanError> {
        self.arch_vcpu = ArchLayout::new(groups)?;
        Ok(self)
    }

    /// Groups of each block device that no table knows; [`BlkWriter::write_arch`] writes them by
    /// their position here. Revision 5.
    ///
    /// # Errors
    /// [`PlanError::Described`].
    pub fn arch_blk(mut self, groups: &[GroupSpec<'_>]) -> Result<Self, PlanError> {
        self.arch_blk = ArchLayout::new(groups)?;
        Ok(self)
    }

    /// Groups of each network interface that no table knows; [`NetWriter::write_arch`] writes them
    /// by their position here. Revision 5.
    ///
    /// # Errors
    /// [`PlanError::Described`].
    pub fn arch_net(mut self, groups: &[GroupSpec<'_>]) -> Result<Self, PlanError> {
        self.arch_net = ArchLayout::new(groups)?;
        Ok(self)
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
        self.options.placement = placement;
        self
    }

    /// Alignment of the records in bytes, a power of two; default 64 packed, a page otherwise.
    #[must_use]
    pub fn align(mut self, align: u32) -> Self {
        self.options.align = Some(align);
        self
    }

    /// Start of the vCPU array in bytes; default: as close to the dom record as `align` allows.
    #[must_use]
    pub fn vcpu_offs(mut self, vcpu_offs: u32) -> Self {
        self.options.vcpu_offs = Some(vcpu_offs);
        self
    }

    /// Distance between vCPU records in bytes; default: as close as `align` allows.
    #[must_use]
    pub fn vcpu_stride(mut self, vcpu_stride: u32) -> Self {
        self.options.vcpu_stride = Some(vcpu_stride);
        self
    }

    /// Where everything would go.
    ///
    /// # Errors
    /// [`PlanError`] if the options break a rule of the layout.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let mut options = LayoutOptions {
            arch_dom_size: self.arch_dom.size(),
            arch_vcpu_size: self.arch_vcpu.size(),
            arch_blk_size: self.arch_blk.size(),
            arch_net_size: self.arch_net.size(),
            labels: self.labels.is_some(),
            ..self.options
        };
        let page_size = rustix::param::page_size();
        let plan = Plan::new(options, page_size)?;
        if !self.describes(&plan) && !plan.has_records_beyond_header() {
            return Ok(plan);
        }
        // Its length does not depend on where things lie.
        options.schema_size = self.encode_schema(&plan).len();
        Plan::new(options, page_size)
    }

    /// Whether the region describes its groups.
    fn describes(&self, plan: &Plan) -> bool {
        self.schema.unwrap_or(plan.revision.arch_and_schema)
    }

    pub(crate) fn encode_schema(&self, plan: &Plan) -> Vec<u8> {
        let described = schema_writer::Described {
            revision: plan.revision,
            arch_dom: &self.arch_dom,
            arch_vcpu: &self.arch_vcpu,
            arch_blk: &self.arch_blk,
            arch_net: &self.arch_net,
            records_only: !self.describes(plan),
        };
        schema_writer::encode(&described, &plan.geometry())
    }

    /// Creates the region in a memfd, which [`Unpublished::publish`] seals so that consumers can
    /// neither write nor truncate it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn create_memfd(self) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let file = memfd(MEMFD_PREFIX, &self.name, plan.total_len(), self.mode)?;
        let whole = map(&file, plan.total_len(), "map the region")?;
        let memory = RegionMemory::whole(whole, plan.geometry());
        self.create(plan, &memory, Storage::Memfd(OwnedFd::from(file)))
    }

    /// As [`RegionBuilder::create_memfd`], in a memfd that a launcher made and passed to this process:
    /// named `domstat:NAME`, it can be found from outside a jail that has neither `/proc` nor a directory
    /// of regions. What is in it is overwritten; its mode stays as it is.
    ///
    /// # Errors
    /// [`CreateError::NotSealable`] unless it is a memfd that can be sealed and still be written;
    /// otherwise as for `create_memfd`.
    pub fn create_in_memfd(self, memfd: OwnedFd) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let refused = SealFlags::SEAL | SealFlags::WRITE | SealFlags::FUTURE_WRITE;
        match rustix::fs::fcntl_get_seals(&memfd) {
            Ok(seals) if !seals.intersects(refused) => {}
            _ => return Err(CreateError::NotSealable),
        }
        let (file, len) = (File::from(memfd), plan.total_len());
        allocate(&file, len).map_err(os(|| format!("allocate {len} bytes of memory")))?;
        let whole = map(&file, len, "map the region")?;
        let memory = RegionMemory::whole(whole, plan.geometry());
        self.create(plan, &memory, Storage::Memfd(OwnedFd::from(file)))
    }

    /// Creates the region in one memfd for each record, with what belongs to it, and one for the schema;
    /// consumers map them side by side. A record can then be written by another process
    /// ([`Unpublished::hand_over`]). Page-granular placement only.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    pub fn create_memfd_frames(mut self) -> Result<Created, CreateError> {
        self.options.placement = Placement::PageGranular;
        let plan = self.plan()?;
        let files = FrameFiles::create(&plan.geometry(), &self.name, self.mode)?;
        let memory = RegionMemory { runs: files.runs(), geometry: plan.geometry() };
        self.create(plan, &memory, Storage::Frames(files))
    }

    /// Creates the region in a file that appears at `path`, whole, when it is published, and
    /// vanishes with the region. Put it on a tmpfs: a real disk can stall the writer.
    ///
    /// Who can write the file can truncate it. Writers survive that: from then on they write to
    /// memory that nobody reads, and [`crate::Region::check`] says so. A memfd cannot be truncated
    /// ([`RegionBuilder::create_memfd`]): a VMM should prefer it.
    ///
    /// A region that lies there already is replaced unless its producer still runs. What producers
    /// left in the directory that were killed before they had published is removed.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left behind.
    #[cfg(feature = "file")]
    pub fn create_file(self, path: impl AsRef<Path>) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let (whole, file) = RegionFile::create(path.as_ref(), plan.total_len())?;
        let memory = RegionMemory::whole(whole, plan.geometry());
        self.create(plan, &memory, Storage::File(file))
    }

    /// Creates the region in pages that the caller owns: `dom` holds the dom record and, if
    /// `others` is empty, everything else; otherwise `others` holds one run of pages for each vCPU
    /// record, and one for what follows them, if anything does. `owner` is kept until the region
    /// and every writer are dropped.
    ///
    /// # Errors
    /// [`CreateError::Pages`] if they do not fit the plan.
    pub fn create_in(
        self,
        dom: Pages,
        others: &[Pages],
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Result<Created, CreateError> {
        let plan = self.plan()?;
        let g = plan.geometry();
        let check = |what: String, pages: &Pages, expected: usize| {
            let found = pages.len();
            let fits = found >= expected && pages.is_aligned();
            if fits { Ok(()) } else { Err(CreateError::Pages { what, found, expected }) }
        };
        let whole = Piece::of_pages(dom, Arc::clone(&owner));
        let memory = if others.is_empty() {
            check("the region".into(), &dom, g.end())?;
            RegionMemory::whole(whole, g)
        } else {
            check("the dom record".into(), &dom, g.vcpu_offs())?;
            let frames = caller_frames(&g);
            if others.len() + 1 != frames.len() {
                let what = format!("the list of frames for {} vCPUs", g.nr_vcpus());
                let (found, expected) = (others.len(), frames.len() - 1);
                return Err(CreateError::Pages { what, found, expected });
            }
            let mut runs = vec![(0, whole)];
            for (i, (pages, (offs, len))) in
                others.iter().zip(frames.into_iter().skip(1)).enumerate()
            {
                check(format!("frame {i}"), pages, len)?;
                runs.push((offs, Piece::of_pages(*pages, Arc::clone(&owner))));
            }
            RegionMemory { runs, geometry: g }
        };
        self.create(plan, &memory, Storage::Caller)
    }

    /// Fills in headers and schema and hands out writers.
    fn create(
        self,
        plan: Plan,
        memory: &RegionMemory,
        mut storage: Storage,
    ) -> Result<Created, CreateError> {
        let g = plan.geometry();
        let misfit =
            || CreateError::Pages { what: "the region".into(), found: 0, expected: g.end() };
        memory.clear().ok_or_else(misfit)?;
        let dom_piece = memory.at(0, g.vcpu_offs()).ok_or_else(misfit)?;
        let incarnation = random()?;
        fill_header(dom_piece.mem(), &plan, incarnation, self.clock).ok_or_else(misfit)?;
        let mut schema = Vec::new();
        if g.schema().size > 0 {
            let piece = memory.at(g.schema().offs, g.schema().size).ok_or_else(misfit)?;
            schema = self.encode_schema(&plan);
            let (words, _) = schema.as_chunks::<4>();
            for (i, bytes) in words.iter().enumerate() {
                let word = u32::from_le_bytes(*bytes);
                piece.mem().store_u32(i * 4, word).ok_or_else(misfit)?;
            }
        }
        let groups = |kind| plan.revision.groups(kind);
        let records = |kind| memory.records(kind).ok_or_else(misfit);
        let slots = |kind, layout: &ArchLayout| {
            let (spans, slots) = (layout.spans(), records(kind)?);
            let slots =
                slots.map(move |(_, piece)| ArchWriter::new(piece, kind, Arc::clone(&spans)));
            // None after the last: a kind of record without arch slots has none at all.
            Ok::<_, CreateError>(slots.map(Some).chain(std::iter::repeat_with(|| None)))
        };
        let mut arch = slots(RecordKind::ArchVcpu, &self.arch_vcpu)?;
        let vcpus = records(RecordKind::Vcpu)?.map(|(_, piece)| {
            VcpuWriter::new(piece, groups(RecordKind::Vcpu), arch.next().flatten())
        });
        let vcpus = vcpus.collect();
        let mut arch = slots(RecordKind::ArchBlk, &self.arch_blk)?;
        let blks = records(RecordKind::Blk)?.map(|(_, piece)| {
            BlkWriter::new(piece, groups(RecordKind::Blk), arch.next().flatten())
        });
        let blks = blks.collect();
        let mut arch = slots(RecordKind::ArchNet, &self.arch_net)?;
        let nets = records(RecordKind::Net)?.map(|(_, piece)| {
            NetWriter::new(piece, groups(RecordKind::Net), arch.next().flatten())
        });
        let nets = nets.collect();
        macro_rules! writers {
            ($writer:ident, $kind:expr) => {{
                let records = records($kind)?;
                records.map(|(_, piece)| $writer::new(piece, groups($kind), None)).collect()
            }};
        }
        let vcpu_hists = writers!(VcpuHistWriter, RecordKind::VcpuHist);
        let blk_hists = writers!(BlkHistWriter, RecordKind::BlkHist);
        let blk_queues = writers!(BlkQueueWriter, RecordKind::BlkQueue);
        let net_queues = writers!(NetQueueWriter, RecordKind::NetQueue);
        let mut arch = memory.records(RecordKind::ArchDom).ok_or_else(misfit)?;
        let arch = arch
            .next()
            .map(|(_, piece)| ArchWriter::new(piece, RecordKind::ArchDom, self.arch_dom.spans()));
        let record = dom_piece.sub(0, g.dom_size()).ok_or_else(misfit)?;
        let mut dom = DomWriter::new(record, groups(RecordKind::Dom), arch);
        // Identity is as of the domain's creation: nothing of it changes later.
        let as_of = Ns(self.identity.created_ns.value().unwrap_or(0));
        dom.write(&self.identity, as_of);
        if let Some((text, (_, piece))) = self.labels.zip(records(RecordKind::Labels)?.next()) {
            write_once(piece, &Labels { text }, as_of);
        }
        if let Storage::Frames(files) = &mut storage {
            files.describe(dom_piece.mem(), &schema);
        }
        let unpublished = Unpublished::new(dom_piece, storage, plan, incarnation);
        Ok(Created {
            unpublished,
            dom,
            vcpus,
            blks,
            nets,
            vcpu_hists,
            blk_hists,
            blk_queues,
            net_queues,
        })
    }
}

/// Stores every word of the dom header but `magic`.
fn fill_header(mem: WriteMem<'_>, plan: &Plan, incarnation: u64, clock: Clock) -> Option<()> {
    let h = &plan.header;
    mem.store_u32(dom::DOM_SIZE, h.dom_size)?;
    for (place, words) in h.arrays() {
        mem.store_u32(place.offs.0, words.offs)?;
        mem.store_u32(place.size.0, words.size)?;
        mem.store_u32(place.stride.0, words.stride)?;
        mem.store_u32(place.nr.0, words.nr)?;
    }
    for (place, words) in h.sections() {
        mem.store_u32(place.offs.0, words.offs)?;
        mem.store_u32(place.size.0, words.size)?;
    }
    mem.store_u32(dom::ALIGN, h.align)?;
    mem.store_u32(dom::STATE, State::Initializing as u32)?;
    mem.store_u64(dom::INCARNATION, incarnation)?;
    mem.store_u32(dom::REVISION, h.revision)?;
    mem.store_u32(dom::CLOCK, clock as u32)
}
