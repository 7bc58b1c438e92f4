//! All domains of a host, attached to once and kept.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use crate::find::entries;
use crate::{AttachError, Region};

/// The regions that are announced in a directory. What was attached stays attached from one
/// [`refresh`](Fleet::refresh) to the next, so that looking again costs one look at each entry.
pub struct Fleet {
    dir: PathBuf,
    members: BTreeMap<String, Member>,
}

/// An entry of the directory.
pub struct Member {
    path: PathBuf,
    /// Which file the entry led to.
    file: Option<(u64, u64)>,
    region: Result<Region, AttachError>,
    born: SystemTime,
    seen: bool,
}

impl Fleet {
    /// The fleet in `dir`, empty until it is refreshed.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), members: BTreeMap::new() }
    }

    /// Where its regions are announced.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Attaches to what is new, again to what was replaced or could not be attached before, and
    /// lets go of what has gone. A directory that does not exist holds nothing.
    ///
    /// # Errors
    /// [`AttachError::Os`] or [`AttachError::NotPermitted`] if the directory cannot be read; the
    /// members are as they were.
    pub fn refresh(&mut self) -> Result<(), AttachError> {
        let entries = entries(&self.dir)?;
        self.members.values_mut().for_each(|member| member.seen = false);
        for (name, path) in entries {
            match self.members.get_mut(&name) {
                Some(member) => member.look_again(),
                None => {
                    self.members.insert(name, Member::attach(path));
                }
            }
        }
        self.members.retain(|_, member| member.seen);
        Ok(())
    }

    /// The members by the names of their entries, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// As [`Fleet::iter`], to change how they are read.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Member)> {
        self.members.iter_mut().map(|(name, member)| (name.as_str(), member))
    }

    /// The member whose entry has this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }
}

impl Member {
    fn attach(path: PathBuf) -> Self {
        // Looked at first: an entry that is replaced meanwhile is attached again the next time.
        let file = rustix::fs::stat(&path).ok().map(identity);
        let region = Region::open(&path);
        let born = region.as_ref().ok().and_then(birth).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { path, file, region, born, seen: true }
    }

    fn look_again(&mut self) {
        let file = rustix::fs::stat(&self.path).ok().map(identity);
        let same = self.region.as_ref().is_ok_and(|r| r.status().same_incarnation);
        if same && file.is_some() && file == self.file {
            self.seen = true;
        } else {
            *self = Self::attach(std::mem::take(&mut self.path));
        }
    }

    /// The entry.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The region.
    ///
    /// # Errors
    /// Why it could not be attached, the last time that was tried.
    pub const fn region(&self) -> Result<&Region, &AttachError> {
        self.region.as_ref()
    }

    /// As [`Member::region`], to change how it is read.
    ///
    /// # Errors
    /// As for [`Member::region`].
    pub const fn region_mut(&mut self) -> Result<&mut Region, &AttachError> {
        match &mut self.region {
            Ok(region) => Ok(region),
            Err(error) => Err(error),
        }
    }

    /// When the region was created, on the wall clock: later for each incarnation.
    #[must_use]
    pub const fn born(&self) -> SystemTime {
        self.born
    }
}

fn identity(stat: Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// When the file behind a region got its length: stores to mapped memory do not touch that time.
fn birth(region: &Region) -> Option<SystemTime> {
    let stat = rustix::fs::fstat(region.files().next()?.as_fd()).ok()?;
    let seconds = u64::try_from(stat.st_mtime).ok()?;
    let nanos = u32::try_from(stat.st_mtime_nsec).ok().filter(|ns| *ns < 1_000_000_000)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}
