//! A sample as text, for people.

use std::io::{self, Write};

use domstat_consumer::{ReadError, Reading, Region, Sample, Snapshot};
use domstat_layout::descriptor::Unit;
use domstat_layout::latest::{Memory, Runstate, VcpuState};
use domstat_layout::{Ns, Stat, State};

use crate::output::{
    ABSENT, Seen, age, human_bytes, human_ns, identity, plain, printable, runstate, table,
};

/// Prints one sample: who the domain is, its memory, and a table of vCPUs. With an `earlier`
/// snapshot the vCPU's shares of the time between are shown too.
pub(super) fn print(
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
