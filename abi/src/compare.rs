//! Comparison of layouts: whether builds of one read what producers of another write.

use std::fmt;

use serde::Serialize;

use crate::{Abi, Field, Group, Header, HeaderWord, Record};

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

    pub(crate) fn add(&mut self, breaks: bool, what: impl Into<String>, how: impl Into<String>) {
        self.changes.push(Change { what: what.into(), how: how.into(), breaks });
    }

    pub(crate) fn breaks(&mut self, what: impl Into<String>, how: impl Into<String>) {
        self.add(true, what, how);
    }

    /// Adds a breaking change if two properties differ.
    pub(crate) fn same<T: PartialEq + fmt::Display>(
        &mut self,
        what: &str,
        verb: &str,
        old: T,
        new: T,
    ) {
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
    if new.revision < old.revision {
        let how = format!("went back: {} before, {} now", old.revision, new.revision);
        found.breaks("revision", how);
    } else if new.revision > old.revision {
        let how = format!("{} before, {} now", old.revision, new.revision);
        found.add(false, "revision", how);
    }
    constants(&mut found, old, new);
    for before in &old.headers {
        match new.header(&before.name) {
            None => found.breaks(before.name.as_str(), "removed"),
            Some(after) => header(&mut found, before, after),
        }
    }
    for before in &old.records {
        match new.record(&before.name) {
            None => found.breaks(before.name.as_str(), "removed"),
            Some(after) => record(&mut found, before, after, old.revision),
        }
    }
    for added in new.records.iter().filter(|r| old.record(&r.name).is_none()) {
        found.add(false, added.name.as_str(), "new kind of record");
    }
    for record in &new.records {
        sound(&mut found, record, new.revision);
    }
    found
}

fn constants(found: &mut Comparison, old: &Abi, new: &Abi) {
    for (name, before) in &old.constants {
        let what = format!("DOMSTAT_{name}");
        match new.constants.get(name) {
            None => found.breaks(what, format!("removed: {before} before")),
            Some(after) => found.same(&what, "changed", before, after),
        }
    }
    for (name, value) in new.constants.iter().filter(|(name, _)| !old.constants.contains_key(*name))
    {
        found.add(false, format!("DOMSTAT_{name}"), format!("new constant, {value}"));
    }
}

fn header(found: &mut Comparison, old: &Header, new: &Header) {
    found.same(&old.name, "resized", old.size, new.size);
    for before in &old.words {
        let what = format!("{}.{}", old.name, before.name);
        match new.words.iter().find(|w| w.name == before.name) {
            None => found.breaks(what, "removed"),
            Some(after) => {
                found.same(&what, "moved", before.offset, after.offset);
                found.same(&what, "resized", before.width, after.width);
            }
        }
    }
    let had = |name: &str| old.words.iter().any(|w| w.name == name);
    for added in new.words.iter().filter(|w| !had(&w.name)) {
        let end = added.offset.saturating_add(added.width);
        let taken = |w: &&HeaderWord| w.offset < end && added.offset < w.offset + w.width;
        let what = format!("{}.{}", old.name, added.name);
        match old.words.iter().find(taken) {
            Some(word) => found.breaks(what, format!("lies where {} was", word.name)),
            None => {
                found.add(false, what, format!("new word at {}, reserved before", added.offset))
            }
        }
    }
}

fn record(found: &mut Comparison, old: &Record, new: &Record, old_revision: u32) {
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
        } else if added.since != 0 && added.since <= old_revision {
            let how = format!(
                "since revision {}, and the old layout, of revision {old_revision}, lacks it",
                added.since
            );
            found.breaks(what, how);
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
    if old.since != 0 && new.since != 0 {
        found.same(what, "comes from another revision", old.since, new.since);
    }
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
fn sound(found: &mut Comparison, record: &Record, revision: u32) {
    let name = record.name.as_str();
    let mut groups: Vec<&Group> = record.groups.iter().collect();
    groups.sort_by_key(|g| g.offset);
    let mut end = record.header_len;
    for g in &groups {
        let what = format!("{name}.{}", g.name);
        if g.offset < end {
            found.breaks(what.as_str(), format!("overlaps what ends at {end}"));
        }
        if g.since > revision {
            let how = format!("since revision {}, which is after {revision}", g.since);
            found.breaks(what.as_str(), how);
        }
        let twin = |of: &&Group| Some(of.bit) == g.twin_of;
        let differs = |of: &&Group| of.bit == g.bit || of.fields.len() != g.fields.len();
        if g.twin_of.is_some() && record.groups.iter().find(twin).is_none_or(|of| differs(&of)) {
            found.breaks(what.as_str(), "is a copy of no other group");
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
