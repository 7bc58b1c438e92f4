//! Search for the daemon that serves a domain.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use domstat_layout::handover::Refusal;

use super::daemon::{ANSWER, Daemon};
use super::directory::list;
use super::hear;
use crate::error::AttachError;
use crate::handover::Connection;

/// Pause between two looks for a domain.
const AGAIN: Duration = Duration::from_millis(10);

/// Connects to the daemon that serves the domain called `name`: the one at `NAME.sock`, or else the
/// first by its path of those whose sockets are in `dir`; `None` if there is none. All of them are
/// asked at once, and waited for up to `deadline`, together.
///
/// # Errors
/// [`AttachError`]: the directory cannot be read, who lists the domain does not hand it over, or nobody
/// lists it and the daemon after which it may be called (`NAME.sock`) cannot be asked.
pub fn find_daemon(
    dir: &Path,
    name: &str,
    deadline: Duration,
) -> Result<Option<Connection>, AttachError> {
    let began = Instant::now();
    let mut daemons = BTreeMap::new();
    for (path, file) in list(dir)?.sockets {
        let mut daemon = Daemon::new(path.clone());
        daemon.is_at(Some(file));
        daemons.insert(path, daemon);
    }
    loop {
        hear(&mut daemons, false);
        let is_served = daemons.values().any(|daemon| daemon.serves(name));
        let is_awaited = daemons.values().any(Daemon::is_awaited);
        if is_served || !is_awaited || began.elapsed() >= deadline {
            break;
        }
        std::thread::sleep(AGAIN);
    }
    let mut serving: Vec<_> = daemons.values().filter(|daemon| daemon.serves(name)).collect();
    serving.sort_by_key(|daemon| !daemon.is_named(name));
    let mut silent = None;
    for daemon in serving {
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() && silent.is_some() {
            break;
        }
        let asked = Connection::connect_within(daemon.path(), left.max(ANSWER));
        match asked.map(|on| (on.attach(name).map(drop), on)) {
            Ok((Err(e @ (AttachError::TimedOut { .. } | AttachError::Disconnected { .. })), _))
            | Err(e) => silent = silent.or(Some(e)),
            Ok((Err(AttachError::Refused { refusal: Refusal::NoSuchDomain, .. }), _)) => {}
            // It is served there; why it cannot be attached is for the caller to see.
            Ok((_, connection)) => return Ok(Some(connection)),
        }
    }
    let own = daemons.values().find(|daemon| daemon.is_named(name) && !daemon.is_none());
    silent.or_else(|| own.and_then(Daemon::trouble)).map_or(Ok(None), Err)
}
