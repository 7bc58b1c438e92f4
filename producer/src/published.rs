//! A live region and its entry in a directory, as one object.

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::{AnnounceError, Announcement, CreateError, Region, Retirer, Unpublished};

/// A region that is published and announced. [`retire`](Published::retire) it when the domain has ended;
/// dropping it does the same.
///
/// ```
/// use domstat_layout::Clock;
/// use domstat_producer::RegionBuilder;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let created = RegionBuilder::new("web1").clock(Clock::Monotonic).create_memfd()?;
/// let published = created.unpublished.publish_as(dir, "web1")?;
/// // For a signal handler, or a VMM that leaves by `_exit`.
/// let retirer = published.retirer();
/// // ... the domain runs ...
/// retirer.retire();
/// assert_eq!(std::fs::read_dir(dir)?.count(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Published {
    // Before the region: its descriptor is open for as long as the entry leads to it.
    entry: Announcement,
    region: Region,
}

/// Why a region cannot be published under a name. Nothing is left behind.
#[derive(Debug)]
#[non_exhaustive]
pub enum PublishError {
    /// It cannot be published.
    Create(CreateError),
    /// It cannot be announced, for example because an entry would mislead consumers.
    Announce(AnnounceError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(e) => e.fmt(f),
            Self::Announce(e) => e.fmt(f),
        }
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Create(e) => e.source(),
            Self::Announce(e) => e.source(),
        }
    }
}

impl Unpublished {
    /// Makes the region visible ([`Unpublished::publish`]) and known as `name` in the directory `dir`
    /// ([`Region::announce`]): one object for both.
    ///
    /// In a jail, where no entry can be made, publish without one, and have the launcher announce the region
    /// or a collector look for it.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is left behind.
    pub fn publish_as(self, dir: &Path, name: &str) -> Result<Published, PublishError> {
        let region = self.publish().map_err(PublishError::Create)?;
        let entry = region.announce(dir, name).map_err(PublishError::Announce)?;
        Ok(Published { entry, region })
    }
}

impl Published {
    /// Reports that the domain has ended, and removes the entry.
    pub fn retire(self) {
        let Self { entry, mut region } = self;
        // The descriptor is open until the entry is removed.
        region.retire_once();
        drop(entry);
    }

    /// What retires the region and removes the entry where this object cannot be reached.
    #[must_use]
    pub fn retirer(&self) -> Retirer {
        self.region.retirer().with_entry(&self.entry)
    }

    /// The entry.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.entry.path()
    }

    /// The region and its entry, each by itself: for a sandbox that forbids removing the entry
    /// ([`Announcement::leave`]).
    #[must_use]
    pub fn into_parts(self) -> (Region, Announcement) {
        (self.region, self.entry)
    }
}

impl Deref for Published {
    type Target = Region;
    fn deref(&self) -> &Region {
        &self.region
    }
}
