//! Sampler of all domains of the host: one row each, with rates and history.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use domstat_consumer::attach::Limits;
use domstat_consumer::fleet::Fleet;
use domstat_consumer::fleet::parts::Part;
use domstat_consumer::{AttachError, Attachment, Liveness, Patience, Reading, Region, Snapshot};
use domstat_layout::latest::{Identity, Memory};

use super::events::{self, Events};
use super::history::DiskHistory;
use super::table::TableRow;
use crate::output::{entry_name, printable};
use crate::rows::{BlkRow, Distributions, HeldRates, Interval, NetRow, Sums, memory};

/// Rates are over this time, or over one interval if that is longer.
const WINDOW: Duration = Duration::from_secs(1);
/// How often the directory and daemons are looked at; between, only shared memory is.
const REFRESH: Duration = Duration::from_secs(1);
/// Samples of the longest graph: two for each column of a wide terminal.
const HISTORY: usize = 512;
/// A screen skips a group rather than wait for it.
const PATIENCE: Patience = Patience { spins: 64, yielding: Duration::ZERO };

/// Places of a row's three samples.
const NOW: usize = 0;
const MIDDLE: usize = 1;
const BASE: usize = 2;

/// One domain as of the last sample.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) entry: String,
    /// The name that the region has, if it can be read.
    pub(super) own_name: Option<String>,
    pub(super) uuid: Option<String>,
    /// `None` if it cannot be attached.
    liveness: Option<Liveness>,
    /// One word for how the domain stands.
    pub(super) standing: &'static str,
    /// Why it cannot be attached.
    pub(super) error: Option<String>,
    pub(super) slots: u32,
    pub(super) sums: Sums,
    /// What hypervisor or VMM says of it, if it is known.
    pub(super) status: Option<&'static str>,
    /// Share of periods in which it used up its limit of CPU time.
    pub(super) throttled: Option<f64>,
    /// Share of the interval that some of its threads waited for a CPU, memory, or I/O.
    pub(super) pressure: Option<f64>,
    pub(super) memory: Option<u64>,
    /// Memory that the domain was given.
    pub(super) given: Option<u64>,
    /// Age of the newest write, in nanoseconds.
    pub(super) age: Option<u64>,
    /// CPUs' worth of time that it ran and that was stolen, newest last.
    pub(super) running: VecDeque<Option<f64>>,
    pub(super) steal: VecDeque<Option<f64>>,
    /// By slot and name: a disk that follows another one in its slot begins a history.
    disks: BTreeMap<(u32, String), DiskHistory>,
    now: Snapshot,
    middle: Snapshot,
    base: Snapshot,
    /// Of the same samples.
    distributions: [Distributions; 3],
    has_base: bool,
    held: HeldRates,
    /// Exits that are in KVM's own statistics only; `None` if the region does not describe them.
    kvm: Option<Events>,
    stale: Duration,
    incarnation: u64,
    /// The domain that it is a part of, and its own name there.
    part_of: Option<(String, String)>,
    seen: bool,
}

/// A disk of any domain.
pub(super) struct Disk {
    pub(super) entry: String,
    pub(super) domain: String,
    pub(super) live: bool,
    pub(super) history: DiskHistory,
    pub(super) blk: BlkRow,
}

/// A network interface of any domain.
pub(super) struct Net {
    pub(super) entry: String,
    pub(super) domain: String,
    pub(super) live: bool,
    pub(super) net: NetRow,
}

/// Keeps a row for each domain.
pub(super) struct Sampler {
    fleet: Fleet,
    rows: BTreeMap<String, Row>,
    refreshed: Option<Instant>,
    window: Duration,
    stale: Duration,
}

impl Sampler {
    pub(super) fn new(fleet: Fleet, interval: Duration, stale: Duration) -> Self {
        let rows = BTreeMap::new();
        let fleet = fleet.with_limits(Limits { stale_after: Some(stale), ..Limits::default() });
        Self { fleet, rows, refreshed: None, window: interval.max(WINDOW), stale }
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.window = interval.max(WINDOW);
    }

    /// Takes a sample of every domain.
    ///
    /// # Errors
    /// If the directory cannot be read, or the daemon was never reached.
    pub(super) fn sample(&mut self) -> Result<(), AttachError> {
        if self.refreshed.is_none_or(|then| then.elapsed() >= REFRESH) {
            self.fleet.refresh()?;
            self.refreshed = Some(Instant::now());
            for (_, member) in self.fleet.iter() {
                if let Ok(region) = member.region() {
                    region.set_patience(PATIENCE);
                }
            }
        }
        self.rows.values_mut().for_each(|row| row.seen = false);
        for (entry, member) in self.fleet.iter() {
            if !self.rows.contains_key(entry) {
                self.rows.insert(entry.to_owned(), Row::new(entry));
            }
            let Some(row) = self.rows.get_mut(entry) else { continue };
            row.seen = true;
            let part = self.fleet.part(entry).filter(Part::is_joined);
            row.part_of = part.map(|part| (part.domain.to_owned(), part.name.to_owned()));
            match member.attachment() {
                Ok(attachment) => row.look(attachment, self.window, self.stale),
                Err(error) => row.fail(error),
            }
        }
        self.rows.retain(|_, row| row.seen);
        Ok(())
    }

    /// Every domain, by the name of its entry.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    pub(super) fn row(&self, entry: &str) -> Option<&Row> {
        self.rows.get(entry)
    }

    /// The region of the domain with this entry.
    pub(super) fn region(&self, entry: &str) -> Option<&Region> {
        self.fleet.get(entry)?.region().ok()
    }

    /// The name of the domain that a row is of, and of which part of it.
    fn whole<'a>(&self, row: &'a Row) -> (String, Option<&'a str>) {
        match &row.part_of {
            Some((domain, part)) => {
                let whole = self.rows.get(domain).map_or_else(|| domain.clone(), Row::name);
                (whole, Some(part))
            }
            None => (row.name(), None),
        }
    }

    /// The disks of all domains, without drives that have no medium.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let of = |row: &Row| {
            let (entry, live) = (row.entry.clone(), row.is_live());
            let (domain, part) = self.whole(row);
            let blks = row.interval().blks().filter(|blk| !blk.is_empty_drive());
            let disk = |blk: BlkRow| Disk {
                entry: entry.clone(),
                domain: domain.clone(),
                live,
                history: row.history(&blk).cloned().unwrap_or_default(),
                blk: BlkRow { name: of_part(&blk.name, part), ..blk },
            };
            blks.map(disk).collect::<Vec<_>>()
        };
        self.rows().filter(|row| row.has_numbers()).flat_map(of).collect()
    }

    /// The network interfaces of all domains.
    pub(super) fn nets(&self) -> Vec<Net> {
        let of = |row: &Row| {
            let (entry, live) = (row.entry.clone(), row.is_live());
            let (domain, part) = self.whole(row);
            let net = |net: NetRow| Net {
                entry: entry.clone(),
                domain: domain.clone(),
                live,
                net: NetRow { name: of_part(&net.name, part), ..net },
            };
            row.interval().nets().map(net).collect::<Vec<_>>()
        };
        self.rows().filter(|row| row.has_numbers()).flat_map(of).collect()
    }
}

/// The name of a device that a part of a domain publishes: two parts may have devices of the same name.
fn of_part(device: &str, part: Option<&str>) -> String {
    part.map_or_else(|| device.to_owned(), |part| format!("{device}@{}", printable(part)))
}

impl Row {
    fn new(entry: &str) -> Self {
        Self {
            entry: entry.to_owned(),
            own_name: None,
            uuid: None,
            liveness: None,
            standing: "",
            error: None,
            slots: 0,
            sums: Sums::default(),
            memory: None,
            given: None,
            age: None,
            running: VecDeque::new(),
            steal: VecDeque::new(),
            disks: BTreeMap::new(),
            status: None,
            throttled: None,
            pressure: None,
            distributions: Default::default(),
            now: Snapshot::new(),
            middle: Snapshot::new(),
            base: Snapshot::new(),
            has_base: false,
            held: HeldRates::default(),
            kvm: None,
            stale: Duration::ZERO,
            incarnation: 0,
            part_of: None,
            seen: true,
        }
    }

    /// The name of its entry, with the domain's own name if that is another.
    pub(super) fn name(&self) -> String {
        entry_name(&self.entry, self.own_name.as_deref())
    }

    pub(super) fn is_live(&self) -> bool {
        self.liveness.is_some_and(|liveness| liveness.is_live())
    }

    /// Whether what was read last is still a domain's: it may be old.
    pub(super) fn has_numbers(&self) -> bool {
        use Liveness::{Live, Stale, Stalled, Unheld};
        matches!(self.liveness, Some(Live | Stale { .. } | Stalled(_) | Unheld))
    }

    /// vCPUs that are present, if that is known.
    pub(super) fn vcpus(&self) -> Option<u32> {
        self.has_numbers().then_some(self.sums.vcpus)
    }

    /// The last snapshot, and one at least a second older.
    pub(super) fn interval(&self) -> Interval<'_> {
        let then = self.has_base.then_some(&self.base);
        let liveness = self.liveness.unwrap_or(Liveness::Dead);
        let [now, _, base] = &self.distributions;
        let interval = Interval::new(&self.now, then, &liveness, self.stale);
        interval.holding(&self.held).with_distributions(now, base)
    }

    pub(super) const fn snapshot(&self) -> &Snapshot {
        &self.now
    }

    fn fail(&mut self, error: &AttachError) {
        self.forget(None);
        self.standing = error.name();
        self.error = Some(printable(&error.to_string()));
    }

    /// Drops the numbers of a domain that has ended.
    fn forget(&mut self, liveness: Option<Liveness>) {
        self.liveness = liveness;
        self.sums = Sums::default();
        (self.memory, self.given, self.age, self.slots) = (None, None, None, 0);
        (self.status, self.throttled, self.pressure) = (None, None, None);
        self.has_base = false;
    }

    fn look(&mut self, attachment: &Attachment, window: Duration, stale: Duration) {
        let region = attachment.region();
        self.stale = stale;
        self.error = None;
        let incarnation = region.header().incarnation;
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.has_base = false;
            self.held = HeldRates::default();
            self.kvm = events::describes_exits(region).then(Events::default);
            self.running.clear();
            self.steal.clear();
            self.disks.clear();
            let identity = region.dom().read::<Identity>().ok().and_then(Reading::active);
            self.own_name = identity.and_then(|i| i.name.as_str().map(str::to_owned));
            self.uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
        }
        self.distributions[NOW] = Distributions::of(region);
        // It looks at the producer last: what was read before its end is of its life.
        let liveness = attachment.snapshot(&mut self.now);
        (self.liveness, self.standing) = (Some(liveness), liveness.name());
        let age = |newest| Some(self.now.taken()?.since(newest));
        self.age = self.now.newest_write().and_then(age);
        if !self.has_numbers() {
            return self.forget(Some(liveness));
        }
        let rebased = self.rebase(window);
        self.slots = self.now.nr_vcpus();
        self.sums = self.interval().sums();
        if self.sums.exits.is_none() && self.kvm.is_some() {
            self.sums.exits = self.kvm_exits(region, rebased);
        }
        self.look_at_causes();
        self.memory = memory(&self.now);
        let group = self.now.dom().dom_group::<Memory>().ok().and_then(Reading::active);
        self.given = group.and_then(|m| m.current_bytes.value()).or(self.memory);
        let (running, steal) = (self.sums.running, self.sums.steal);
        for (history, value) in [(&mut self.running, running), (&mut self.steal, steal)] {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(value);
        }
        self.look_at_disks();
    }

    fn look_at_disks(&mut self) {
        let blks: Vec<_> = self.interval().blks().collect();
        let mut before = std::mem::take(&mut self.disks);
        self.disks.extend(blks.into_iter().map(|blk| {
            let key = (blk.index, blk.name.clone());
            let mut history = before.remove(&key).unwrap_or_default();
            history.push(&blk);
            (key, history)
        }));
    }

    /// What is remembered of a disk.
    pub(super) fn history(&self, blk: &BlkRow) -> Option<&DiskHistory> {
        self.disks.get(&(blk.index, blk.name.clone()))
    }

    fn look_at_causes(&mut self) {
        let interval = self.interval();
        let status = interval.status().map(|status| status.state);
        let throttled = interval.limits().and_then(|limits| limits.throttled);
        let pressure = interval.pressure().iter().filter_map(|row| row.shares[0]).reduce(f64::max);
        (self.status, self.throttled, self.pressure) = (status, throttled, pressure);
    }

    /// One word for the domain: what hypervisor or VMM says of it, if its statistics are live.
    pub(super) fn word(&self) -> &'static str {
        match self.liveness {
            Some(liveness) => self.interval().word(liveness),
            None => self.standing,
        }
    }

    /// Exits per second, from KVM's own statistics, which are looked at once a window.
    fn kvm_exits(&mut self, region: &Region, look: bool) -> Option<f64> {
        let live = self.interval().has_rates();
        let kvm = self.kvm.as_mut()?;
        if look {
            kvm.sample(&self.entry, region, &self.now);
        }
        kvm.exits(live)
    }

    /// Keeps a snapshot to compare with that is one window old at least, and two at most. Returns
    /// whether a window began.
    fn rebase(&mut self, window: Duration) -> bool {
        let is_old = |then: &Snapshot| match self.now.taken().zip(then.taken()) {
            Some((now, then)) => u128::from(now.since(then)) >= window.as_nanos(),
            None => true,
        };
        if !self.has_base {
            self.base.clone_from(&self.now);
            self.middle.clone_from(&self.now);
            self.distributions[MIDDLE] = self.distributions[NOW].clone();
            self.distributions[BASE] = self.distributions[NOW].clone();
            self.has_base = true;
            true
        } else if is_old(&self.middle) {
            std::mem::swap(&mut self.base, &mut self.middle);
            self.distributions.swap(BASE, MIDDLE);
            self.distributions[MIDDLE] = self.distributions[NOW].clone();
            // Between the last two bases: what was not written since the new one.
            self.held.note(&self.middle, &self.base);
            self.middle.clone_from(&self.now);
            true
        } else {
            false
        }
    }
}

impl TableRow for Row {
    fn id(&self) -> String {
        self.entry.clone()
    }

    fn matches(&self, filter: &str) -> bool {
        self.name().contains(filter)
            || self.uuid.as_ref().is_some_and(|uuid| uuid.contains(filter))
            || self.standing == filter
            || self.word() == filter
    }

    fn is_current(&self) -> bool {
        matches!(self.liveness, Some(Liveness::Live | Liveness::Stalled(_)))
    }
}

impl TableRow for Disk {
    fn id(&self) -> String {
        format!("{}/{}", self.entry, self.blk.index)
    }

    fn matches(&self, filter: &str) -> bool {
        self.domain.contains(filter) || self.blk.name.contains(filter)
    }

    fn is_current(&self) -> bool {
        self.live
    }
}

impl TableRow for Net {
    fn id(&self) -> String {
        format!("{}/{}", self.entry, self.net.index)
    }

    fn matches(&self, filter: &str) -> bool {
        self.domain.contains(filter) || self.net.name.contains(filter)
    }

    fn is_current(&self) -> bool {
        self.live
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

    use domstat_layout::latest::{BlkIdentity, BlkIo, NetIdentity, Runstate};
    use domstat_layout::{Group, Name, Ns};
    use domstat_producer::{Announcement, Region, RegionBuilder};

    use super::*;

    fn publish(dir: &std::path::Path, name: &str) -> (Region, Announcement) {
        let mut created = RegionBuilder::new(name).blks(1).nets(1).create_memfd().unwrap();
        for disk in &mut created.blks {
            disk.write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
            disk.write(&BlkIo { rd_req: 1.into(), ..BlkIo::NOT_PRODUCED }, Ns(1));
        }
        for net in &mut created.nets {
            net.write(&NetIdentity { name: Name::new("tap0") }, Ns(1));
        }
        if !name.contains('.') {
            created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&Runstate::NOT_PRODUCED, Ns(1)));
        }
        let region = created.unpublished.publish().unwrap();
        let entry = region.announce(dir, name).unwrap();
        (region, entry)
    }

    #[test]
    fn devices_of_parts_are_those_of_the_domain() {
        let dir = tempfile::tempdir().unwrap();
        let _published = [publish(dir.path(), "web1"), publish(dir.path(), "web1.vhost0")];
        let (interval, stale) = (Duration::from_secs(1), Duration::from_secs(10));
        let mut sampler = Sampler::new(Fleet::new(dir.path()), interval, stale);
        sampler.sample().unwrap();
        let disks: Vec<_> =
            sampler.disks().into_iter().map(|disk| (disk.domain, disk.blk.name)).collect();
        let named = |name: &str| ("web1".to_owned(), name.to_owned());
        assert_eq!(disks, [named("vda"), named("vda@vhost0")]);
        let nets: Vec<_> =
            sampler.nets().into_iter().map(|net| (net.domain, net.net.name)).collect();
        assert_eq!(nets, [named("tap0"), named("tap0@vhost0")]);
        assert_eq!(sampler.rows().len(), 2, "each has an age of its own");
    }
}
