//! Domains that behave, watched while others are attacked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domstat_consumer::Region;
use domstat_layout::latest::{BlkIo, Runstate};
use domstat_layout::{Ns, State};

/// What is watched of a domain: a group that is written once in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// `io` of the first block device.
    BlkIo,
    /// `runstate` of the first vCPU.
    Runstate,
}

/// The domains that behave, and how old their numbers became.
pub(crate) struct Watch {
    group: Group,
    regions: BTreeMap<PathBuf, Region>,
    /// The greatest age of a number.
    pub(crate) oldest: Duration,
    /// How often a domain was not there, was retired or was another.
    pub(crate) lost: usize,
}

impl Watch {
    pub(crate) fn new(group: Group) -> Self {
        Self { group, regions: BTreeMap::new(), oldest: Duration::ZERO, lost: 0 }
    }

    /// Adds the domain with this entry; false while it is not published, or has no numbers yet.
    pub(crate) fn add(&mut self, dir: &Path, name: &str) -> bool {
        let path = dir.join(format!("{name}.domstat"));
        match Region::open(&path) {
            Ok(region) if age(&region, self.group).is_some() => {
                self.regions.insert(path, region);
                true
            }
            _ => false,
        }
    }

    /// Adds a region that was handed over.
    pub(crate) fn add_region(&mut self, name: &str, region: Region) {
        self.regions.insert(name.into(), region);
    }

    pub(crate) fn len(&self) -> usize {
        self.regions.len()
    }

    /// Looks at every domain once.
    pub(crate) fn look(&mut self) {
        for (path, region) in &mut self.regions {
            let status = region.status();
            let lives = status.state == Some(State::Live) && status.same_incarnation;
            match age(region, self.group).filter(|_| lives) {
                Some(age) => self.oldest = self.oldest.max(age),
                None => {
                    self.lost += 1;
                    if let Ok(again) = Region::open(path) {
                        *region = again;
                    }
                }
            }
        }
    }

    /// Looks at every domain for this time.
    pub(crate) fn look_for(&mut self, time: Duration) {
        let until = std::time::Instant::now() + time;
        while std::time::Instant::now() < until {
            self.look();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The age of the group's numbers, if it has any.
fn age(region: &Region, group: Group) -> Option<Duration> {
    let updated: Option<Ns> = match group {
        Group::BlkIo => region.blk(0)?.read::<BlkIo>().ok()?.active().map(|s| s.updated),
        Group::Runstate => region.vcpu(0)?.read::<Runstate>().ok()?.active().map(|s| s.updated),
    };
    let now = region.now()?;
    Some(Duration::from_nanos(now.since(updated?)))
}
