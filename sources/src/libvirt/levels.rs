//! State machine of write thresholds behind libvirt: which are armed, which have fired. Pure: its
//! inputs are what was sent and what came; its outputs are what to report.
//!
//! libvirtd sends an event and an answer on ways of their own, so a level that is 0 may come before
//! the event of the firing, and a level from before the firing after it. A level that was asked for
//! before the last event of its image says nothing. One that is 0 where a threshold was armed means a
//! firing, whose event is waited for; if it does not come, the firing is reported from the level.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the event of a firing is waited for whose level was seen.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How long after a firing was reported from its level an event of it is taken for the same.
const OWED: Duration = Duration::from_secs(30);
/// Most firings of one image whose events are waited for.
const MAX_MISSED: usize = 16;

/// One firing, to be reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Firing {
    pub(super) threshold: u64,
    /// By how much the write went past it; `None` if the event was missed.
    pub(super) excess: Option<u64>,
}

/// What a level says that was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Another threshold is armed than the one that was.
    Replaced { before: u64 },
    /// A request whose answer was lost: the threshold is armed (or has fired).
    Set,
    /// A request whose answer was lost: it never arrived, or it did and fired.
    Unknown,
}

/// The thresholds of one domain, by image.
#[derive(Debug, Default)]
pub(super) struct Levels {
    images: BTreeMap<String, Image>,
}

#[derive(Debug, Default)]
struct Image {
    armed: Option<u64>,
    pending: Option<Pending>,
    /// Firings that a level shows, and since when.
    missed: Vec<(u64, Instant)>,
    /// The last firing that was reported from a level.
    settled: Option<(u64, Instant)>,
    last_event: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    threshold: u64,
    fired: bool,
    /// The connection broke meanwhile.
    lost: bool,
}

impl Image {
    fn remembered(&self) -> Option<u64> {
        let pending = self.pending.filter(|p| !p.fired).map(|p| p.threshold);
        let missed = self.missed.last().map(|(threshold, _)| *threshold);
        missed.or(self.armed).or(pending).filter(|threshold| *threshold > 0)
    }

    fn missed(&mut self, threshold: u64, now: Instant) {
        if self.missed.len() < MAX_MISSED {
            self.missed.push((threshold, now));
        }
    }
}

impl Levels {
    /// What is armed on each image that has a threshold, or had one whose firing is not reported.
    pub(super) fn remembered(&self) -> BTreeMap<String, u64> {
        let armed = |(key, image): (&String, &Image)| Some((key.clone(), image.remembered()?));
        self.images.iter().filter_map(armed).collect()
    }

    /// Takes what an earlier daemon knew to be armed.
    pub(super) fn remember(&mut self, image: String, threshold: u64) {
        self.images.entry(image).or_default().armed = Some(threshold);
    }

    /// What is armed on the image.
    pub(super) fn armed(&self, image: &str) -> Option<u64> {
        self.images.get(image)?.armed
    }

    /// A request to arm `threshold` (0 disarms) is about to be sent.
    pub(super) fn sent(&mut self, image: &str, threshold: u64) {
        let image = self.images.entry(image.to_owned()).or_default();
        image.pending = Some(Pending { threshold, fired: false, lost: false });
    }

    /// The request was taken, or (`false`) refused.
    pub(super) fn answered(&mut self, image: &str, accepted: bool) {
        let Some(image) = self.images.get_mut(image) else { return };
        let Some(pending) = image.pending.take() else { return };
        if accepted {
            let armed = pending.threshold > 0 && !pending.fired;
            image.armed = armed.then_some(pending.threshold);
        }
    }

    /// The connection broke: the next level decides on requests without an answer.
    pub(super) fn cut(&mut self) {
        for pending in self.images.values_mut().filter_map(|image| image.pending.as_mut()) {
            pending.lost = true;
        }
    }

    /// libvirt says that a threshold fired; `None` if that was reported from the level.
    pub(super) fn event(
        &mut self,
        image: &str,
        threshold: u64,
        excess: u64,
        now: Instant,
    ) -> Option<Firing> {
        let image = self.images.entry(image.to_owned()).or_default();
        image.last_event = Some(now);
        let firing = Firing { threshold, excess: Some(excess) };
        if let Some(at) = image.missed.iter().position(|(missed, _)| *missed == threshold) {
            image.missed.remove(at);
            return Some(firing);
        }
        let is_armed = image.armed == Some(threshold);
        let is_pending = image.pending.is_some_and(|p| p.threshold == threshold && !p.fired);
        if !is_armed && !is_pending {
            let settled = image
                .settled
                .take_if(|(settled, at)| *settled == threshold && now.duration_since(*at) < OWED);
            if settled.is_some() {
                return None;
            }
        }
        match &mut image.pending {
            // The old one if it was this, else the one whose answer is still to come.
            Some(_) if is_armed => image.armed = None,
            Some(pending) if is_pending => pending.fired = true,
            _ => image.armed = None,
        }
        Some(firing)
    }

    /// libvirt says what is armed, asked at `asked`; 0 is nothing.
    pub(super) fn level(
        &mut self,
        image: &str,
        level: u64,
        asked: Instant,
        now: Instant,
    ) -> Option<Change> {
        if level == 0 && !self.images.contains_key(image) {
            return None;
        }
        let image = self.images.entry(image.to_owned()).or_default();
        if image.last_event.is_some_and(|event| event >= asked) {
            return None;
        }
        let mut change = None;
        match image.pending {
            // The level may be older than the request.
            Some(pending) if !pending.lost => return None,
            Some(pending) => {
                image.pending = None;
                let is_set = pending.fired || level == pending.threshold;
                change = Some(if is_set { Change::Set } else { Change::Unknown });
                if is_set && !pending.fired {
                    // It replaced, or disarmed, what was armed before.
                    image.armed = None;
                }
            }
            None => {}
        }
        match image.armed {
            Some(threshold) if level == 0 => image.missed(threshold, now),
            Some(before) if level != before && change.is_none() => {
                change = Some(Change::Replaced { before });
            }
            _ => {}
        }
        image.armed = (level > 0).then_some(level);
        change
    }

    /// Firings whose events have not come in time.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, Firing)> {
        let mut due = Vec::new();
        for (key, image) in &mut self.images {
            image.missed.retain(|(threshold, since)| {
                let waits = now.duration_since(*since) < GRACE;
                if !waits {
                    image.settled = Some((*threshold, now));
                    due.push((key.clone(), Firing { threshold: *threshold, excess: None }));
                }
                waits
            });
        }
        due
    }

    /// When the first of them is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let missed = self.images.values().flat_map(|image| &image.missed);
        missed.filter_map(|(_, since)| since.checked_add(GRACE)).min()
    }

    /// Forgets images that were removed; returns what was armed there, which never fires.
    pub(super) fn retain(&mut self, exists: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
        let mut lost = Vec::new();
        self.images.retain(|key, image| {
            let stays = image.pending.is_some() || !image.missed.is_empty() || exists(key);
            if let (false, Some(threshold)) = (stays, image.armed) {
                lost.push((key.clone(), threshold));
            }
            stays
        });
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1000;

    /// Points in time, in ms.
    fn clock() -> impl Fn(u64) -> Instant {
        let zero = Instant::now();
        move |ms| zero + Duration::from_millis(ms)
    }

    fn armed(at: &impl Fn(u64) -> Instant) -> Levels {
        let mut levels = Levels::default();
        levels.sent("vda", T);
        levels.answered("vda", true);
        assert_eq!(levels.level("vda", T, at(0), at(1)), None);
        levels
    }

    fn reconciled() -> Vec<(String, Firing)> {
        vec![("vda".to_owned(), Firing { threshold: T, excess: None })]
    }

    #[test]
    fn an_event_and_levels_of_before_and_after_it_are_one_firing() {
        let at = clock();
        let mut levels = armed(&at);
        let firing = levels.event("vda", T, 7, at(100));
        assert_eq!(firing, Some(Firing { threshold: T, excess: Some(7) }));
        // Asked before the event, answered after it.
        assert_eq!(levels.level("vda", T, at(50), at(110)), None);
        assert_eq!(levels.armed("vda"), None);
        assert_eq!(levels.level("vda", 0, at(120), at(130)), None);
        assert_eq!(levels.due(at(10_000)), []);
    }

    #[test]
    fn a_level_that_comes_before_its_event_waits_for_it() {
        let at = clock();
        let mut levels = armed(&at);
        assert_eq!(levels.level("vda", 0, at(10), at(20)), None);
        assert_eq!(levels.due(at(30)), []);
        assert_eq!(levels.next_due(), Some(at(20) + GRACE));
        let firing = levels.event("vda", T, 7, at(40));
        assert_eq!(firing, Some(Firing { threshold: T, excess: Some(7) }));
        assert_eq!(levels.due(at(10_000)), []);
    }

    #[test]
    fn an_event_that_never_comes_is_reported_once_and_a_late_one_not_again() {
        let at = clock();
        let mut levels = armed(&at);
        assert_eq!(levels.level("vda", 0, at(10), at(20)), None);
        assert_eq!(levels.due(at(2_020)), reconciled());
        assert_eq!(levels.level("vda", 0, at(2_100), at(2_110)), None);
        assert_eq!(levels.due(at(5_000)), []);
        assert_eq!(levels.event("vda", T, 7, at(5_000)), None, "late");
        // The next of the same number is another one.
        levels.sent("vda", T);
        levels.answered("vda", true);
        assert!(levels.event("vda", T, 7, at(6_000)).is_some());
    }

    #[test]
    fn a_new_threshold_does_not_hide_the_firing_of_the_one_before() {
        let at = clock();
        let mut levels = armed(&at);
        assert_eq!(levels.level("vda", 0, at(10), at(20)), None);
        levels.sent("vda", 2 * T);
        levels.answered("vda", true);
        assert_eq!(levels.due(at(2_020)), reconciled());
        assert_eq!(levels.armed("vda"), Some(2 * T));
        assert_eq!(levels.event("vda", 2 * T, 7, at(3_000)).map(|f| f.threshold), Some(2 * T));
    }

    #[test]
    fn one_that_fires_before_its_answer_is_not_armed_by_that() {
        let at = clock();
        let mut levels = Levels::default();
        levels.sent("vda", T);
        assert!(levels.event("vda", T, 7, at(1)).is_some());
        levels.answered("vda", true);
        assert_eq!(levels.armed("vda"), None);
    }

    #[test]
    fn a_lost_answer_is_decided_by_the_level() {
        let at = clock();
        let mut levels = Levels::default();
        levels.sent("vda", T);
        levels.cut();
        assert_eq!(levels.level("vda", T, at(10), at(20)), Some(Change::Set));
        assert_eq!(levels.armed("vda"), Some(T));
        levels.sent("vda", 2 * T);
        levels.cut();
        assert_eq!(levels.level("vda", 0, at(30), at(40)), Some(Change::Unknown));
        assert_eq!(levels.due(at(9_000)), reconciled(), "the one before");
    }

    #[test]
    fn what_was_armed_before_a_restart_fires_by_its_level() {
        let at = clock();
        let levels = armed(&at);
        let mut next = Levels::default();
        for (image, threshold) in levels.remembered() {
            next.remember(image, threshold);
        }
        assert_eq!(next.level("vda", 0, at(10), at(20)), None);
        assert_eq!(next.remembered().get("vda"), Some(&T), "until it is reported");
        assert_eq!(next.due(at(3_000)), reconciled());
        assert_eq!(next.remembered(), BTreeMap::new());
    }

    #[test]
    fn what_is_armed_on_an_image_that_is_removed_is_lost() {
        let at = clock();
        let mut levels = armed(&at);
        assert_eq!(levels.retain(|_| true), []);
        assert_eq!(levels.retain(|_| false), [("vda".to_owned(), T)]);
        assert_eq!(levels.armed("vda"), None);
    }

    #[test]
    fn another_client_replaces_a_threshold() {
        let at = clock();
        let mut levels = armed(&at);
        let change = levels.level("vda", 5, at(10), at(20));
        assert_eq!(change, Some(Change::Replaced { before: T }));
        assert_eq!(levels.armed("vda"), Some(5));
        assert_eq!(levels.due(at(9_000)), []);
    }
}
