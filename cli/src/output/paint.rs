//! Styles of text on a terminal, and lines printed with them.

use domstat_consumer::domain_status::HUNG;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use crossterm::style::{Attribute, Print, SetAttribute, SetForegroundColor};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use serde::{Deserialize, Serialize};

/// When to use colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The styles of all screens and tables. No meaning is carried by a style alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Styles {
    color: bool,
}

impl Styles {
    pub(crate) fn new(when: When) -> Self {
        let no_color = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => io::stdout().is_terminal() && !no_color(),
        };
        Self { color }
    }

    fn fg(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(crate) fn good(self) -> Style {
        self.fg(Color::Green)
    }

    pub(crate) fn warn(self) -> Style {
        self.fg(Color::Yellow)
    }

    pub(crate) fn bad(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(crate) fn dim(self) -> Style {
        self.fg(Color::DarkGray)
    }

    pub(crate) fn title(self) -> Style {
        self.fg(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(crate) const fn head(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(crate) const fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED).add_modifier(Modifier::BOLD)
    }

    /// Of a share of time that was stolen, 0 to 1.
    pub(crate) fn steal(self, share: Option<f64>) -> Style {
        match share {
            Some(share) if share > 0.2 => self.bad(),
            Some(share) if share > 0.05 => self.warn(),
            _ => Style::new(),
        }
    }

    /// Of a domain that stands as this word says.
    pub(crate) fn standing(self, word: &str) -> Style {
        match word {
            "live" => self.good(),
            "stale" | "unheld" | "restarted" => self.warn(),
            "retired" | "dead" => self.dim(),
            _ => self.bad(),
        }
    }

    /// Of a domain of which its hypervisor or VMM says this word.
    pub(crate) fn status(self, word: &str) -> Style {
        match word {
            "running" => self.good(),
            "crashed" | "io_error" | HUNG => self.bad(),
            _ => self.warn(),
        }
    }

    /// Prints lines without trailing blanks; with escape sequences if there are colors.
    pub(crate) fn print<'l>(
        self,
        out: &mut impl Write,
        lines: impl IntoIterator<Item = &'l Line<'l>>,
    ) -> io::Result<()> {
        for line in lines {
            if self.color {
                self.print_styled(out, line)?;
            } else {
                let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
                out.write_all(text.trim_end().as_bytes())?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    fn print_styled(self, out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
        let last = line.spans.iter().rposition(|span| !span.content.trim_end().is_empty());
        for (i, span) in line.spans.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let style = line.style.patch(span.style);
            let text: &str =
                if Some(i) == last { span.content.trim_end() } else { span.content.as_ref() };
            for (modifier, attribute) in
                [(Modifier::BOLD, Attribute::Bold), (Modifier::REVERSED, Attribute::Reverse)]
            {
                if style.add_modifier.contains(modifier) {
                    crossterm::queue!(out, SetAttribute(attribute))?;
                }
            }
            if let Some(color) = style.fg.and_then(terminal_color) {
                crossterm::queue!(out, SetForegroundColor(color))?;
            }
            crossterm::queue!(out, Print(text))?;
            if style != Style::new() {
                crossterm::queue!(out, SetAttribute(Attribute::Reset))?;
            }
        }
        Ok(())
    }
}

/// The palette of [`Styles`], in crossterm's names.
const fn terminal_color(color: Color) -> Option<crossterm::style::Color> {
    use crossterm::style::Color as Terminal;
    match color {
        Color::Green => Some(Terminal::DarkGreen),
        Color::Yellow => Some(Terminal::DarkYellow),
        Color::Red => Some(Terminal::DarkRed),
        Color::DarkGray => Some(Terminal::DarkGrey),
        Color::Cyan => Some(Terminal::DarkCyan),
        _ => None,
    }
}
