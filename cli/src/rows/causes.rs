//! What revision 5 says of a domain as a whole: status, threads, limits, pressure, balloon, migration.

use domstat_consumer::{Liveness, domain_status};
use domstat_layout::latest::{
    Balloon, CAUSE_NAMES, Limits, Lineage, MIGRATION_STATE_NAMES, Migration, Pressure, Status,
    Threads,
};
use domstat_layout::{DomGroup, Ns, Word};

use super::{Interval, Pair, active};

/// Status of a domain. If hypervisor or VMM does not answer, `since` is the time since it last did.
pub(crate) struct StatusRow {
    pub(crate) state: &'static str,
    pub(crate) reason: Option<&'static str>,
    /// Nanoseconds since it has the status.
    pub(crate) since: Option<u64>,
    /// The disk whose error stopped it.
    pub(crate) device: Option<u32>,
}

/// Threads of one role.
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pub(crate) threads: Option<u64>,
    /// CPU time in nanoseconds.
    pub(crate) time: Option<u64>,
    /// CPUs' worth of time in the interval.
    pub(crate) cpus: Option<f64>,
}

/// Limits of the domain's control group.
pub(crate) struct LimitsRow {
    pub(crate) group: Limits,
    /// Share of periods, in the interval or else in all, in which the limit was used up.
    pub(crate) throttled: Option<f64>,
}

/// Time lost for want of a resource: some threads, all threads.
pub(crate) struct PressureRow {
    pub(crate) name: &'static str,
    /// Nanoseconds.
    pub(crate) totals: [Option<u64>; 2],
    /// Shares of the interval.
    pub(crate) shares: [Option<f64>; 2],
}

/// A migration away from this host.
pub(crate) struct MigrationRow {
    pub(crate) state: &'static str,
    pub(crate) group: Migration,
}

pub(crate) fn named(names: &'static [&'static str], word: Word) -> Option<&'static str> {
    names.get(usize::try_from(word.value()?).ok()?).copied()
}

/// CPUs that a quota of time in each period is worth.
pub(crate) fn quota(limits: &Limits) -> Option<f64> {
    let (quota, period) = (limits.cpu_quota_ns.value()?, limits.cpu_period_ns.value()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

impl Interval<'_> {
    pub(super) fn dom<G: DomGroup>(&self) -> Option<Pair<G>> {
        self.pair(|snapshot| active(snapshot.dom().dom_group::<G>()))
    }

    /// What hypervisor or VMM says of the domain.
    pub(crate) fn status(&self) -> Option<StatusRow> {
        let status = self.dom::<Status>()?.now;
        Some(StatusRow {
            state: domain_status::state(&status)?,
            reason: domain_status::reason(&status),
            since: status.since_ns.value().and_then(|since| self.age(Ns(since))),
            device: status.device.value().and_then(|index| u32::try_from(index).ok()),
        })
    }

    /// One word for the domain: what hypervisor or VMM says of it, if its statistics are live, else how
    /// these stand.
    pub(crate) fn word(&self, liveness: Liveness) -> &'static str {
        let known = self.status().filter(|status| liveness.is_live() && status.state != "unknown");
        known.map_or_else(|| liveness.name(), |status| status.state)
    }

    /// Threads by role; none of a role of which nothing is known.
    pub(crate) fn threads(&self) -> Vec<Role> {
        let Some(threads) = self.dom::<Threads>() else { return Vec::new() };
        let role = |name, count: Word, time: fn(&Threads) -> Word| Role {
            name,
            threads: count.value(),
            time: time(&threads.now).value(),
            cpus: threads.share(time),
        };
        let group = threads.now.group;
        let roles = [
            role("vcpu", group.vcpu_threads, |t| t.vcpu_ns),
            role("iothread", group.iothread_threads, |t| t.iothread_ns),
            role("vhost", group.vhost_threads, |t| t.vhost_ns),
            role("worker", group.worker_threads, |t| t.worker_ns),
            role("other", group.other_threads, |t| t.other_ns),
        ];
        roles.into_iter().filter(|role| role.threads.is_some() || role.time.is_some()).collect()
    }

    /// Limits of the control group.
    pub(crate) fn limits(&self) -> Option<LimitsRow> {
        let limits = self.dom::<Limits>()?;
        let share = |periods: Option<u64>, throttled: Option<u64>| {
            let (periods, throttled) = (periods.filter(|n| *n > 0)?, throttled?);
            Some((throttled as f64 / periods as f64).min(1.0))
        };
        let group = limits.now.group;
        let throttled = match limits.then {
            Some(_) => {
                share(limits.growth(|l| l.cpu_periods), limits.growth(|l| l.cpu_throttled_periods))
            }
            None => share(group.cpu_periods.value(), group.cpu_throttled_periods.value()),
        };
        Some(LimitsRow { group, throttled })
    }

    /// Pressure by resource.
    pub(crate) fn pressure(&self) -> Vec<PressureRow> {
        let Some(pressure) = self.dom::<Pressure>() else { return Vec::new() };
        let row = |name, fields: [fn(&Pressure) -> Word; 2]| PressureRow {
            name,
            totals: fields.map(|field| field(&pressure.now).value()),
            shares: fields.map(|field| pressure.share(field)),
        };
        let rows = [
            row("cpu", [|p| p.cpu_some_ns, |p| p.cpu_full_ns]),
            row("memory", [|p| p.memory_some_ns, |p| p.memory_full_ns]),
            row("io", [|p| p.io_some_ns, |p| p.io_full_ns]),
        ];
        rows.into_iter().filter(|row| row.totals.iter().any(Option::is_some)).collect()
    }

    /// What the balloon driver reports, and how long ago it did.
    pub(crate) fn balloon(&self) -> Option<(Balloon, Option<u64>)> {
        let balloon = self.dom::<Balloon>()?.now.group;
        let age = balloon.last_update_ns.value().and_then(|last| self.age(Ns(last)));
        Some((balloon, age))
    }

    /// The last migration, if there was one.
    pub(crate) fn migration(&self) -> Option<MigrationRow> {
        let group = self.dom::<Migration>()?.now.group;
        let state = named(MIGRATION_STATE_NAMES, group.state).filter(|state| *state != "none")?;
        Some(MigrationRow { state, group })
    }

    /// How the domain's counters began, if they do not go on from its creation, and how often it
    /// arrived.
    pub(crate) fn lineage(&self) -> Option<(&'static str, Option<u64>)> {
        let lineage = self.dom::<Lineage>()?.now.group;
        let cause = named(CAUSE_NAMES, lineage.cause).filter(|cause| *cause != "created")?;
        Some((cause, lineage.arrivals.value()))
    }
}

impl<G> Pair<G> {
    /// Growth of a time as a share of the time between the two writes; not known without two.
    pub(super) fn share(&self, field: impl Fn(&G) -> Word) -> Option<f64> {
        let passed = self.now.updated.since(self.then.as_ref()?.updated);
        (passed > 0).then_some(self.growth(field)? as f64 / passed as f64)
    }
}
