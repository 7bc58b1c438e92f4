//! Exits by reason, summed over the vCPUs of a domain.

use domstat_layout::Word;
use domstat_layout::latest::Exits;

use super::Interval;

type Field = fn(&Exits) -> Word;

/// Fields of the group and how they are called; the first is the sum of all exits.
const REASONS: [(&str, Field); 8] = [
    ("total", |e| e.exits),
    ("io", |e| e.io_exits),
    ("mmio", |e| e.mmio_exits),
    ("halt", |e| e.halt_exits),
    ("irq", |e| e.irq_exits),
    ("signal", |e| e.signal_exits),
    ("hypercalls", |e| e.hypercalls),
    ("emulated", |e| e.insn_emulation),
];

impl Interval<'_> {
    /// Totals by reason, of those that some vCPU produces.
    pub(crate) fn exits_by_reason(&self) -> Vec<(&'static str, u64)> {
        let groups: Vec<Exits> = (0..self.now().nr_vcpus())
            .filter_map(|index| Some(self.vcpu::<Exits>(index)?.now.group))
            .collect();
        let total = |(name, field): (&'static str, Field)| {
            let known = groups.iter().filter_map(|group| field(group).value());
            Some((name, known.reduce(u64::saturating_add)?))
        };
        REASONS.into_iter().filter_map(total).collect()
    }
}
