//! Placement of the records of a region.

use domstat_layout::header::{ArrayWords, SectionWords};
use domstat_layout::{
    DomHeader, Geometry, MAX_DEVICES, MAX_REGION_LEN, MAX_VCPUS, RecordKind, RecordTable, Revision,
};

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
    pub(crate) revision: &'static Revision,
    total_len: usize,
}

/// What may be chosen; `None` means the default of the placement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayoutOptions {
    pub(crate) revision: u32,
    pub(crate) nr_vcpus: u32,
    pub(crate) nr_blks: u32,
    pub(crate) nr_nets: u32,
    pub(crate) arch_dom_size: usize,
    pub(crate) arch_vcpu_size: usize,
    pub(crate) arch_blk_size: usize,
    pub(crate) arch_net_size: usize,
    pub(crate) nr_blk_queues: u32,
    pub(crate) nr_net_queues: u32,
    pub(crate) vcpu_hists: bool,
    pub(crate) blk_hists: bool,
    pub(crate) labels: bool,
    pub(crate) schema_size: usize,
    pub(crate) placement: Placement,
    pub(crate) align: Option<u32>,
    pub(crate) vcpu_offs: Option<u32>,
    pub(crate) vcpu_stride: Option<u32>,
}

/// Default alignment of packed records: a cache line of every architecture in use but s390x.
const PACKED_ALIGN: u32 = 64;

impl LayoutOptions {
    /// The revision that is wished for, if it has all that is.
    fn revision(&self) -> Result<&'static Revision, PlanError> {
        let newest = domstat_layout::latest::REVISION;
        let found = self.revision;
        let revision = Revision::of(found).ok_or(PlanError::Revision { found, newest })?;
        let has = |kind| revision.has(kind);
        let parts = [
            ("block devices", self.nr_blks > 0, has(RecordKind::Blk)),
            ("network interfaces", self.nr_nets > 0, has(RecordKind::Net)),
            ("arch slots", self.arch_dom_size + self.arch_vcpu_size > 0, revision.arch_and_schema),
            ("schema", self.schema_size > 0, revision.arch_and_schema),
            ("arch slots of block devices", self.arch_blk_size > 0, has(RecordKind::ArchBlk)),
            ("arch slots of interfaces", self.arch_net_size > 0, has(RecordKind::ArchNet)),
            ("shares of block devices", self.nr_blk_queues > 0, has(RecordKind::BlkQueue)),
            ("shares of interfaces", self.nr_net_queues > 0, has(RecordKind::NetQueue)),
            ("distributions of vCPUs", self.vcpu_hists, has(RecordKind::VcpuHist)),
            ("distributions of block devices", self.blk_hists, has(RecordKind::BlkHist)),
            ("labels", self.labels, has(RecordKind::Labels)),
        ];
        for (what, wished, has) in parts {
            if wished && !has {
                return Err(PlanError::NotInRevision { revision: found, what });
            }
        }
        let nrs = [self.nr_blks, self.nr_nets, self.nr_blk_queues, self.nr_net_queues];
        let devices = nrs.into_iter().max().unwrap_or(0);
        if devices > MAX_DEVICES {
            return Err(PlanError::Devices { found: devices, max: MAX_DEVICES });
        }
        Ok(revision)
    }

    /// How many records of a kind beyond the header are wished for.
    const fn nr(&self, kind: RecordKind) -> u32 {
        match kind {
            RecordKind::BlkQueue => self.nr_blk_queues,
            RecordKind::NetQueue => self.nr_net_queues,
            RecordKind::ArchBlk if self.arch_blk_size > 0 => self.nr_blks,
            RecordKind::ArchNet if self.arch_net_size > 0 => self.nr_nets,
            RecordKind::VcpuHist if self.vcpu_hists => self.nr_vcpus,
            RecordKind::BlkHist if self.blk_hists => self.nr_blks,
            RecordKind::Labels if self.labels => 1,
            _ => 0,
        }
    }

    /// Length of a kind of record.
    fn size(&self, revision: &Revision, kind: RecordKind) -> Result<u32, PlanError> {
        word(match kind {
            RecordKind::ArchBlk => self.arch_blk_size,
            RecordKind::ArchNet => self.arch_net_size,
            _ => revision.size(kind),
        })
    }
}

/// Places parts one after the other.
struct Cursor {
    at: u32,
    align: u32,
}

impl Cursor {
    /// The next aligned offset, from which on `len` bytes are taken.
    fn place(&mut self, len: u32) -> Result<u32, PlanError> {
        let at = self.at.checked_next_multiple_of(self.align).ok_or(PlanError::TooLarge)?;
        self.at = at.checked_add(len).ok_or(PlanError::TooLarge)?;
        Ok(at)
    }

    fn array(&mut self, size: u32, nr: u32) -> Result<ArrayWords, PlanError> {
        if nr == 0 {
            return Ok(ArrayWords::default());
        }
        let stride = size.checked_next_multiple_of(self.align).ok_or(PlanError::TooLarge)?;
        let offs = self.place(stride.checked_mul(nr).ok_or(PlanError::TooLarge)?)?;
        Ok(ArrayWords { offs, size, stride, nr })
    }

    fn section(&mut self, size: u32) -> Result<SectionWords, PlanError> {
        if size == 0 {
            return Ok(SectionWords::default());
        }
        Ok(SectionWords { offs: self.place(size)?, size })
    }
}

fn word(n: usize) -> Result<u32, PlanError> {
    u32::try_from(n).map_err(|_| PlanError::TooLarge)
}

impl Plan {
    pub(crate) fn new(options: LayoutOptions, page_size: usize) -> Result<Self, PlanError> {
        let revision = options.revision()?;
        if options.nr_vcpus == 0 || options.nr_vcpus > MAX_VCPUS {
            return Err(PlanError::Vcpus { found: options.nr_vcpus, max: MAX_VCPUS });
        }
        let page = word(page_size)?;
        let pages = options.placement == Placement::PageGranular;
        let (default_align, least) = if pages { (page, page) } else { (PACKED_ALIGN, 8) };
        let align = options.align.unwrap_or(default_align);
        if !align.is_power_of_two() || align < least {
            return Err(PlanError::Align { found: align, least });
        }
        let size = |kind| options.size(revision, kind);
        let wished = || RecordKind::OPTIONAL.into_iter().filter(move |kind| options.nr(*kind) > 0);
        // Records beyond the header, by where they lie in the frame of the record they belong to: each
        // on a frame of its own, they are read with it; packed, they would make its array less dense.
        let mut windows: Vec<(RecordKind, u32)> = Vec::new();
        let mut behind = |cursor: &mut Cursor, base| {
            for kind in wished().filter(|kind| pages && kind.base() == Some(base)) {
                windows.push((kind, cursor.place(size(kind)?)?));
            }
            Ok::<_, PlanError>(cursor.at)
        };
        let (dom_size, vcpu_size) = (size(RecordKind::Dom)?, size(RecordKind::Vcpu)?);
        // Arch slots lie close behind their records, on the same frame.
        let mut cursor = Cursor { at: dom_size, align: 16 };
        let arch_dom = cursor.section(word(options.arch_dom_size)?)?;
        let labels = match pages && options.labels {
            true => Some(cursor.array(size(RecordKind::Labels)?, 1)?),
            false => None,
        };
        let dom_end = cursor.at;
        let mut cursor = Cursor { at: vcpu_size, align: 16 };
        let arch_vcpu = cursor.section(word(options.arch_vcpu_size)?)?;
        let vcpu_end = behind(&mut cursor, RecordKind::Vcpu)?;
        let place = |word, size: u32, wish: Option<u32>| match wish {
            None => size.checked_next_multiple_of(align).ok_or(PlanError::TooLarge),
            Some(found) if found < size || !found.is_multiple_of(align) => {
                Err(PlanError::Word { word, found, least: size, align })
            }
            Some(found) => Ok(found),
        };
        let vcpu_offs = place("vcpu_offs", dom_end, options.vcpu_offs)?;
        let vcpu_stride = place("vcpu_stride", vcpu_end, options.vcpu_stride)?;
        let vcpus_end = u64::from(vcpu_offs) + u64::from(vcpu_stride) * u64::from(options.nr_vcpus);
        let mut cursor = Cursor { at: u32::try_from(vcpus_end).unwrap_or(u32::MAX), align };
        let mut devices = |kind, nr| {
            let size = size(kind)?;
            let frame = behind(&mut Cursor { at: size, align: 16 }, kind)?;
            let words = cursor.array(frame, nr)?;
            Ok::<_, PlanError>(if nr == 0 { words } else { ArrayWords { size, ..words } })
        };
        let blk = devices(RecordKind::Blk, options.nr_blks)?;
        let net = devices(RecordKind::Net, options.nr_nets)?;
        let nr = options.nr_vcpus;
        let vcpu = ArrayWords { offs: vcpu_offs, size: vcpu_size, stride: vcpu_stride, nr };
        let mut beyond = Vec::new();
        for kind in wished() {
            let window = windows.iter().find(|(known, _)| *known == kind);
            let base = match kind.base() {
                Some(RecordKind::Vcpu) => vcpu,
                Some(RecordKind::Blk) => blk,
                _ => net,
            };
            let words = match (window, labels.filter(|_| kind == RecordKind::Labels)) {
                (Some((_, at)), _) => {
                    ArrayWords { offs: base.offs + at, size: size(kind)?, ..base }
                }
                (None, Some(words)) => words,
                (None, None) => cursor.array(size(kind)?, options.nr(kind))?,
            };
            beyond.push((kind, words));
        }
        // Last, so that the header alone says where the region ends.
        let schema = cursor.section(word(options.schema_size)?)?;
        let header = DomHeader {
            magic: domstat_layout::DOM_MAGIC,
            dom_size,
            vcpu,
            align,
            incarnation: 0,
            revision: revision.number,
            clock: 0,
            arch_dom,
            arch_vcpu,
            blk,
            net,
            schema,
        };
        // The consumer's own validation has the last word on what was planned.
        let geometry =
            Geometry::validate(&header, MAX_REGION_LEN).map_err(|_| PlanError::TooLarge)?;
        let geometry = geometry
            .with_records(&RecordTable::of(beyond), MAX_REGION_LEN)
            .map_err(|_| PlanError::TooLarge)?;
        let total_len = geometry.end().checked_next_multiple_of(page_size);
        let total_len =
            total_len.filter(|len| *len <= MAX_REGION_LEN).ok_or(PlanError::TooLarge)?;
        Ok(Self { geometry, header, revision, total_len })
    }

    /// Whether there are records that only the schema's table announces.
    pub(crate) fn has_records_beyond_header(&self) -> bool {
        RecordKind::OPTIONAL.into_iter().any(|kind| self.geometry.array(kind).nr > 0)
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
