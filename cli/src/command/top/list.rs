//! The screen with all domains.

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::{Frame, widgets::Paragraph};

use super::columns::{Column, Columns};
use super::order::Key;
use super::sampler::{Health, Row};
use super::style::Styles;
use crate::output::human::{count, percent};

/// What the list is drawn from.
pub(super) struct List<'a> {
    /// Sorted and filtered.
    pub(super) rows: &'a [(&'a str, &'a Row)],
    /// How many there are without the filter.
    pub(super) all: usize,
    pub(super) selected: usize,
    pub(super) key: Key,
    pub(super) reverse: bool,
    pub(super) filter: &'a str,
    /// Whether the filter is being typed.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) styles: Styles,
    /// Why the directory cannot be read.
    pub(super) trouble: Option<&'a str>,
    pub(super) place: &'a str,
}

impl List<'_> {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let areas: [Rect; 4] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let [summary, heads, body, foot] = areas;
        frame.render_widget(Paragraph::new(self.summary()), summary);
        let columns = Columns::for_screen(usize::from(body.width));
        let head = Line::styled(columns.heads(Some(self.key)), self.styles.head());
        frame.render_widget(Paragraph::new(head), heads);
        frame.render_widget(Paragraph::new(self.body(&columns, body)), body);
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    fn summary(&self) -> Vec<Line<'static>> {
        let sum = |value: fn(&Row) -> Option<f64>| -> f64 {
            self.rows.iter().filter_map(|(_, row)| value(row)).sum()
        };
        let vcpus: u32 = self.rows.iter().map(|(_, row)| row.totals.now.vcpus).sum();
        let mut first = vec![
            Span::styled("domstat top  ", self.styles.title()),
            Span::raw(format!(
                "{} domains  {vcpus} vCPUs  running {}%  steal {}%  exits {}/s",
                self.rows.len(),
                percent(sum(|row| row.rates.running)),
                percent(sum(|row| row.rates.steal)),
                count(sum(|row| row.rates.exits)),
            )),
        ];
        if self.paused {
            first.push(Span::styled("  PAUSED", self.styles.warn()));
        }
        let mut second = Vec::new();
        for health in Health::ALL {
            let n = self.rows.iter().filter(|(_, row)| row.health == health).count();
            if n > 0 {
                second
                    .push(Span::styled(format!("{n} {}  ", health.name()), self.styles.of(health)));
            }
        }
        if let Some(trouble) = self.trouble {
            second.push(Span::styled(trouble.to_owned(), self.styles.bad()));
        } else if self.all == 0 {
            second.push(Span::raw(format!("no domain is published in {}", self.place)));
        } else if self.rows.is_empty() {
            second.push(Span::raw(format!("none of {} domains matches the filter", self.all)));
        }
        vec![Line::from(first), Line::from(second)]
    }

    fn body(&self, columns: &Columns, area: Rect) -> Vec<Line<'static>> {
        let height = usize::from(area.height);
        let top = self.selected.saturating_sub(height.saturating_sub(1));
        let visible = self.rows.iter().enumerate().skip(top).take(height);
        visible
            .map(|(at, (_, row))| {
                if at == self.selected {
                    return Line::styled(columns.line(row), self.styles.selected());
                }
                let mut spans = Vec::new();
                for (column, cell) in columns.cells(row) {
                    spans.push(Span::styled(cell + " ", self.look(column, row)));
                }
                Line::from(spans)
            })
            .collect()
    }

    fn look(&self, column: Column, row: &Row) -> Style {
        let vcpus = f64::from(row.totals.now.vcpus.max(1));
        let share = row.rates.steal.unwrap_or(0.0) / vcpus;
        match column {
            Column::State => self.styles.of(row.health),
            _ if !row.health.is_current() => self.styles.dim(),
            Column::Steal if share > 0.2 => self.styles.bad(),
            Column::Steal if share > 0.05 => self.styles.warn(),
            Column::History => self.styles.good(),
            _ => Style::new(),
        }
    }

    fn foot(&self) -> Line<'static> {
        if self.typing {
            return Line::from(format!("filter by name, UUID or state: {}_", self.filter));
        }
        let order = if self.reverse { ", reversed" } else { "" };
        let filter = match self.filter {
            "" => String::new(),
            filter => format!("  filter: {filter}"),
        };
        let text = format!(
            "q quit  Enter domain  s sort: {}{order}  / filter{filter}  Space pause  h help",
            self.key.name()
        );
        Line::styled(text, self.styles.dim())
    }
}
