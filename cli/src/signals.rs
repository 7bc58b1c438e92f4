//! SIGINT, SIGTERM and SIGHUP as events that a loop can wait for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Failure;

/// The user's wish for an end.
pub(crate) struct Stop(Receiver<()>);

impl Stop {
    pub(crate) fn on_signals() -> Result<Self, Failure> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|source| Failure::Os { action: "catch signals", source })?;
        let (asks, asked) = channel();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if asks.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self(asked))
    }

    /// An end that a test asks for.
    #[cfg(test)]
    pub(crate) fn of(asked: Receiver<()>) -> Self {
        Self(asked)
    }

    /// Waits; true if the end was asked for meanwhile.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        match self.0.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => false,
            // Without the thread nobody could ask any more: end.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
        }
    }
}
