//! Places where consumers find regions.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use domstat_producer::{
    Announcement, Created, Region, RegionBuilder, RegionTruncated, Served, Server, Unpublished,
    remove_stale_entries,
};

use crate::error::Failure;

/// Removes once what a process left in the directory that was killed and had this one's number.
static SWEEP: Once = Once::new();

/// Where regions become visible.
#[derive(Clone)]
pub(crate) enum Place {
    /// In a plain file, one region only.
    File(PathBuf),
    /// In sealed memfds that are announced in a directory.
    Directory(PathBuf),
    /// In sealed memfds that a server hands over.
    Server(Arc<Server>),
}

/// A region that consumers find. Dropping it retires the region.
pub(crate) struct Visible {
    // Dropped before the region, so that the entry never outlives it.
    announcement: Option<Announcement>,
    region: Option<Region>,
    // Dropped after the region: clients learn that the domain has ended before the daemon closes.
    served: Option<(Served, Arc<Server>)>,
    path: PathBuf,
}

impl Place {
    /// Creates a region that nobody sees yet.
    pub(super) fn create(&self, builder: RegionBuilder) -> Result<Created, Failure> {
        Ok(match self {
            Self::File(path) => builder.create_file(path)?,
            Self::Directory(_) | Self::Server(_) => builder.create_memfd()?,
        })
    }

    /// Makes a region visible under `name`.
    pub(super) fn publish(&self, new: Unpublished, name: &str) -> Result<Visible, Failure> {
        self.show(new.publish()?, name)
    }

    /// Makes a region that is published visible under `name`.
    pub(super) fn show(&self, region: Region, name: &str) -> Result<Visible, Failure> {
        let (mut announcement, mut served) = (None, None);
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Directory(dir) => {
                // What cannot be removed stays, as in a directory of another user's.
                SWEEP.call_once(|| drop(remove_stale_entries(dir)));
                let entry = announcement.insert(region.announce(dir, name)?);
                entry.path().to_owned()
            }
            Self::Server(server) => {
                served = Some((server.serve(&region, name)?, Arc::clone(server)));
                let passed = || PathBuf::from("the socket that was passed");
                server.path().map_or_else(passed, Path::to_owned)
            }
        };
        Ok(Visible { announcement, region: Some(region), served, path })
    }
}

impl Visible {
    /// Where consumers find it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that what is written reaches consumers.
    pub(super) fn check(&self) -> Result<(), RegionTruncated> {
        self.region.as_ref().map_or(Ok(()), Region::check)
    }

    /// Wakes consumers that wait for an event.
    pub(super) fn notify(&self) {
        if let Some(region) = &self.region {
            region.notify();
        }
    }

    /// Whether a server hands it over.
    pub(super) fn is_served(&self) -> bool {
        self.served.is_some()
    }

    /// Removes its entry in the directory, and gives the region to the caller, who ends it. A
    /// server continues to serve it for as long as this lives.
    pub(super) fn take(&mut self) -> Option<Region> {
        self.announcement = None;
        self.region.take()
    }
}
