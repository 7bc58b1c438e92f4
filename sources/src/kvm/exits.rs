//! Exits of one vCPU: those that the VMM handles, and those that only KVM sees.

use std::sync::atomic::Ordering;

use domstat_layout::Word;
use domstat_layout::latest::Exits;

use super::shared::VcpuShared;
use super::stats_fd::StatsFd;

/// Which of KVM's words the group's fields come from; `None` is a statistic that this kernel lacks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExitWords {
    exits: Option<usize>,
    mmio: Option<usize>,
    irq: Option<usize>,
    hypercalls: Option<usize>,
    emulated: Option<usize>,
    /// With the interrupt controller in the kernel KVM alone sees halts.
    halts_of_kvm: Option<Option<usize>>,
}

impl ExitWords {
    pub(super) fn of(stats: Option<&StatsFd>, kernel_irqchip: bool) -> Self {
        let word = |name| stats.and_then(|stats| stats.word(name));
        Self {
            exits: word("exits"),
            mmio: word("mmio_exits"),
            irq: word("irq_exits"),
            hypercalls: word("hypercalls"),
            emulated: word("insn_emulation"),
            halts_of_kvm: kernel_irqchip.then(|| word("halt_exits")),
        }
    }

    /// The group. Exits for port I/O, halts and signals end KVM_RUN, and the VMM counts them itself:
    /// where KVM emulates what the processor does not run, its own counters miss some.
    pub(super) fn group(&self, vcpu: &VcpuShared, words: &[Word]) -> Exits {
        let of_kvm = |at: Option<usize>| {
            at.and_then(|at| words.get(at).copied()).unwrap_or(Word::NOT_PRODUCED)
        };
        Exits {
            exits: of_kvm(self.exits),
            io_exits: Word::new(vcpu.io_exits.load(Ordering::Relaxed)),
            mmio_exits: of_kvm(self.mmio),
            halt_exits: match self.halts_of_kvm {
                Some(halts) => of_kvm(halts),
                None => Word::new(vcpu.hlt_exits.load(Ordering::Relaxed)),
            },
            irq_exits: of_kvm(self.irq),
            signal_exits: Word::new(vcpu.intr_exits.load(Ordering::Relaxed)),
            hypercalls: of_kvm(self.hypercalls),
            insn_emulation: of_kvm(self.emulated),
        }
    }
}

#[cfg(test)]
mod tests {
    use domstat_layout::Group;

    use super::*;

    #[test]
    fn only_what_kvm_alone_sees_is_missing_without_its_statistics() {
        let vcpu = VcpuShared::new(None);
        VcpuShared::count(&vcpu.io_exits);
        let without = ExitWords::of(None, false).group(&vcpu, &[]);
        let expected = Exits {
            io_exits: Word::new(1),
            halt_exits: Word::new(0),
            signal_exits: Word::new(0),
            ..Exits::NOT_PRODUCED
        };
        assert_eq!(without, expected);
        let in_kernel = ExitWords::of(None, true).group(&vcpu, &[]);
        assert_eq!(in_kernel, Exits { halt_exits: Word::NOT_PRODUCED, ..expected });
        let words = ExitWords { exits: Some(1), irq: Some(7), ..ExitWords::default() };
        let with = words.group(&vcpu, &[5, 9].map(Word::new));
        assert_eq!(with, Exits { exits: Word::new(9), ..expected });
    }
}
