//! Many VMs: those whose sockets are named, and those whose sockets come and go in directories.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::{Options, Publisher, Vm};
use crate::SourceError;

/// The VMs that one daemon observes.
#[derive(Debug)]
pub struct Fleet {
    options: Options,
    dirs: Vec<PathBuf>,
    vms: BTreeMap<PathBuf, Member>,
}

#[derive(Debug)]
struct Member {
    vm: Vm,
    /// It was found in a directory, and leaves with its socket.
    found: bool,
}

impl Fleet {
    /// No VMs yet; [`Fleet::rescan`] finds those in `dirs`.
    #[must_use]
    pub fn new(options: Options, dirs: Vec<PathBuf>) -> Self {
        Self { options, dirs, vms: BTreeMap::new() }
    }

    /// Observes the VM with this QMP socket, now or whenever it is there.
    ///
    /// # Errors
    /// [`SourceError::Os`] if the host has no thread or descriptor left.
    pub fn add<P: Publisher>(&mut self, path: &Path, publisher: P) -> Result<(), SourceError> {
        let vm = Vm::start(path, &self.options, publisher)?;
        self.vms.insert(path.to_owned(), Member { vm, found: false });
        Ok(())
    }

    /// Looks into the directories: sockets that are new are observed, those that are gone are not
    /// any more.
    ///
    /// # Errors
    /// [`SourceError::Os`] if the host has no thread or descriptor left.
    pub fn rescan<P: Publisher>(
        &mut self,
        mut publisher: impl FnMut() -> P,
    ) -> Result<(), SourceError> {
        let present: Vec<PathBuf> = self.dirs.iter().flat_map(|dir| sockets(dir)).collect();
        let gone: Vec<PathBuf> = self
            .vms
            .iter()
            .filter(|(path, member)| member.found && !present.contains(path))
            .map(|(path, _)| path.clone())
            .collect();
        let left: Vec<Member> = gone.iter().filter_map(|path| self.vms.remove(path)).collect();
        left.iter().for_each(|member| member.vm.ask_to_stop());
        drop(left);
        for path in present {
            if !self.vms.contains_key(&path) {
                let vm = Vm::start(&path, &self.options, publisher())?;
                self.vms.insert(path, Member { vm, found: true });
            }
        }
        Ok(())
    }

    /// Observes nothing any more; returns when every VM's thread has ended.
    pub fn clear(&mut self) {
        // All at once, so that the ends do not add up.
        self.vms().for_each(Vm::ask_to_stop);
        self.vms.clear();
        self.dirs.clear();
    }

    /// The VMs, in order of their sockets.
    pub fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.values().map(|member| &member.vm)
    }

    /// The VM that is published as `domain`.
    #[must_use]
    pub fn by_domain(&self, domain: &str) -> Option<&Vm> {
        self.vms().find(|vm| vm.status().domain.as_deref() == Some(domain))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.clear();
    }
}

fn sockets(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let is_socket =
        |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    entries.flatten().filter(is_socket).map(|entry| entry.path()).collect()
}
