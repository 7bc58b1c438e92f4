//! Samples as JSON. A field without a value is null, never 0.

use std::fmt::{self, Display, Write as _};

use domstat_consumer::{
    Fields, ReadError, Reading, Region, Sample, Snapshot, SnapshotRecord, domain_status,
};
use domstat_exporter::distributions::NO_WAITING;
use domstat_layout::descriptor::{FieldDesc, Kind};
use domstat_layout::latest::{
    BLK_GROUPS, DOM_GROUPS, FlLatency, NET_GROUPS, RdLatency, RdSize, Status, VCPU_GROUPS, Wait,
    WrLatency, WrSize,
};
use domstat_layout::{GroupDesc, HistogramGroup, Name, Ns, Stat, State, Uuid, Word};
use serde_json::{Map, Value, json};

use super::{Seen, identity};
use crate::rows::distributions::nr_blks;

/// JSON whose strings are safe to print: the control characters that JSON itself leaves as they
/// are, U+007F to U+009F, are escaped. Outside of strings there are none.
pub(crate) struct Safe<'a, T>(pub(crate) &'a T);

impl<T: Display> Display for Safe<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alternate = f.alternate();
        let mut out = Escaping(f);
        if alternate { write!(out, "{:#}", self.0) } else { write!(out, "{}", self.0) }
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_left = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
        for part in text.split_inclusive(is_left) {
            match part.chars().next_back().filter(|c| is_left(*c)) {
                Some(last) => {
                    self.0.write_str(part.strip_suffix(last).unwrap_or(part))?;
                    write!(self.0, "\\u{:04x}", u32::from(last))?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// A whole sample, by name.
pub(crate) fn sample(region: &Region, snapshot: &Snapshot, seen: Seen) -> Value {
    let mut map = summary(region, snapshot, seen);
    let taken = snapshot.taken();
    map.insert("groups".to_owned(), groups(snapshot.dom(), DOM_GROUPS, taken));
    map.insert(
        "vcpus".to_owned(),
        records(snapshot.nr_vcpus(), VCPU_GROUPS, taken, |i| snapshot.vcpu(i)),
    );
    map.insert(
        "blks".to_owned(),
        records(snapshot.nr_blks(), BLK_GROUPS, taken, |i| snapshot.blk(i)),
    );
    map.insert(
        "nets".to_owned(),
        records(snapshot.nr_nets(), NET_GROUPS, taken, |i| snapshot.net(i)),
    );
    map.extend(distributions(region, taken));
    if let Ok(Reading::Active(labels)) = region.labels()
        && let Ok(labels) = labels.text.labels()
    {
        let labels: Map<_, _> = labels.map(|(key, value)| (key.to_owned(), json!(value))).collect();
        map.insert("labels".to_owned(), Value::Object(labels));
    }
    Value::Object(map)
}

/// Distributions of vCPUs and block devices, if the region has any.
fn distributions(region: &Region, taken: Option<Ns>) -> Map<String, Value> {
    region.set_patience(NO_WAITING);
    let mut map = Map::new();
    let record = |index: u32, groups: Vec<(&str, Value)>| {
        let groups: Map<_, _> =
            groups.into_iter().map(|(name, group)| (name.to_owned(), group)).collect();
        json!({ "index": index, "groups": groups })
    };
    let vcpus: Vec<Value> = region
        .vcpu_hists()
        .map(|vcpu| record(vcpu.index(), vec![histogram(vcpu.read::<Wait>(), taken)]))
        .collect();
    let mut shares = region.shares();
    let blks: Vec<Value> = (0..nr_blks(region))
        .map(|blk| {
            let groups = vec![
                histogram(shares.blk::<RdLatency>(blk), taken),
                histogram(shares.blk::<WrLatency>(blk), taken),
                histogram(shares.blk::<FlLatency>(blk), taken),
                histogram(shares.blk::<RdSize>(blk), taken),
                histogram(shares.blk::<WrSize>(blk), taken),
            ];
            record(blk, groups)
        })
        .collect();
    for (name, records) in [("vcpu_hists", vcpus), ("blk_hists", blks)] {
        if !records.is_empty() {
            map.insert(name.to_owned(), Value::Array(records));
        }
    }
    map
}

/// A distribution's name, and its sum, maximum and buckets.
fn histogram<G: HistogramGroup>(
    read: Result<Reading<Sample<G>>, ReadError>,
    taken: Option<Ns>,
) -> (&'static str, Value) {
    let value = match read {
        Ok(Reading::Active(sample)) => {
            let one = |word: Word| match word.get() {
                Stat::Value(v) => json!(v),
                Stat::Saturated => json!("saturated"),
                Stat::NotProduced | Stat::GroupInactive => Value::Null,
            };
            let buckets = sample.buckets().iter().map(|bucket| one(*bucket)).collect();
            let values = [one(sample.sum()), one(sample.max()), buckets];
            let names = G::DESC.fields.iter().map(|field| field.name.to_owned());
            let fields: Map<String, Value> = names.zip(values).collect();
            json!({
                "status": "active",
                "updated_ns": sample.updated.0,
                "age_ns": taken.map(|now| now.since(sample.updated)),
                "generation": sample.generation,
                "fields": fields,
            })
        }
        Ok(Reading::Inactive) => json!({ "status": "inactive" }),
        Ok(Reading::Unknown) => json!({ "status": "unknown" }),
        Err(stalled) => json!({ "status": "stalled", "error": stalled.to_string() }),
    };
    (G::DESC.name, value)
}

/// An array's records, each with its index.
fn records<'s>(
    nr: u32,
    known: &'static [&'static GroupDesc],
    taken: Option<Ns>,
    record: impl Fn(u32) -> Option<SnapshotRecord<'s>>,
) -> Value {
    (0..nr)
        .filter_map(|index| {
            Some(json!({ "index": index, "groups": groups(record(index)?, known, taken) }))
        })
        .collect()
}

/// A region's description, without its statistics.
pub(crate) fn summary(region: &Region, snapshot: &Snapshot, seen: Seen) -> Map<String, Value> {
    let identity = identity(snapshot);
    let status = snapshot.dom().dom_group::<Status>().ok().and_then(Reading::active);
    let of_status =
        |word: fn(&Status) -> Option<&'static str>| status.as_ref().and_then(|s| word(s));
    let value = json!({
        "name": identity.and_then(|i| i.name.as_str().map(str::to_owned)),
        "domid": identity.and_then(|i| i.domid.value()),
        "uuid": identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string())),
        "state": seen.state.map(State::name),
        "liveness": seen.liveness.name(),
        "status": of_status(domain_status::state),
        "status_reason": of_status(domain_status::reason),
        "held": region.is_held(),
        "nr_vcpus": snapshot.nr_vcpus(),
        "revision": region.header().revision,
        "incarnation": format!("{:016x}", region.header().incarnation),
        "clock": region.clock().name(),
        "taken_ns": snapshot.taken().map(|now| now.0),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn groups(
    record: SnapshotRecord<'_>,
    known: &'static [&'static GroupDesc],
    taken: Option<Ns>,
) -> Value {
    let mut map = Map::new();
    // A twin repeats its first copy.
    for desc in known.iter().filter(|desc| desc.twin_of.is_none()) {
        let value = match record.fields(desc) {
            Ok(Reading::Active(fields)) => active_group(&fields, taken),
            Ok(Reading::Inactive) => json!({ "status": "inactive" }),
            // A record of revision 4 or earlier stays as short as it was.
            Ok(Reading::Unknown) if desc.since > 4 => continue,
            Ok(Reading::Unknown) => json!({ "status": "unknown" }),
            Err(stalled) => json!({ "status": "stalled", "error": stalled.to_string() }),
        };
        map.insert(desc.name.to_owned(), value);
    }
    Value::Object(map)
}

fn active_group(fields: &Fields<'_>, taken: Option<Ns>) -> Value {
    let values: Map<String, Value> =
        fields.iter().map(|(desc, bytes)| (desc.name.to_owned(), field(desc, bytes))).collect();
    json!({
        "status": "active",
        "updated_ns": fields.updated.0,
        "age_ns": taken.map(|now| now.since(fields.updated)),
        "generation": fields.generation,
        "fields": values,
    })
}

fn field(desc: &FieldDesc, bytes: &[u8]) -> Value {
    if let Ok(word) = <[u8; 8]>::try_from(bytes) {
        return match (Word::from_raw(u64::from_ne_bytes(word)).get(), desc.kind) {
            (Stat::Value(v), Kind::State(names)) => usize::try_from(v)
                .ok()
                .and_then(|v| names.get(v))
                .map_or(json!(v), |name| json!(name)),
            (Stat::Value(v), _) => json!(v),
            (Stat::Saturated, _) => json!("saturated"),
            (Stat::NotProduced | Stat::GroupInactive, _) => Value::Null,
        };
    }
    if let Ok(uuid) = <[u8; 16]>::try_from(bytes) {
        return Uuid(uuid).bytes().map_or(Value::Null, |_| json!(Uuid(uuid).to_string()));
    }
    match <[u8; 128]>::try_from(bytes) {
        Ok(name) => json!(Name(name).as_str()),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let value = json!({ "na\u{9b}me": "a\u{7f}\u{85}b\u{9f}", "plain": "\u{a0}ü\u{1b}" });
        for text in [Safe(&value).to_string(), format!("{:#}", Safe(&value))] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        assert!(Safe(&json!("\u{9b}")).to_string().contains("\\u009b"));
    }
}
