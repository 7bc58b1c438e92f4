//! Keys and the mouse.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use std::time::Duration;

use super::app::{App, Next, Overlay, Screen, Tab, layout};
use super::columns::{DISKS, DOMAINS, NARROW, NETS, WIDE, WIDE_FROM, known, named};
use super::menu::Menu;
use super::sampler::Sampler;
use super::table::{Column, Cursor, Grid, Order, TableRow};

/// The shortest and the longest interval that keys set.
const FASTEST: Duration = Duration::from_millis(125);
const SLOWEST: Duration = Duration::from_secs(64);
/// Rows that the wheel moves.
const WHEEL: usize = 3;

/// Where the selection goes.
#[derive(Clone, Copy)]
enum To {
    Up(usize),
    Down(usize),
    PageUp,
    PageDown,
    First,
    Last,
    Row(usize),
}

impl To {
    const fn of(key: KeyCode) -> Option<Self> {
        Some(match key {
            KeyCode::Up | KeyCode::Char('k') => Self::Up(1),
            KeyCode::Down | KeyCode::Char('j') => Self::Down(1),
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home | KeyCode::Char('g') => Self::First,
            KeyCode::End | KeyCode::Char('G') => Self::Last,
            _ => return None,
        })
    }

    fn from(self, at: usize, page: usize) -> usize {
        match self {
            Self::Up(by) => at.saturating_sub(by),
            Self::Down(by) => at.saturating_add(by),
            Self::PageUp => at.saturating_sub(page),
            Self::PageDown => at.saturating_add(page),
            Self::First => 0,
            Self::Last => usize::MAX,
            Self::Row(row) => row,
        }
    }
}

/// The column that a letter sorts domains by.
const fn by_letter(letter: char) -> Option<&'static str> {
    Some(match letter {
        'P' => "running",
        'T' => "steal",
        'E' => "exits",
        'D' => "disk",
        'N' => "net",
        'M' => "memory",
        'A' => "age",
        'V' => "vcpus",
        _ => return None,
    })
}

impl App {
    pub(super) fn press(&mut self, key: KeyEvent, sampler: &mut Sampler) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Next::Quit,
                KeyCode::Char('z') => Next::Suspend,
                _ => Next::Stay,
            };
        }
        if self.typing {
            self.type_filter(key.code);
            return Next::Stay;
        }
        if self.overlay.is_some() {
            return self.press_in_overlay(key.code);
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::F(10) => return Next::Quit,
            KeyCode::Char('h' | '?') | KeyCode::F(1) => {
                self.overlay = Some(Overlay::Help { scroll: 0 });
            }
            KeyCode::Char(' ' | 'Z') => self.paused = !self.paused,
            KeyCode::Char('+') => {
                self.settings.interval = (self.settings.interval * 2).min(SLOWEST)
            }
            KeyCode::Char('-') => {
                self.settings.interval = (self.settings.interval / 2).max(FASTEST)
            }
            _ => match &mut self.screen {
                Screen::Domain { .. } => return self.press_in_domain(key.code),
                Screen::Table(_) => return self.press_in_table(key.code, sampler),
            },
        }
        if let KeyCode::Char('+' | '-') = key.code {
            self.notice = Some(format!("every {} s", self.settings.interval.as_secs_f64()));
        }
        Next::Stay
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.settings.filter.clear();
            }
            KeyCode::Backspace => {
                self.settings.filter.pop();
            }
            KeyCode::Char(c) => self.settings.filter.push(c),
            _ => {}
        }
    }

    fn press_in_overlay(&mut self, key: KeyCode) -> Next {
        let Some(overlay) = &mut self.overlay else { return Next::Stay };
        match overlay {
            Overlay::Help { scroll } => match To::of(key) {
                Some(to) => *scroll = to.from(*scroll, 10),
                None => self.overlay = None,
            },
            Overlay::SortBy(menu) | Overlay::Columns(menu) => match key {
                KeyCode::Up | KeyCode::Char('k') => menu.step(-1),
                KeyCode::Down | KeyCode::Char('j') => menu.step(1),
                KeyCode::Enter | KeyCode::Char(' ') => self.choose(),
                _ => self.overlay = None,
            },
        }
        if key == KeyCode::Char('q') { Next::Quit } else { Next::Stay }
    }

    /// Does what the selected line of the menu says.
    fn choose(&mut self) {
        match self.overlay.take() {
            Some(Overlay::SortBy(menu)) => {
                if let Some(column) = menu.selected() {
                    self.order_mut().column = column;
                }
            }
            Some(Overlay::Columns(mut menu)) => {
                let at = menu.at;
                if let Some((_, shown)) = menu.lines.get_mut(at) {
                    *shown = !*shown;
                }
                let shown = menu.lines.iter().filter(|(_, shown)| *shown).map(|(name, _)| *name);
                self.settings.columns = Some(shown.collect());
                self.overlay = Some(Overlay::Columns(menu));
            }
            other => self.overlay = other,
        }
    }

    fn press_in_domain(&mut self, key: KeyCode) -> Next {
        let Screen::Domain { scroll, from, .. } = &mut self.screen else { return Next::Stay };
        match key {
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                self.screen = Screen::Table(*from);
                return Next::Sample;
            }
            _ => {
                if let Some(to) = To::of(key) {
                    *scroll = to.from(*scroll, usize::from(self.area.height / 2).max(1));
                }
            }
        }
        Next::Stay
    }

    fn press_in_table(&mut self, key: KeyCode, sampler: &Sampler) -> Next {
        if let Some(to) = To::of(key) {
            self.go(to, sampler);
            return Next::Stay;
        }
        match key {
            KeyCode::Esc if self.settings.filter.is_empty() => return Next::Quit,
            KeyCode::Esc => self.settings.filter.clear(),
            KeyCode::Char('1') => return self.switch(Tab::Domains),
            KeyCode::Char('2') => return self.switch(Tab::Disks),
            KeyCode::Char('3') => return self.switch(Tab::Nets),
            KeyCode::Tab => {
                return self.switch(match self.tab() {
                    Tab::Domains => Tab::Disks,
                    Tab::Disks => Tab::Nets,
                    Tab::Nets => Tab::Domains,
                });
            }
            KeyCode::Char('>' | '.') => self.step_order(1),
            KeyCode::Char('<' | ',') => self.step_order(-1),
            KeyCode::Char('s') | KeyCode::F(6) => {
                self.overlay = Some(Overlay::SortBy(self.orders()))
            }
            KeyCode::Char('r' | 'I') => {
                let order = self.order_mut();
                order.reverse = !order.reverse;
            }
            KeyCode::Char('c') | KeyCode::F(2) => {
                self.overlay = Some(Overlay::Columns(self.chosen_columns()));
            }
            KeyCode::Char('/') | KeyCode::F(3 | 4) => self.typing = true,
            KeyCode::Char('W') => {
                self.notice = Some(match self.settings.config().save() {
                    Ok(path) => format!("saved {}", path.display()),
                    Err(why) => why,
                });
            }
            KeyCode::Enter | KeyCode::Right => return self.open(sampler),
            KeyCode::Char(letter) => {
                let column = by_letter(letter).filter(|name| self.names().contains(name));
                if let Some(column) = column {
                    *self.order_mut() = Order { column, reverse: false };
                }
            }
            _ => {}
        }
        Next::Stay
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent, sampler: &Sampler) -> Next {
        let to = match mouse.kind {
            MouseEventKind::ScrollUp => Some(To::Up(WHEEL)),
            MouseEventKind::ScrollDown => Some(To::Down(WHEEL)),
            _ => None,
        };
        let is_click = mouse.kind == MouseEventKind::Down(MouseButton::Left);
        match (&mut self.overlay, to) {
            (Some(Overlay::Help { scroll }), Some(to)) => *scroll = to.from(*scroll, 1),
            (Some(Overlay::Help { .. }), None) if is_click => self.overlay = None,
            (Some(Overlay::Help { .. }), None) => {}
            (Some(Overlay::SortBy(menu) | Overlay::Columns(menu)), Some(to)) => {
                menu.step(if matches!(to, To::Up(_)) { -1 } else { 1 });
            }
            (Some(Overlay::SortBy(menu) | Overlay::Columns(menu)), None) if is_click => {
                match menu.click(self.area, mouse.column, mouse.row) {
                    true => self.choose(),
                    false => self.overlay = None,
                }
            }
            (Some(_), None) => {}
            (None, Some(to)) => match &mut self.screen {
                Screen::Domain { scroll, .. } => *scroll = to.from(*scroll, 1),
                Screen::Table(_) => self.go(to, sampler),
            },
            (None, None) if is_click && matches!(self.screen, Screen::Table(_)) => {
                return self.click(usize::from(mouse.column), mouse.row, sampler);
            }
            (None, None) => {}
        }
        Next::Stay
    }

    /// A click on a head sorts, one on a row selects, one on the selected row opens.
    fn click(&mut self, x: usize, y: u16, sampler: &Sampler) -> Next {
        let [_, body, _] = layout(self.area);
        if y == body.y {
            let width = usize::from(self.area.width);
            let name = match self.tab() {
                Tab::Domains => {
                    Grid::fit(&self.columns(), &self.rows(sampler), width).at(x).map(|c| c.name)
                }
                Tab::Disks => {
                    Grid::fit(&known(&DISKS, &self.disk_rows()), &self.disk_rows(), width)
                        .at(x)
                        .map(|c| c.name)
                }
                Tab::Nets => Grid::fit(&known(&NETS, &self.net_rows()), &self.net_rows(), width)
                    .at(x)
                    .map(|c| c.name),
            };
            if let Some(column) = name {
                let order = self.order_mut();
                let reverse = order.column == column && !order.reverse;
                *order = Order { column, reverse };
            }
        } else if (body.y + 1..body.bottom()).contains(&y) {
            let cursor = self.cursor();
            let row = cursor.top + usize::from(y - body.y - 1);
            let again = cursor.selected.is_some() && row == cursor.at;
            if row < self.nr_rows(sampler) {
                self.go(To::Row(row), sampler);
                if again {
                    return self.open(sampler);
                }
            }
        }
        Next::Stay
    }

    /// Opens the domain of the selected row.
    fn open(&mut self, sampler: &Sampler) -> Next {
        let (from, at) = (self.tab(), self.cursor().at);
        self.go(To::Row(at), sampler);
        let entry = match from {
            Tab::Domains => self.rows(sampler).get(at).map(|row| row.entry.clone()),
            Tab::Disks => self.disk_rows().get(at).map(|disk| disk.entry.clone()),
            Tab::Nets => self.net_rows().get(at).map(|net| net.entry.clone()),
        };
        let Some(entry) = entry else { return Next::Stay };
        self.screen = Screen::Domain { entry, scroll: 0, from };
        Next::Sample
    }

    fn switch(&mut self, tab: Tab) -> Next {
        self.screen = Screen::Table(tab);
        Next::Sample
    }

    const fn tab(&self) -> Tab {
        match &self.screen {
            Screen::Table(tab) | Screen::Domain { from: tab, .. } => *tab,
        }
    }

    const fn cursor(&self) -> &Cursor {
        match self.tab() {
            Tab::Domains => &self.domain_cursor,
            Tab::Disks => &self.disk_cursor,
            Tab::Nets => &self.net_cursor,
        }
    }

    fn nr_rows(&self, sampler: &Sampler) -> usize {
        match self.tab() {
            Tab::Domains => self.rows(sampler).len(),
            Tab::Disks => self.disk_rows().len(),
            Tab::Nets => self.net_rows().len(),
        }
    }

    const fn order_mut(&mut self) -> &mut Order {
        match self.tab() {
            Tab::Domains => &mut self.settings.order,
            Tab::Disks => &mut self.disk_order,
            Tab::Nets => &mut self.net_order,
        }
    }

    /// The columns that the table can be sorted by.
    fn names(&self) -> Vec<&'static str> {
        fn names<R>(columns: &'static [Column<R>]) -> Vec<&'static str> {
            columns.iter().map(|column| column.name).filter(|name| *name != "history").collect()
        }
        match self.tab() {
            Tab::Domains => names(&DOMAINS),
            Tab::Disks => names(&DISKS),
            Tab::Nets => names(&NETS),
        }
    }

    fn step_order(&mut self, by: isize) {
        let names = self.names();
        let order = self.order_mut();
        let at = names.iter().position(|name| *name == order.column).unwrap_or(0);
        let next = at.saturating_add_signed(by).min(names.len().saturating_sub(1));
        if let Some(column) = names.get(next) {
            order.column = column;
        }
    }

    fn orders(&mut self) -> Menu {
        let names = self.names();
        let current = self.order_mut().column;
        let at = names.iter().position(|name| *name == current).unwrap_or(0);
        let lines = names.into_iter().map(|name| (name, name == current)).collect();
        Menu { title: " sort by ", lines, at }
    }

    fn chosen_columns(&self) -> Menu {
        let wide = usize::from(self.area.width) >= WIDE_FROM;
        let usual = if wide { WIDE } else { NARROW };
        let shown = self.settings.columns.clone().unwrap_or_else(|| usual.to_vec());
        // Those that are shown come first, in their order.
        let hidden = DOMAINS.iter().map(|c| c.name).filter(|name| !shown.contains(name));
        let mut lines: Vec<_> =
            named(&DOMAINS, &shown).into_iter().map(|c| (c.name, true)).collect();
        lines.extend(hidden.map(|name| (name, false)));
        Menu { title: " columns ", lines, at: 0 }
    }

    fn go(&mut self, to: To, sampler: &Sampler) {
        fn go<R: TableRow>(mut cursor: Cursor, to: To, rows: &[&R]) -> Cursor {
            cursor.select(to.from(cursor.at, cursor.page), rows);
            cursor
        }
        match self.tab() {
            Tab::Domains => {
                let cursor = std::mem::take(&mut self.domain_cursor);
                self.domain_cursor = go(cursor, to, &self.rows(sampler));
            }
            Tab::Disks => {
                let cursor = std::mem::take(&mut self.disk_cursor);
                self.disk_cursor = go(cursor, to, &self.disk_rows());
            }
            Tab::Nets => {
                let cursor = std::mem::take(&mut self.net_cursor);
                self.net_cursor = go(cursor, to, &self.net_rows());
            }
        }
    }
}
