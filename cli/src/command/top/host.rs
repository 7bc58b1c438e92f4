//! CPUs and memory of the host, from /proc.

use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo};

/// The host as of the last look. `None`: not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    pub(super) cpus: Option<u32>,
    /// Share of all CPUs' time that was used since the look before, 0 to 1.
    pub(super) busy: Option<f64>,
    pub(super) load: Option<f32>,
    pub(super) memory: Option<u64>,
    pub(super) used: Option<u64>,
    /// Ticks that were used, and all, since the host started.
    ticks: Option<(u64, u64)>,
}

impl Host {
    pub(super) fn look(&mut self) {
        if let Ok(stats) = KernelStats::current() {
            self.cpus = u32::try_from(stats.cpu_time.len()).ok().filter(|n| *n > 0);
            let t = &stats.total;
            let idle = t.idle + t.iowait.unwrap_or(0);
            let used = t.user
                + t.nice
                + t.system
                + t.irq.unwrap_or(0)
                + t.softirq.unwrap_or(0)
                + t.steal.unwrap_or(0);
            let now = (used, used + idle);
            let before = self.ticks.replace(now);
            if let Some((used_before, all_before)) = before
                && now.1 > all_before
            {
                let used = now.0.saturating_sub(used_before) as f64;
                self.busy = Some((used / (now.1 - all_before) as f64).min(1.0));
            }
        }
        self.load = LoadAverage::current().ok().map(|load| load.one);
        if let Ok(memory) = Meminfo::current() {
            self.memory = Some(memory.mem_total);
            self.used = memory.mem_available.map(|free| memory.mem_total.saturating_sub(free));
        }
    }
}
