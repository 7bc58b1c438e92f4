//! Groups that a region describes itself: KVM's statistics, IOThreads, and the rate at which the domain
//! changes its memory.
//!
//! A region is described once, when it is made. What libvirt lists for the first time later is a
//! reason for another region ([`Described::is_outgrown`]).

use std::collections::BTreeSet;

use domstat_layout::latest::Exits;
use domstat_layout::schema::{FieldKind, FieldShape, FieldUnit};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Group, Ns, Word};

use super::measured::{DirtyRate, KINDS, KvmStat, KvmStats};
use super::stats::Stats;
use crate::contract::Publisher;
use crate::qemu::limits::MAX_STATS;
use crate::qemu::slots::Slots;
use crate::{ArchField, ArchGroup, libvirt_state, thread_group};

/// Most IOThreads that are published. A disk has one, as a rule, or shares one.
const MAX_IOTHREADS: usize = 64;

/// What a region describes, in the order of libvirt's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    /// KVM's statistics of the domain, and of each vCPU: libvirt's names.
    vm: Vec<(String, ArchField)>,
    vcpu: Vec<(String, ArchField)>,
    /// Numbers of IOThreads.
    iothreads: BTreeSet<u32>,
    has_dirty_rate: bool,
}

impl Described {
    /// What libvirt lists, and what it listed `before`: an answer may lack what it had.
    pub(super) fn new(stats: &Stats, before: &Self) -> Self {
        let or = |new: Vec<_>, old: &Vec<_>| if new.is_empty() { old.clone() } else { new };
        let most = stats.kvm_vcpus.values().max_by_key(|stats| stats.0.len());
        let ids = stats.iothreads.iter().flat_map(|threads| threads.keys()).copied();
        Self {
            vm: or(fields(&stats.kvm), &before.vm),
            vcpu: or(most.map(fields).unwrap_or_default(), &before.vcpu),
            iothreads: ids.chain(before.iothreads.iter().copied()).take(MAX_IOTHREADS).collect(),
            has_dirty_rate: stats.dirty_rate.is_some() || before.has_dirty_rate,
        }
    }

    /// Whether libvirt lists what is not described.
    pub(super) fn is_outgrown(&self, stats: &Stats) -> bool {
        let now = Self::new(stats, self);
        let lacks = |old: &Vec<_>, new: &Vec<_>| old.is_empty() && !new.is_empty();
        lacks(&self.vm, &now.vm)
            || lacks(&self.vcpu, &now.vcpu)
            || self.iothreads != now.iothreads
            || self.has_dirty_rate != now.has_dirty_rate
    }

    /// The groups of the domain, in the order of their numbers.
    pub(super) fn dom(&self) -> Vec<ArchGroup> {
        let mut groups = vec![libvirt_state::group()];
        groups.extend(kvm(&self.vm));
        groups.extend(self.has_iothreads().then(|| iothreads(&self.iothreads)));
        groups.extend(self.has_dirty_rate.then(dirty_rate));
        groups
    }

    /// The groups of each vCPU.
    pub(super) fn vcpu(&self) -> Vec<ArchGroup> {
        let mut groups = vec![thread_group::group()];
        groups.extend(kvm(&self.vcpu));
        groups
    }

    fn has_iothreads(&self) -> bool {
        !self.iothreads.is_empty()
    }

    /// Writes what libvirt lists.
    pub(super) fn write<P: Publisher>(&self, slots: &mut Slots<P>, stats: &Stats, asked: Ns) {
        // Behind the state.
        let mut index = 1;
        if !self.vm.is_empty() {
            if !stats.kvm.0.is_empty() {
                slots.dom.write_arch(index, &words(&self.vm, &stats.kvm), asked);
            }
            index += 1;
        }
        if self.has_iothreads() {
            if let Some(threads) = &stats.iothreads {
                let count = u64::try_from(threads.len()).ok();
                let of = |id: &u32| threads.get(id).copied().unwrap_or_default().0;
                let all = std::iter::once(count).chain(self.iothreads.iter().flat_map(of));
                slots.dom.write_arch(index, &all.map(Word::from).collect::<Vec<_>>(), asked);
            }
            index += 1;
        }
        if let Some(DirtyRate(rate)) = stats.dirty_rate.filter(|_| self.has_dirty_rate) {
            slots.dom.write_arch(index, &rate.map(Word::from), asked);
        }
        for (vcpu, stats) in &stats.kvm_vcpus {
            let at = usize::try_from(*vcpu).unwrap_or(usize::MAX);
            let Some(slot) = slots.vcpus.get_mut(at).filter(|_| !stats.0.is_empty()) else {
                continue;
            };
            let exits = stats.exits();
            if exits != Exits::NOT_PRODUCED {
                slot.sink.write::<Exits>(&exits, asked);
            }
            if !self.vcpu.is_empty() {
                slot.sink.write_arch(thread_group::INDEX + 1, &words(&self.vcpu, stats), asked);
            }
        }
    }
}

fn fields(stats: &KvmStats) -> Vec<(String, ArchField)> {
    let field = |(key, stat): (&String, &KvmStat)| {
        let (end, kind) = KINDS.iter().find(|(end, _)| key.ends_with(end))?;
        let name = key.strip_suffix(end)?.to_owned();
        let plain = FieldShape { kind: *kind, ..FieldShape::PLAIN };
        let shape = match stat.is_boolean {
            true => FieldShape { unit: FieldUnit::BOOLEAN, ..plain },
            // libvirt lists no units, but KVM's names of times have theirs.
            false if name.ends_with("_ns") => {
                FieldShape { unit: FieldUnit::SECONDS, exponent: -9, ..plain }
            }
            false => plain,
        };
        Some((key.clone(), ArchField { name, shape }))
    };
    stats.0.iter().filter_map(field).take(MAX_STATS).collect()
}

fn words(fields: &[(String, ArchField)], stats: &KvmStats) -> Vec<Word> {
    fields.iter().map(|(key, _)| stats.number(key)).collect()
}

fn kvm(fields: &[(String, ArchField)]) -> Option<ArchGroup> {
    let all = || fields.iter().map(|(_, field)| field.clone()).collect();
    (!fields.is_empty()).then(|| ArchGroup { name: "kvm".to_owned(), fields: all() })
}

fn instant(name: String) -> ArchField {
    let kind = FieldKind::INSTANT;
    ArchField { name, shape: FieldShape { kind, ..FieldShape::PLAIN } }
}

/// The group of IOThreads: how many, and of each how it polls.
fn iothreads(ids: &BTreeSet<u32>) -> ArchGroup {
    let of = |id: &u32| {
        ["poll_max_ns", "poll_grow", "poll_shrink"].map(|key| instant(format!("{key}_{id}")))
    };
    let count = instant("count".to_owned());
    let fields = std::iter::once(count).chain(ids.iter().flat_map(of)).collect();
    ArchGroup { name: "libvirt_iothreads".to_owned(), fields }
}

/// The group of the dirty rate, in libvirt's numbers: status 0 is not begun, 1 under way, 2 done.
fn dirty_rate() -> ArchGroup {
    let fields =
        ["calc_status", "calc_start_time", "calc_period", "megabytes_per_second", "calc_mode"];
    let fields = fields.map(|name| instant(name.to_owned())).to_vec();
    ArchGroup { name: "libvirt_dirty_rate".to_owned(), fields }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::sys::Param;

    fn param(name: &str, value: u64) -> (String, Param) {
        (name.to_owned(), Param::Unsigned(value))
    }

    /// As libvirt 9.0 lists a domain under KVM.
    fn listed() -> Stats {
        Stats::new(&[
            param("vcpu.0.state", 1),
            param("vcpu.0.exits.sum", 7),
            param("vcpu.0.halt_poll_success_ns.sum", 9),
            ("vcpu.0.guest_mode.cur".to_owned(), Param::Bool(false)),
            param("vcpu.1.state", 1),
            param("vm.max_mmu_page_hash_collisions.max", 3),
            param("iothread.count", 1),
            param("iothread.4.poll-max-ns", 32768),
            param("iothread.4.poll-grow", 0),
            param("dirtyrate.calc_status", 0),
            ("dirtyrate.calc_mode".to_owned(), Param::Text("dirty-ring".to_owned())),
        ])
    }

    fn names(groups: &[ArchGroup]) -> Vec<&str> {
        groups.iter().map(|group| group.name.as_str()).collect()
    }

    #[test]
    fn what_libvirt_lists_of_kvm_is_described_by_the_ends_of_its_names() {
        let described = Described::new(&listed(), &Described::default());
        let dom = described.dom();
        assert_eq!(
            names(&dom),
            ["libvirt_state", "kvm", "libvirt_iothreads", "libvirt_dirty_rate"]
        );
        let vcpu = described.vcpu();
        assert_eq!(names(&vcpu), ["thread", "kvm"]);
        let fields = &vcpu.last().unwrap().fields;
        let shapes: Vec<_> =
            fields.iter().map(|f| (f.name.as_str(), f.shape.kind, f.shape.unit)).collect();
        assert_eq!(
            shapes,
            [
                ("exits", FieldKind::CUMULATIVE, FieldUnit::NONE),
                ("guest_mode", FieldKind::INSTANT, FieldUnit::BOOLEAN),
                ("halt_poll_success_ns", FieldKind::CUMULATIVE, FieldUnit::SECONDS),
            ]
        );
        let exits = listed().kvm_vcpus.get(&0).unwrap().exits();
        assert_eq!((exits.exits.value(), exits.io_exits.value()), (Some(7), None));
    }

    #[test]
    fn a_region_is_outgrown_by_what_it_does_not_describe_and_by_nothing_else() {
        let none = Described::new(&Stats::new(&[]), &Described::default());
        assert_eq!(names(&none.dom()), ["libvirt_state"], "under TCG");
        assert!(none.is_outgrown(&listed()));
        let all = Described::new(&listed(), &none);
        assert!(!all.is_outgrown(&listed()));
        assert!(!all.is_outgrown(&Stats::new(&[])), "an answer without what QEMU says");
        assert_eq!(Described::new(&Stats::new(&[]), &all), all);
        let more = [param("iothread.count", 1), param("iothread.5.poll-grow", 0)];
        assert!(all.is_outgrown(&Stats::new(&more)));
    }

    #[test]
    fn there_are_never_more_iothreads_than_the_limit() {
        let ids = |n: u32| (0..n).map(|id| param(&format!("iothread.{id}.poll-grow"), 0));
        let stats = Stats::new(&ids(100).chain([param("iothread.count", 100)]).collect::<Vec<_>>());
        let described = Described::new(&stats, &Described::default());
        assert_eq!(described.iothreads.len(), MAX_IOTHREADS);
        assert!(!described.is_outgrown(&stats), "or there would be regions without an end");
    }
}
