//! QMP sockets that come and go in directories.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{Options, Qemu};
use crate::SourceError;
use crate::contract::{Fleet, Observer, Publisher};

/// Finds VMs by their QMP sockets in directories.
#[derive(Debug)]
pub struct Discovery {
    options: Options,
    dirs: Vec<PathBuf>,
    /// Names of QMP sockets.
    pattern: Pattern,
    /// Sockets of the directories that have other names.
    others: usize,
    /// What was found and is observed; it leaves with its socket.
    found: BTreeSet<PathBuf>,
}

impl Discovery {
    /// Looks into `dirs` at each [`Discovery::rescan`] for sockets with names like `pattern`. Others are
    /// those of serial consoles, guest agents and other clients, which serve one client at a time.
    #[must_use]
    pub const fn new(options: Options, dirs: Vec<PathBuf>, pattern: Pattern) -> Self {
        Self { options, dirs, pattern, others: 0, found: BTreeSet::new() }
    }

    /// How many sockets the last scan found and did not connect to, if it found none with a name as
    /// asked for.
    #[must_use]
    pub fn only_others(&self) -> Option<usize> {
        (self.found.is_empty() && self.others > 0).then_some(self.others)
    }

    /// Looks into the directories: sockets that are new are observed, those that were removed are
    /// not any more. Waits for no VM. A directory that cannot be read now says nothing of its
    /// sockets: they stay observed. One that does not exist has none.
    ///
    /// Returns what failed; the rest is done, and the next call tries again.
    pub fn rescan<P: Publisher>(
        &mut self,
        fleet: &Fleet,
        mut publisher: impl FnMut() -> P,
    ) -> Vec<SourceError> {
        let mut failures = Vec::new();
        let mut present = BTreeSet::new();
        self.others = 0;
        for dir in &self.dirs {
            match sockets(dir) {
                Ok(sockets) => {
                    let is_named = |path: &PathBuf| {
                        path.file_name().is_some_and(|n| self.pattern.matches(&n.to_string_lossy()))
                    };
                    let (named, others): (Vec<_>, Vec<_>) = sockets.into_iter().partition(is_named);
                    present.extend(named);
                    self.others += others.len();
                }
                Err(source) => {
                    if source.kind() != ErrorKind::NotFound {
                        let of_dir = self.found.iter().filter(|path| path.parent() == Some(dir));
                        present.extend(of_dir.cloned());
                    }
                    let action = format!("look for QMP sockets in {}", dir.display());
                    failures.push(SourceError::Os { action, source });
                }
            }
        }
        self.found.retain(|path| {
            let stays = present.contains(path);
            if !stays {
                fleet.remove(path);
            }
            stays
        });
        let observed: BTreeSet<PathBuf> = fleet.addresses().into_iter().collect();
        for path in present.difference(&observed) {
            let qemu = Qemu { path: path.clone(), options: self.options.clone() };
            match qemu.observe(publisher()) {
                Ok(vm) => {
                    fleet.add(vm);
                    self.found.insert(path.clone());
                }
                Err(error) => failures.push(error),
            }
        }
        failures
    }
}

fn sockets(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            sockets.push(entry.path());
        }
    }
    Ok(sockets)
}
