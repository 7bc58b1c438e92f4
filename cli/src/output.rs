//! Tables, text and JSON of the commands. A value that is absent stays absent up to the last character.

pub(crate) mod human;
pub(crate) mod json;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use domstat_consumer::{Liveness, ReadError, Reading, Sample, Snapshot};
use domstat_layout::latest::{Identity, Runstate};
use domstat_layout::{Ns, Stat, State};

pub(crate) use human::{ABSENT, human_bytes, human_ns};

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

pub(crate) fn identity(snapshot: &Snapshot) -> Option<Identity> {
    snapshot.dom().dom_group::<Identity>().ok()?.active().map(|sample| sample.group)
}

pub(crate) fn runstate(
    snapshot: &Snapshot,
    index: u32,
) -> Result<Reading<Sample<Runstate>>, ReadError> {
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
    pub(crate) fn name(self) -> &'static str {
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
