//! Selection of what is exported: groups, vCPUs one by one or in sum, labels, bounds of histograms.

use std::fmt::Write;
use std::str::FromStr;

use domstat_layout::latest::{Balloon, BlkDiscards, Exits, Labels, NetLimits, REV, Threads};
use domstat_layout::{Group, GroupDesc, RecordKind};
use glob::Pattern;

use crate::domain_labels::Keys;
use crate::histogram::Bounds;

/// What is exported of each domain. It decides which series there are, never their values.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Groups whose fields and ages are exported.
    pub groups: Groups,
    /// Keys of labels of domains, if their group is not selected as a whole.
    pub keys: Keys,
    /// Series of vCPUs.
    pub vcpus: Vcpus,
    /// Bounds of histograms.
    pub bounds: Bounds,
}

impl Selection {
    /// Keys of labels of domains.
    pub(crate) fn labels(&self) -> Keys {
        if self.groups.contains(Labels::DESC) { Keys::All } else { self.keys.clone() }
    }
}

/// Series of vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vcpus {
    /// Series of each vCPU.
    #[default]
    Each,
    /// One series for each domain: the sum over its vCPUs of what is cumulative.
    Sum,
}

/// Numbers of record kinds that a set of groups has room for.
const KINDS: usize = 16;

/// Set of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups([u64; KINDS]);

impl Default for Groups {
    /// The groups that are exported if nothing else is asked for.
    fn default() -> Self {
        Self::of(|desc| !is_on_demand(desc))
    }
}

/// A name or pattern that matches no group.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "no group is called {pattern:?}; there are {names}, kinds of records ({kinds}), patterns such as '*.io', and 'default'"
)]
pub struct UnknownGroup {
    pattern: String,
    names: String,
    kinds: String,
}

impl Groups {
    /// The empty set.
    pub const NONE: Self = Self([0; KINDS]);

    fn of(wanted: impl Fn(&'static GroupDesc) -> bool) -> Self {
        let mut set = Self::NONE;
        for desc in exported().filter(|desc| wanted(desc)) {
            if let Some(bits) = set.0.get_mut(desc.record.number() as usize) {
                *bits |= desc.mask();
            }
        }
        set
    }

    /// The groups of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let mut bits = self.0;
        bits.iter_mut().zip(other.0).for_each(|(bits, other)| *bits |= other);
        Self(bits)
    }

    /// The groups of the first that the other does not have.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        let mut bits = self.0;
        bits.iter_mut().zip(other.0).for_each(|(bits, other)| *bits &= !other);
        Self(bits)
    }

    /// Whether there are distributions in the set.
    pub(crate) fn has_distributions(&self) -> bool {
        let kinds = [RecordKind::VcpuHist, RecordKind::BlkHist];
        kinds.iter().any(|kind| self.0.get(kind.number() as usize).is_some_and(|bits| *bits != 0))
    }

    /// Whether a group is in the set.
    #[must_use]
    pub fn contains(&self, desc: &GroupDesc) -> bool {
        self.0.get(desc.record.number() as usize).is_some_and(|bits| bits & desc.mask() != 0)
    }
}

/// The groups with series of their own: a second copy has none, and shares are in their device's.
fn exported() -> impl Iterator<Item = &'static GroupDesc> {
    let is_share = |kind| matches!(kind, RecordKind::BlkQueue | RecordKind::NetQueue);
    REV.all_groups().filter(move |desc| desc.twin_of.is_none() && !is_share(desc.record))
}

/// Small groups that are exported only if they are asked for: details that one domain is looked at
/// for, and that would be most of the text of all. The help of `--include` and docs/operators.md list
/// them.
const ON_DEMAND: [&GroupDesc; 5] =
    [Threads::DESC, Balloon::DESC, Exits::DESC, BlkDiscards::DESC, NetLimits::DESC];

/// Whether a group is exported only if it is asked for: it has many series or long ones, or details.
fn is_on_demand(desc: &GroupDesc) -> bool {
    let is_bulky =
        matches!(desc.record, RecordKind::VcpuHist | RecordKind::BlkHist | RecordKind::Labels);
    let is = |other: &&GroupDesc| (other.record, other.bit) == (desc.record, desc.bit);
    is_bulky || ON_DEMAND.iter().any(is)
}

impl FromStr for Groups {
    type Err = UnknownGroup;

    /// The groups that a pattern matches: `record.group`, a group's name in any record, a kind of
    /// records, one of these with `*` and `?`, or `default`.
    fn from_str(text: &str) -> Result<Self, UnknownGroup> {
        if text == "default" {
            return Ok(Self::default());
        }
        let pattern = Pattern::new(text).ok();
        let set = Self::of(|desc| {
            let record = desc.record.name();
            let names = [&format!("{record}.{}", desc.name), record, desc.name];
            let names = if text.contains('.') { &names[..1] } else { &names[..] };
            pattern.as_ref().is_some_and(|p| names.iter().any(|name| p.matches(name)))
        });
        if set == Self::NONE { Err(UnknownGroup::new(text)) } else { Ok(set) }
    }
}

impl UnknownGroup {
    fn new(pattern: &str) -> Self {
        let (mut names, mut kinds) = (String::new(), Vec::new());
        for desc in exported() {
            let record = desc.record.name();
            let _ = write!(names, "{record}.{}, ", desc.name);
            if kinds.last() != Some(&record) {
                kinds.push(record);
            }
        }
        let names = names.trim_end_matches(", ").to_owned();
        Self { pattern: pattern.to_owned(), names, kinds: kinds.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use domstat_layout::latest::{BlkIo, Memory, NetIo, RdLatency, Runstate};

    use super::*;

    fn has(text: &str) -> [bool; 4] {
        let groups: Groups = text.parse().unwrap_or(Groups::NONE);
        [Memory::DESC, Runstate::DESC, BlkIo::DESC, NetIo::DESC].map(|desc| groups.contains(desc))
    }

    #[test]
    fn a_pattern_names_groups_records_or_both() {
        assert_eq!(has("dom.memory"), [true, false, false, false]);
        assert_eq!(has("memory"), [true, false, false, false]);
        assert_eq!(has("vcpu"), [false, true, false, false]);
        assert_eq!(has("vcpu.*"), [false, true, false, false]);
        assert_eq!(has("io"), [false, false, true, true]);
        assert_eq!(has("*.io"), [false, false, true, true]);
        assert_eq!(has("net.i?"), [false, false, false, true]);
        assert_eq!(has("[bn]*.io"), [false, false, true, true]);
        assert_eq!(has("*"), [true; 4]);
        assert_eq!(has("default"), [true; 4]);
        let groups = Groups::default();
        assert!(!groups.contains(RdLatency::DESC) && !groups.contains(Labels::DESC));
        let on_demand = [
            "*_hist",
            "labels",
            "vcpu.exits",
            "dom.threads",
            "dom.balloon",
            "blk.discards",
            "net.limits",
        ];
        let on_demand = on_demand.map(|name| name.parse::<Groups>().unwrap());
        assert_eq!(
            "*".parse::<Groups>().unwrap().without(groups),
            on_demand.into_iter().fold(Groups::NONE, Groups::with)
        );
    }

    #[test]
    fn what_matches_nothing_is_an_error_that_lists_the_names() {
        for bad in ["", "dom.io", "memor", "vcpu.runstate.running_ns", "[", "runstate_twin"] {
            let error = bad.parse::<Groups>().unwrap_err().to_string();
            assert!(error.contains("dom.memory, dom.cpu") && error.contains("blk.io"), "{error}");
            assert!(error.contains("(dom, vcpu, blk, net"), "{error}");
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn sets_are_joined_and_taken_apart() {
        let (io, blk): (Groups, Groups) = ("io".parse().unwrap(), "blk".parse().unwrap());
        let nets = io.without(blk);
        assert!(nets.contains(NetIo::DESC) && !nets.contains(BlkIo::DESC));
        assert_eq!(nets.with(blk), io.with(blk));
        assert!(RecordKind::ALL.iter().all(|kind| (kind.number() as usize) < KINDS));
    }
}
