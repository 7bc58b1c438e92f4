//! Menus over the screen: the column to sort by, the columns to show.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::output::paint::Styles;

/// A list of which one line is selected.
#[derive(Debug)]
pub(super) struct Menu {
    pub(super) title: &'static str,
    /// Each line, and whether it is marked.
    pub(super) lines: Vec<(&'static str, bool)>,
    pub(super) at: usize,
}

impl Menu {
    pub(super) fn step(&mut self, by: isize) {
        let last = self.lines.len().saturating_sub(1);
        self.at = self.at.saturating_add_signed(by).min(last);
    }

    pub(super) fn selected(&self) -> Option<&'static str> {
        self.lines.get(self.at).map(|(name, _)| *name)
    }

    fn area(&self, whole: Rect) -> Rect {
        let width = 34.min(whole.width);
        let wanted = u16::try_from(self.lines.len() + 2).unwrap_or(u16::MAX);
        let height = wanted.min(whole.height);
        let (x, y) = ((whole.width - width) / 2, (whole.height - height) / 2);
        Rect { x, y, width, height }
    }

    fn top(&self, area: Rect) -> usize {
        let height = usize::from(area.height.saturating_sub(2)).max(1);
        (self.at + 1).saturating_sub(height)
    }

    /// Selects the line at this place of the screen; false if there is none.
    pub(super) fn click(&mut self, whole: Rect, x: u16, y: u16) -> bool {
        let area = self.area(whole);
        let inside = (area.x + 1..area.right().saturating_sub(1)).contains(&x)
            && (area.y + 1..area.bottom().saturating_sub(1)).contains(&y);
        let at = self.top(area) + usize::from(y.saturating_sub(area.y + 1));
        if inside && at < self.lines.len() {
            self.at = at;
            return true;
        }
        false
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>, styles: Styles) {
        let area = self.area(frame.area());
        let width = usize::from(area.width.saturating_sub(2));
        let lines: Vec<_> = self
            .lines
            .iter()
            .enumerate()
            .skip(self.top(area))
            .map(|(at, (name, marked))| {
                let text = format!(" {} {name}", if *marked { "✓" } else { " " });
                let style =
                    if at == self.at { styles.selected() } else { ratatui::style::Style::new() };
                Line::styled(format!("{text:<width$}"), style)
            })
            .collect();
        frame.render_widget(Clear, area);
        let block = Block::bordered().title(self.title).border_style(styles.title());
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}
