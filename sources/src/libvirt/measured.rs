//! KVM's statistics, IOThreads, and the rate at which the domain changes its memory, as libvirt lists
//! them.

use std::collections::BTreeMap;

use domstat_layout::Word;
use domstat_layout::latest::Exits;
use domstat_layout::schema::{FieldKind, MAX_NAME_LEN};

use super::params::{Item, number, text, unsigned};
use super::sys::Param;

/// Numbers of KVM by libvirt's names, such as `exits.sum`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KvmStats(pub(super) BTreeMap<String, KvmStat>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KvmStat {
    pub(super) value: u64,
    pub(super) is_boolean: bool,
}

/// What a number is, by the end of its name.
pub(super) const KINDS: [(&str, FieldKind); 3] =
    [(".sum", FieldKind::CUMULATIVE), (".max", FieldKind::PEAK), (".cur", FieldKind::INSTANT)];

impl KvmStats {
    /// Takes what is one of KVM's: libvirt has them end in `.sum`, `.max` or `.cur`, and has no others
    /// that do.
    pub(super) fn new<'p>(params: impl Iterator<Item = (&'p str, &'p Param)>) -> Self {
        let of_kvm = |(name, param): (&str, &Param)| {
            KINDS.iter().find(|(end, _)| name.len() > end.len() && name.ends_with(end))?;
            let (value, is_boolean) = match param {
                Param::Bool(yes) => (u64::from(*yes), true),
                other => (unsigned(other)?, false),
            };
            let is_short = name.len() <= MAX_NAME_LEN;
            is_short.then(|| (name.to_owned(), KvmStat { value, is_boolean }))
        };
        Self(params.filter_map(of_kvm).collect())
    }

    pub(super) fn number(&self, name: &str) -> Word {
        self.0.get(name).map(|stat| stat.value).into()
    }

    /// The fields of the exits group.
    pub(super) fn exits(&self) -> Exits {
        Exits {
            exits: self.number("exits.sum"),
            io_exits: self.number("io_exits.sum"),
            mmio_exits: self.number("mmio_exits.sum"),
            halt_exits: self.number("halt_exits.sum"),
            irq_exits: self.number("irq_exits.sum"),
            signal_exits: self.number("signal_exits.sum"),
            hypercalls: self.number("hypercalls.sum"),
            insn_emulation: self.number("insn_emulation.sum"),
        }
    }
}

/// The polling of an IOThread: its longest time in ns, and by what that grows and shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IoThread(pub(super) [Option<u64>; 3]);

/// The last measurement of the rate at which the domain changes its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirtyRate(pub(super) [Option<u64>; 5]);

/// How a rate was measured, as libvirt names it.
const DIRTY_RATE_MODES: [&str; 3] = ["page-sampling", "dirty-bitmap", "dirty-ring"];

impl DirtyRate {
    /// Takes it from everything that libvirt lists.
    pub(super) fn new(all: &Item<'_>) -> Option<Self> {
        let of = |key: &str| number(all, &format!("dirtyrate.{key}"));
        let mode = text(all, "dirtyrate.calc_mode");
        let mode = mode.and_then(|mode| DIRTY_RATE_MODES.iter().position(|known| *known == mode));
        let status = of("calc_status")?;
        Some(Self([
            Some(status),
            of("calc_start_time"),
            of("calc_period"),
            of("megabytes_per_second"),
            mode.and_then(|mode| u64::try_from(mode).ok()),
        ]))
    }
}
