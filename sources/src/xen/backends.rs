//! Entries of the devices that dom0's backends serve, listed once for all domains.
//!
//! /sys/bus/xen-backend/devices has one entry for each device of each domain, so a look for each
//! domain would cost the square of their number. Tapdisk's files lie in /dev/shm, where every local
//! user may put others: only directories of root or of this process' user count.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Roots;

/// Which backend serves a device: what its entry begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Linux' xen-blkback.
    Vbd,
    /// Tapdisk, of XenServer and XCP-ng.
    Vbd3,
    /// QEMU.
    Qdisk,
    /// Linux' xen-netback.
    Vif,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Vbd, Self::Vbd3, Self::Qdisk, Self::Vif];

    const fn word(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vbd3 => "vbd3",
            Self::Qdisk => "qdisk",
            Self::Vif => "vif",
        }
    }
}

/// A device of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) number: u32,
}

/// The directories, as one look at them found them.
#[derive(Debug, Default)]
struct Listing {
    devices: BTreeMap<u16, Vec<Entry>>,
    /// Tapdisk's files, by domain and number.
    metrics: BTreeMap<(u16, u32), PathBuf>,
}

/// Where devices are, for all domains of a host.
#[derive(Clone, Debug)]
pub(super) struct Backends {
    devices: PathBuf,
    shm: PathBuf,
    fresh_for: Duration,
    last: Arc<Mutex<Option<Look>>>,
}

/// When the directories were listed last, and what was there.
#[derive(Debug)]
struct Look {
    at: Instant,
    listing: Arc<Listing>,
}

impl Backends {
    /// Looks again for a question that comes later than `fresh_for` after the last look.
    pub(super) fn new(roots: &Roots, fresh_for: Duration) -> Self {
        let devices = roots.sys.join("bus/xen-backend/devices");
        Self { devices, shm: roots.shm.clone(), fresh_for, last: Arc::default() }
    }

    /// The domain's devices of these kinds, in order.
    pub(super) fn of(&self, domid: u16, kinds: &[Kind]) -> io::Result<Vec<Entry>> {
        let listing = self.listing()?;
        let all = listing.devices.get(&domid).into_iter().flatten();
        Ok(all.filter(|entry| kinds.contains(&entry.kind)).copied().collect())
    }

    /// The device's directory in sysfs.
    pub(super) fn path(&self, domid: u16, entry: Entry) -> PathBuf {
        self.devices.join(format!("{}-{domid}-{}", entry.kind.word(), entry.number))
    }

    /// Tapdisk's file about the disk that xentop reads, if there is one.
    pub(super) fn metrics(&self, domid: u16, number: u32) -> io::Result<Option<PathBuf>> {
        Ok(self.listing()?.metrics.get(&(domid, number)).cloned())
    }

    /// Tapdisk's file about the disk that XenServer's statistics are made from.
    pub(super) fn statistics(&self, domid: u16, number: u32) -> PathBuf {
        self.shm.join(format!("vbd3-{domid}-{number}/statistics"))
    }

    fn listing(&self) -> io::Result<Arc<Listing>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Look { at, listing }) = &*last
            && at.elapsed() < self.fresh_for
        {
            return Ok(Arc::clone(listing));
        }
        let listing = Arc::new(self.look()?);
        *last = Some(Look { at: Instant::now(), listing: Arc::clone(&listing) });
        Ok(listing)
    }

    fn look(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let mut tapdisk = false;
        for entry in entries(&self.devices)? {
            let name = entry?.file_name();
            if let Some((domid, entry)) = name.to_str().and_then(parse) {
                tapdisk |= entry.kind == Kind::Vbd3;
                listing.devices.entry(domid).or_default().push(entry);
            }
        }
        listing.devices.values_mut().for_each(|devices| devices.sort_unstable());
        if tapdisk {
            listing.metrics = self.tapdisks()?;
        }
        Ok(listing)
    }

    /// What the directories `td3-PID` have. One that cannot be read, or is removed meanwhile, has nothing.
    fn tapdisks(&self) -> io::Result<BTreeMap<(u16, u32), PathBuf>> {
        let mut found: BTreeMap<(u16, u32), (Rank, PathBuf)> = BTreeMap::new();
        for directory in entries(&self.shm)?.take(MAX_SHARED).flatten() {
            let name = directory.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("td3-")) else {
                continue;
            };
            let path = directory.path();
            if !is_trusted(&path) {
                continue;
            }
            let rank = Rank::of(pid, &path);
            for file in entries(&path).into_iter().flatten().flatten() {
                let name = file.file_name();
                // Others are about the image or a client, not the domain's view.
                let Some((domid, Entry { kind: Kind::Vbd, number })) =
                    name.to_str().and_then(parse)
                else {
                    continue;
                };
                let (file, key) = (path.join(name), (domid, number));
                if found.get(&key).is_none_or(|(other, _)| *other < rank) {
                    found.insert(key, (rank, file));
                }
            }
        }
        Ok(found.into_iter().map(|(key, (_, file))| (key, file)).collect())
    }
}

/// Most entries of /dev/shm that are looked at: every local user can put some there.
const MAX_SHARED: usize = 65_536;

/// Which of two directories about the same disk counts: that of a process that is there, else the newer one.
/// A tapdisk that was killed leaves its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_alive: bool,
    since: (i64, i64),
}

impl Rank {
    fn of(pid: &str, directory: &Path) -> Self {
        let is_alive =
            pid.parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        let since =
            fs::symlink_metadata(directory).map(|found| (found.mtime(), found.mtime_nsec()));
        Self { is_alive, since: since.unwrap_or_default() }
    }
}

/// Whether nobody but root and this user can have put something into the directory.
pub(super) fn is_trusted(directory: &Path) -> bool {
    fs::symlink_metadata(directory)
        .is_ok_and(|found| found.is_dir() && is_ours(found.uid()) && found.mode() & 0o022 == 0)
}

/// Whether root or this process' user owns it.
pub(super) fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// KIND-DOMID-NUMBER.
fn parse(name: &str) -> Option<(u16, Entry)> {
    let mut parts = name.split('-');
    let (word, domid, number) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word)?;
    parts.next().is_none().then_some(())?;
    Some((domid.parse().ok()?, Entry { kind, number: number.parse().ok()? }))
}

/// What is in a directory; nothing if it is not there.
fn entries(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<DirEntry>>> {
    Ok(unless_missing(fs::read_dir(directory))?.into_iter().flatten())
}

pub(super) fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_of_backends_are_devices() {
        let entry = |kind, number| Some((3, Entry { kind, number }));
        assert_eq!(parse("vbd-3-51712"), entry(Kind::Vbd, 51712));
        assert_eq!(parse("vbd3-3-51712"), entry(Kind::Vbd3, 51712));
        assert_eq!(parse("qdisk-3-832"), entry(Kind::Qdisk, 832));
        assert_eq!(parse("vif-3-0"), entry(Kind::Vif, 0));
        for other in ["vbd", "vbd-3", "vbd-3-x", "vbd-3-1-2", "vbd-70000-1", "console-3-0", "", "-"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn one_look_serves_many_questions() {
        let root = tempfile::tempdir().unwrap();
        let roots = Roots { sys: root.path().into(), ..Roots::default() };
        let (kept, looks) = (Duration::from_secs(3600), Duration::ZERO);
        let (shared, each) = (Backends::new(&roots, kept), Backends::new(&roots, looks));
        let count = |backends: &Backends| backends.of(1, &[Kind::Vbd]).unwrap().len();
        assert_eq!((count(&shared), count(&each)), (0, 0));
        fs::create_dir_all(each.path(1, Entry { kind: Kind::Vbd, number: 5 })).unwrap();
        assert_eq!((count(&shared), count(&shared.clone()), count(&each)), (0, 0, 1));
    }
}
