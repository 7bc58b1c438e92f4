//! The columns of the list of domains, on a screen and in batch mode.

use unicode_width::UnicodeWidthStr;

use super::order::Key;
use super::sampler::Row;
use super::totals::both;
use crate::output::human::{bytes, clip, count, or_absent, percent, span, sparkline};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    State,
    Vcpus,
    Running,
    Steal,
    Exits,
    Disk,
    Read,
    Written,
    Net,
    Received,
    Sent,
    Memory,
    Age,
    History,
}

use Column::{
    Age, Disk, Exits, History, Memory, Name, Net, Read, Received, Running, Sent, State, Steal,
    Vcpus, Written,
};

const NARROW: &[Column] = &[Name, State, Vcpus, Running, Steal, Exits, Disk, Net, Memory, Age];
const WIDE: &[Column] = &[
    Name, State, Vcpus, Running, Steal, Exits, Read, Written, Received, Sent, Memory, Age, History,
];
/// Every number that there is, for batch mode.
const BATCH: &[Column] =
    &[Name, State, Vcpus, Running, Steal, Exits, Read, Written, Received, Sent, Memory, Age];

/// Columns with their widths.
#[derive(Debug)]
pub(super) struct Columns(Vec<(Column, usize)>);

impl Columns {
    /// Those that fit `width` columns of a terminal, and fill it.
    pub(super) fn for_screen(width: usize) -> Self {
        let columns = if width >= 100 { WIDE } else { NARROW };
        let fixed: usize = columns.iter().map(|c| c.width() + 1).sum();
        let left = (width + 1).saturating_sub(fixed);
        // What is left goes to the name, and on a wide screen to the history, too.
        let name = if columns == WIDE { (left / 2).clamp(14, 32) } else { left };
        let width_of = |c: &Column| match c {
            Name => name.max(8),
            History => left.saturating_sub(name).min(64),
            c => c.width(),
        };
        Self(columns.iter().map(|c| (*c, width_of(c))).collect())
    }

    /// Those of batch mode, for names of up to `name` columns.
    pub(super) fn for_batch(name: usize) -> Self {
        let width_of = |c: &Column| if *c == Name { name.max(4) } else { c.width() };
        Self(BATCH.iter().map(|c| (*c, width_of(c))).collect())
    }

    /// The heads, each as wide as its column; the one that is sorted by is marked.
    pub(super) fn heads(&self, key: Option<Key>) -> String {
        let cell = |(column, width): &(Column, usize)| {
            let mark = if key.is_some_and(|key| column.is_of(key)) { "▼" } else { "" };
            column.pad(&format!("{}{mark}", column.head()), *width)
        };
        self.0.iter().map(cell).collect::<Vec<_>>().join(" ")
    }

    /// A domain's cells, each as wide as its column.
    pub(super) fn cells(&self, row: &Row) -> impl Iterator<Item = (Column, String)> {
        self.0.iter().map(|(column, width)| (*column, column.cell(row, *width)))
    }

    pub(super) fn line(&self, row: &Row) -> String {
        self.cells(row).map(|(_, cell)| cell).collect::<Vec<_>>().join(" ")
    }
}

impl Column {
    const fn width(self) -> usize {
        match self {
            Name | History => 0,
            State | Steal | Exits => 7,
            Vcpus => 5,
            _ => 6,
        }
    }

    const fn head(self) -> &'static str {
        match self {
            Name => "NAME",
            State => "STATE",
            Vcpus => "VCPUS",
            Running => "%RUN",
            Steal => "%STEAL",
            Exits => "EXIT/s",
            Disk => "DISK/s",
            Read => "READ/s",
            Written => "WRIT/s",
            Net => "NET/s",
            Received => "RX/s",
            Sent => "TX/s",
            Memory => "MEM",
            Age => "AGE",
            History => "%RUN HISTORY",
        }
    }

    const fn is_of(self, key: Key) -> bool {
        matches!(
            (self, key),
            (Name, Key::Name)
                | (Running, Key::Running)
                | (Steal, Key::Steal)
                | (Exits, Key::Exits)
                | (Disk | Read, Key::Disk)
                | (Net | Received, Key::Net)
                | (Memory, Key::Memory)
                | (Age, Key::Age)
        )
    }

    fn cell(self, row: &Row, width: usize) -> String {
        let rates = &row.rates;
        let text = match self {
            Name => row.name.clone(),
            State => row.health.name().to_owned(),
            Vcpus => or_absent(row.vcpus(), |n| n.to_string()),
            Running => or_absent(rates.running, percent),
            Steal => or_absent(rates.steal, percent),
            Exits => or_absent(rates.exits, count),
            Disk => or_absent(both(rates.read, rates.written), bytes),
            Read => or_absent(rates.read, bytes),
            Written => or_absent(rates.written, bytes),
            Net => or_absent(both(rates.received, rates.sent), bytes),
            Received => or_absent(rates.received, bytes),
            Sent => or_absent(rates.sent, bytes),
            Memory => or_absent(row.totals.now.memory, |m| bytes(m as f64)),
            Age => or_absent(row.age, span),
            History => sparkline(row.history.iter().copied(), width),
        };
        self.pad(&text, width)
    }

    /// Text to the left, numbers to the right.
    fn pad(self, text: &str, width: usize) -> String {
        let text = clip(text, width);
        let blank = " ".repeat(width.saturating_sub(text.width()));
        if matches!(self, Name | State | History) { text + &blank } else { blank + &text }
    }
}
