//! Lines below a disk or an interface: its queue, failures and limits, as far as they are known.

use domstat_layout::Word;
use ratatui::text::{Line, Span};

use super::View;
use crate::output::human::{bytes, count, or_absent, percent, percentile};
use crate::rows::{BlkRow, NetRow};

/// A limit that stands: 0 is none.
fn limit(name: &str, word: Word, unit: &str, how: fn(f64) -> String) -> Option<String> {
    let limit = word.value().filter(|limit| *limit > 0)?;
    Some(format!("{name}{}{unit}", how(limit as f64)))
}

impl View {
    /// Queue, failures and limits of a disk.
    pub(super) fn disk_causes(self, disk: &BlkRow) -> Vec<Line<'static>> {
        let queue = &disk.queue;
        let length = queue.length.map(|n| Span::raw(format!("queue {n:.2}")));
        let in_flight = queue.in_flight.map(|n| Span::raw(format!("in flight {n}")));
        let mut parts: Vec<Span<'static>> = Vec::new();
        for (name, [p50, p99]) in ["read", "write", "flush"].into_iter().zip(disk.percentiles) {
            if p50.is_some() || p99.is_some() {
                let (p50, p99) = (or_absent(p50, percentile), or_absent(p99, percentile));
                parts.push(Span::raw(format!("{name} p50 {p50} p99 {p99}")));
            }
        }
        parts.extend(length.or(in_flight));
        parts.extend(queue.busy.map(|share| Span::raw(format!("busy {}%", percent(share)))));
        for (name, number) in [("failed", queue.failed), ("refused", queue.refused)] {
            if let Some(number) = number.filter(|n| *n > 0) {
                let text = format!("{name} {}", count(number as f64));
                parts.push(Span::styled(text, self.styles.bad()));
            }
        }
        if let Some(limits) = &queue.limits {
            let standing = [
                limit("", limits.limit_req, "/s", count),
                limit("read ", limits.rd_limit_req, "/s", count),
                limit("write ", limits.wr_limit_req, "/s", count),
                limit("", limits.limit_bytes, "B/s", bytes),
                limit("read ", limits.rd_limit_bytes, "B/s", bytes),
                limit("write ", limits.wr_limit_bytes, "B/s", bytes),
            ];
            parts.extend(self.limited(standing.into_iter().flatten(), queue.throttled));
        }
        self.below(parts)
    }

    /// Limits of an interface.
    pub(super) fn net_causes(self, net: &NetRow) -> Vec<Line<'static>> {
        let Some(limits) = &net.limits else { return Vec::new() };
        let standing = [
            limit("rx ", limits.rx_limit_bytes, "B/s", bytes),
            limit("rx ", limits.rx_limit_packets, "pk/s", count),
            limit("tx ", limits.tx_limit_bytes, "B/s", bytes),
            limit("tx ", limits.tx_limit_packets, "pk/s", count),
        ];
        let parts = self.limited(standing.into_iter().flatten(), net.throttled);
        self.below(parts.collect())
    }

    fn limited(
        self,
        standing: impl Iterator<Item = String>,
        throttled: Option<f64>,
    ) -> impl Iterator<Item = Span<'static>> {
        let limits: Vec<String> = standing.collect();
        let limits = (!limits.is_empty()).then(|| Span::raw(format!("limit {}", limits.join(" "))));
        let throttled = throttled
            .filter(|s| *s > 0.0)
            .map(|seconds| Span::styled(format!("throttled {seconds:.2}s/s"), self.styles.warn()));
        limits.into_iter().chain(throttled)
    }

    /// Indented lines below a row.
    fn below(self, parts: Vec<Span<'static>>) -> Vec<Line<'static>> {
        let inner = Self { width: self.width.saturating_sub(2), ..self };
        let mut lines = inner.flow(parts);
        lines.iter_mut().for_each(|line| line.spans.insert(0, Span::raw("  ")));
        lines
    }
}
