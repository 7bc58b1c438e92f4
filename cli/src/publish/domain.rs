//! One domain that a source knows, from its beginning to its end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use domstat_layout::sink::DomSink;
use domstat_producer::{CreateError, Created, MonotonicSink, Region, RegionBuilder, systemd};
use domstat_sources::{Description, Devices, Progress, Running, Source};

use super::lineage::{Ancestor, lineage};
use super::notes::Notes;
use super::place::{Place, Visible};
use super::shape::{Form, builder_of};
use super::sinks::{BlkRecords, VcpuRecords};
use crate::error::Failure;
use crate::signals::Stop;

/// A domain that is being published; dropping it retires the region.
pub(crate) struct Published {
    running: Option<Box<dyn Running>>,
    next_tick: Instant,
    visible: Visible,
    name: String,
    notes: Notes,
    continues: bool,
    /// What a region that follows this one is to know of it.
    ancestor: Option<Ancestor>,
}

/// Regions that a service manager stored, by their names there.
pub(crate) type Kept = Vec<(String, OwnedFd)>;

/// Why publishing came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    DomainGone,
    /// It has more devices than slots: to be published again with more.
    Outgrown,
    /// It has another name: to be published again under that.
    Renamed,
    Asked,
}

impl Published {
    /// Publishes what `source` knows. With stored regions, a service manager stores this one
    /// too, and it continues one of them if that is the same domain's.
    pub(crate) fn start<S: Source>(
        source: S,
        form: &Form,
        place: &Place,
        kept: Option<Kept>,
        follows: Option<Ancestor>,
    ) -> Result<Self, Failure> {
        let description = source.describe();
        let in_place = || match (&kept, place) {
            (Some(kept), _) => Ancestor::among(kept, &description),
            (None, Place::File(path)) => Ancestor::in_file(path, &description),
            _ => None,
        };
        let follows = follows.or_else(in_place);
        let builder = builder_of(&description, form)?;
        let new = match &kept {
            Some(kept) => create_or_continue(builder, kept)?,
            None => place.create(builder)?,
        };
        let continues = new.unpublished.continues();
        let mut dom = MonotonicSink::dom(new.dom);
        let mut ancestor = None;
        if !continues {
            // A region that goes on has one already.
            let incarnation = new.unpublished.incarnation();
            let lineage = lineage(&description, incarnation, follows);
            ancestor = lineage.session.value().map(|s| Ancestor::retired(incarnation, s));
            if let Some(now) = domstat_producer::now(description.clock) {
                dom.write(&lineage, now);
            }
        }
        let Description { name, .. } = description;
        let blks = BlkRecords::zip(new.blks, new.blk_hists);
        let devices = Devices { blks, nets: new.nets, shares: new.blk_queues };
        let vcpus = new.vcpus.into_iter().map(MonotonicSink::vcpu).collect();
        let vcpus = VcpuRecords::zip(vcpus, new.vcpu_hists);
        let running = source.start_with_devices(dom, vcpus, devices)?;
        let region = new.unpublished.publish()?;
        if let Some(kept) = kept {
            hand_to_manager(&region, kept)?;
        }
        let visible = place.show(region, &name)?;
        let next_tick = Instant::now() + running.interval();
        let running = Some(running);
        let notes = Notes::default();
        Ok(Self { running, next_tick, visible, name, notes, continues, ancestor })
    }

    /// Where consumers find the region.
    pub(crate) fn path(&self) -> &Path {
        self.visible.path()
    }

    /// Whether it continues the region of an earlier process.
    pub(crate) fn continues(&self) -> bool {
        self.continues
    }

    /// What a region that follows this one is to know of it.
    pub(crate) fn ancestor(&self) -> Option<Ancestor> {
        self.ancestor
    }

    /// Ends as a service does that is asked to: where a service manager keeps the region for the
    /// next process, it stays live.
    pub(crate) fn end(mut self, end: End) {
        let Some(region) = self.visible.take() else { return };
        if let Some(running) = self.running.take() {
            running.stop();
        }
        if !self.visible.is_served() || !systemd::is_managed() {
            return region.retire();
        }
        match end {
            End::Asked => region.leave(),
            End::DomainGone | End::Outgrown | End::Renamed => {
                // A region that is retired and closed is forgotten by the manager itself.
                let _ = systemd::forget_region(&region);
                region.retire();
            }
        }
    }

    /// Keeps the region up to date until the domain ends, outgrows it or is renamed, the user asks for an end,
    /// or the time is up.
    pub(crate) fn keep(&mut self, stop: &Stop, until: Option<Instant>) -> Result<End, Failure> {
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
    /// returns the end if it came. What the host cannot do just now leaves the region as it is.
    pub(crate) fn step(&mut self, stop: &Stop, at_most: Duration) -> Result<Option<End>, Failure> {
        let Some(running) = &mut self.running else { return Ok(Some(End::DomainGone)) };
        let due = self.next_tick.saturating_duration_since(Instant::now());
        if stop.wait(due.min(at_most)) {
            return Ok(Some(End::Asked));
        }
        if Instant::now() < self.next_tick {
            return Ok(None);
        }
        self.next_tick = Instant::now() + running.interval();
        self.visible.check()?;
        match running.tick() {
            Ok(Progress::Continue) => self.notes.well(&self.name),
            Ok(Progress::Ended) => return Ok(Some(End::DomainGone)),
            Ok(Progress::Outgrown) => return Ok(Some(End::Outgrown)),
            Ok(Progress::Renamed) => return Ok(Some(End::Renamed)),
            Err(error) if error.is_transient() => {
                let why = format!("{}: {}: trying again", self.name, error.with_causes());
                self.notes.failed(&self.name, &why);
            }
            Err(error) => return Err(error.into()),
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

/// Continues the first of the regions that is the same domain's, or creates a new one.
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

/// Has the service manager, if there is one, store the region and forget those before it.
fn hand_to_manager(region: &Region, kept: Kept) -> Result<(), Failure> {
    let os = |source| Failure::Os { action: "notify the service manager", source };
    systemd::keep(region).map_err(os)?;
    for (name, _) in kept {
        systemd::forget(&name).map_err(os)?;
    }
    systemd::ready().map_err(os)
}
