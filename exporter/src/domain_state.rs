//! Per-domain state kept between scrapes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use domstat_consumer::fleet::Member;
use domstat_consumer::rates::{MonotonicTimes, Rates};
use domstat_consumer::{AttachError, Attachment, Liveness, Reading, Snapshot, SnapshotRecord};
use domstat_layout::descriptor::Kind;
use domstat_layout::latest::{BlkIdentity, Identity, NetIdentity, REV, Wait};
use domstat_layout::{Geometry, Group, GroupDesc, Name, Ns, RecordKind, Stat, State, Word};

use crate::domain_labels;
use crate::label::{Label, push_label};
use crate::queue_times::QueueTimes;
use crate::scrape::{DomainScrape, LARGE, Names, REASONS, Stamp, nr_records, record};
use crate::selection::{Selection, Vcpus};
use crate::vcpu_sums::VcpuSums;

/// The arrays whose slots have tenants.
const ARRAYS: [RecordKind; 3] = [RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net];

/// The arrays that a snapshot reads.
const COPIED: [RecordKind; 5] = [
    RecordKind::Vcpu,
    RecordKind::Blk,
    RecordKind::Net,
    RecordKind::BlkQueue,
    RecordKind::NetQueue,
];

/// The arrays that distributions are read from, next to those.
const DISTRIBUTIONS: [RecordKind; 2] = [RecordKind::VcpuHist, RecordKind::BlkHist];

/// State of one domain, from the first pass that saw it to the last.
#[derive(Debug, Default)]
pub(crate) struct DomainState {
    names: Arc<Names>,
    /// The domain that the region is a part of.
    whole: Option<Whole>,
    tenants: Tenants,
    /// Times shown of the vCPUs: they never decrease.
    shown: MonotonicTimes,
    /// Times shown of the block devices' queues.
    queues: QueueTimes,
    /// Sums over the vCPUs, if they are selected.
    sums: VcpuSums,
    retries: u64,
    failures: [u64; REASONS.len()],
    /// Whether a group could not be read in the last pass.
    pub(crate) stalled: bool,
    /// Whether the current pass has met the domain.
    pub(crate) seen: bool,
}

/// A domain, for the names of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    domain: String,
    uuid: Option<String>,
    part: String,
}

impl DomainState {
    /// This domain, for the names of its part `part`.
    pub(crate) fn whole(&self, part: &str) -> Whole {
        let Names { domain, uuid, part: own, .. } = &*self.names;
        let part = own.as_ref().map_or_else(|| part.to_owned(), |own| format!("{own}.{part}"));
        Whole { domain: domain.clone(), uuid: uuid.clone(), part }
    }

    /// Fills the scrape of `member`, attached or not, with values if the budget suffices. `whole` is the domain
    /// that it is a part of.
    pub(crate) fn fill(
        &mut self,
        entry: &str,
        member: &Member,
        whole: Option<Whole>,
        selection: &Selection,
        budget: &mut Budget,
        scrape: &mut DomainScrape,
    ) {
        self.seen = true;
        if member.attachment().is_ok() && self.whole != whole {
            (self.whole, self.names) = (whole, Arc::default());
        }
        match member.attachment() {
            Ok(attachment) => {
                scrape.created = Stamp::from(member.born());
                self.fill_attached(entry, attachment, selection, budget, scrape);
            }
            Err(error) => self.fill_failed(entry, error, scrape),
        }
    }

    /// Fills the scrape of a domain that cannot be attached.
    fn fill_failed(&mut self, entry: &str, error: &AttachError, scrape: &mut DomainScrape) {
        // A domain that was attached before keeps its names, so that its series go on.
        if self.names.domain.is_empty() {
            self.names = Arc::new(names(entry, None, None, self.whole.as_ref()));
        }
        self.count_failures(error.name(), 1);
        scrape.created = Stamp::default();
        self.fill_without_values(scrape, false, error.name());
    }

    /// Fills the scrape of an attached domain.
    fn fill_attached(
        &mut self,
        entry: &str,
        attachment: &Attachment,
        selection: &Selection,
        budget: &mut Budget,
        scrape: &mut DomainScrape,
    ) {
        let region = attachment.region();
        let header = region.header();
        let incarnation = Some((header.incarnation, header.revision));
        if self.names.region != incarnation {
            self.tenants = Tenants::default();
            self.sums = VcpuSums::default();
            self.queues = QueueTimes::default();
        }
        if self.names.region != incarnation || !self.names.is_final {
            let identity = region.dom().read::<Identity>();
            let is_final = identity.is_ok();
            let identity = identity.ok().and_then(Reading::active);
            let labels = selection.labels();
            let text = (!labels.is_empty()).then(|| region.labels());
            let is_final = is_final && text.as_ref().is_none_or(Result::is_ok);
            let text = text.and_then(Result::ok).and_then(Reading::active);
            let pairs = text.as_ref().and_then(|labels| labels.text.labels().ok());
            let domain_labels =
                pairs.map_or_else(Vec::new, |pairs| domain_labels::names(pairs, &labels));
            let names = names(entry, identity.as_deref(), incarnation, self.whole.as_ref());
            self.names = Arc::new(Names { is_final, domain_labels, ..names });
        }
        // A region that is not live before the copy is not copied.
        let may_be_live = region.status().state == Some(State::Live);
        let may_be_live = may_be_live && region.is_held() != Some(false);
        let within_budget = may_be_live && budget.take(&region.geometry(), selection);
        let liveness = match within_budget {
            true => attachment.snapshot(&mut scrape.snapshot),
            false => attachment.liveness(),
        };
        if within_budget {
            self.retries = self.retries.saturating_add(scrape.snapshot.retries());
        }
        if !liveness.is_up() || !within_budget {
            if may_be_live && !within_budget {
                self.count_failures("limit", 1);
            }
            return self.fill_without_values(scrape, liveness.is_up(), liveness.name());
        }
        let stalled = self.scan_groups(selection, scrape);
        self.stalled = stalled > 0;
        self.count_failures("stalled", stalled);
        self.fill_times(scrape, &liveness);
        let is_live = matches!(liveness, Liveness::Live | Liveness::Stalled(_));
        self.queues.fill(&scrape.snapshot, is_live, &mut scrape.queues);
        if selection.groups.has_distributions() {
            let failed = scrape.distributions.fill(region, &selection.groups);
            self.count_failures("stalled", failed);
        }
        match selection.vcpus {
            Vcpus::Each => scrape.sums.clear(),
            Vcpus::Sum => self.sums.fill(scrape, selection.groups.contains(Wait::DESC)),
        }
        label_devices(scrape);
        (scrape.up, scrape.standing, scrape.has_values) = (true, liveness.name(), true);
        self.fill_common(scrape);
    }

    fn fill_without_values(&mut self, scrape: &mut DomainScrape, up: bool, standing: &'static str) {
        (scrape.up, scrape.standing, scrape.has_values) = (up, standing, false);
        (scrape.nr_vcpus, scrape.saturated) = (0, 0);
        scrape.ages.clear();
        scrape.distributions.clear();
        self.fill_common(scrape);
    }

    fn count_failures(&mut self, reason: &str, more: u64) {
        let at = REASONS.iter().position(|r| *r == reason);
        if let Some(count) = at.and_then(|at| self.failures.get_mut(at)) {
            *count = count.saturating_add(more);
        }
    }

    fn fill_common(&self, scrape: &mut DomainScrape) {
        scrape.names = Arc::clone(&self.names);
        (scrape.retries, scrape.failures, scrape.hidden) = (self.retries, self.failures, false);
    }

    /// Collects ages, saturated fields and tenants from all groups. Returns the number of groups
    /// that could not be read.
    fn scan_groups(&mut self, selection: &Selection, scrape: &mut DomainScrape) -> u64 {
        let DomainScrape { snapshot, ages, later, saturated, .. } = scrape;
        ages.clear();
        later.clear();
        *saturated = 0;
        let mut stalled = 0;
        for kind in [RecordKind::Dom, RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net] {
            let groups = REV.groups(kind);
            let mut newest = vec![None; groups.len()];
            for index in 0..nr_records(snapshot, kind) {
                let Some(record) = record(snapshot, kind, index) else { continue };
                let scan = RecordScan::of(record, groups, &mut newest);
                stalled += scan.stalled;
                *saturated += scan.saturated;
                if let Some(since) = self.tenants.observe(kind, index, scan.generation) {
                    later.push((kind, index, since));
                }
            }
            let Some(now) = snapshot.taken() else { continue };
            let aged = groups.iter().zip(newest).filter(|(desc, _)| has_age(desc));
            let aged = aged.filter(|(desc, _)| selection.groups.contains(desc));
            ages.extend(aged.filter_map(|(desc, newest)| Some((*desc, now.since(newest?)))));
        }
        stalled
    }

    /// Fills each vCPU's times up to now.
    fn fill_times(&mut self, scrape: &mut DomainScrape, liveness: &Liveness) {
        let DomainScrape { snapshot, times, nr_vcpus, .. } = scrape;
        let rates = Rates::new(snapshot).with_liveness(liveness);
        times.clear();
        times.extend(self.shown.times(&rates));
        *nr_vcpus = u32::try_from(rates.vcpus().count()).unwrap_or(u32::MAX);
    }
}

/// Largest number of records that a pass copies. 2^18 records are 10,000 domains of 8 vCPUs twice
/// over, and some 100 MB.
const MAX_RECORDS: u32 = 1 << 18;
/// Largest number of records of large domains that a pass copies: a few regions that claim tens of
/// thousands of vCPUs take nothing from the others.
const MAX_LARGE_RECORDS: u32 = 1 << 17;

/// Records that a pass may still copy.
pub(crate) struct Budget {
    usual: u32,
    large: u32,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { usual: MAX_RECORDS, large: MAX_LARGE_RECORDS }
    }

    /// Takes the records of a region out of the budget. `false` if there are too many of them.
    fn take(&mut self, geometry: &Geometry, selection: &Selection) -> bool {
        let optional: &[RecordKind] =
            if selection.groups.has_distributions() { &DISTRIBUTIONS } else { &[] };
        let kinds = COPIED.iter().chain(optional);
        let records = kinds.map(|kind| geometry.array(*kind).nr);
        let records = records.fold(1, u32::saturating_add);
        let left = if records > LARGE { &mut self.large } else { &mut self.usual };
        match left.checked_sub(records) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

/// Tenants of the slots of each array, by [`ARRAYS`].
#[derive(Debug, Default)]
struct Tenants([Vec<Slot>; 3]);

/// A slot's tenant.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: Option<u32>,
    /// When the last change of tenants was seen.
    since: Option<Stamp>,
}

impl Tenants {
    /// Records the generation of a slot. Returns when the last change of tenants was seen.
    fn observe(&mut self, kind: RecordKind, index: u32, generation: Option<u32>) -> Option<Stamp> {
        let slots = ARRAYS.iter().position(|k| *k == kind).and_then(|i| self.0.get_mut(i))?;
        let at = index as usize;
        if at >= slots.len() {
            slots.resize(at + 1, Slot::default());
        }
        let slot = slots.get_mut(at)?;
        if let Some(now) = generation {
            // The first tenant seen began at an unknown time: it has the domain's.
            if slot.generation.is_some_and(|before| before != now) {
                slot.since = Some(Stamp::from(SystemTime::now()));
            }
            slot.generation = Some(now);
        }
        slot.since
    }
}

/// Findings in one record.
struct RecordScan {
    stalled: u64,
    saturated: u64,
    generation: Option<u32>,
}

impl RecordScan {
    /// Scans all groups of `record` and advances `newest`, the time of each group's last write.
    fn of(
        record: SnapshotRecord<'_>,
        groups: &'static [&'static GroupDesc],
        newest: &mut [Option<Ns>],
    ) -> Self {
        let mut scan = Self { stalled: 0, saturated: 0, generation: None };
        for (desc, newest) in groups.iter().zip(newest).filter(|(desc, _)| desc.twin_of.is_none()) {
            let fields = match record.fields(desc) {
                Ok(Reading::Active(fields)) => fields,
                Ok(_) => continue,
                Err(_) => {
                    scan.stalled += 1;
                    continue;
                }
            };
            *newest = (*newest).max(Some(fields.updated));
            scan.generation = Some(fields.generation);
            for (field, bytes) in fields.iter().filter(|(f, _)| f.kind != Kind::Text) {
                let Ok(word) = <[u8; 8]>::try_from(bytes) else { continue };
                let stat = Word::from_raw(u64::from_ne_bytes(word)).get();
                scan.saturated += u64::from(stat == Stat::Saturated && field.width == 8);
            }
        }
        scan
    }
}

/// Whether a group's age is of interest: not if all its fields are written once, nor if it is a
/// second copy.
fn has_age(desc: &GroupDesc) -> bool {
    let changes = desc.fields.iter().any(|field| !matches!(field.kind, Kind::Id | Kind::Text));
    changes && desc.twin_of.is_none()
}

/// Fills in the devices' names. A missing name becomes the slot's number, a duplicate one gets it
/// appended.
fn label_devices(scrape: &mut DomainScrape) {
    let DomainScrape { snapshot, devices: [blks, nets], .. } = scrape;
    let snapshot: &Snapshot = snapshot;
    label_array(blks, snapshot.nr_blks(), |i| {
        let identity = snapshot.blk(i)?.blk_group::<BlkIdentity>().ok()?.active()?;
        Some(identity.name)
    });
    label_array(nets, snapshot.nr_nets(), |i| {
        let identity = snapshot.net(i)?.net_group::<NetIdentity>().ok()?.active()?;
        Some(identity.name)
    });
}

fn label_array(labels: &mut Vec<String>, nr: u32, name: impl Fn(u32) -> Option<Name>) {
    labels.resize_with(nr as usize, String::new);
    let mut taken = HashSet::new();
    for (index, label) in (0..).zip(labels) {
        label.clear();
        match name(index).as_ref().and_then(Name::as_str).filter(|name| !name.is_empty()) {
            Some(name) if taken.insert(name.to_owned()) => label.push_str(name),
            // A `#` and just this number do not end a producer's name by accident, and twice.
            Some(name) => label.push_str(&format!("{name}#{index}")),
            None => label.push_str(&format!("#{index}")),
        }
    }
}

fn names(
    entry: &str,
    identity: Option<&Identity>,
    region: Option<(u64, u32)>,
    whole: Option<&Whole>,
) -> Names {
    let name = identity.and_then(|i| i.name.as_str()).filter(|name| !name.is_empty());
    let uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
    let (domain, uuid) = match whole {
        Some(whole) => (whole.domain.clone(), whole.uuid.clone()),
        None => (name.unwrap_or(entry).to_owned(), uuid),
    };
    let part = whole.map(|whole| whole.part.clone());
    let mut labels = String::new();
    push_label(&mut labels, "domain", Label::Text(&domain));
    if let Some(uuid) = &uuid {
        labels.push(',');
        push_label(&mut labels, "uuid", Label::Text(uuid));
    }
    if let Some(part) = &part {
        labels.push(',');
        push_label(&mut labels, "part", Label::Text(part));
    }
    let domid = identity.and_then(|i| i.domid.value());
    let domain_labels = Vec::new();
    Names { domain, uuid, part, labels, domain_labels, domid, region, is_final: false }
}

#[cfg(test)]
mod tests {
    use domstat_layout::descriptor::{FieldDesc, Unit};

    use super::*;

    const fn field(kind: Kind) -> FieldDesc {
        FieldDesc { name: "f", offset: 16, width: 8, kind, unit: Unit::None, doc: "" }
    }

    const fn group(name: &'static str, fields: &'static [FieldDesc]) -> GroupDesc {
        let (record, twin_of) = (RecordKind::Net, None);
        GroupDesc {
            name,
            record,
            bit: 9,
            offset: 512,
            size: 48,
            since: 5,
            twin_of,
            doc: "",
            fields,
        }
    }

    /// Groups that no revision has.
    static WEATHER: GroupDesc =
        group("weather", &[field(Kind::Id), field(Kind::Text), field(Kind::Instant)]);
    static NUMBER_PLATE: GroupDesc = group("number_plate", &[field(Kind::Id), field(Kind::Text)]);

    #[test]
    fn a_new_group_has_an_age_without_being_listed_anywhere() {
        assert!(has_age(&WEATHER));
        let mut label = String::new();
        push_label(&mut label, "group", Label::Group(&WEATHER));
        assert_eq!(label, "group=\"net.weather\"");
        assert!(!has_age(&NUMBER_PLATE), "written once");
        let twin = GroupDesc { twin_of: Some(&WEATHER), ..WEATHER };
        assert!(!has_age(&twin), "a second copy");
    }

    #[test]
    fn all_groups_of_the_latest_revision_but_those_written_once_have_ages() {
        for kind in RecordKind::ALL {
            for desc in REV.groups(kind).iter().filter(|desc| desc.twin_of.is_none()) {
                let once = ["identity", "labels", "of"].contains(&desc.name);
                assert_eq!(has_age(desc), !once, "{}", desc.name);
            }
        }
    }
}
