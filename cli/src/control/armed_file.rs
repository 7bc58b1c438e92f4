//! File of the thresholds that are armed, which outlives the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domstat_sources::contract::ArmedThresholds;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::output::printable;

/// The version of the file's format.
const VERSION: u32 = 1;
/// Largest file that is read: as many thresholds as a VM may have nodes, for hundreds of VMs.
const MAX_FILE: u64 = 64 << 20;
/// Most VMs whose thresholds are kept. VMs that were removed while no daemon ran stay in the file.
const MAX_VMS: usize = 4096;

/// What is armed in each VM, by the VM's address, in memory and in the file. The file is replaced as a
/// whole whenever that changes, so it is whole at any moment. It is not synced: after a crash of the host
/// there is no VM that still has its thresholds.
pub(crate) struct ArmedFile {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    boot: String,
    vms: BTreeMap<String, ArmedThresholds>,
    /// The last failure to write, which is reported once.
    failed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    /// The kernel's id of the host's start: process ids of another one mean nothing.
    boot: String,
    vms: BTreeMap<String, ArmedThresholds>,
}

impl ArmedFile {
    /// Reads what the daemon before left at `path`. What cannot be read is reported, and overwritten.
    pub(crate) fn open(path: PathBuf) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim().to_owned();
        let vms = match read(&path) {
            Ok(Some(contents)) => contents.of_this_boot(&boot),
            Ok(None) => BTreeMap::new(),
            Err(error) => {
                let path = printable(&path.display().to_string());
                eprintln!(
                    "domstat: thresholds that were armed before are not known: {path}: {error}"
                );
                BTreeMap::new()
            }
        };
        Self { path, state: Mutex::new(State { boot, vms, failed: None }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is armed in the VM at this address, as far as is known.
    pub(crate) fn recall(&self, address: &Path) -> ArmedThresholds {
        self.lock().vms.get(&key(address)).cloned().unwrap_or_default()
    }

    /// Keeps what is armed in the VM at this address.
    pub(crate) fn remember(&self, address: &Path, armed: &ArmedThresholds) {
        let mut state = self.lock();
        let key = key(address);
        if armed.armed.is_empty() {
            state.vms.remove(&key);
        } else if state.vms.len() < MAX_VMS || state.vms.contains_key(&key) {
            state.vms.insert(key, armed.clone());
        }
        let contents = Contents {
            version: VERSION,
            boot: state.boot.clone(),
            vms: std::mem::take(&mut state.vms),
        };
        let written = write(&self.path, &contents);
        state.vms = contents.vms;
        let failed = written.err().map(|error| error.to_string());
        if let Some(error) = failed.as_ref().filter(|_| failed != state.failed) {
            let path = printable(&self.path.display().to_string());
            eprintln!(
                "domstat: armed thresholds are not kept for the next daemon: {path}: {error}"
            );
        }
        state.failed = failed;
    }
}

impl Contents {
    /// What was armed; by processes of no number if these are of another start of the host.
    fn of_this_boot(mut self, boot: &str) -> BTreeMap<String, ArmedThresholds> {
        if self.boot != boot {
            // A process that cannot be: it has ended.
            self.vms.values_mut().for_each(|vm| vm.process = Some((0, 0)));
        }
        self.vms
    }
}

/// The VM at this address, wherever the next daemon is started.
fn key(address: &Path) -> String {
    let absolute = std::path::absolute(address).unwrap_or_else(|_| address.to_owned());
    absolute.to_string_lossy().into_owned()
}

/// Reads the file, if it is there and ours.
fn read(path: &Path) -> io::Result<Option<Contents>> {
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it is not a file of this user"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    let contents: Contents = serde_json::from_slice(&text)?;
    match contents.version {
        VERSION => Ok(Some(contents)),
        version => Err(io::Error::other(format!("its version {version} is not known"))),
    }
}

fn write(path: &Path, contents: &Contents) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // One that a daemon left that died meanwhile.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(contents)?)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use domstat_sources::contract::Armed;

    use super::*;

    fn armed(threshold_bytes: u64) -> ArmedThresholds {
        let (disk, node) = ("vda".to_owned(), "n".to_owned());
        let armed = vec![Armed { disk, node, source: None, threshold_bytes }];
        ArmedThresholds { process: Some((7, 8)), armed }
    }

    #[test]
    fn what_is_armed_outlives_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.thresholds");
        let (a, b) = (Path::new("/run/a.qmp"), Path::new("/run/b.qmp"));
        let first = ArmedFile::open(path.clone());
        assert_eq!(first.recall(a), ArmedThresholds::default());
        first.remember(a, &armed(1));
        first.remember(b, &armed(2));
        // What a daemon left that died while it wrote.
        std::fs::write(path.with_extension("thresholds.new"), "{").unwrap();
        first.remember(a, &armed(3));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let second = ArmedFile::open(path.clone());
        assert_eq!((second.recall(a), second.recall(b)), (armed(3), armed(2)));
        second.remember(a, &ArmedThresholds::default());
        assert_eq!(ArmedFile::open(path).recall(a), ArmedThresholds::default());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn process_ids_of_another_start_of_the_host_are_nobodys() {
        let vms = BTreeMap::from([("a".to_owned(), armed(1))]);
        let contents = Contents { version: VERSION, boot: "before".to_owned(), vms };
        let vms = contents.of_this_boot("now");
        assert_eq!(vms["a"].process, Some((0, 0)));
    }

    #[test]
    fn what_is_not_such_a_file_is_refused_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        for text in ["", "{}", r#"{"version":2,"boot":"","vms":{}}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
        ArmedFile::open(path.clone()).remember(Path::new("a"), &armed(1));
        assert!(read(&path).unwrap().is_some());
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read(&link).is_err(), "a link may lead anywhere");
        assert!(read(dir.path()).is_err());
    }
}
