//! Lines about a domain as a whole that revision 5 has: status, threads, limits and the rest.

use domstat_consumer::domain_status::HUNG;
use domstat_consumer::{Reading, Region};
use ratatui::text::{Line, Span};

use super::View;
use crate::output::human::{bytes, count, duration, or_absent, percent};
use crate::output::{ABSENT, printable};
use crate::rows::Interval;
use crate::rows::causes::quota;

impl View {
    /// What the operator calls the domain by.
    pub(crate) fn labels(self, region: &Region) -> Vec<Line<'static>> {
        let labels = region.labels().ok().and_then(Reading::active);
        let Some(labels) = labels else { return Vec::new() };
        let Ok(labels) = labels.text.labels() else { return Vec::new() };
        let labels = labels.map(|(key, value)| Span::raw(format!("{key}={}", printable(value))));
        self.flow(titled("labels", labels))
    }

    /// A line for each group that is produced; none for a region without them.
    pub(crate) fn causes(self, interval: Interval<'_>) -> Vec<Line<'static>> {
        let groups = [
            self.status(interval),
            threads(interval),
            self.limits(interval),
            self.pressure(interval),
            balloon(interval),
            migration(interval),
            lineage(interval),
        ];
        groups.into_iter().flat_map(|parts| self.flow(parts)).collect()
    }

    /// Exits of all vCPUs by reason, of those that ever happened; none for a domain that counts none.
    pub(crate) fn exits(self, interval: Interval<'_>) -> Vec<Line<'static>> {
        let rate = interval.sums().exits.map(|rate| Span::raw(format!("{}/s", count(rate))));
        let reasons = interval.exits_by_reason().into_iter().filter(|(_, total)| *total > 0);
        let reasons =
            reasons.map(|(name, total)| Span::raw(format!("{name} {}", count(total as f64))));
        self.flow(titled("exits", rate.into_iter().chain(reasons)))
    }

    fn status(self, interval: Interval<'_>) -> Vec<Span<'static>> {
        let Some(status) = interval.status() else { return Vec::new() };
        let style = self.styles.status(status.state);
        let mut parts = vec![Span::raw("status"), Span::styled(status.state, style)];
        parts.extend(status.reason.map(|reason| Span::raw(format!("reason {reason}"))));
        if let Some(index) = status.device {
            parts.push(Span::raw(format!("disk {}", interval.disk_name(index))));
        }
        let since = or_absent(status.since, duration);
        let text = match status.state {
            HUNG => format!("no answer for {since}"),
            _ => format!("since {since}"),
        };
        parts.push(Span::raw(text));
        parts
    }

    fn limits(self, interval: Interval<'_>) -> Vec<Span<'static>> {
        let Some(row) = interval.limits() else { return Vec::new() };
        let limits = &row.group;
        let known = |name: &str, value: Option<u64>, how: fn(f64) -> String| {
            Some(Span::raw(format!("{name} {}", how(value? as f64))))
        };
        let cpu = match (quota(limits), limits.cpu_quota_ns.value()) {
            (Some(cpus), _) => Some(Span::raw(format!("cpu {}%", percent(cpus)))),
            (None, Some(0)) => Some(Span::raw("cpu no limit")),
            _ => None,
        };
        let memory = |name: &str, value: Option<u64>| match value? {
            0 => None,
            limit => Some(Span::raw(format!("{name} {}", bytes(limit as f64)))),
        };
        let throttled = row.throttled.map(|share| {
            let text = format!("throttled in {}% of periods", percent(share));
            Span::styled(text, self.styles.steal(row.throttled))
        });
        let time = limits.cpu_throttled_ns.value().filter(|ns| *ns > 0);
        let parts = [
            cpu,
            known("weight", limits.cpu_weight.value(), count),
            throttled,
            time.map(|ns| Span::raw(format!("throttled {}", duration(ns)))),
            memory("memory max", limits.memory_max_bytes.value()),
            memory("memory high", limits.memory_high_bytes.value()),
            known("over high", limits.memory_high_events.value().filter(|n| *n > 0), count),
            known("OOM kills", limits.oom_kills.value().filter(|n| *n > 0), count),
        ];
        titled("limits", parts.into_iter().flatten())
    }

    fn pressure(self, interval: Interval<'_>) -> Vec<Span<'static>> {
        let rows = interval.pressure();
        let parts = rows.into_iter().map(|row| {
            let cell = |i: usize| match (row.shares.get(i), row.totals.get(i)) {
                (Some(Some(share)), _) => format!("{}%", percent(*share)),
                (_, Some(Some(ns))) if !interval.has_rates() => duration(*ns),
                _ => ABSENT.to_owned(),
            };
            let [some, _] = row.shares;
            let text = format!("{} some {} full {}", row.name, cell(0), cell(1));
            Span::styled(text, self.styles.steal(some))
        });
        titled("pressure", parts)
    }
}

/// The parts behind a title; none if there is no part.
fn titled(title: &'static str, parts: impl Iterator<Item = Span<'static>>) -> Vec<Span<'static>> {
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return Vec::new();
    }
    std::iter::once(Span::raw(title)).chain(parts).collect()
}

fn threads(interval: Interval<'_>) -> Vec<Span<'static>> {
    let roles = interval.threads().into_iter().map(|role| {
        let time = match role.cpus {
            Some(cpus) => format!("{}%", percent(cpus)),
            None => or_absent(role.time, duration),
        };
        let threads = or_absent(role.threads, |n| n.to_string());
        Span::raw(format!("{threads} {} {time}", role.name))
    });
    titled("threads", roles)
}

fn balloon(interval: Interval<'_>) -> Vec<Span<'static>> {
    let Some((balloon, age)) = interval.balloon() else { return Vec::new() };
    let number = |name: &str, value: Option<u64>| {
        Some(Span::raw(format!("{name} {}", count(value.filter(|n| *n > 0)? as f64))))
    };
    let caches = balloon.disk_caches_bytes.value();
    let parts = [
        caches.map(|n| Span::raw(format!("disk caches {}", bytes(n as f64)))),
        number("OOM kills", balloon.oom_kills.value()),
        number("stalls", balloon.alloc_stalls.value()),
        number("scanned", balloon.direct_scan.value()),
        number("reclaimed", balloon.direct_reclaim.value()),
        number("huge pages failed", balloon.hugetlb_pgfail.value()),
        age.map(|ns| Span::raw(format!("reported {} ago", duration(ns)))),
    ];
    titled("balloon", parts.into_iter().flatten())
}

fn migration(interval: Interval<'_>) -> Vec<Span<'static>> {
    let Some(row) = interval.migration() else { return Vec::new() };
    let group = &row.group;
    let time =
        |name: &str, value: Option<u64>| Some(Span::raw(format!("{name} {}", duration(value?))));
    let size = |name: &str, value: Option<u64>, unit: &str| {
        Some(Span::raw(format!("{name} {}{unit}", bytes(value? as f64))))
    };
    let parts = [
        Some(Span::raw(row.state)),
        time("for", group.total_ns.value()),
        time("downtime", group.downtime_ns.value()),
        size("sent", group.transferred_bytes.value(), ""),
        size("left", group.remaining_bytes.value(), ""),
        size("dirty", group.dirty_bytes.value(), "/s"),
        group.iterations.value().map(|n| Span::raw(format!("pass {n}"))),
    ];
    titled("migration", parts.into_iter().flatten())
}

fn lineage(interval: Interval<'_>) -> Vec<Span<'static>> {
    let Some((cause, arrivals)) = interval.lineage() else { return Vec::new() };
    let arrivals = arrivals.filter(|n| *n > 0).map(|n| Span::raw(format!("arrivals {n}")));
    titled("session", std::iter::once(Span::raw(cause)).chain(arrivals))
}
