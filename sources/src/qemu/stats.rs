//! Statistics that QEMU hands on from KVM (query-stats), described by query-stats-schemas: groups
//! that no table knows, in whatever number and order this kernel and this QEMU have.

use std::collections::BTreeMap;

use domstat_layout::latest::Exits;
use domstat_layout::schema::{FieldKind, FieldShape, FieldUnit, MAX_NAME_LEN};
use domstat_layout::{Group, Word};
use serde_json::Value;

use super::decode::{list, text};
use super::limits::MAX_STATS;
use crate::{ArchField, ArchGroup};

/// Most buckets that a histogram is taken to have.
const MAX_BUCKETS: usize = 1024;

/// The statistics of one kind of object, in QEMU's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StatsSchema {
    provider: String,
    fields: Vec<ArchField>,
    /// How many statistics were omitted, because they would be more words than are taken.
    omitted: usize,
}

impl StatsSchema {
    /// What query-stats-schemas says of `target` (`vm`, `vcpu`). How many buckets a histogram has
    /// is in `sample` only, a reply of query-stats.
    pub(super) fn new(schemas: &Value, sample: &Value, target: &str) -> Self {
        let of_kvm = |v: &&Value| v["provider"] == "kvm";
        let schema = list(schemas).filter(of_kvm).find(|v| v["target"] == target);
        let Some(schema) = schema else { return Self::default() };
        let values = by_name(list(sample).find(of_kvm).map_or(&Value::Null, |v| &v["stats"]));
        let buckets = |name: &str| Some(values.get(name)?.as_array()?.len());
        let field = |v: &Value| {
            let name = text(&v["name"]).filter(|n| n.len() <= MAX_NAME_LEN)?;
            let shape = shape(v, buckets(&name))?;
            Some(ArchField { name, shape })
        };
        let (mut fields, mut omitted, mut words) = (Vec::new(), 0, 0);
        for field in list(&schema["stats"]).filter_map(field) {
            if words + width(&field) <= MAX_STATS {
                words += width(&field);
                fields.push(field);
            } else {
                omitted += 1;
            }
        }
        Self { provider: "kvm".to_owned(), fields, omitted }
    }

    /// How many statistics were omitted.
    pub(super) const fn omitted(&self) -> usize {
        self.omitted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The group to describe; none if there is nothing in it.
    pub(super) fn group(&self) -> Option<ArchGroup> {
        let name = || self.provider.clone();
        (!self.is_empty()).then(|| ArchGroup { name: name(), fields: self.fields.clone() })
    }

    /// A word for each of the group's words, from one object's `stats`.
    pub(super) fn words(&self, stats: &Value) -> Vec<Word> {
        let mut words = Vec::new();
        let values = by_name(stats);
        for field in &self.fields {
            let value = values.get(field.name.as_str());
            for bucket in 0..width(field) {
                let number = match value {
                    Some(Value::Array(all)) => all.get(bucket).and_then(Value::as_u64),
                    Some(Value::Bool(yes)) => Some(u64::from(*yes)),
                    Some(other) => other.as_u64(),
                    None => None,
                };
                words.push(number.into());
            }
        }
        words
    }
}

/// The fields of the exits group, by the names that KVM gives them.
pub(super) fn exits(stats: &Value) -> Exits {
    let values = by_name(stats);
    let number = |name: &str| Word::from(values.get(name).and_then(|value| value.as_u64()));
    Exits {
        exits: number("exits"),
        io_exits: number("io_exits"),
        mmio_exits: number("mmio_exits"),
        halt_exits: number("halt_exits"),
        irq_exits: number("irq_exits"),
        signal_exits: number("signal_exits"),
        hypercalls: number("hypercalls"),
        insn_emulation: number("insn_emulation"),
    }
}

/// The values of one object's `stats`, by their names.
fn by_name(stats: &Value) -> BTreeMap<&str, &Value> {
    list(stats).filter_map(|s| Some((s["name"].as_str()?, &s["value"]))).collect()
}

/// How many words a statistic takes.
const fn width(field: &ArchField) -> usize {
    if field.shape.kind.is_histogram() { field.shape.nr as usize } else { 1 }
}

/// Whether any of them is produced.
pub(super) fn has_exits(exits: &Exits) -> bool {
    *exits != Exits::NOT_PRODUCED
}

fn shape(v: &Value, buckets: Option<usize>) -> Option<FieldShape> {
    let kind = match v["type"].as_str()? {
        "cumulative" => FieldKind::CUMULATIVE,
        "peak" => FieldKind::PEAK,
        "linear-histogram" => FieldKind::LINEAR_HISTOGRAM,
        "log2-histogram" => FieldKind::LOG_HISTOGRAM,
        _ => FieldKind::INSTANT,
    };
    let unit = match v["unit"].as_str() {
        Some("bytes") => FieldUnit::BYTES,
        Some("seconds") => FieldUnit::SECONDS,
        Some("cycles") => FieldUnit::CYCLES,
        Some("boolean") => FieldUnit::BOOLEAN,
        _ => FieldUnit::NONE,
    };
    let exponent = v["exponent"].as_i64().and_then(|e| i32::try_from(e).ok()).unwrap_or(0);
    let nr = match kind.is_histogram() {
        // Without a sample nobody knows how many words it takes.
        true => u32::try_from(buckets.filter(|n| (1..=MAX_BUCKETS).contains(n))?).ok()?,
        false => 0,
    };
    Some(FieldShape {
        kind,
        unit,
        base: if v["base"].as_u64() == Some(2) { 2 } else { 10 },
        exponent: exponent.clamp(-64, 64),
        nr,
        bucket_size: match kind {
            FieldKind::LINEAR_HISTOGRAM => v["bucket-size"].as_u64().unwrap_or(1),
            _ => 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_qemu_describes_becomes_a_group() {
        let schemas = json!([
            {"provider": "cryptodev", "target": "vcpu", "stats": [{"name": "x", "type": "instant"}]},
            {"provider": "kvm", "target": "vcpu", "stats": [
                {"name": "exits", "type": "cumulative", "exponent": 0},
                {"name": "blocking", "type": "instant", "unit": "boolean", "exponent": 0},
                {"name": "wait_hist", "type": "log2-histogram", "unit": "seconds", "base": 10, "exponent": -9},
                {"name": "no_sample", "type": "log2-histogram"},
            ]},
        ]);
        let stats = json!([
            {"name": "wait_hist", "value": [1, 2, 3]},
            {"name": "blocking", "value": true},
            {"name": "exits", "value": 7},
        ]);
        let sample = json!([{"provider": "kvm", "qom-path": "/x", "stats": stats}]);
        let schema = StatsSchema::new(&schemas, &sample, "vcpu");
        let group = schema.group().unwrap();
        let names: Vec<&str> = group.fields.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["exits", "blocking", "wait_hist"]);
        assert_eq!(group.fields[2].shape.nr, 3);
        let words: Vec<Option<u64>> = schema.words(&stats).iter().map(|w| w.value()).collect();
        assert_eq!(words, [7, 1, 1, 2, 3].map(Some));
        let lacking = schema.words(&json!([{"name": "exits", "value": "new type"}]));
        assert!(lacking.iter().all(|w| w.value().is_none()), "{lacking:?}");
        assert_eq!(exits(&stats).exits.value(), Some(7));
        assert!(has_exits(&exits(&stats)) && !has_exits(&exits(&json!([]))));
        assert!(StatsSchema::new(&json!([]), &json!([]), "vm").group().is_none());
    }
}
