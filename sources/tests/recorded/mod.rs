//! A Xen host as `domstat-xen-record` saw it, moment by moment (tests/src/bin/domstat-xen-record.rs says how a recording
//! is written; tests/xen in the repository makes one on the real thing).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domstat_sources::xen::{DomainInfo, Hypervisor, Roots, Scheduling, VcpuInfo};
use tempfile::TempDir;
use zerocopy::FromBytes;

/// Xen 4.17.7 with one domU, as dom0/agree.sh of tests/xen leads it through its life.
const RECORDING: &str = include_str!("xen-4.17.txt");

/// What was there at one moment.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    pub(crate) name: String,
    pub(crate) domains: Vec<DomainInfo>,
    pub(crate) vcpus: BTreeMap<(u16, u32), VcpuInfo>,
    pub(crate) files: BTreeMap<String, String>,
}

impl Moment {
    /// The number in a file of a device.
    #[allow(dead_code, reason = "not every test reads files")]
    pub(crate) fn number(&self, path: &str) -> u64 {
        let path = format!("bus/xen-backend/devices/{path}");
        self.files.get(&path).unwrap_or_else(|| panic!("{path}")).parse().unwrap()
    }
}

pub(crate) fn moments() -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut moment = Moment::default();
    for line in RECORDING.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["domain", bytes] => moment.domains.push(value(bytes)),
            ["vcpu", domid, index, bytes] => {
                let key = (domid.parse().unwrap(), index.parse().unwrap());
                moment.vcpus.insert(key, value(bytes));
            }
            ["file", path, text] => {
                moment.files.insert((*path).to_owned(), (*text).to_owned());
            }
            ["end", name] => {
                (*name).clone_into(&mut moment.name);
                moments.push(std::mem::take(&mut moment));
            }
            _ => panic!("{line}"),
        }
    }
    moments
}

fn value<T: FromBytes>(hex: &str) -> T {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    T::read_from_bytes(&bytes).unwrap_or_else(|_| panic!("{hex}"))
}

/// A Xen that lives through a recording: each question for a domain leads to the next moment after
/// `patience` of them.
#[derive(Debug)]
pub(crate) struct Replay {
    moments: Arc<Vec<Moment>>,
    at: Arc<AtomicUsize>,
    patience: usize,
    asked: usize,
    sys: Arc<TempDir>,
}

impl Replay {
    pub(crate) fn new(patience: usize) -> Self {
        let moments = Arc::new(moments());
        let sys = Arc::new(tempfile::tempdir().unwrap());
        let replay = Self { moments, at: Arc::default(), patience, asked: 0, sys };
        replay.show(0);
        replay
    }

    /// Another that is asked of the same host.
    #[allow(dead_code, reason = "not every test asks twice")]
    pub(crate) fn again(&self) -> Self {
        let (moments, at, sys) =
            (Arc::clone(&self.moments), Arc::clone(&self.at), Arc::clone(&self.sys));
        Self { moments, at, patience: self.patience, asked: 0, sys }
    }

    pub(crate) fn roots(&self) -> Roots {
        let nowhere = PathBuf::from("/nonexistent");
        // Next to sysfs, so that a test can put files there.
        let (sys, shm) = (self.sys.path().to_owned(), self.sys.path().join("shm"));
        Roots { dev: nowhere.clone(), sys, run: nowhere, shm }
    }

    /// Which moment it is, to be asked later.
    #[allow(dead_code, reason = "not every test asks")]
    pub(crate) fn position(&self) -> impl Fn() -> usize + use<> {
        let at = Arc::clone(&self.at);
        move || at.load(Ordering::SeqCst)
    }

    fn moment(&self) -> &Moment {
        &self.moments[self.at.load(Ordering::SeqCst)]
    }

    /// Makes sysfs what it was.
    fn show(&self, index: usize) {
        self.at.store(index, Ordering::SeqCst);
        let files = &self.moment().files;
        let device = |path: &str| path.split('/').take(4).collect::<PathBuf>();
        let wanted: BTreeSet<PathBuf> = files.keys().map(|path| device(path)).collect();
        let devices = self.sys.path().join("bus/xen-backend/devices");
        for entry in std::fs::read_dir(&devices).into_iter().flatten() {
            let path = entry.unwrap().path();
            if !wanted.contains(path.strip_prefix(self.sys.path()).unwrap()) {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
        for (path, text) in files {
            write(&self.sys.path().join(path), text);
        }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("{text}\n")).unwrap();
}

impl Hypervisor for Replay {
    fn domains(&mut self, first: u16, most: usize) -> io::Result<Vec<DomainInfo>> {
        self.asked += 1;
        let next = (self.asked / self.patience).min(self.moments.len() - 1);
        if next != self.at.load(Ordering::SeqCst) {
            self.show(next);
        }
        let from = self.moment().domains.iter().filter(|info| info.domain >= first);
        Ok(from.take(most).copied().collect())
    }

    fn vcpu(&mut self, domid: u16, vcpu: u32) -> io::Result<Option<VcpuInfo>> {
        Ok(self.moment().vcpus.get(&(domid, vcpu)).copied())
    }

    /// What the recording has not: credit2's defaults.
    fn scheduling(&mut self, _: u16) -> io::Result<Option<Scheduling>> {
        Ok(Some(Scheduling { id: 6, weight: 256, cap: 0 }))
    }
}
