//! From a source to a published region.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domstat_layout::schema::{FieldSpec, GroupSpec};
use domstat_producer::{
    Announcement, CreateError, Created, MonotonicSink, Placement, Region, RegionBuilder, Served,
    Server, systemd,
};
use domstat_sources::{ArchField, ArchGroup, Description, Devices, Progress, Running, Source};

use crate::error::Failure;
use crate::signals::Stop;

/// A domain that is being published; dropping it retires the region.
pub(crate) struct Published {
    running: Option<Box<dyn Running>>,
    next_tick: Instant,
    // Dropped before the region, so that the entry never outlives it.
    announcement: Option<Announcement>,
    region: Option<Region>,
    // Dropped after the region: that the domain is gone is said before the daemon goes.
    served: Option<(Served, Arc<Server>)>,
    path: PathBuf,
    continues: bool,
}

/// Regions that a service manager kept, by the names that it knows them by.
pub(crate) type Kept = Vec<(String, OwnedFd)>;

/// Where a region is published.
pub(crate) enum Target<'a> {
    /// In a plain file.
    File(&'a Path),
    /// In a sealed memfd that is announced in a directory.
    Directory(PathBuf),
    /// In a sealed memfd that a server hands over. With regions that were kept, a service manager
    /// keeps this one too, which goes on with one of them if it is the same domain's.
    Server { server: Arc<Server>, kept: Option<Kept> },
}

/// Why publishing came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    DomainGone,
    Asked,
}

/// Publishes what `source` knows.
pub(crate) fn publish<S: Source>(
    source: S,
    placement: Placement,
    target: Target<'_>,
) -> Result<Published, Failure> {
    let Description { name, .. } = &source.describe();
    let builder = builder_of(&source.describe(), placement)?;
    let new = match &target {
        Target::File(path) => builder.create_file(path)?,
        Target::Directory(_) | Target::Server { kept: None, .. } => builder.create_memfd()?,
        Target::Server { kept: Some(kept), .. } => create_or_continue(builder, kept)?,
    };
    let devices = Devices { blks: new.blks, nets: new.nets };
    let vcpus = new.vcpus.into_iter().map(MonotonicSink::vcpu).collect();
    let running = source.start_with_devices(MonotonicSink::dom(new.dom), vcpus, devices)?;
    let continues = new.unpublished.continues();
    let region = new.unpublished.publish()?;
    let (mut announcement, mut served) = (None, None);
    let path = match target {
        Target::File(path) => path.to_owned(),
        Target::Directory(dir) => {
            let entry = announcement.insert(region.announce(&dir, name)?);
            entry.path().to_owned()
        }
        Target::Server { server, kept } => {
            if let Some(kept) = kept {
                hand_to_manager(&region, kept)?;
            }
            let path = server
                .path()
                .map_or_else(|| PathBuf::from("the socket that was passed"), Path::to_owned);
            served = Some((server.serve(&region, name)?, server));
            path
        }
    };
    let next_tick = Instant::now() + running.interval();
    Ok(Published {
        running: Some(running),
        next_tick,
        announcement,
        region: Some(region),
        served,
        path,
        continues,
    })
}

/// A region for what a source describes.
pub(crate) fn builder_of(
    description: &Description,
    placement: Placement,
) -> Result<RegionBuilder, CreateError> {
    let Description {
        domid,
        uuid,
        name,
        created,
        nr_vcpus,
        nr_blks,
        nr_nets,
        clock,
        arch_dom,
        arch_vcpu,
        ..
    } = description;
    let mut builder = RegionBuilder::new(name).vcpus(*nr_vcpus).clock(*clock).placement(placement);
    builder = builder.blks(*nr_blks).nets(*nr_nets);
    let (dom_fields, vcpu_fields) = (fields(arch_dom), fields(arch_vcpu));
    builder = builder
        .arch_dom(&specs(arch_dom, &dom_fields))
        .and_then(|b| b.arch_vcpu(&specs(arch_vcpu, &vcpu_fields)))
        .map_err(CreateError::from)?;
    if let Some(domid) = *domid {
        builder = builder.domid(domid);
    }
    if let Some(uuid) = *uuid {
        builder = builder.uuid(uuid);
    }
    if let Some(created) = *created {
        builder = builder.created(created);
    }
    Ok(builder)
}

/// Goes on with the first of the regions that is the same domain's, or creates a new one.
fn create_or_continue(
    builder: RegionBuilder,
    kept: &[(String, OwnedFd)],
) -> Result<Created, CreateError> {
    for (_, memfd) in kept {
        let created = builder.clone().continue_memfd(memfd)?;
        if created.unpublished.continues() {
            return Ok(created);
        }
    }
    builder.create_memfd()
}

/// Has the service manager, if there is one, keep the region, and forget those that were kept
/// before.
fn hand_to_manager(region: &Region, kept: Kept) -> Result<(), Failure> {
    let os = |source| Failure::Os { action: "tell the service manager", source };
    systemd::keep(region).map_err(os)?;
    for (name, _) in kept {
        systemd::forget(&name).map_err(os)?;
    }
    systemd::ready().map_err(os)
}

/// The fields of each group that a source describes, as a producer takes them.
fn fields<'a>(groups: &'a [ArchGroup]) -> Vec<Vec<FieldSpec<'a>>> {
    let of = |group: &'a ArchGroup| {
        let fields = group.fields.iter();
        fields.map(|ArchField { name, shape }| FieldSpec { name, shape: *shape }).collect()
    };
    groups.iter().map(of).collect()
}

fn specs<'a>(groups: &'a [ArchGroup], fields: &'a [Vec<FieldSpec<'a>>]) -> Vec<GroupSpec<'a>> {
    let spec =
        |(group, fields): (&'a ArchGroup, &'a Vec<_>)| GroupSpec { name: &group.name, fields };
    groups.iter().zip(fields).map(spec).collect()
}

impl Published {
    /// Where consumers find the region.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes on with the region of an earlier process.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// Ends as a service does that is asked to: where a service manager keeps the region for the
    /// next process, it stays live.
    pub(crate) fn end(mut self, end: End) {
        let Some(region) = self.region.take() else { return };
        drop(self.announcement.take());
        if let Some(running) = self.running.take() {
            running.stop();
        }
        if self.served.is_none() || !systemd::is_managed() {
            return region.retire();
        }
        match end {
            End::Asked => region.leave(),
            End::DomainGone => {
                // The manager forgets it by itself when it is gone for good.
                let _ = systemd::forget_region(&region);
                region.retire();
            }
        }
    }

    /// Keeps the region up to date until the domain is gone, the user asks for an end, or the
    /// time is up.
    pub(crate) fn keep(&mut self, stop: &Stop, time: Option<Duration>) -> Result<End, Failure> {
        let until = time.map(|time| Instant::now() + time);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(End::Asked);
            }
            if let Some(end) = self.step(stop, left.unwrap_or(Duration::MAX))? {
                return Ok(end);
            }
        }
    }

    /// Waits for the source's interval, at most `at_most`, and brings the region up to date;
    /// says so if that was the end.
    pub(crate) fn step(&mut self, stop: &Stop, at_most: Duration) -> Result<Option<End>, Failure> {
        let Some(running) = &mut self.running else { return Ok(Some(End::DomainGone)) };
        let due = self.next_tick.saturating_duration_since(Instant::now());
        if stop.wait(due.min(at_most)) {
            return Ok(Some(End::Asked));
        }
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + running.interval();
            if running.tick()? == Progress::Ended {
                return Ok(Some(End::DomainGone));
            }
        }
        Ok(None)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Nothing is written any more when the region says that it is retired.
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
