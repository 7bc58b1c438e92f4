//! The screens, and the keys that lead from one to another.

use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use super::detail::Watched;
use super::domain::Domain;
use super::list::List;
use super::order::{self, Key};
use super::sampler::{Row, Sampler};
use super::style::Styles;
use super::{Args, help};
use crate::error::Failure;
use crate::signals::Stop;

/// What is on the screen.
#[derive(Debug, PartialEq, Eq)]
enum Screen {
    List,
    /// One domain, by its entry, and the first line that is shown.
    Domain {
        entry: String,
        scroll: usize,
    },
}

/// The program as the keys left it.
pub(super) struct App {
    screen: Screen,
    helping: bool,
    key: Key,
    reverse: bool,
    filter: String,
    typing: bool,
    paused: bool,
    /// The entry that is selected; stays selected wherever it moves to.
    selected: Option<String>,
    /// Where it was when it was last seen.
    at: usize,
    page: usize,
    watched: Watched,
    styles: Styles,
    trouble: Option<String>,
    place: String,
}

impl App {
    pub(super) fn new(args: &Args, place: String) -> Self {
        Self {
            screen: Screen::List,
            helping: false,
            key: args.sort,
            reverse: args.reverse,
            filter: args.filter.clone().unwrap_or_default(),
            typing: false,
            paused: false,
            selected: None,
            at: 0,
            page: 10,
            watched: Watched::default(),
            styles: Styles::new(args.color),
            trouble: None,
            place,
        }
    }

    /// Shows, until the user has seen enough.
    pub(super) fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        sampler: &mut Sampler,
        interval: Duration,
        count: Option<u64>,
        stop: &Stop,
    ) -> Result<(), Failure> {
        let mut shown = 0;
        let mut due = Instant::now();
        loop {
            if Instant::now() >= due {
                due = (due + interval).max(Instant::now());
                if !self.paused {
                    self.sample(sampler);
                }
                shown += 1;
            }
            self.draw(terminal, sampler)?;
            if count.is_some_and(|count| shown >= count) || stop.wait(Duration::ZERO) {
                return Ok(());
            }
            // Several keys may have come; all are heard before the next look.
            while event::poll(due.saturating_duration_since(Instant::now()))? {
                let quit = match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        self.press(key, sampler)
                    }
                    _ => false,
                };
                if quit {
                    return Ok(());
                }
                self.draw(terminal, sampler)?;
            }
        }
    }

    fn sample(&mut self, sampler: &mut Sampler) {
        self.trouble = sampler.sample().err().map(|e| e.to_string());
        if let Screen::Domain { entry, .. } = &self.screen
            && let Some(region) = sampler.region(entry)
        {
            self.watched.sample(entry, region);
        }
    }

    /// The rows as they are listed.
    fn rows<'s>(&self, sampler: &'s Sampler) -> Vec<(&'s str, &'s Row)> {
        let mut rows: Vec<_> =
            sampler.rows().filter(|(_, row)| order::matches(row, &self.filter)).collect();
        order::sort(&mut rows, self.key, self.reverse);
        rows
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal, sampler: &Sampler) -> Result<(), Failure> {
        if self.helping {
            terminal.draw(|frame| help::draw(frame, self.styles))?;
            return Ok(());
        }
        if let Screen::Domain { entry, scroll } = &mut self.screen {
            let Some(row) = sampler.row(entry) else {
                self.trouble = Some(format!("{entry} has left"));
                self.screen = Screen::List;
                return self.draw(terminal, sampler);
            };
            let domain = Domain {
                row,
                region: sampler.region(entry),
                watched: &self.watched,
                styles: self.styles,
                paused: self.paused,
            };
            terminal.draw(|frame| *scroll = (*scroll).min(domain.draw(frame, *scroll)))?;
            return Ok(());
        }
        let rows = self.rows(sampler);
        self.follow(&rows);
        let list = List {
            rows: &rows,
            all: sampler.rows().count(),
            selected: self.at,
            key: self.key,
            reverse: self.reverse,
            filter: &self.filter,
            typing: self.typing,
            paused: self.paused,
            styles: self.styles,
            trouble: self.trouble.as_deref(),
            place: &self.place,
        };
        let mut height = 0;
        terminal.draw(|frame| {
            height = usize::from(frame.area().height);
            list.draw(frame);
        })?;
        self.page = height.saturating_sub(4).max(1);
        Ok(())
    }

    /// Finds the selected row where it is now.
    fn follow(&mut self, rows: &[(&str, &Row)]) {
        let found = self
            .selected
            .as_ref()
            .and_then(|entry| rows.iter().position(|(other, _)| other == entry));
        self.at = found.unwrap_or(self.at).min(rows.len().saturating_sub(1));
    }

    /// True if that was the end.
    fn press(&mut self, key: KeyEvent, sampler: &mut Sampler) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return matches!(key.code, KeyCode::Char('c' | 'd'));
        }
        if self.typing {
            match key.code {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    self.typing = false;
                    self.filter.clear();
                }
                KeyCode::Backspace => {
                    self.filter.pop();
                }
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            return false;
        }
        if std::mem::take(&mut self.helping) {
            return key.code == KeyCode::Char('q');
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('h' | '?') => self.helping = true,
            KeyCode::Char(' ') => self.paused = !self.paused,
            _ => match &mut self.screen {
                Screen::Domain { scroll, .. } => match key.code {
                    KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => {
                        self.screen = Screen::List;
                    }
                    KeyCode::Down | KeyCode::Char('j') => *scroll = scroll.saturating_add(1),
                    KeyCode::Up | KeyCode::Char('k') => *scroll = scroll.saturating_sub(1),
                    KeyCode::PageDown => *scroll = scroll.saturating_add(self.page),
                    KeyCode::PageUp => *scroll = scroll.saturating_sub(self.page),
                    KeyCode::Home => *scroll = 0,
                    KeyCode::End => *scroll = usize::MAX,
                    _ => {}
                },
                Screen::List => return self.press_in_list(key.code, sampler),
            },
        }
        false
    }

    fn press_in_list(&mut self, key: KeyCode, sampler: &mut Sampler) -> bool {
        match key {
            KeyCode::Esc if self.filter.is_empty() => return true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => self.key = self.key.step(1),
            KeyCode::Char('S') => self.key = self.key.step(Key::ALL.len() - 1),
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Down | KeyCode::Char('j') => self.select(self.at.saturating_add(1), sampler),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.at.saturating_sub(1), sampler),
            KeyCode::PageDown => self.select(self.at.saturating_add(self.page), sampler),
            KeyCode::PageUp => self.select(self.at.saturating_sub(self.page), sampler),
            KeyCode::Home => self.select(0, sampler),
            KeyCode::End => self.select(usize::MAX, sampler),
            KeyCode::Enter | KeyCode::Right => {
                self.select(self.at, sampler);
                if let Some(entry) = self.selected.clone() {
                    self.screen = Screen::Domain { entry, scroll: 0 };
                    self.sample(sampler);
                }
            }
            _ => {}
        }
        false
    }

    fn select(&mut self, at: usize, sampler: &Sampler) {
        let rows = self.rows(sampler);
        self.at = at.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.at).map(|(entry, _)| (*entry).to_owned());
    }
}
