//! Answers of the Rust reader in the form of the vectors' expected answers, by the API that users have.

use domstat_consumer::schema::SchemaReader;
use domstat_consumer::{ReadError, Reading, Region, Sample, Snapshot};
use domstat_layout::descriptor::{FieldDesc, GROUP_HEADER_LEN, Kind};
use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob,
    BlkLimits, BlkQueue, BlkQueueDiscards, BlkQueueFailures, BlkQueueFlLatency, BlkQueueIo,
    BlkQueueIoTimes, BlkQueueOf, BlkQueueQueue, BlkQueueRdLatency, BlkQueueRdSize,
    BlkQueueWrLatency, BlkQueueWrSize, BlkVbd, Cpu, Exits, FlLatency, Identity, Limits, Lineage,
    Memory, Migration, NetIdentity, NetIo, NetLimits, NetQueueIo, NetQueueOf, Pressure, RdLatency,
    RdSize, Runstate, Sched, Status, Threads, Wait, WrLatency, WrSize,
};
use domstat_layout::schema::{SchemaGroup, SchemaRecord};
use domstat_layout::{Group, GroupDesc, RecordKind, Schema, Stat, Word};
use serde_json::{Map, Value, json};

/// A group without a single value.
const INACTIVE: &str = "group not active";

/// Every answer of a region.
#[must_use]
pub fn answers(region: &Region) -> Value {
    let status = region.status();
    let mut answers = json!({
        "region": {
            "state": status.state.map_or("unknown", domstat_layout::State::name),
            "clock": region.clock().name(),
            "incarnation": region.header().incarnation.to_string(),
        },
        "records": records(region),
    });
    let mut add = |name: &str, value: Value| {
        let empty = value.as_object().is_some_and(Map::is_empty) || value == json!([]);
        if let (false, Some(answers)) = (empty, answers.as_object_mut()) {
            answers.insert(name.to_owned(), value);
        }
    };
    add("devices", devices(region));
    add("described", described(region));
    answers
}

/// The answers of every record of the kinds that have a table.
fn records(region: &Region) -> Value {
    let mut records = Map::new();
    macro_rules! kinds {
        ($($kind:ident $all:ident: $($group:ident),+;)+) => {
            $(
                let of_kind = region.$all().map(|record| {
                    let mut groups = generation(region, RecordKind::$kind, record.index());
                    $( groups.push(group(record.read::<$group>())); )+
                    groups.into_iter().collect::<Map<_, _>>().into()
                });
                let of_kind: Vec<Value> = of_kind.collect();
                if !of_kind.is_empty() {
                    records.insert(RecordKind::$kind.name().to_owned(), of_kind.into());
                }
            )+
        };
    }
    kinds! {
        Vcpu vcpus: Runstate, Sched, Exits;
        Blk blks: BlkIdentity, BlkIo, BlkIoTimes, BlkExtent, BlkVbd, BlkJob, BlkQueue, BlkDiscards,
            BlkFailures, BlkLimits;
        Net nets: NetIdentity, NetIo, NetLimits;
        BlkQueue blk_queues: BlkQueueOf, BlkQueueIo, BlkQueueIoTimes, BlkQueueQueue,
            BlkQueueDiscards, BlkQueueFailures, BlkQueueRdLatency, BlkQueueWrLatency,
            BlkQueueFlLatency, BlkQueueRdSize, BlkQueueWrSize;
        NetQueue net_queues: NetQueueOf, NetQueueIo;
        VcpuHist vcpu_hists: Wait;
        BlkHist blk_hists: RdLatency, WrLatency, FlLatency, RdSize, WrSize;
    }
    let dom = region.dom();
    let groups = [
        group(dom.read::<Identity>()),
        group(dom.read::<Memory>()),
        group(dom.read::<Cpu>()),
        group(dom.read::<Status>()),
        group(dom.read::<Threads>()),
        group(dom.read::<Limits>()),
        group(dom.read::<Pressure>()),
        group(dom.read::<Balloon>()),
        group(dom.read::<Migration>()),
        group(dom.read::<Lineage>()),
    ];
    records.insert("dom".to_owned(), json!([Map::from_iter(groups)]));
    if region.geometry().array(RecordKind::Labels).nr > 0 {
        let mut groups = generation(region, RecordKind::Labels, 0);
        groups.push(group(region.labels()));
        records.insert("labels".to_owned(), json!([Map::from_iter(groups)]));
    }
    records.into()
}

/// The generation of a record, as the first of its answers.
fn generation(region: &Region, kind: RecordKind, index: u32) -> Vec<(String, Value)> {
    let at = region.geometry().array(kind).offset(index).zip(kind.generation_offset());
    let generation = at.and_then(|(record, offset)| region.mem().load_u32(record + offset));
    vec![("generation".to_owned(), json!(generation.unwrap_or(0).to_string()))]
}

/// The name of a group, and what it says.
fn group<G: Group>(reading: Result<Reading<Sample<G>>, ReadError>) -> (String, Value) {
    let value = match reading {
        Ok(Reading::Active(sample)) => fields(G::DESC, sample.updated.0, sample.group.as_bytes()),
        Ok(Reading::Inactive | Reading::Unknown) => json!(INACTIVE),
        Err(error) => failed(&error),
    };
    (G::DESC.name.to_owned(), value)
}

fn failed(error: &ReadError) -> Value {
    match error {
        ReadError::Stalled(_) => json!("stalled"),
        other => json!(other.to_string()),
    }
}

fn fields(desc: &GroupDesc, updated_ns: u64, bytes: &[u8]) -> Value {
    let mut answers = Map::new();
    answers.insert("updated_ns".to_owned(), json!(updated_ns.to_string()));
    for field in desc.fields {
        let start = field.offset - desc.offset - GROUP_HEADER_LEN;
        let bytes = bytes.get(start..start + field.width).unwrap_or_default();
        answers.insert(field.name.to_owned(), answer(field, bytes));
    }
    answers.into()
}

/// The answer for a field, from its bytes as they lie in memory.
#[must_use]
pub fn answer(field: &FieldDesc, bytes: &[u8]) -> Value {
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<Value> = words.iter().map(|w| word(u64::from_le_bytes(*w))).collect();
    match (field.kind, words.as_slice()) {
        (Kind::Text, _) => text(bytes),
        (_, [one]) => one.clone(),
        (Kind::LogHistogram, _) => words.into(),
        _ if bytes.iter().all(|byte| *byte == 0xff) => json!("not produced"),
        _ => json!({ "bytes": bytes.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}

fn text(bytes: &[u8]) -> Value {
    let text = std::ffi::CStr::from_bytes_until_nul(bytes).ok().and_then(|text| text.to_str().ok());
    text.map_or(json!("not produced"), |text| json!({ "text": text }))
}

fn word(value: u64) -> Value {
    match Word::from_raw(value.to_le()).get() {
        Stat::Value(value) => json!(value.to_string()),
        other => json!(other.to_string()),
    }
}

/// The groups of devices that shares can have, summed where shares have them.
fn devices(region: &Region) -> Value {
    let mut shares = region.shares();
    let mut devices = Map::new();
    let nr = |kind| region.geometry().array(kind).nr;
    if nr(RecordKind::BlkQueue) > 0 && nr(RecordKind::Blk) > 0 {
        let blks = (0..nr(RecordKind::Blk)).map(|i| {
            Value::from(Map::from_iter([
                group(shares.blk::<BlkIo>(i)),
                group(shares.blk::<BlkIoTimes>(i)),
                group(shares.blk::<BlkQueue>(i)),
                group(shares.blk::<BlkDiscards>(i)),
                group(shares.blk::<BlkFailures>(i)),
                group(shares.blk::<RdLatency>(i)),
                group(shares.blk::<WrLatency>(i)),
                group(shares.blk::<FlLatency>(i)),
                group(shares.blk::<RdSize>(i)),
                group(shares.blk::<WrSize>(i)),
            ]))
        });
        devices.insert("blk".to_owned(), blks.collect());
    }
    if nr(RecordKind::NetQueue) > 0 && nr(RecordKind::Net) > 0 {
        let nets = (0..nr(RecordKind::Net))
            .map(|i| Value::from(Map::from_iter([group(shares.net::<NetIo>(i))])));
        devices.insert("net".to_owned(), nets.collect());
    }
    devices.into()
}

/// The groups that the region's schema alone describes.
fn described(region: &Region) -> Value {
    let Some(bytes) = region.copy_schema() else { return json!([]) };
    let Ok(schema) = Schema::parse(&bytes) else { return json!([]) };
    let mut reader = region.schema_reader();
    let mut entries = Vec::new();
    for record in schema.records() {
        for index in 0..record.nr {
            for group in schema.groups_of(&record).filter(|group| group.since == 0) {
                entries.push(json!({
                    "kind": record.kind.to_string(),
                    "name": record.name,
                    "index": index.to_string(),
                    "group": group.name,
                    "fields": described_fields(&mut reader, &schema, (&record, index), &group),
                }));
            }
        }
    }
    entries.into()
}

fn described_fields(
    reader: &mut SchemaReader<'_>,
    schema: &Schema<'_>,
    (record, index): (&SchemaRecord<'_>, u32),
    group: &SchemaGroup<'_>,
) -> Value {
    let words = match reader.read(record, index, group) {
        Ok(Reading::Active(sample)) => sample.words.to_vec(),
        Ok(Reading::Inactive | Reading::Unknown) => return json!(INACTIVE),
        Err(error) => return failed(&error),
    };
    let fields = schema.fields(group).map(|field| {
        let start = (field.offset - group.offset - GROUP_HEADER_LEN) / 8;
        let words = words.get(start..start + field.width / 8).unwrap_or_default();
        let words: Vec<Value> = words.iter().map(|raw| word(u64::from_le(*raw))).collect();
        json!({
            "field": field.name,
            "kind": field.shape.kind.0.to_string(),
            "unit": field.shape.unit.0.to_string(),
            "exponent": field.shape.exponent.to_string(),
            "base": field.shape.base.to_string(),
            "words": words,
        })
    });
    fields.collect()
}

/// The records of the header's kinds as a snapshot has them, in the form of [`answers`]: each device's
/// groups are its own.
#[must_use]
pub fn snapshot_records(region: &Region) -> Value {
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let mut records = Map::new();
    for (kind, nr) in [
        (RecordKind::Dom, 1),
        (RecordKind::Vcpu, snapshot.nr_vcpus()),
        (RecordKind::Blk, snapshot.nr_blks()),
        (RecordKind::Net, snapshot.nr_nets()),
    ] {
        let of_kind = (0..nr).filter_map(|index| {
            let (record, mut groups) = match kind {
                RecordKind::Dom => (snapshot.dom(), Vec::new()),
                RecordKind::Vcpu => (snapshot.vcpu(index)?, generation(region, kind, index)),
                RecordKind::Blk => (snapshot.blk(index)?, generation(region, kind, index)),
                _ => (snapshot.net(index)?, generation(region, kind, index)),
            };
            let groups_of_kind = domstat_layout::latest::REV.groups(kind);
            for desc in groups_of_kind.iter().filter(|desc| desc.twin_of.is_none()) {
                let value = match record.own().fields(desc) {
                    Ok(Reading::Active(copy)) => {
                        let bytes: Vec<u8> = copy.iter().flat_map(|(_, b)| b.to_vec()).collect();
                        fields(desc, copy.updated.0, &bytes)
                    }
                    Ok(Reading::Inactive | Reading::Unknown) => json!(INACTIVE),
                    Err(error) => failed(&error),
                };
                groups.push((desc.name.to_owned(), value));
            }
            Some(Value::from(Map::from_iter(groups)))
        });
        let of_kind: Vec<Value> = of_kind.collect();
        if !of_kind.is_empty() {
            records.insert(kind.name().to_owned(), of_kind.into());
        }
    }
    records.into()
}
