//! Regions printed by their own schema: every field by name, unit and value. Nothing
//! here knows a group, a field or a revision.

use std::io::Write;
use std::process::ExitCode;

use domstat_consumer::schema::SchemaSample;
use domstat_consumer::{Reading, Region};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::schema::{FieldKind, SchemaField, SchemaGroup, SchemaRecord};
use domstat_layout::{Ns, Schema, Stat, Uuid, Word};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::output;

pub(super) fn print(
    out: &mut impl Write,
    region: &Region,
    domain: &str,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let revision = region.header().revision;
    let none = || Failure::NoSchema { domain: domain.to_owned(), revision };
    let bytes = region.copy_schema().ok_or_else(none)?;
    let bad = |source| Failure::Schema { domain: domain.to_owned(), source };
    let schema = Schema::parse(&bytes).map_err(bad)?;
    if as_json {
        writeln!(out, "{}", json_of(region, &schema))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(&["RECORD", "GROUP", "FIELD", "VALUE", "UNIT", "KIND", "AGE"]);
    let mut notes = Vec::new();
    let mut idle = 0;
    let now = region.now();
    for_each_group(region, &schema, |at, group, reading, words| match reading {
        Ok(Reading::Active(sample)) => {
            for field in schema.fields(group) {
                let shape = &field.shape;
                let kind =
                    shape.kind.name().map_or_else(|| shape.kind.0.to_string(), str::to_owned);
                table.add_row([
                    at.to_owned(),
                    output::printable(group.name),
                    output::printable(field.name),
                    text(&field, of_field(group, &field, words)),
                    shape.scaled().to_string(),
                    kind,
                    output::age(now, sample.updated),
                ]);
            }
        }
        Ok(Reading::Inactive) => idle += 1,
        Ok(Reading::Unknown) => notes.push(format!("{at}.{} lies outside the region", group.name)),
        Err(stalled) => notes.push(format!("{at}.{}: {stalled}", group.name)),
    });
    writeln!(out, "{table}")?;
    if idle > 0 {
        writeln!(out, "{idle} groups are described and not active")?;
    }
    for note in notes {
        writeln!(out, "{}", output::printable(&note))?;
    }
    Ok(ExitCode::SUCCESS)
}

type Read = Result<Reading<SchemaSample>, domstat_consumer::ReadError>;

/// Reads every group of every record, but for second copies.
fn for_each_group(
    region: &Region,
    schema: &Schema<'_>,
    mut each: impl FnMut(&str, &SchemaGroup<'_>, Read, &[u64]),
) {
    let mut words = Vec::new();
    for record in schema.records().filter(|record| record.fits(region.mem().len())) {
        for index in 0..record.nr {
            let at = label(&record, index);
            for group in schema.groups().filter(|g| g.record == record.kind) {
                if group.twin_of.is_some() {
                    continue;
                }
                let reading = region.read_by_schema(&record, index, &group, &mut words);
                each(&at, &group, reading, &words);
            }
        }
    }
}

/// `dom` or `vcpu[3]`.
fn label(record: &SchemaRecord<'_>, index: u32) -> String {
    let name = output::printable(record.name);
    if record.stride == record.size && record.nr == 1 { name } else { format!("{name}[{index}]") }
}

/// The words of one field among its group's.
fn of_field<'w>(group: &SchemaGroup<'_>, field: &SchemaField<'_>, words: &'w [u64]) -> &'w [u64] {
    let start = field.offset.saturating_sub(group.offset + GROUP_HEADER_LEN) / 8;
    words.get(start..start + field.width / 8).unwrap_or_default()
}

/// A field's value, or why there is none.
fn value(field: &SchemaField<'_>, words: &[u64]) -> Value {
    let bytes = || words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
    match (field.shape.kind, words) {
        (FieldKind::TEXT, _) => {
            let bytes = bytes();
            let text = std::ffi::CStr::from_bytes_until_nul(&bytes).ok();
            json!(text.and_then(|text| text.to_str().ok()))
        }
        (FieldKind::ID, [_, _]) => match bytes().try_into() {
            Ok(uuid) => Uuid(uuid).bytes().map_or(Value::Null, |_| json!(Uuid(uuid).to_string())),
            Err(_) => Value::Null,
        },
        (kind, [raw]) if !kind.is_histogram() => match Word::from_raw(*raw).get() {
            Stat::Value(v) => field.state(v).map_or_else(|| json!(v), |name| json!(name)),
            Stat::Saturated => json!("saturated"),
            Stat::NotProduced | Stat::GroupInactive => Value::Null,
        },
        _ => words.iter().map(|raw| json!(Word::from_raw(*raw).value())).collect(),
    }
}

fn text(field: &SchemaField<'_>, words: &[u64]) -> String {
    match value(field, words) {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::printable(&text),
        Value::Array(_) if field.shape.kind.is_histogram() => histogram(field, words),
        other => other.to_string(),
    }
}

/// The buckets that are not empty, each with the least value that it counts: `0:3 4:12`.
fn histogram(field: &SchemaField<'_>, words: &[u64]) -> String {
    let least = |bucket: u32| match (field.shape.kind, bucket) {
        (_, 0) => Some(0),
        (FieldKind::LOG_HISTOGRAM, n) => 1u64.checked_shl(n - 1),
        (_, n) => field.shape.bucket_size.checked_mul(n.into()),
    };
    let full = (0u32..).zip(words).filter(|(_, raw)| **raw != 0).map(|(bucket, raw)| {
        let least = least(bucket).map_or_else(|| "?".to_owned(), |v| v.to_string());
        format!("{least}:{}", output::plain(Word::from_raw(*raw).get()))
    });
    let full: Vec<String> = full.collect();
    if full.is_empty() { "0".to_owned() } else { full.join(" ") }
}

fn json_of(region: &Region, schema: &Schema<'_>) -> Value {
    let mut records: Map<String, Value> = Map::new();
    let now = region.now();
    for_each_group(region, schema, |at, group, reading, words| {
        let value = match reading {
            Ok(Reading::Active(sample)) => active(schema, group, &sample, words, now),
            Ok(Reading::Inactive) => json!({ "status": "inactive" }),
            Ok(Reading::Unknown) => json!({ "status": "unknown" }),
            Err(stalled) => json!({ "status": "stalled", "error": stalled.to_string() }),
        };
        let record = records.entry(at).or_insert_with(|| json!({}));
        if let Some(groups) = record.as_object_mut() {
            groups.insert(group.name.to_owned(), value);
        }
    });
    Value::Object(records)
}

fn active(
    schema: &Schema<'_>,
    group: &SchemaGroup<'_>,
    sample: &SchemaSample,
    words: &[u64],
    now: Option<Ns>,
) -> Value {
    let fields: Map<String, Value> = schema
        .fields(group)
        .map(|field| {
            let shape = &field.shape;
            let described = json!({
                "value": value(&field, of_field(group, &field, words)),
                "unit": shape.scaled().to_string(),
                "kind": shape.kind.name(),
                "base": shape.base,
                "exponent": shape.exponent,
            });
            (field.name.to_owned(), described)
        })
        .collect();
    json!({
        "status": "active",
        "updated_ns": sample.updated.0,
        "age_ns": now.map(|now| now.since(sample.updated)),
        "generation": sample.generation,
        "fields": fields,
    })
}
