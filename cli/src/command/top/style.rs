//! Colors, or none.

use clap::ValueEnum;
use ratatui::style::{Color, Modifier, Style};

use super::sampler::Health;

/// When to use colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// Unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How things look. Without colors nothing is said by looks alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Styles {
    color: bool,
}

impl Styles {
    pub(super) fn new(when: When) -> Self {
        let color = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self { color }
    }

    fn fg(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn good(self) -> Style {
        self.fg(Color::Green)
    }

    pub(super) fn warn(self) -> Style {
        self.fg(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        if self.color { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }

    pub(super) fn title(self) -> Style {
        self.fg(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) const fn head(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) const fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED).add_modifier(Modifier::BOLD)
    }

    pub(super) fn of(self, health: Health) -> Style {
        match health {
            Health::Live => self.good(),
            Health::Stale => self.warn(),
            Health::Stalled | Health::Unreadable => self.bad(),
            Health::Retired | Health::Gone => self.dim(),
        }
    }
}
