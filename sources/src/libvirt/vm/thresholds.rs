//! Write thresholds of a domain: requests, events and levels of its images, and what the next daemon is
//! to know of them.

use std::time::{Duration, Instant};

use domstat_layout::{Clock, Word};

use super::{Report, Vm};
use crate::contract::{Armed, ArmedThresholds, Event, LossReason, Publisher, ThresholdSet};
use crate::host::now;
use crate::libvirt::levels::Firing;
use crate::libvirt::stats::{Image, disk_and_index, image_key};
use crate::qemu::limits::MAX_IMAGES;

/// How long an event that names a disk is held for the one that names its image.
const TWIN: Duration = Duration::from_millis(200);

/// A firing whose event names a disk. libvirt sends a second one that names the image.
pub(super) struct Held {
    disk: String,
    threshold: u64,
    excess: u64,
    at: Instant,
}

impl<P: Publisher> Vm<P> {
    /// Takes up what the daemon before had armed. What has fired since shows in the first levels, if
    /// this is still the same process.
    pub(in crate::libvirt) fn recall(&mut self, publisher: &mut P) {
        let before = publisher.recall(&self.address);
        let own = self.identity.process;
        let reason = match before.process.and(own) {
            Some(_) => LossReason::VmRestarted,
            None => LossReason::VmNotKnown,
        };
        self.remembered = before.clone();
        for armed in before.armed.into_iter().take(MAX_IMAGES) {
            if own.is_some() && before.process == own {
                self.levels.remember(armed.node, armed.threshold_bytes);
            } else {
                self.report_lost(armed, reason);
            }
        }
    }

    /// Hands over what is armed, for the daemon after this one, if it has changed.
    pub(in crate::libvirt) fn remember(&mut self, publisher: &mut P) {
        let image = |key: &str| self.images.iter().find(|image| image.key() == key);
        let armed = |(node, threshold_bytes): (String, u64)| Armed {
            disk: image(&node).map_or_else(|| node.clone(), |image| image.name.clone()),
            source: image(&node).and_then(|image| image.path.clone()),
            threshold_bytes,
            node,
            intended_bytes: None,
        };
        let armed = self.levels.remembered().into_iter().map(armed).collect();
        let domain = self.name.clone();
        let now = ArmedThresholds { domain, process: self.identity.process, armed };
        if now != self.remembered && !(now.armed.is_empty() && self.remembered.armed.is_empty()) {
            publisher.remember(&self.address, &now);
        }
        self.remembered = now;
    }

    /// The domain has ended, and its thresholds with it.
    pub(in crate::libvirt) fn forget(&mut self, publisher: &mut P) {
        if !std::mem::take(&mut self.remembered).armed.is_empty() {
            publisher.remember(&self.address, &ArmedThresholds::default());
        }
    }

    pub(super) fn report_lost(&mut self, armed: Armed, reason: LossReason) {
        let Armed { disk, node, threshold_bytes, .. } = armed;
        let event = Event::ThresholdLost { disk, node, threshold_bytes, reason };
        self.reports.push(Report::Event(event));
    }

    /// The name of an image by its key.
    pub(super) fn name_of(&self, key: &str) -> String {
        let image = self.images.iter().find(|image| image.key() == key);
        image.map_or_else(|| key.to_owned(), |image| image.name.clone())
    }

    /// A threshold is about to be sent.
    pub(in crate::libvirt) fn sending(&mut self, image: &str, threshold: u64) {
        if let (None, Some(armed)) = (&self.before, self.levels.armed(image)) {
            self.before = Some((image.to_owned(), armed));
        }
        self.levels.sent(image, threshold);
    }

    /// A request to arm is done: what it replaced is reported, unless that has fired.
    pub(in crate::libvirt) fn armed(&mut self, set: Option<&ThresholdSet>) {
        let before = self.before.take();
        let Some((set, (node, threshold_bytes))) = set.zip(before) else { return };
        if threshold_bytes != set.threshold_bytes && node == set.node {
            let (disk, new_bytes) = (set.disk.clone(), set.threshold_bytes);
            let event = Event::ThresholdReplaced { disk, node, threshold_bytes, new_bytes };
            self.reports.push(Report::Event(event));
        }
        // The region has it by the answer.
        let armed = self.levels.armed(&set.node).unwrap_or(0);
        if let Some(slot) = self.slots.as_mut().and_then(|slots| slots.blk(&set.disk)) {
            slot.extent.threshold_bytes = Word::new(armed);
            slot.write_extent(slot.extent_as_of.unwrap_or_else(|| now(Clock::Boottime)));
        }
    }

    /// libvirt says that a threshold fired. It does so twice where images have numbers: for the disk,
    /// then for the image.
    pub(in crate::libvirt) fn threshold(&mut self, name: &str, threshold: u64, excess: u64) {
        let (disk, index) = disk_and_index(name);
        let now = Instant::now();
        if index.is_none() {
            self.release_held(None);
            self.held = Some(Held { disk: disk.to_owned(), threshold, excess, at: now });
            return;
        }
        let is_twin = |held: &mut Held| {
            held.disk == disk && (held.threshold, held.excess) == (threshold, excess)
        };
        if self.held.take_if(is_twin).is_none() {
            self.release_held(None);
        }
        self.fired(image_key(disk, index), threshold, excess, now);
    }

    /// Takes an event that was held for a second one that has not come: at all, or in time.
    pub(in crate::libvirt) fn release_held(&mut self, now: Option<Instant>) {
        let is_over = |held: &mut Held| now.is_none_or(|now| now.duration_since(held.at) >= TWIN);
        let Some(held) = self.held.take_if(is_over) else { return };
        let own = self.images.iter().find(|image| image.depth == 0 && image.disk == held.disk);
        let key = own.map_or(held.disk, Image::key);
        self.fired(key, held.threshold, held.excess, held.at);
    }

    /// When that is due.
    pub(in crate::libvirt) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|held| held.at.checked_add(TWIN))
    }

    pub(super) fn fired(&mut self, key: String, threshold: u64, excess: u64, now: Instant) {
        if self.before.as_ref().is_some_and(|before| *before == (key.clone(), threshold)) {
            self.before = None;
        }
        if let Some(firing) = self.levels.event(&key, threshold, excess, now) {
            self.reports.push(Report::Firing(key, firing));
        }
    }

    /// Firings whose events have not come in time.
    pub(in crate::libvirt) fn reconcile(&mut self) {
        let now = Instant::now();
        self.release_held(Some(now));
        let due = self.levels.due(now);
        self.reports.extend(due.into_iter().map(|(key, firing)| Report::Firing(key, firing)));
    }

    pub(super) fn firing(&mut self, node: String, firing: Firing) -> Event {
        let disk = self.name_of(&node);
        let armed = self.levels.armed(&node).unwrap_or(0);
        if let Some(slot) = self.slots.as_mut().and_then(|slots| slots.blk(&disk)) {
            let count = slot.extent.threshold_events.value().unwrap_or(0);
            slot.extent.threshold_events = Word::from(count.saturating_add(1));
            slot.extent.threshold_excess_bytes = firing.excess.into();
            slot.extent.threshold_bytes = Word::new(armed);
            slot.last_exceeded = Some(firing.threshold);
            slot.write_extent(slot.extent_as_of.unwrap_or_else(|| now(Clock::Boottime)));
        }
        Event::WriteThreshold {
            disk,
            node,
            threshold_bytes: firing.threshold,
            excess_bytes: firing.excess,
            reconciled: firing.excess.is_none(),
        }
    }
}
