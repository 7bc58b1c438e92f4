//! QMP sockets that come and go in directories.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::{Options, Qemu};
use crate::SourceError;
use crate::contract::{Fleet, Observer, Publisher};

/// Finds VMs by their QMP sockets in directories.
#[derive(Debug)]
pub struct Discovery {
    options: Options,
    dirs: Vec<PathBuf>,
    /// What was found and is observed; it leaves with its socket.
    found: BTreeSet<PathBuf>,
}

impl Discovery {
    /// Looks into `dirs` at each [`Discovery::rescan`].
    #[must_use]
    pub fn new(options: Options, dirs: Vec<PathBuf>) -> Self {
        Self { options, dirs, found: BTreeSet::new() }
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
        for dir in &self.dirs {
            match sockets(dir) {
                Ok(sockets) => present.extend(sockets),
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
