//! Comparison of layouts: whether builds of one read what producers of another write.

use std::fmt;

use serde::Serialize;

use crate::{Abi, Field, Group, Record};

/// One difference between two layouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What differs, such as `vcpu.runstate.running_ns`.
    pub what: String,
    /// How it differs.
    pub how: String,
    /// Whether a build of the old layout misreads a producer of the new one, or the reverse.
    pub breaks: bool,
}

/// Differences of two layouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Every difference.
    pub changes: Vec<Change>,
}

impl Comparison {
    /// Whether the new layout only appends to the old one.
    #[must_use]
    pub fn is_compatible(&self) -> bool {
        self.breaking().next().is_none()
    }

    /// The differences that break builds.
    pub fn breaking(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.breaks)
    }

    fn add(&mut self, breaks: bool, what: impl Into<String>, how: impl Into<String>) {
        self.changes.push(Change { what: what.into(), how: how.into(), breaks });
    }

    fn breaks(&mut self, what: impl Into<String>, how: impl Into<String>) {
        self.add(true, what, how);
    }

    /// Adds a breaking change if two properties differ.
    fn same<T: PartialEq + fmt::Display>(&mut self, what: &str, verb: &str, old: T, new: T) {
        if old != new {
            self.breaks(what, format!("{verb}: {old} before, {new} now"));
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Change { what, how, breaks } in &self.changes {
            writeln!(f, "{} {what}: {how}", if *breaks { "BREAKS" } else { "      " })?;
        }
        let n = self.breaking().count();
        if n == 0 {
            writeln!(f, "compatible: builds of either read what both know")
        } else {
            let (s, verb) = if n == 1 { ("", "breaks") } else { ("s", "break") };
            writeln!(f, "incompatible: {n} change{s} {verb} builds")
        }
    }
}

/// Compares a layout with a later one. Records and groups are known by their names.
#[must_use]
pub fn compare(old: &Abi, new: &Abi) -> Comparison {
    let mut found = Comparison::default();
    for before in &old.records {
        match new.record(&before.name) {
            None => found.breaks(before.name.as_str(), "removed"),
            Some(after) => record(&mut found, before, after),
        }
    }
    for added in new.records.iter().filter(|r| old.record(&r.name).is_none()) {
        found.add(false, added.name.as_str(), "new kind of record");
    }
    for record in &new.records {
        sound(&mut found, record);
    }
    found
}

fn record(found: &mut Comparison, old: &Record, new: &Record) {
    let name = old.name.as_str();
    found.same(name, "header resized", old.header_len, new.header_len);
    if new.size < old.size {
        found.breaks(name, format!("shrunk: {} bytes before, {} now", old.size, new.size));
    }
    for before in &old.groups {
        let what = format!("{name}.{}", before.name);
        match new.group(&before.name) {
            None => found.breaks(what, "removed"),
            Some(after) => group(found, &what, before, after),
        }
    }
    for added in new.groups.iter().filter(|g| old.group(&g.name).is_none()) {
        let what = format!("{name}.{}", added.name);
        if let Some(had) = old.groups.iter().find(|g| g.bit == added.bit) {
            found.breaks(what, format!("reuses bit {}, which is {}'s", added.bit, had.name));
        } else if old.groups.iter().any(|g| g.bit > added.bit) {
            found.breaks(what, format!("bit {} is not the next one", added.bit));
        } else if added.offset < old.size {
            let how = format!("starts at {}, inside the old record of {}", added.offset, old.size);
            found.breaks(what, how);
        } else {
            found.add(false, what, format!("new group, bit {} at {}", added.bit, added.offset));
        }
    }
}

fn group(found: &mut Comparison, what: &str, old: &Group, new: &Group) {
    found.same(what, "bit changed", old.bit, new.bit);
    found.same(what, "moved", old.offset, new.offset);
    found.same(what, "resized", old.size, new.size);
    let twin = |g: &Group| g.twin_of.map_or_else(|| "none".to_owned(), |bit| format!("bit {bit}"));
    found.same(what, "is a copy of another group", twin(old), twin(new));
    for before in &old.fields {
        let what = format!("{what}.{}", before.name);
        match new.fields.iter().find(|f| f.name == before.name) {
            None => found.breaks(what, "removed"),
            Some(after) => field(found, &what, before, after),
        }
    }
    let had = |f: &&Field| old.fields.iter().any(|b| b.name == f.name);
    for added in new.fields.iter().filter(|f| !had(f)) {
        let how = "added to a group that is there: a group never grows";
        found.breaks(format!("{what}.{}", added.name), how);
    }
}

fn field(found: &mut Comparison, what: &str, old: &Field, new: &Field) {
    found.same(what, "moved", old.offset, new.offset);
    found.same(what, "resized", old.width, new.width);
    found.same(what, "retyped", old.kind.as_str(), new.kind.as_str());
    found.same(what, "counts another unit", old.unit.as_str(), new.unit.as_str());
    found.same(what, "has other values", old.states.join(" "), new.states.join(" "));
}

/// Adds the faults that a layout must not have, even without a predecessor.
fn sound(found: &mut Comparison, record: &Record) {
    let name = record.name.as_str();
    let mut groups: Vec<&Group> = record.groups.iter().collect();
    groups.sort_by_key(|g| g.offset);
    let mut end = record.header_len;
    for g in &groups {
        let what = format!("{name}.{}", g.name);
        if g.offset < end {
            found.breaks(what.as_str(), format!("overlaps what ends at {end}"));
        }
        end = g.end().max(end);
        if g.end() > record.size {
            let how = format!("ends at {}, past its record of {}", g.end(), record.size);
            found.breaks(what.as_str(), how);
        }
        if g.bit >= 64 || record.groups.iter().filter(|other| other.bit == g.bit).count() > 1 {
            found.breaks(what.as_str(), format!("bit {} is not its own", g.bit));
        }
        let mut end = g.offset.saturating_add(domstat_layout::descriptor::GROUP_HEADER_LEN);
        for f in &g.fields {
            if f.offset < end || f.end() > g.end() || !f.offset.is_multiple_of(8) {
                let how = format!("lies at {} to {}, not in a place of its own", f.offset, f.end());
                found.breaks(format!("{what}.{}", f.name), how);
            }
            end = f.end().max(end);
        }
    }
}
