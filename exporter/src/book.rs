//! What is remembered of a domain from one pass to the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use domstat_consumer::{AttachError, Member, Reading, Region, SnapshotRecord};
use domstat_layout::descriptor::Kind;
use domstat_layout::latest::{BlkIdentity, Identity, NetIdentity, REV, Runstate, VcpuState};
use domstat_layout::{GroupDesc, Name, Ns, RecordKind, Stat, State, Word};

use crate::text::push_label;
use crate::view::{DomainView, Names, REASONS, Stamp};

/// The states whose times are counted.
pub(crate) const STATES: [VcpuState; 4] =
    [VcpuState::Running, VcpuState::Runnable, VcpuState::Blocked, VcpuState::Offline];

/// The arrays whose slots have tenants.
const ARRAYS: [RecordKind; 3] = [RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net];

/// A domain, from the first pass that saw it to the last.
#[derive(Debug, Default)]
pub(crate) struct Book {
    names: Arc<Names>,
    /// The tenant of each slot, by [`ARRAYS`].
    slots: [Vec<Slot>; 3],
    /// What was shown of each vCPU's times: they never go back.
    shown: Vec<[u64; 4]>,
    retries: u64,
    failures: [u64; REASONS.len()],
    /// Whether a group could not be read in the last pass.
    pub(crate) stalled: bool,
    pub(crate) seen: bool,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: Option<u32>,
    /// When a change of tenants was seen.
    since: Option<Stamp>,
}

impl Book {
    /// Fills the view of a domain that cannot be attached.
    pub(crate) fn absent(&mut self, entry: &str, error: &AttachError, view: &mut DomainView) {
        // Who it was is known if it was attached before: then its series go on.
        if self.names.domain.is_empty() {
            self.names = Arc::new(names(entry, None, None));
        }
        self.fail(reason(error));
        view.created = Stamp::default();
        self.down(view, None);
    }

    /// Fills the view of a domain that was attached.
    pub(crate) fn fill(
        &mut self,
        entry: &str,
        region: &Region,
        born: SystemTime,
        view: &mut DomainView,
    ) {
        region.snapshot(&mut view.snapshot);
        let header = region.header();
        let region_is = Some((header.incarnation, header.revision));
        if self.names.region != region_is || self.names.domain.is_empty() {
            let identity = region.dom().read::<Identity>().ok().and_then(Reading::active);
            self.names = Arc::new(names(entry, identity.as_deref(), region_is));
            self.slots = Default::default();
            self.shown.clear();
        }
        // Looked at after the copy: what was live then was live all the time.
        let state = region.status().state;
        view.created = Stamp::from(born);
        self.retries = self.retries.saturating_add(view.snapshot.retries());
        if state != Some(State::Live) || region.is_held() == Some(false) {
            return self.down(view, state);
        }
        view.state = state;
        view.later.clear();
        view.ages.clear();
        view.saturated = 0;
        let now = view.snapshot.taken();
        let stalled = self.groups(view, now);
        self.stalled = stalled > 0;
        self.failures[0] = self.failures[0].saturating_add(stalled);
        self.times(view, now);
        devices(view);
        view.up = true;
        self.finish(view);
    }

    fn down(&self, view: &mut DomainView, state: Option<State>) {
        (view.up, view.state, view.nr_vcpus, view.saturated) = (false, state, 0, 0);
        view.ages.clear();
        self.finish(view);
    }

    fn finish(&self, view: &mut DomainView) {
        view.names = Arc::clone(&self.names);
        (view.retries, view.failures, view.hidden) = (self.retries, self.failures, false);
    }

    fn fail(&mut self, reason: usize) {
        if let Some(count) = self.failures.get_mut(reason) {
            *count = count.saturating_add(1);
        }
    }

    /// Looks at every group: ages, saturated fields, tenants. Returns how many could not be read.
    fn groups(&mut self, view: &mut DomainView, now: Option<Ns>) -> u64 {
        let mut stalled = 0;
        let mut ages = std::mem::take(&mut view.ages);
        let mut later = std::mem::take(&mut view.later);
        let mut saturated = 0;
        for kind in [RecordKind::Dom, RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net] {
            let groups = REV.groups(kind);
            let mut newest = vec![None; groups.len()];
            for index in 0..view.nr(kind) {
                let Some(record) = view.record(kind, index) else { continue };
                let seen = look(record, groups, &mut newest);
                stalled += seen.stalled;
                saturated += seen.saturated;
                if let Some(stamp) = self.tenant(kind, index, seen.generation) {
                    later.push((kind, index, stamp));
                }
            }
            for (desc, newest) in groups.iter().zip(newest) {
                if let (Some(now), Some(newest)) = (now, newest)
                    && let Some(name) = group_label(desc)
                {
                    ages.push((name, now.since(newest)));
                }
            }
        }
        (view.ages, view.later, view.saturated) = (ages, later, saturated);
        stalled
    }

    /// When the slot's counters began, if that was later than the domain's.
    fn tenant(&mut self, kind: RecordKind, index: u32, generation: Option<u32>) -> Option<Stamp> {
        let array = ARRAYS.iter().position(|k| *k == kind)?;
        let slots = self.slots.get_mut(array)?;
        let at = index as usize;
        if at >= slots.len() {
            slots.resize(at + 1, Slot::default());
        }
        let slot = slots.get_mut(at)?;
        if let Some(now) = generation {
            // A tenant that was there first began at a time that nobody can know any more.
            if slot.generation.is_some_and(|before| before != now) {
                slot.since = Some(Stamp::from(SystemTime::now()));
                if kind == RecordKind::Vcpu
                    && let Some(shown) = self.shown.get_mut(at)
                {
                    *shown = [0; 4];
                }
            }
            slot.generation = Some(now);
        }
        slot.since
    }

    /// Each vCPU's times up to `now`. Time since the last write is counted in the state that was
    /// written; if the next write takes some of it back, the time shown stands still meanwhile.
    fn times(&mut self, view: &mut DomainView, now: Option<Ns>) {
        let nr = view.snapshot.nr_vcpus() as usize;
        self.shown.resize(nr, [0; 4]);
        view.times.clear();
        view.nr_vcpus = 0;
        for (index, shown) in (0..).zip(&mut self.shown) {
            let record = view.snapshot.vcpu(index);
            let sample = record.and_then(|r| r.vcpu_group::<Runstate>().ok()?.active());
            let runstate = sample.map(|sample| now.map_or(sample.group, |now| sample.at(now)));
            let times = STATES.map(|state| runstate.and_then(|r| r.time_in(state).value()));
            let mut kept = [None; 4];
            for ((kept, time), shown) in kept.iter_mut().zip(times).zip(shown) {
                *shown = time.map_or(*shown, |time| time.max(*shown));
                *kept = time.map(|_| *shown);
            }
            view.nr_vcpus += u32::from(runstate.is_some());
            view.times.push(kept);
        }
    }
}

/// What a look at one record found.
struct Seen {
    stalled: u64,
    saturated: u64,
    generation: Option<u32>,
}

fn look(
    record: SnapshotRecord<'_>,
    groups: &'static [&'static GroupDesc],
    newest: &mut [Option<Ns>],
) -> Seen {
    let mut seen = Seen { stalled: 0, saturated: 0, generation: None };
    for (desc, newest) in groups.iter().zip(newest).filter(|(desc, _)| desc.twin_of.is_none()) {
        let fields = match record.fields(desc) {
            Ok(Reading::Active(fields)) => fields,
            Ok(_) => continue,
            Err(_) => {
                seen.stalled += 1;
                continue;
            }
        };
        *newest = (*newest).max(Some(fields.updated));
        seen.generation = Some(fields.generation);
        for (field, bytes) in fields.iter().filter(|(f, _)| f.kind != Kind::Text) {
            let Ok(word) = <[u8; 8]>::try_from(bytes) else { continue };
            let stat = Word::from_raw(u64::from_ne_bytes(word)).get();
            seen.saturated += u64::from(stat == Stat::Saturated && field.width == 8);
        }
    }
    seen
}

/// A group in the label `group`; `None` for those that are written once.
fn group_label(desc: &GroupDesc) -> Option<&'static str> {
    Some(match (desc.record, desc.name) {
        (RecordKind::Dom, "memory") => "dom.memory",
        (RecordKind::Dom, "cpu") => "dom.cpu",
        (RecordKind::Vcpu, "runstate") => "vcpu.runstate",
        (RecordKind::Vcpu, "sched") => "vcpu.sched",
        (RecordKind::Vcpu, "exits") => "vcpu.exits",
        (RecordKind::Blk, "io") => "blk.io",
        (RecordKind::Blk, "io_times") => "blk.io_times",
        (RecordKind::Blk, "extent") => "blk.extent",
        (RecordKind::Blk, "vbd") => "blk.vbd",
        (RecordKind::Blk, "job") => "blk.job",
        (RecordKind::Net, "io") => "net.io",
        _ => return None,
    })
}

/// Fills in the devices' names; a name that is not produced, or not unique, gives way to the
/// slot's number.
fn devices(view: &mut DomainView) {
    let mut names = std::mem::take(&mut view.devices);
    let [blks, nets] = &mut names;
    let snapshot = &view.snapshot;
    label_devices(blks, snapshot.nr_blks(), |i| {
        let identity = snapshot.blk(i)?.blk_group::<BlkIdentity>().ok()?.active()?;
        Some(identity.name)
    });
    label_devices(nets, snapshot.nr_nets(), |i| {
        let identity = snapshot.net(i)?.net_group::<NetIdentity>().ok()?.active()?;
        Some(identity.name)
    });
    view.devices = names;
}

fn label_devices(labels: &mut Vec<String>, nr: u32, name: impl Fn(u32) -> Option<Name>) {
    labels.resize_with(nr as usize, String::new);
    let mut taken = HashSet::new();
    for (index, label) in (0..).zip(labels) {
        label.clear();
        match name(index).as_ref().and_then(Name::as_str).filter(|name| !name.is_empty()) {
            Some(name) if taken.insert(name.to_owned()) => label.push_str(name),
            // No producer's name has a `#` and this number by accident and twice.
            Some(name) => label.push_str(&format!("{name}#{index}")),
            None => label.push_str(&format!("#{index}")),
        }
    }
}

fn names(entry: &str, identity: Option<&Identity>, region: Option<(u64, u32)>) -> Names {
    let name = identity.and_then(|i| i.name.as_str()).filter(|name| !name.is_empty());
    let domain = name.unwrap_or(entry).to_owned();
    let uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
    let mut labels = String::new();
    push_label(&mut labels, "domain", &domain);
    if let Some(uuid) = &uuid {
        labels.push(',');
        push_label(&mut labels, "uuid", uuid);
    }
    let domid = identity.and_then(|i| i.domid.value());
    Names { domain, uuid, labels, domid, region }
}

/// The position in [`REASONS`].
fn reason(error: &AttachError) -> usize {
    match error {
        AttachError::NotFound { .. }
        | AttachError::ProducerGone { .. }
        | AttachError::NoDaemon { .. }
        | AttachError::DaemonGone { .. } => 1,
        AttachError::NotPermitted { .. } => 2,
        AttachError::NotMappable { .. }
        | AttachError::Empty { .. }
        | AttachError::Geometry { .. }
        | AttachError::Legacy { .. } => 3,
        _ => 4,
    }
}

impl Book {
    /// Fills the view of `member`, whatever became of it.
    pub(crate) fn look_at(&mut self, entry: &str, member: &Member, view: &mut DomainView) {
        self.seen = true;
        match member.region() {
            Ok(region) => self.fill(entry, region, member.born(), view),
            Err(error) => self.absent(entry, error, view),
        }
    }
}
