//! Regions printed by their own schema: every field by name, unit and value. Nothing
//! here knows a group, a field or a revision; of a schema that is only a table of records, the groups
//! are those that are registered.

use std::io::{self, Write};
use std::process::ExitCode;

use domstat_consumer::schema::SchemaSample;
use domstat_consumer::{Reading, Region};
use domstat_layout::descriptor::GROUP_HEADER_LEN;
use domstat_layout::schema::{FieldKind, SchemaField, SchemaGroup, SchemaRecord};
use domstat_layout::{Ns, Schema, Stat, Uuid, Word};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::output;
use crate::output::json::Safe;

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
        json(out, region, &schema)?
    } else {
        text(out, region, &schema)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows that are laid out together. A region may describe hundreds of thousands of records, and no
/// more rows than these are kept.
const ROWS: usize = 4096;

fn text(out: &mut impl Write, region: &Region, schema: &Schema<'_>) -> io::Result<()> {
    let new = || output::table(&["RECORD", "GROUP", "FIELD", "VALUE", "UNIT", "KIND", "AGE"]);
    let mut table = new();
    let mut printed = false;
    let (mut idle, mut outside, mut stalled) = (0u64, Notes::default(), Notes::default());
    let now = region.now();
    for_each_group(region, schema, |at, group, reading| {
        match reading {
            Ok(Reading::Active(sample)) => {
                for field in schema.fields(group) {
                    let shape = &field.shape;
                    let kind =
                        shape.kind.name().map_or_else(|| shape.kind.0.to_string(), str::to_owned);
                    table.add_row([
                        at.to_owned(),
                        output::printable(group.name),
                        output::printable(field.name),
                        cell(&field, of_field(group, &field, sample.words)),
                        shape.scaled().to_string(),
                        kind,
                        output::age(now, sample.updated),
                    ]);
                }
            }
            Ok(Reading::Inactive) => idle += 1,
            Ok(Reading::Unknown) => outside.add(|| format!("{at}.{}", group.name)),
            Err(e) => stalled.add(|| format!("{at}.{}: {e}", group.name)),
        }
        if table.row_count() >= ROWS {
            writeln!(out, "{}", std::mem::replace(&mut table, new()))?;
            printed = true;
        }
        Ok(())
    })?;
    if table.row_count() > 0 || !printed {
        writeln!(out, "{table}")?;
    }
    if idle > 0 {
        writeln!(out, "{idle} groups are described and not active")?;
    }
    for record in undescribed(region, schema) {
        let (nr, name) = (output::human::nr(record.nr, "record"), kind_name(&record));
        writeln!(out, "not described: {nr} of {name}")?;
    }
    outside.print(out, "outside the region")?;
    stalled.print(out, "not read")
}

/// Notes about groups: the first are printed, and the number of the others.
#[derive(Default)]
struct Notes {
    first: Vec<String>,
    others: u64,
}

impl Notes {
    const FIRST: usize = 20;

    fn add(&mut self, note: impl FnOnce() -> String) {
        if self.first.len() < Self::FIRST {
            self.first.push(note());
        } else {
            self.others += 1;
        }
    }

    fn print(&self, out: &mut impl Write, what: &str) -> io::Result<()> {
        for note in &self.first {
            writeln!(out, "{what}: {}", output::printable(note))?;
        }
        if self.others > 0 {
            writeln!(out, "{what}: {} more groups", self.others)?;
        }
        Ok(())
    }
}

type Read<'w> = Result<Reading<SchemaSample<'w>>, domstat_consumer::ReadError>;

/// Reads every group of every record, except second copies. All of them together wait for writers
/// no longer than one read.
fn for_each_group(
    region: &Region,
    schema: &Schema<'_>,
    mut each: impl FnMut(&str, &SchemaGroup<'_>, Read<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = region.schema_reader();
    for record in schema.records().filter(|record| record.fits(region.mem().len())) {
        let groups: Vec<_> =
            schema.groups_of(&record).filter(|group| group.twin_of.is_none()).collect();
        for index in 0..record.nr {
            let at = label(&record, index);
            for group in &groups {
                each(&at, group, reader.read(&record, index, group))?;
            }
        }
    }
    Ok(())
}

/// Kinds of records of which no group is described: the schema does not, and none is registered.
fn undescribed<'s>(region: &Region, schema: &Schema<'s>) -> impl Iterator<Item = SchemaRecord<'s>> {
    let records = schema.records().filter(|record| record.fits(region.mem().len()));
    records.filter(|record| schema.groups_of(record).next().is_none())
}

/// The name of a kind of records, or its number.
fn kind_name(record: &SchemaRecord<'_>) -> String {
    match record.name {
        "" => format!("kind {:#x}", record.kind),
        name => output::printable(name),
    }
}

/// `dom` or `vcpu[3]`.
fn label(record: &SchemaRecord<'_>, index: u32) -> String {
    let name = kind_name(record);
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

fn cell(field: &SchemaField<'_>, words: &[u64]) -> String {
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

/// Prints an object of the records, one after the other.
fn json(out: &mut impl Write, region: &Region, schema: &Schema<'_>) -> io::Result<()> {
    let now = region.now();
    let mut record: Option<(String, Map<String, Value>)> = None;
    let mut separator = "{";
    let mut print = |record: Option<(String, Map<String, Value>)>| match record {
        Some((at, groups)) => {
            let written =
                write!(out, "{separator}{}:{}", Safe(&json!(at)), Safe(&Value::Object(groups)));
            separator = ",";
            written
        }
        None => Ok(()),
    };
    for_each_group(region, schema, |at, group, reading| {
        let value = match reading {
            Ok(Reading::Active(sample)) => active(schema, group, &sample, now),
            Ok(Reading::Inactive) => json!({ "status": "inactive" }),
            Ok(Reading::Unknown) => json!({ "status": "unknown" }),
            Err(stalled) => json!({ "status": "stalled", "error": stalled.to_string() }),
        };
        if record.as_ref().is_none_or(|(before, _)| before != at) {
            print(record.replace((at.to_owned(), Map::new())))?;
        }
        if let Some((_, groups)) = &mut record {
            groups.insert(group.name.to_owned(), value);
        }
        Ok(())
    })?;
    print(record)?;
    writeln!(out, "{}}}", if separator == "{" { "{" } else { "" })
}

fn active(
    schema: &Schema<'_>,
    group: &SchemaGroup<'_>,
    sample: &SchemaSample<'_>,
    now: Option<Ns>,
) -> Value {
    let fields: Map<String, Value> = schema
        .fields(group)
        .map(|field| {
            let shape = &field.shape;
            let described = json!({
                "value": value(&field, of_field(group, &field, sample.words)),
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
