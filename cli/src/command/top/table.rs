//! Tables of the screens: columns that are chosen, fitted to a width, sorted and clicked.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr;

use crate::output::human::clip;
use crate::output::paint::Styles;

/// What rows are sorted by. Rows without a number come last.
pub(super) enum Key {
    Number(Option<f64>),
    Text(String),
}

/// A column of rows `R`.
pub(super) struct Column<R: 'static> {
    /// Its name on the command line, in menus and in the configuration file.
    pub(super) name: &'static str,
    pub(super) head: &'static str,
    /// Least width; a column that stretches takes what is left.
    pub(super) width: usize,
    pub(super) stretches: bool,
    /// Text is aligned left, numbers right.
    pub(super) is_text: bool,
    /// Whether it is shown only where some row has a value.
    pub(super) is_optional: bool,
    pub(super) cell: fn(&R, usize) -> String,
    pub(super) key: fn(&R) -> Key,
    pub(super) style: fn(&R, Styles) -> Style,
}

/// What a table needs to know of its rows.
pub(super) trait TableRow: 'static {
    /// Identifies the row from one sample to the next.
    fn id(&self) -> String;
    fn matches(&self, filter: &str) -> bool;
    /// Whether its numbers are of now; others are dimmed.
    fn is_current(&self) -> bool;
}

/// By which column rows are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) column: &'static str,
    pub(super) reverse: bool,
}

/// The selected row, and which rows are in sight.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The selected row by its id: it stays selected wherever it moves to.
    pub(super) selected: Option<String>,
    pub(super) at: usize,
    pub(super) top: usize,
    pub(super) page: usize,
}

/// Columns with their widths, and where each begins.
pub(super) struct Grid<R: 'static>(Vec<(&'static Column<R>, usize, usize)>);

/// Widest name, unless one of the rows is wider and no other column stretches.
const MAX_NAME: usize = 32;
/// Widest text that makes its column wider.
const MAX_TEXT: usize = 24;
/// Widest column of any other kind.
const MAX_STRETCHED: usize = 64;

impl<R: TableRow> Grid<R> {
    /// The first of `columns` that fit into `width`. Of what is left, texts of `rows` that are
    /// wider than their columns get what they need, and then columns that stretch.
    pub(super) fn fit(columns: &[&'static Column<R>], rows: &[&R], width: usize) -> Self {
        let mut chosen: Vec<(&'static Column<R>, usize, usize)> = Vec::new();
        let mut used = 0;
        for &column in columns {
            let separator = usize::from(!chosen.is_empty());
            if chosen.is_empty() || used + separator + column.width <= width {
                used += separator + column.width;
                chosen.push((column, column.width.min(width), 0));
            }
        }
        let mut left = width.saturating_sub(used);
        for (column, cell, _) in chosen.iter_mut().filter(|(c, ..)| c.is_text && !c.stretches) {
            let texts = rows.iter().map(|row| (column.cell)(row, MAX_TEXT).width());
            let more = texts.max().unwrap_or(0).min(MAX_TEXT).saturating_sub(*cell).min(left);
            *cell += more;
            left -= more;
        }
        let stretching = chosen.iter().filter(|(column, ..)| column.stretches).count();
        for (nth, (column, cell, _)) in
            chosen.iter_mut().filter(|(column, ..)| column.stretches).enumerate()
        {
            let most = match (nth, stretching) {
                (0, 1) => {
                    let names = rows.iter().map(|row| (column.cell)(row, usize::MAX).width());
                    names.max().unwrap_or(0).max(MAX_NAME)
                }
                (0, _) => MAX_NAME,
                _ => MAX_STRETCHED,
            };
            let more = left.min(most.saturating_sub(*cell));
            *cell += more;
            left -= more;
        }
        let mut at = 0;
        for (_, width, start) in &mut chosen {
            *start = at;
            at += *width + 1;
        }
        Self(chosen)
    }

    /// The heads; the column that is sorted by has an arrow.
    pub(super) fn heads(&self, order: Option<&Order>) -> String {
        let mut line = String::new();
        for (column, width, start) in &self.0 {
            let mark = order.filter(|order| order.column == column.name);
            let arrow = mark.map_or("", |order| if order.reverse { "▲" } else { "▼" });
            // The arrow may take the blank between two columns.
            let text = if column.is_text {
                format!("{}{arrow}", column.head)
            } else {
                format!("{arrow}{}", column.head)
            };
            let blank = match column.is_text {
                true => start.saturating_sub(line.width()),
                false => (start + width).saturating_sub(line.width() + text.width()),
            };
            line.push_str(&" ".repeat(blank));
            line.push_str(&text);
        }
        line
    }

    /// The cells of a row, each as wide as its column.
    pub(super) fn cells<'r>(
        &'r self,
        row: &'r R,
    ) -> impl Iterator<Item = (&'static Column<R>, String)> + 'r {
        self.0.iter().map(move |(column, width, _)| {
            let text = clip(&(column.cell)(row, *width), *width);
            let blank = " ".repeat(width.saturating_sub(text.width()));
            (*column, if column.is_text { text + &blank } else { blank + &text })
        })
    }

    pub(super) fn line(&self, row: &R) -> String {
        self.cells(row).map(|(_, cell)| cell).collect::<Vec<_>>().join(" ")
    }

    /// The column at `x`.
    pub(super) fn at(&self, x: usize) -> Option<&'static Column<R>> {
        self.0.iter().rev().find(|(_, _, start)| x >= *start).map(|(column, ..)| *column)
    }

    fn styled(&self, row: &R, styles: Styles) -> Line<'static> {
        let mut spans = Vec::new();
        for (column, cell) in self.cells(row) {
            let own = (column.style)(row, styles);
            let style = if row.is_current() || own != Style::new() { own } else { styles.dim() };
            spans.push(Span::styled(cell + " ", style));
        }
        Line::from(spans)
    }
}

/// Sorts rows by a column; equal ones by their ids.
pub(super) fn sort<R: TableRow>(rows: &mut [&R], columns: &[Column<R>], order: &Order) {
    let Some(column) = columns.iter().find(|column| column.name == order.column) else { return };
    let mut keyed: Vec<(Key, String, &R)> =
        rows.iter().map(|row| ((column.key)(row), row.id(), *row)).collect();
    keyed.sort_by(|(a, a_id, _), (b, b_id, _)| {
        let by_key = match (a, b) {
            // The largest number first, and the first word of the alphabet.
            (Key::Number(Some(a)), Key::Number(Some(b))) if order.reverse => a.total_cmp(b),
            (Key::Number(Some(a)), Key::Number(Some(b))) => b.total_cmp(a),
            (Key::Number(a), Key::Number(b)) => b.is_some().cmp(&a.is_some()),
            (Key::Text(a), Key::Text(b)) if order.reverse => b.cmp(a),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        by_key.then_with(|| a_id.cmp(b_id))
    });
    for (to, (.., from)) in rows.iter_mut().zip(keyed) {
        *to = from;
    }
}

impl Cursor {
    /// Finds the selected row where it is now, and keeps it in sight.
    pub(super) fn follow<R: TableRow>(&mut self, rows: &[&R], height: usize) {
        let found =
            self.selected.as_ref().and_then(|id| rows.iter().position(|row| row.id() == *id));
        self.at = found.unwrap_or(self.at).min(rows.len().saturating_sub(1));
        self.page = height.max(1);
        self.top = self.top.min(self.at).max((self.at + 1).saturating_sub(self.page));
        self.top = self.top.min(rows.len().saturating_sub(self.page));
    }

    pub(super) fn select<R: TableRow>(&mut self, at: usize, rows: &[&R]) {
        self.at = at.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.at).map(|row| row.id());
    }

    /// The rows in sight, counted from 1, of how many; nothing if all are.
    pub(super) fn position(&self, rows: usize) -> String {
        if rows <= self.page {
            return String::new();
        }
        format!("{}-{} of {rows}", self.top + 1, (self.top + self.page).min(rows))
    }
}

/// Draws heads and rows.
pub(super) fn draw<R: TableRow>(
    frame: &mut Frame<'_>,
    area: Rect,
    grid: &Grid<R>,
    rows: &[&R],
    cursor: &Cursor,
    order: &Order,
    styles: Styles,
) {
    let width = usize::from(area.width);
    let heads = Line::styled(format!("{:<width$}", grid.heads(Some(order))), styles.head());
    let visible = rows.iter().enumerate().skip(cursor.top).take(cursor.page);
    let lines = visible.map(|(at, row)| match at == cursor.at {
        true => Line::styled(format!("{:<width$}", grid.line(row)), styles.selected()),
        false => grid.styled(row, styles),
    });
    let lines: Vec<_> = std::iter::once(heads).chain(lines).collect();
    frame.render_widget(Paragraph::new(lines), area);
}
