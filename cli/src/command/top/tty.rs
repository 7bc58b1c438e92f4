//! The terminal: its alternate screen, mouse, and suspension.

use std::io::stdout;

use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::DefaultTerminal;
use rustix::process::{Signal, getpid, kill_process};

use crate::error::Failure;

/// Runs `body` on the alternate screen, and restores the terminal whatever happens.
pub(super) fn with_screen(
    body: impl FnOnce(&mut DefaultTerminal) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut terminal = ratatui::try_init()?;
    let result = crossterm::execute!(stdout(), EnableMouseCapture)
        .map_err(Failure::from)
        .and_then(|()| body(&mut terminal));
    leave();
    result
}

/// Gives the terminal back.
pub(super) fn leave() {
    let _ = crossterm::execute!(stdout(), DisableMouseCapture);
    ratatui::restore();
}

/// Gives the terminal back to the shell until it says to go on.
pub(super) fn suspend(terminal: &mut DefaultTerminal) -> Result<(), Failure> {
    leave();
    let stopped = kill_process(getpid(), Signal::STOP);
    crossterm::terminal::enable_raw_mode()?;
    crossterm::execute!(stdout(), crossterm::terminal::EnterAlternateScreen, EnableMouseCapture)?;
    terminal.clear()?;
    stopped.map_err(|e| Failure::Os { action: "suspend", source: e.into() })
}
