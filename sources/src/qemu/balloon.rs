//! How often a VM's balloon asks its driver in the guest: set where nobody did, and taken back.

use std::time::Duration;

use super::qmp::{Connection, QmpError};
use super::queries;

/// The interval of one VM's balloon.
#[derive(Debug)]
pub(super) struct BalloonInterval {
    seconds: u64,
    /// The balloon that was asked, and whether we set its interval.
    balloon: Option<(String, bool)>,
}

impl BalloonInterval {
    /// Sets it to this, at least a second.
    pub(super) fn new(interval: Duration) -> Self {
        Self { seconds: interval.as_secs().max(1), balloon: None }
    }

    /// Sets it for the balloon at this path, if it does not ask by itself.
    ///
    /// # Errors
    /// [`QmpError`] of the connection.
    pub(super) fn set(&mut self, qmp: &mut Connection, path: Option<&str>) -> Result<(), QmpError> {
        let Some(path) = path else {
            self.balloon = None;
            return Ok(());
        };
        if self.balloon.as_ref().is_some_and(|(known, _)| known == path) {
            return Ok(());
        }
        let is_off = queries::balloon_interval(qmp, path)? == Some(0);
        let is_set = is_off && queries::set_balloon_interval(qmp, path, self.seconds)?;
        self.balloon = Some((path.to_owned(), is_set));
        Ok(())
    }

    /// Takes back what was set.
    ///
    /// # Errors
    /// [`QmpError`] of the connection.
    pub(super) fn take_back(&mut self, qmp: &mut Connection) -> Result<(), QmpError> {
        if let Some((path, true)) = self.balloon.take() {
            // What someone else has set meanwhile stays.
            if queries::balloon_interval(qmp, &path)? == Some(self.seconds) {
                queries::set_balloon_interval(qmp, &path, 0)?;
            }
        }
        Ok(())
    }
}
