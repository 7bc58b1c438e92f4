//! What is published of one vCPU, whoever writes it.

use std::sync::Arc;

use domstat_layout::latest::{Runstate, Wait};
use domstat_layout::sink::VcpuSink;
use domstat_layout::{HistogramGroup, Ns};

use super::exits::ExitWords;
use super::shared::VcpuShared;
use super::waits::Waits;
use super::{ARCH_KVM, ArchStats};

/// The sink of one vCPU, and what was given to it.
pub(super) struct Published<V> {
    pub(super) sink: V,
    pub(super) shared: Arc<VcpuShared>,
    pub(super) arch: ArchStats,
    exits: ExitWords,
    waits: Waits,
}

impl<V: VcpuSink> Published<V> {
    /// No waits, and KVM's statistics as of `now`.
    pub(super) fn new(mut sink: V, shared: Arc<VcpuShared>, kernel_irqchip: bool, now: Ns) -> Self {
        sink.write_hist(&Wait::EMPTY, now);
        let exits = ExitWords::of(shared.stats.as_ref(), kernel_irqchip);
        let mut published =
            Self { sink, shared, arch: ArchStats::default(), exits, waits: Waits::default() };
        published.write_stats(now);
        published
    }

    pub(super) fn write_runstate(&mut self, runstate: &Runstate, now: Ns) {
        self.sink.write(runstate, now);
    }

    /// Waits of which the time in `runnable` and the number of timeslices are known.
    pub(super) fn record_waits(&mut self, runnable_ns: u64, timeslices: Option<u64>, now: Ns) {
        let waits = self.waits.take(runnable_ns, timeslices);
        waits.for_each(|ns| self.sink.record::<Wait>(ns, now));
    }

    /// KVM's own statistics and the exits, unless that was done a moment ago.
    pub(super) fn write_stats(&mut self, now: Ns) {
        let (sink, shared, exits) = (&mut self.sink, &self.shared, &self.exits);
        self.arch.write(shared.stats.as_ref(), now, |words, now| {
            sink.write_arch(ARCH_KVM, words, now);
            sink.write(&exits.group(shared, words), now);
        });
    }
}
