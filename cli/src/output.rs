//! Tables, text and JSON of the commands. A value that is absent stays absent up to the last
//! character.

pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod message;
pub(crate) mod paint;
pub(crate) mod screen;

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, Row, presets};
use domstat_consumer::{Liveness, Snapshot};
use domstat_layout::latest::Identity;
use domstat_layout::{Ns, Stat, State};

pub(crate) use human::ABSENT;

/// A plain table, as wide as its cells, without trailing blanks.
pub(crate) struct Table(comfy_table::Table);

/// A table with these column heads; the first column is left-aligned, the others right.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = comfy_table::Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Right);
    }
    Table(table).left(&[0])
}

impl Table {
    /// Aligns these columns left, too.
    pub(crate) fn left(mut self, columns: &[usize]) -> Self {
        for &column in columns {
            if let Some(column) = self.0.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Left);
            }
        }
        self
    }

    pub(crate) fn add_row(&mut self, row: impl Into<Row>) {
        self.0.add_row(row);
    }

    pub(crate) fn row_count(&self) -> usize {
        self.0.row_count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.trim_fmt())
    }
}

pub(crate) fn identity(snapshot: &Snapshot) -> Option<Identity> {
    snapshot.dom().dom_group::<Identity>().ok()?.active().map(|sample| sample.group)
}

/// The name of an entry, with the domain's own name if that is another.
pub(crate) fn entry_name(entry: &str, own: Option<&str>) -> String {
    match own {
        Some(own) if own != entry => format!("{} ({})", printable(entry), printable(own)),
        _ => printable(entry),
    }
}

/// State of a region at the time of a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    /// As its header says.
    pub(crate) state: Option<State>,
    /// As its producer's life says, too.
    pub(crate) liveness: Liveness,
}

pub(crate) fn plain(stat: Stat) -> String {
    match stat {
        Stat::Value(v) => v.to_string(),
        Stat::Saturated => "saturated".to_owned(),
        Stat::NotProduced | Stat::GroupInactive => ABSENT.to_owned(),
    }
}

pub(crate) fn age(taken: Option<Ns>, updated: Ns) -> String {
    taken.map_or_else(|| ABSENT.to_owned(), |now| human::duration(now.since(updated)))
}

/// A name without what would steer the terminal: it was written by another process.
pub(crate) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// As [`printable`], of text that has lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}
