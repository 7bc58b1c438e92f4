//! SIGINT, SIGTERM and SIGHUP as events that a loop can wait for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::Failure;

/// The user's wish for an end.
pub(crate) struct Stop(Receiver<()>);

impl Stop {
    pub(crate) fn on_signals() -> Result<Self, Failure> {
        Self::start(|_| {})
    }

    /// As [`Stop::on_signals`], for a loop that a read of its terminal can hold up: the process
    /// ends by itself `grace` after a signal, as the signal would have ended it, after `leave`.
    ///
    /// `crossterm` reads a terminal that was closed again and again, and never returns.
    pub(crate) fn on_signals_within(
        grace: Duration,
        leave: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        Self::start(move |signal| {
            std::thread::sleep(grace);
            leave();
            let _ = emulate_default_handler(signal);
        })
    }

    fn start(and_then: impl Fn(i32) + Send + 'static) -> Result<Self, Failure> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|source| Failure::Os { action: "catch signals", source })?;
        let (asks, asked) = channel();
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let sent = asks.send(());
                and_then(signal);
                if sent.is_err() {
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
