//! What the peers of the cross-revision matrix write and print, in Rust as in `abi/c`.

use std::ffi::CStr;
use std::fmt::Write;

use domstat_consumer::{Reading, Region, Snapshot, SnapshotRecord};
use domstat_layout::descriptor::{FieldDesc, Kind};
use domstat_layout::labels::LabelText;
use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob,
    BlkLimits, BlkQueue, BlkQueueDiscards, BlkQueueFailures, BlkQueueFlLatency, BlkQueueIo,
    BlkQueueIoTimes, BlkQueueOf, BlkQueueQueue, BlkQueueRdLatency, BlkQueueRdSize,
    BlkQueueWrLatency, BlkQueueWrSize, BlkVbd, Cpu, Exits, FlLatency, Limits, Lineage, Memory,
    Migration, NetIdentity, NetIo, NetLimits, NetQueueIo, NetQueueOf, Pressure, RdLatency, RdSize,
    Runstate, Sched, Status, Threads, Wait, WrLatency, WrSize,
};
use domstat_layout::{
    BlkGroup, DomGroup, Group, GroupDesc, Name, NetGroup, Ns, RecordKind, Revision, Stat,
    VcpuGroup, Word,
};
use domstat_producer::{Created, Placement, RegionBuilder};
use zerocopy::IntoBytes;

/// Records of each kind.
#[must_use]
pub fn nr(kind: RecordKind) -> u32 {
    match kind {
        RecordKind::Dom | RecordKind::Net | RecordKind::NetQueue | RecordKind::Labels => 1,
        RecordKind::Vcpu | RecordKind::VcpuHist => 3,
        RecordKind::Blk | RecordKind::BlkHist => 2,
        RecordKind::BlkQueue => 4,
        RecordKind::ArchDom | RecordKind::ArchVcpu | RecordKind::ArchBlk | RecordKind::ArchNet => 0,
    }
}

/// The kinds of record that peers print, in their order.
pub const KINDS: [RecordKind; 9] = [
    RecordKind::Dom,
    RecordKind::Vcpu,
    RecordKind::Blk,
    RecordKind::Net,
    RecordKind::BlkQueue,
    RecordKind::NetQueue,
    RecordKind::VcpuHist,
    RecordKind::BlkHist,
    RecordKind::Labels,
];

/// The only label that peers give a domain, key and value.
const LABEL: (&str, &str) = ("key", "value");

/// The words of a field of record `index`, as they lie in memory: numbers that say where they lie,
/// unless a rule of the ABI asks for others.
fn words(desc: &GroupDesc, index: u32, field: &FieldDesc) -> Vec<u64> {
    let kind = desc.record;
    let number = u64::from(kind.number()) * 1_000_000 + u64::from(index) * 10_000;
    // All values of a distribution are the same; a share's groups have the bits of the device's, and 6
    // more.
    let (bucket, nr) = (4 + desc.bit as usize % 6, u64::from(index) + 1);
    let recorded = 1 << (bucket - 1);
    let is_histogram = desc.fields.iter().any(|f| f.kind == Kind::LogHistogram);
    let bytes = match (field.kind, field.name, field.width) {
        (Kind::State(names), _, _) => return vec![u64::from(index) % names.len() as u64],
        (Kind::LogHistogram, _, width) => {
            let mut buckets = vec![0; width / 8];
            if let Some(bucket) = buckets.get_mut(bucket) {
                *bucket = nr;
            }
            return buckets;
        }
        (Kind::Peak, _, _) => return vec![recorded],
        (Kind::Cumulative, _, _) if is_histogram => return vec![nr * recorded],
        // Shares are of devices that there are, in their first generation.
        (Kind::Id, "device", _) if desc.name == "of" => {
            let devices =
                if kind == RecordKind::BlkQueue { RecordKind::Blk } else { RecordKind::Net };
            return vec![u64::from(index % self::nr(devices))];
        }
        (Kind::Id, "generation", _) if desc.name == "of" => return vec![0],
        // Nothing is in flight.
        (_, "completed", _) => return vec![number + field.offset as u64 - 8],
        (_, _, 8) => return vec![number + field.offset as u64],
        (Kind::Text, _, 1024) => {
            LabelText::new([LABEL]).unwrap_or(LabelText::NOT_PRODUCED).0.to_vec()
        }
        (Kind::Text, _, _) => Name::new(&format!("name-{}-{index}", kind.number())).0.to_vec(),
        (_, _, width) => vec![7; width],
    };
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fn group<G: Group>(index: u32) -> G {
    let desc = G::DESC;
    let words: Vec<u64> =
        desc.fields.iter().flat_map(|f| words(desc, index, f)).map(u64::to_le).collect();
    G::read_from_bytes(words.as_bytes()).unwrap_or(G::NOT_PRODUCED)
}

/// The line for a field: as it is printed when it is produced, or not.
#[must_use]
pub fn line(desc: &GroupDesc, index: u32, field: &FieldDesc, produced: bool) -> String {
    // A second copy holds what the first does.
    let first = desc.twin_of.unwrap_or(desc);
    let as_first = FieldDesc { offset: field.offset - desc.offset + first.offset, ..*field };
    let words = produced.then(|| words(first, index, &as_first));
    let value = match words {
        None => "not produced".to_owned(),
        Some(words) => printed(field, &words),
    };
    format!("{}[{index}].{}.{} {value}", desc.record.name(), desc.name, field.name)
}

fn printed(field: &FieldDesc, words: &[u64]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    if let [raw] = words {
        return match Word::from_raw(raw.to_le()).get() {
            Stat::Value(v) => v.to_string(),
            other => other.to_string(),
        };
    }
    match field.kind {
        // On one line.
        Kind::Text => match CStr::from_bytes_until_nul(&bytes).map(CStr::to_str) {
            Ok(Ok(text)) => text.replace('\n', ";"),
            _ => "not produced".to_owned(),
        },
        Kind::LogHistogram => {
            let numbers = words.iter().map(|raw| Word::from_raw(raw.to_le()).to_string());
            numbers.collect::<Vec<_>>().join(" ")
        }
        _ => bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}

/// A builder as the peers use it.
#[must_use]
pub fn builder(revision: u32, pages: bool, align: u32) -> RegionBuilder {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let mut builder = RegionBuilder::new("name-1-0")
        .domid(1_000_144)
        .uuid([7; 16])
        .created(Ns(1_000_296))
        .revision(revision)
        .vcpus(nr(RecordKind::Vcpu))
        .align(align);
    if revision >= 2 {
        builder = builder.blks(nr(RecordKind::Blk));
    }
    if revision >= 4 {
        builder = builder.nets(nr(RecordKind::Net));
    }
    if revision >= 5 {
        builder = builder
            .blk_queues(nr(RecordKind::BlkQueue))
            .net_queues(nr(RecordKind::NetQueue))
            .vcpu_histograms(true)
            .blk_histograms(true);
        builder = builder.clone().labels([LABEL]).unwrap_or(builder);
    }
    if pages && align >= page {
        builder = builder.placement(Placement::PageGranular);
    } else if pages {
        // Whole pages, although the header promises less.
        builder = builder.vcpu_offs(page).vcpu_stride(page);
    }
    builder
}

/// Writes every group that there is; an older region leaves out what it does not know.
pub fn fill(created: &mut Created) {
    fn dom<G: DomGroup>(created: &mut Created) {
        created.dom.write(&group::<G>(0), Ns(1));
    }
    fn vcpu<G: VcpuGroup>(created: &mut Created) {
        for (i, writer) in (0..).zip(&mut created.vcpus) {
            writer.write(&group::<G>(i), Ns(1));
        }
    }
    fn blk<G: BlkGroup>(created: &mut Created) {
        for (i, writer) in (0..).zip(&mut created.blks) {
            writer.write(&group::<G>(i), Ns(1));
        }
    }
    fn net<G: NetGroup>(created: &mut Created) {
        for (i, writer) in (0..).zip(&mut created.nets) {
            writer.write(&group::<G>(i), Ns(1));
        }
    }
    macro_rules! records {
        ($($writers:ident: $($group:ident),+;)+) => {
            $( for (i, writer) in (0..).zip(&mut created.$writers) {
                $( writer.write(&group::<$group>(i), Ns(1)); )+
            } )+
        };
    }
    records! {
        vcpu_hists: Wait;
        blk_hists: RdLatency, WrLatency, FlLatency, RdSize, WrSize;
        blk_queues: BlkQueueOf, BlkQueueIo, BlkQueueIoTimes, BlkQueueQueue, BlkQueueDiscards,
            BlkQueueFailures, BlkQueueRdLatency, BlkQueueWrLatency, BlkQueueFlLatency,
            BlkQueueRdSize, BlkQueueWrSize;
        net_queues: NetQueueOf, NetQueueIo;
    }
    dom::<Memory>(created);
    dom::<Cpu>(created);
    dom::<Status>(created);
    dom::<Threads>(created);
    dom::<Limits>(created);
    dom::<Pressure>(created);
    dom::<Balloon>(created);
    dom::<Migration>(created);
    dom::<Lineage>(created);
    vcpu::<Runstate>(created);
    vcpu::<Sched>(created);
    vcpu::<Exits>(created);
    blk::<BlkIdentity>(created);
    blk::<BlkIo>(created);
    blk::<BlkIoTimes>(created);
    blk::<BlkExtent>(created);
    blk::<BlkVbd>(created);
    blk::<BlkJob>(created);
    blk::<BlkQueue>(created);
    blk::<BlkDiscards>(created);
    blk::<BlkFailures>(created);
    blk::<BlkLimits>(created);
    net::<NetIdentity>(created);
    net::<NetIo>(created);
    net::<NetLimits>(created);
}

/// Every field that `revision` knows, a line each, as read from `region`. Second copies are read
/// as any other group is.
#[must_use]
pub fn print(region: &Region, revision: &Revision) -> Vec<String> {
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let mut lines = Vec::new();
    for kind in KINDS {
        if revision.groups(kind).is_empty() {
            continue;
        }
        for index in 0..nr(kind) {
            let record = match kind {
                RecordKind::Vcpu => snapshot.vcpu(index),
                RecordKind::Blk => snapshot.blk(index),
                RecordKind::Net => snapshot.net(index),
                RecordKind::Dom => Some(snapshot.dom()),
                _ => None,
            };
            // What was written, not what it adds up to.
            let record = record.map(SnapshotRecord::own);
            for desc in revision.groups(kind) {
                let words = read(region, record, kind, index, desc);
                for field in desc.fields {
                    let start = (field.offset - desc.offset - 16) / 8;
                    let field_words =
                        words.as_ref().and_then(|w| w.get(start..start + field.width / 8));
                    let value = field_words
                        .map_or_else(|| "not produced".to_owned(), |words| printed(field, words));
                    let names = (kind.name(), desc.name, field.name);
                    lines.push(format!("{}[{index}].{}.{} {value}", names.0, names.1, names.2));
                }
            }
        }
    }
    lines
}

/// A group's words, from the snapshot; of second copies and of kinds beyond the header, which no
/// snapshot has, from the memory.
fn read(
    region: &Region,
    record: Option<SnapshotRecord<'_>>,
    kind: RecordKind,
    index: u32,
    desc: &'static GroupDesc,
) -> Option<Vec<u64>> {
    if desc.twin_of.is_none() && !RecordKind::OPTIONAL.contains(&kind) {
        let record = record?;
        let Ok(Reading::Active(fields)) = record.fields(desc) else { return None };
        let bytes: Vec<u8> = fields.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        let (words, _) = bytes.as_chunks::<8>();
        return Some(words.iter().map(|w| u64::from_le_bytes(*w)).collect());
    }
    let array = region.geometry().array(kind);
    let mem = region.mem().sub(array.offset(index)?, array.size)?;
    let mut words = vec![0; desc.payload_words()];
    let active = || mem.load_u64(kind.active_offset()).unwrap_or(0) & desc.mask() != 0;
    let read = mem.group(desc.offset, desc.size)?.try_read(&mut words, active).ok()?;
    read.2.then(|| words.into_iter().map(u64::from_le).collect())
}

/// The lines that a consumer of one revision must print for a producer of another.
#[must_use]
pub fn expected(producer: &Revision, consumer: &Revision) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in KINDS {
        for index in 0..if consumer.groups(kind).is_empty() { 0 } else { nr(kind) } {
            for desc in consumer.groups(kind) {
                let produced = producer.groups(kind).contains(desc);
                lines.extend(desc.fields.iter().map(|f| line(desc, index, f, produced)));
            }
        }
    }
    lines
}
