//! Snapshots as text and as JSON. What is absent stays absent up to the last character.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use domstat_consumer::{
    Fields, Liveness, ReadError, Reading, Region, Sample, Snapshot, SnapshotRecord,
};
use domstat_layout::descriptor::{FieldDesc, Kind, Unit};
use domstat_layout::latest::{
    BLK_GROUPS, DOM_GROUPS, Identity, Memory, NET_GROUPS, Runstate, VCPU_GROUPS, VcpuState,
};
use domstat_layout::{GroupDesc, Name, Ns, Stat, State, Uuid, Word};
use serde_json::{Map, Value, json};

/// Shown where there is no value.
const ABSENT: &str = "-";

/// A plain table with these column heads; the first column is left-aligned, the others right.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for (i, column) in table.column_iter_mut().enumerate() {
        let align = if i == 0 { CellAlignment::Left } else { CellAlignment::Right };
        column.set_padding((0, 2)).set_cell_alignment(align);
    }
    table
}

/// Prints one sample: who the domain is, its memory, and a table of vCPUs. With an `earlier`
/// snapshot the vCPU's shares of the time between are shown too.
pub(crate) fn text(
    out: &mut impl Write,
    region: &Region,
    snapshot: &Snapshot,
    earlier: Option<&Snapshot>,
    seen: Seen,
) -> io::Result<()> {
    let identity = identity(snapshot);
    let name = identity.and_then(|i| i.name.as_str().map(str::to_owned));
    writeln!(
        out,
        "domain {}  {}  {} vCPU slots  revision {}  clock {}",
        name.as_deref().map_or(ABSENT.into(), printable),
        seen.name(),
        snapshot.nr_vcpus(),
        region.header().revision,
        region.clock().name(),
    )?;
    let uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
    writeln!(
        out,
        "domid {}  uuid {}",
        identity.map_or(ABSENT.into(), |i| plain(i.domid.get())),
        uuid.as_deref().unwrap_or(ABSENT),
    )?;
    memory(out, snapshot)?;
    let live = seen.state == Some(State::Live) && seen.liveness.is_live();
    let mut heads = vec!["VCPU", "STATE", "RUNNING", "RUNNABLE", "BLOCKED", "OFFLINE", "AGE"];
    if earlier.is_some() {
        heads.extend(["%RUN", "%STEAL"]);
    }
    let mut table = table(&heads);
    let mut offline = 0;
    let mut notes = Vec::new();
    for index in 0..snapshot.nr_vcpus() {
        match runstate(snapshot, index) {
            Ok(Reading::Active(sample)) => {
                let before = earlier.map(|e| (runstate(e, index), e.taken()));
                let mut row = vcpu_row(index, &sample, snapshot.taken(), live);
                if let Some((before, then)) = before {
                    row.extend(shares(&sample, before, snapshot.taken(), then, live));
                }
                table.add_row(row);
            }
            Ok(Reading::Inactive) => offline += 1,
            Ok(Reading::Unknown) => {
                notes.push(format!("vCPU {index}: the producer knows no runstate"))
            }
            Err(stalled) => notes.push(stalled.to_string()),
        }
    }
    writeln!(out, "{table}")?;
    if offline > 0 {
        writeln!(out, "{offline} slots without a vCPU")?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    Ok(())
}

fn memory(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let sample = match snapshot.dom().dom_group::<Memory>() {
        Ok(Reading::Active(sample)) => sample,
        Ok(_) => return Ok(()),
        Err(stalled) => return writeln!(out, "{stalled}"),
    };
    let parts: Vec<String> = [
        ("current", sample.current_bytes, Unit::Bytes),
        ("maximum", sample.maximum_bytes, Unit::Bytes),
        ("resident", sample.rss_bytes, Unit::Bytes),
        ("major faults", sample.major_faults, Unit::Events),
        ("minor faults", sample.minor_faults, Unit::Events),
    ]
    .into_iter()
    .filter(|(_, word, _)| word.get() != Stat::NotProduced)
    .map(|(name, word, unit)| match (unit, word.value()) {
        (Unit::Bytes, Some(bytes)) => format!("{name} {}", human_bytes(bytes)),
        _ => format!("{name} {}", plain(word.get())),
    })
    .collect();
    writeln!(out, "memory {}  age {}", parts.join("  "), age(snapshot.taken(), sample.updated))
}

fn vcpu_row(index: u32, sample: &Sample<Runstate>, taken: Option<Ns>, live: bool) -> Vec<String> {
    // A sample is as of its write; in a live region time has passed in its state since then.
    let runstate = match taken {
        Some(now) if live => sample.at(now),
        _ => sample.group,
    };
    let seconds = |state| match runstate.time_in(state).get() {
        Stat::Value(ns) => human_ns(ns),
        other => plain(other),
    };
    vec![
        index.to_string(),
        runstate.vcpu_state().map_or(ABSENT, VcpuState::name).to_owned(),
        seconds(VcpuState::Running),
        seconds(VcpuState::Runnable),
        seconds(VcpuState::Blocked),
        seconds(VcpuState::Offline),
        age(taken, sample.updated),
    ]
}

/// Share of the time between two samples that a vCPU ran, and wanted to and could not.
fn shares(
    sample: &Sample<Runstate>,
    before: Result<Reading<Sample<Runstate>>, ReadError>,
    now: Option<Ns>,
    then: Option<Ns>,
    live: bool,
) -> [String; 2] {
    let (Ok(Reading::Active(before)), Some(now), Some(then)) = (before, now, then) else {
        return [ABSENT.into(), ABSENT.into()];
    };
    if !live || before.generation != sample.generation || now <= then {
        return [ABSENT.into(), ABSENT.into()];
    }
    let (new, old) = (sample.at(now), before.at(then));
    [VcpuState::Running, VcpuState::Runnable].map(|state| {
        match (new.time_in(state).value(), old.time_in(state).value()) {
            // The time since a write is attributed to the state as written; the next write may
            // say that some of it was steal. So a share is held between 0 and 100.
            (Some(new), Some(old)) => {
                let share = new.saturating_sub(old) as f64 / now.since(then) as f64;
                format!("{:.1}", share.min(1.0) * 100.0)
            }
            _ => ABSENT.into(),
        }
    })
}

/// A sample as JSON: everything that the region says, by name.
pub(crate) fn json(region: &Region, snapshot: &Snapshot, seen: Seen) -> Value {
    let mut map = summary(region, snapshot, seen);
    map.insert("groups".to_owned(), groups(snapshot.dom(), DOM_GROUPS, snapshot.taken()));
    let vcpus = (0..snapshot.nr_vcpus()).filter_map(|index| {
        let groups = groups(snapshot.vcpu(index)?, VCPU_GROUPS, snapshot.taken());
        Some(json!({ "index": index, "groups": groups }))
    });
    map.insert("vcpus".to_owned(), vcpus.collect());
    let blks = (0..snapshot.nr_blks()).filter_map(|index| {
        let groups = groups(snapshot.blk(index)?, BLK_GROUPS, snapshot.taken());
        Some(json!({ "index": index, "groups": groups }))
    });
    map.insert("blks".to_owned(), blks.collect());
    let nets = (0..snapshot.nr_nets()).filter_map(|index| {
        let groups = groups(snapshot.net(index)?, NET_GROUPS, snapshot.taken());
        Some(json!({ "index": index, "groups": groups }))
    });
    map.insert("nets".to_owned(), nets.collect());
    Value::Object(map)
}

/// What a region is, without its statistics.
pub(crate) fn summary(region: &Region, snapshot: &Snapshot, seen: Seen) -> Map<String, Value> {
    let identity = identity(snapshot);
    let value = json!({
        "name": identity.and_then(|i| i.name.as_str().map(str::to_owned)),
        "domid": identity.and_then(|i| i.domid.value()),
        "uuid": identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string())),
        "state": seen.state.map(State::name),
        "liveness": seen.liveness.name(),
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

/// One line of `domstat ls`.
pub(crate) fn ls_row(name: &str, region: &Region, snapshot: &Snapshot, seen: Seen) -> Vec<String> {
    let newest = (0..snapshot.nr_vcpus())
        .filter_map(|i| runstate(snapshot, i).ok()?.active().map(|s| s.updated))
        .max();
    vec![
        printable(name),
        identity(snapshot).map_or(ABSENT.into(), |i| plain(i.domid.get())),
        snapshot.nr_vcpus().to_string(),
        seen.name().to_owned(),
        newest.map_or(ABSENT.into(), |updated| age(snapshot.taken(), updated)),
        region.header().revision.to_string(),
    ]
}

fn groups(
    record: SnapshotRecord<'_>,
    known: &'static [&'static GroupDesc],
    taken: Option<Ns>,
) -> Value {
    let mut map = Map::new();
    // What a twin says its first copy says, too.
    for desc in known.iter().filter(|desc| desc.twin_of.is_none()) {
        let value = match record.fields(desc) {
            Ok(Reading::Active(fields)) => active_group(&fields, taken),
            Ok(Reading::Inactive) => json!({ "status": "inactive" }),
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

fn identity(snapshot: &Snapshot) -> Option<Identity> {
    snapshot.dom().dom_group::<Identity>().ok()?.active().map(|sample| sample.group)
}

fn runstate(snapshot: &Snapshot, index: u32) -> Result<Reading<Sample<Runstate>>, ReadError> {
    match snapshot.vcpu(index) {
        Some(record) => record.vcpu_group::<Runstate>(),
        None => Ok(Reading::Unknown),
    }
}

/// How a region stood when it was looked at.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// What its producer says.
    pub(crate) state: Option<State>,
    /// What is known of its producer.
    pub(crate) liveness: Liveness,
}

impl Seen {
    /// What the producer says while it can be believed, else why it cannot.
    fn name(self) -> &'static str {
        match self.liveness {
            Liveness::Live | Liveness::Retired => self.state.map_or("unknown state", State::name),
            other => other.name(),
        }
    }
}

pub(crate) fn plain(stat: Stat) -> String {
    match stat {
        Stat::Value(v) => v.to_string(),
        Stat::Saturated => "saturated".to_owned(),
        Stat::NotProduced | Stat::GroupInactive => ABSENT.to_owned(),
    }
}

pub(crate) fn age(taken: Option<Ns>, updated: Ns) -> String {
    taken.map_or_else(|| ABSENT.to_owned(), |now| human_ns(now.since(updated)))
}

/// A name without what would steer the terminal: it was written by another process.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// As [`printable`], of text that has lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// Nanoseconds with three digits after the point in the unit that fits.
pub(crate) fn human_ns(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{}.{:03} us", ns / 1_000, ns % 1_000),
        1_000_000..1_000_000_000 => format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000),
        _ => format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000),
    }
}

fn human_bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for u in units {
        unit = u;
        if value < 1024.0 {
            break;
        }
        if u != "EiB" {
            value /= 1024.0;
        }
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}
