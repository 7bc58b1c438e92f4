//! Comparison of two structures.

use super::{CStruct, Member};
use crate::Comparison;

/// Rules of a comparison of structures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StructRules {
    /// Whether the structure may grow at its end: readers take its size from the data, never from
    /// `sizeof`, and no array has it as its element.
    pub may_grow: bool,
}

/// Compares a structure with a later one: whether builds of either read what both know. Members are
/// known by their paths.
#[must_use]
pub fn compare_structs(old: &CStruct, new: &CStruct, rules: StructRules) -> Comparison {
    let mut found = Comparison::default();
    for before in &old.members {
        let what = format!("{}.{}", old.name, before.path);
        match new.members.iter().find(|m| m.path == before.path) {
            Some(after) => member(&mut found, &what, before, after),
            None if is_reserved(before) => found.add(false, what, "reserved member removed"),
            None => found.breaks(what, "removed"),
        }
    }
    for added in new.members.iter().filter(|m| !old.members.iter().any(|o| o.path == m.path)) {
        place(&mut found, old, added);
    }
    if new.size < old.size {
        found.breaks(&old.name, format!("shrunk: {} bytes before, {} now", old.size, new.size));
    } else if new.size > old.size {
        let how = format!("grew: {} bytes before, {} now", old.size, new.size);
        match rules.may_grow {
            true => found.add(false, &old.name, how),
            false => {
                let how = format!("{how} (allowed with --may-grow, if readers never use sizeof)");
                found.breaks(&old.name, how);
            }
        }
    }
    found
}

fn member(found: &mut Comparison, what: &str, old: &Member, new: &Member) {
    if is_reserved(old) && is_reserved(new) {
        // Its bytes mean nothing; those that another member takes are judged with that one.
        if (old.bit_offset, old.bits()) != (new.bit_offset, new.bits()) {
            found.add(false, what, "reserved member changed");
        }
        return;
    }
    found.same(what, "moved", bits(old.bit_offset), bits(new.bit_offset));
    found.same(what, "resized", length(old.bit_size), length(new.bit_size));
    found.same(what, "retyped", old.kind.as_str(), new.kind.as_str());
    found.same(what, "array changed", arrays(old), arrays(new));
    for (name, before) in &old.values {
        let what = format!("{what}: {name}");
        match new.values.iter().find(|(n, _)| n == name) {
            None => found.breaks(what, "value removed"),
            Some((_, after)) => found.same(&what, "value changed", before, after),
        }
    }
    for (name, value) in new.values.iter().filter(|(n, _)| !old.values.iter().any(|(o, _)| o == n))
    {
        let reused = old.values.iter().find(|(_, v)| v == value);
        match reused {
            Some((other, _)) => {
                found.breaks(
                    format!("{what}: {name}"),
                    format!("reuses {value}, which is {other}'s"),
                );
            }
            None => found.add(false, format!("{what}: {name}"), format!("new value, {value}")),
        }
    }
}

/// Judges where a new member lies in the old structure.
fn place(found: &mut Comparison, old: &CStruct, added: &Member) {
    let what = format!("{}.{}", old.name, added.path);
    let (start, end) = (added.bit_offset, added.end());
    let at = bits(start);
    if start >= old.size.saturating_mul(8) {
        return found.add(false, what, format!("new member at {at}, behind the old structure"));
    }
    if is_reserved(added) {
        return found.add(false, what, format!("reserved member at {at}"));
    }
    let overlaps = |m: &&Member| m.bit_offset < end && start < m.end();
    if let Some(other) = old.members.iter().filter(|m| !is_reserved(m)).find(overlaps) {
        return found.breaks(what, format!("new member at {at}, where {} was", other.path));
    }
    // The part of it that the old structure has, if it reaches behind that.
    let end = end.min(old.size.saturating_mul(8));
    let covered: u64 = old
        .members
        .iter()
        .filter(overlaps)
        .map(|m| m.end().min(end).saturating_sub(m.bit_offset.max(start)))
        .sum();
    if covered >= end - start {
        found.add(false, what, format!("new member at {at}, in reserved bytes"));
    } else {
        let how = "in padding, where an old writer leaves any bytes";
        found.breaks(what, format!("new member at {at}, {how}"));
    }
}

impl Member {
    /// Bits that it occupies, arrays included.
    fn bits(&self) -> u64 {
        let extra = self
            .arrays
            .iter()
            .map(|(len, stride)| len.saturating_sub(1).saturating_mul(*stride).saturating_mul(8));
        extra.fold(self.bit_size, u64::saturating_add)
    }

    fn end(&self) -> u64 {
        self.bit_offset.saturating_add(self.bits())
    }
}

/// Whether a member's name says that its bytes mean nothing.
fn is_reserved(member: &Member) -> bool {
    let name = member.path.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
    let name = name.trim_matches('_').trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.trim_matches('_').to_ascii_lowercase();
    matches!(
        name.as_str(),
        "pad"
            | "padding"
            | "reserved"
            | "rsvd"
            | "resv"
            | "reserve"
            | "unused"
            | "spare"
            | "filler"
    )
}

fn length(bits: u64) -> String {
    match (bits / 8, bits % 8) {
        (bytes, 0) => format!("{bytes} bytes"),
        _ => format!("{bits} bits"),
    }
}

fn bits(n: u64) -> String {
    match n % 8 {
        0 => format!("byte {}", n / 8),
        _ => format!("bit {n}"),
    }
}

fn arrays(member: &Member) -> String {
    if member.arrays.is_empty() {
        return "none".to_owned();
    }
    let shown = member.arrays.iter().map(|(len, stride)| format!("[{len}] every {stride} bytes"));
    shown.collect::<Vec<_>>().join(" of ")
}
