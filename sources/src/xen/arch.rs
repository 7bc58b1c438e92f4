//! Arch groups `xen`: what only Xen knows of a domain and of a vCPU.

use domstat_layout::Word;
use domstat_layout::schema::{FieldKind, FieldShape, FieldUnit};

use super::domctl::{DomainInfo, VcpuInfo};
use super::hypervisor::Scheduling;
use super::pages_to_bytes;
use crate::{ArchField, ArchGroup};

const NAME: &str = "xen";
const ID: FieldShape = FieldShape { kind: FieldKind::ID, ..FieldShape::PLAIN };
const BYTES: FieldShape = FieldShape { unit: FieldUnit::BYTES, ..FieldShape::PLAIN };

/// Fields of the domain's group, in order.
const DOM: [(&str, FieldShape); 8] = [
    ("cpupool", ID),
    ("ssidref", ID),
    ("sched_id", ID),
    ("weight", FieldShape::PLAIN),
    ("cap_percent", FieldShape::PLAIN),
    ("target_bytes", BYTES),
    ("outstanding_bytes", BYTES),
    ("paged_bytes", BYTES),
];

fn group(fields: &[(&str, FieldShape)]) -> ArchGroup {
    let field = |&(name, shape): &(&str, FieldShape)| ArchField { name: name.to_owned(), shape };
    ArchGroup { name: NAME.to_owned(), fields: fields.iter().map(field).collect() }
}

/// The domain's group.
pub(super) fn dom_group() -> ArchGroup {
    group(&DOM)
}

/// A vCPU's group.
pub(super) fn vcpu_group() -> ArchGroup {
    group(&[("pcpu", ID)])
}

/// What is asked less often than the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slow {
    pub(super) scheduling: Option<Scheduling>,
    pub(super) target_bytes: Option<u64>,
}

/// Words of the domain's group.
pub(super) fn dom_words(info: &DomainInfo, slow: &Slow) -> [Word; DOM.len()] {
    let scheduling = slow.scheduling;
    // CPUPOOLID_NONE, while the domain is being built.
    let cpupool = Some(info.cpupool).filter(|&pool| pool != u32::MAX);
    [
        cpupool.map(u64::from).into(),
        u64::from(info.ssidref).into(),
        scheduling.map(|s| u64::from(s.id)).into(),
        scheduling.map(|s| u64::from(s.weight)).into(),
        scheduling.map(|s| u64::from(s.cap)).into(),
        slow.target_bytes.into(),
        pages_to_bytes(info.outstanding_pages),
        pages_to_bytes(info.paged_pages),
    ]
}

/// Words of the group of a vCPU that there is not.
pub(super) const NO_VCPU: [Word; 1] = [Word::NOT_PRODUCED];

/// Words of a vCPU's group.
pub(super) fn vcpu_words(info: &VcpuInfo) -> [Word; 1] {
    [u64::from(info.cpu).into()]
}
