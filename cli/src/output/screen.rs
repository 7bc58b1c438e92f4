//! Samples drawn one over the other, within the height of the terminal.

use std::io::{self, Write};

use crossterm::cursor::{MoveToColumn, MoveUp};
use crossterm::terminal::{Clear, ClearType};
use ratatui::text::Line;

use super::paint::Styles;

/// Columns of a line where there is no terminal.
pub(crate) const DEFAULT_WIDTH: usize = 80;

/// Columns and rows of the terminal; `None` if the output is not one.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let (width, height) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (width > 0 && height > 0).then_some((width, height))
}

/// Where samples are shown: over the last one on a terminal, below it elsewhere.
pub(crate) struct Screen {
    live: bool,
    styles: Styles,
    /// Rows of the last sample on a terminal.
    drawn: usize,
    shown: bool,
}

impl Screen {
    pub(crate) const fn new(live: bool, styles: Styles) -> Self {
        Self { live, styles, drawn: 0, shown: false }
    }

    /// Leaves what is drawn as it is; the next sample goes below.
    pub(crate) fn leave(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.drawn = 0;
        out.flush()
    }

    /// Draws the lines that `sample` makes for a width, as many as the terminal is high.
    pub(crate) fn draw(
        &mut self,
        out: &mut impl Write,
        sample: impl FnOnce(Styles, usize) -> Vec<Line<'static>>,
    ) -> io::Result<()> {
        let size = terminal_size().filter(|_| self.live);
        let mut lines = sample(self.styles, size.map_or(DEFAULT_WIDTH, |(width, _)| width));
        if let Some((_, height)) = size {
            // One row stays free for the cursor.
            let rows = height.saturating_sub(1).max(2);
            if lines.len() > rows {
                let hidden = lines.len() - (rows - 1);
                lines.truncate(rows - 1);
                let text = format!("{hidden} more rows: make the terminal higher, or use top");
                lines.push(Line::styled(text, self.styles.dim()));
            }
            if self.drawn > 0 {
                let up = u16::try_from(self.drawn.min(height)).unwrap_or(u16::MAX);
                crossterm::queue!(
                    out,
                    MoveUp(up),
                    MoveToColumn(0),
                    Clear(ClearType::FromCursorDown)
                )?;
            }
            self.drawn = lines.len();
        } else if self.shown {
            writeln!(out)?;
        }
        self.shown = true;
        self.styles.print(out, &lines)
    }
}
