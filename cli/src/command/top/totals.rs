//! What a domain did so far, as sums over its vCPUs and devices, and what that makes in a second.

use domstat_consumer::{Reading, Snapshot};
use domstat_layout::Ns;
use domstat_layout::latest::{BlkIo, Exits, Memory, NetIo, Runstate, Sched, VcpuState};

/// Sums at one time. `None`: nothing of it is produced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    taken: Ns,
    running: Option<u64>,
    steal: Option<u64>,
    exits: Sum,
    read: Sum,
    written: Sum,
    received: Sum,
    sent: Sum,
    /// What it is now: vCPUs that there are, memory, newest write, stalled groups.
    pub(super) now: Now,
}

/// What is no sum over time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub(super) vcpus: u32,
    pub(super) memory: Option<u64>,
    pub(super) newest: Option<Ns>,
    pub(super) stalled: u32,
}

/// A sum, and when the newest of its parts was written.
#[derive(Clone, Copy, Debug, Default)]
struct Sum(Option<(u64, Ns)>);

impl Sum {
    fn add(&mut self, value: Option<u64>, updated: Ns) {
        if let Some(value) = value {
            let (sum, newest) = self.0.unwrap_or((0, Ns(0)));
            self.0 = Some((sum.saturating_add(value), newest.max(updated)));
        }
    }

    /// A second's part of what came between two writes: true however seldom it is written.
    fn rate(self, before: Self) -> Option<f64> {
        let ((now, at), (before, then)) = (self.0?, before.0?);
        match at.since(then) {
            0 => Some(0.0),
            ns => Some(now.checked_sub(before)? as f64 * 1e9 / ns as f64),
        }
    }
}

/// What a domain does in a second. `None` is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// CPUs' worth of time that its vCPUs ran.
    pub(super) running: Option<f64>,
    /// CPUs' worth of time that they wanted to and could not.
    pub(super) steal: Option<f64>,
    pub(super) exits: Option<f64>,
    pub(super) read: Option<f64>,
    pub(super) written: Option<f64>,
    pub(super) received: Option<f64>,
    pub(super) sent: Option<f64>,
}

impl Totals {
    pub(super) fn of(snapshot: &Snapshot, now: Ns) -> Self {
        let mut totals = Self { taken: now, ..Self::default() };
        totals.vcpus(snapshot);
        totals.devices(snapshot);
        let memory = totals.seen(snapshot.dom().dom_group::<Memory>());
        totals.now.memory =
            memory.and_then(|(m, _)| m.rss_bytes.value().or(m.current_bytes.value()));
        totals.seen(snapshot.dom().dom_group::<domstat_layout::latest::Cpu>());
        totals
    }

    /// Notes when a group was written, or that it could not be read.
    fn seen<G, E>(
        &mut self,
        read: Result<Reading<domstat_consumer::Sample<G>>, E>,
    ) -> Option<(G, Ns)> {
        match read {
            Ok(Reading::Active(sample)) => {
                self.now.newest = self.now.newest.max(Some(sample.updated));
                Some((sample.group, sample.updated))
            }
            Ok(_) => None,
            Err(_) => {
                self.now.stalled += 1;
                None
            }
        }
    }

    fn vcpus(&mut self, snapshot: &Snapshot) {
        let add = |sum: &mut Option<u64>, part: Option<u64>| {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0).saturating_add(part));
            }
        };
        for vcpu in (0..snapshot.nr_vcpus()).filter_map(|i| snapshot.vcpu(i)) {
            let runstate = vcpu.vcpu_group::<Runstate>();
            let at_now = runstate.ok().and_then(Reading::active).map(|r| r.at(self.taken));
            self.seen(runstate);
            let sched = self.seen(vcpu.vcpu_group::<Sched>());
            if let Some(r) = at_now {
                self.now.vcpus += 1;
                add(&mut self.running, r.time_in(VcpuState::Running).value());
            }
            let delay = sched.and_then(|(s, _)| s.delay_ns.value());
            let runnable = at_now.and_then(|r| r.time_in(VcpuState::Runnable).value());
            add(&mut self.steal, delay.or(runnable));
            if let Some((exits, at)) = self.seen(vcpu.vcpu_group::<Exits>()) {
                self.exits.add(exits.exits.value(), at);
            }
        }
    }

    fn devices(&mut self, snapshot: &Snapshot) {
        for blk in (0..snapshot.nr_blks()).filter_map(|i| snapshot.blk(i)) {
            if let Some((io, at)) = self.seen(blk.blk_group::<BlkIo>()) {
                self.read.add(io.rd_bytes.value(), at);
                self.written.add(io.wr_bytes.value(), at);
            }
        }
        for net in (0..snapshot.nr_nets()).filter_map(|i| snapshot.net(i)) {
            if let Some((io, at)) = self.seen(net.net_group::<NetIo>()) {
                self.received.add(io.rx_bytes.value(), at);
                self.sent.add(io.tx_bytes.value(), at);
            }
        }
    }

    pub(super) const fn taken(&self) -> Ns {
        self.taken
    }

    /// What came since `before`, in a second.
    pub(super) fn since(&self, before: &Self) -> Rates {
        let share = |now: Option<u64>, then: Option<u64>, most: u32| {
            let elapsed = self.taken.since(before.taken);
            let part = now?.saturating_sub(then?) as f64 / elapsed as f64;
            // A write may say that some of the time that was counted before was another state's.
            (elapsed > 0).then(|| part.min(f64::from(most)))
        };
        Rates {
            running: share(self.running, before.running, self.now.vcpus),
            steal: share(self.steal, before.steal, self.now.vcpus),
            exits: self.exits.rate(before.exits),
            read: self.read.rate(before.read),
            written: self.written.rate(before.written),
            received: self.received.rate(before.received),
            sent: self.sent.rate(before.sent),
        }
    }
}

/// The sum of what is known of both.
pub(super) fn both(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
    }
}
