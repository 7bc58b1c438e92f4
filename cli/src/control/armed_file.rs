//! File of the thresholds that are armed, which outlives the daemon.
//!
//! It has a line of JSON for itself and one for each threshold, so that a line that is damaged costs one
//! threshold and not all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use domstat_sources::contract::{
    ArmedThresholds, ControlError, ErrorCode, Event, Fleet, LossReason,
};

use super::Hub;
use crate::output::printable;

mod format;

use format::{Unreadable, read, to_text};

/// Most VMs whose thresholds are kept: more than a host runs. A request for one more is refused.
const MAX_VMS: usize = 4096;
/// Most VMs beyond those: of requests that came at the same time, and of thresholds that other clients
/// set, which nobody can be refused.
const SPARE_VMS: usize = 256;
/// How long the thresholds are kept of a VM that has ended or whose socket was removed: a day, so that one
/// that is started again in the morning learns of those that it lost.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// How often VMs are looked for that do not return.
const SWEEP: Duration = Duration::from_secs(60);
/// Most events about records that cannot be read; the last one counts the others.
const MAX_UNREADABLE: usize = 64;

/// What is armed in each VM, by the VM's address, in memory and in the file. The file is replaced as a
/// whole whenever that changes, so it is whole at any moment. It is not synced: after a crash of the host
/// there is no VM that still has its thresholds.
pub(crate) struct ArmedFile {
    path: PathBuf,
    hub: Arc<Hub>,
    state: Mutex<State>,
}

struct State {
    boot: String,
    vms: BTreeMap<String, Kept>,
    /// The last failure to keep what is armed, which is reported once.
    failed: Option<String>,
    swept: Option<Instant>,
}

/// The thresholds of a VM, and since when it is known to be away, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    thresholds: ArmedThresholds,
    away_since: Option<u64>,
}

impl ArmedFile {
    /// Reads what the daemon before left at `path`. What cannot be read is reported, record by record, and
    /// overwritten with the next change.
    pub(crate) fn open(path: PathBuf, hub: Arc<Hub>) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim().to_owned();
        let found = read(&path);
        let mut vms = found.vms;
        if found.boot != boot {
            // A process that cannot be: it has ended.
            vms.values_mut().for_each(|vm| vm.thresholds.process = Some((0, 0)));
        }
        let state = State { boot, vms, failed: None, swept: None };
        let file = Self { path, hub, state: Mutex::new(state) };
        file.report(found.unreadable);
        file
    }

    fn report(&self, mut unreadable: Vec<Unreadable>) {
        if unreadable.len() > MAX_UNREADABLE {
            let rest = unreadable.split_off(MAX_UNREADABLE - 1);
            let records: Option<u64> = rest.iter().map(|one| one.records).sum();
            let error = "these and others cannot be read".to_owned();
            unreadable.push(Unreadable { records, error, ..Unreadable::default() });
        }
        for Unreadable { domain, address, records, error } in unreadable {
            let path = printable(&self.path.display().to_string());
            let whose = address.as_ref().map(|of| format!(" of {}", printable(of)));
            let whose = whose.unwrap_or_default();
            eprintln!(
                "domstat: thresholds{whose} that were armed before are not known: {path}: {}",
                printable(&error)
            );
            self.hub.send(&domain, &Event::ThresholdsUnreadable { records, address, error });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is armed in the VM at this address, as far as is known.
    pub(crate) fn recall(&self, address: &Path) -> ArmedThresholds {
        let state = self.lock();
        state.vms.get(&key(address)).map(|vm| vm.thresholds.clone()).unwrap_or_default()
    }

    /// Refuses a request to arm a threshold in the VM at this address, if there is no place for another
    /// VM's.
    ///
    /// # Errors
    /// [`ControlError`] of the code `busy`.
    pub(crate) fn check_room(&self, address: &Path) -> Result<(), ControlError> {
        let state = self.lock();
        if state.vms.len() < MAX_VMS || state.vms.contains_key(&key(address)) {
            return Ok(());
        }
        let why = format!(
            "thresholds of {MAX_VMS} VMs are kept, which is the most: disarm those of another VM first"
        );
        Err(ControlError::new(ErrorCode::Busy, why))
    }

    /// Keeps what is armed in the VM at this address.
    pub(crate) fn remember(&self, address: &Path, armed: &ArmedThresholds) {
        let mut state = self.lock();
        let key = key(address);
        if armed.armed.is_empty() {
            if state.vms.remove(&key).is_none() {
                return;
            }
        } else if state.vms.len() < MAX_VMS + SPARE_VMS || state.vms.contains_key(&key) {
            state.vms.insert(key, Kept { thresholds: armed.clone(), away_since: None });
        } else {
            let why = format!("{}: there are those of too many VMs", address.display());
            self.failed(&mut state, Some(why));
            return;
        }
        self.write(&mut state);
    }

    fn write(&self, state: &mut State) {
        let written = replace(&self.path, &to_text(&state.boot, &state.vms));
        let path = || printable(&self.path.display().to_string());
        let why = written.err().map(|error| format!("{}: {error}", path()));
        self.failed(state, why);
    }

    fn failed(&self, state: &mut State, why: Option<String>) {
        if let Some(why) = why.as_ref().filter(|_| why != state.failed) {
            eprintln!(
                "domstat: armed thresholds are not kept for the next daemon: {}",
                printable(why)
            );
        }
        state.failed = why;
    }

    /// From time to time, gives up the thresholds of VMs that do not return.
    pub(crate) fn sweep(&self, fleet: &Fleet) {
        if self.lock().swept.is_some_and(|swept| swept.elapsed() < SWEEP) {
            return;
        }
        let published = |(path, status): (PathBuf, domstat_sources::contract::ObserverStatus)| {
            status.domain.map(|_| key(&path))
        };
        let published = fleet.statuses().into_iter().filter_map(published).collect();
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.sweep_at(&published, since_1970.map_or(0, |time| time.as_secs()));
    }

    fn sweep_at(&self, published: &BTreeSet<String>, now: u64) {
        let mut state = self.lock();
        state.swept = Some(Instant::now());
        let mut given_up = Vec::new();
        let mut has_changed = false;
        state.vms.retain(|address, vm| {
            let is_there = published.contains(address)
                || vm.thresholds.is_alive().unwrap_or_else(|| exists(Path::new(address)));
            // A clock that was set back begins again.
            let away_since = vm.away_since.filter(|since| *since <= now).unwrap_or(now);
            let away_since = (!is_there).then_some(away_since);
            has_changed |= away_since != vm.away_since;
            vm.away_since = away_since;
            let stays = away_since.is_none_or(|since| now - since < KEEP.as_secs());
            if !stays {
                given_up.push(std::mem::take(&mut vm.thresholds));
            }
            stays
        });
        if has_changed || !given_up.is_empty() {
            self.write(&mut state);
        }
        drop(state);
        for ArmedThresholds { domain, armed, .. } in given_up {
            for armed in armed {
                let threshold_bytes = armed.at_stake();
                let (disk, node, reason) = (armed.disk, armed.node, LossReason::GivenUp);
                self.hub
                    .send(&domain, &Event::ThresholdLost { disk, node, threshold_bytes, reason });
            }
        }
    }
}

/// Whether there is something at a path, or that cannot be said.
fn exists(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// The VM at this address, wherever the next daemon is started.
fn key(address: &Path) -> String {
    let absolute = std::path::absolute(address).unwrap_or_else(|_| address.to_owned());
    absolute.to_string_lossy().into_owned()
}

/// Replaces the file at `path`.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // One that a daemon left that died meanwhile.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
