//! Tables of one domain as styled lines, drawn by `top` and printed by `show`.

use domstat_consumer::{Reading, Region, Snapshot};
use domstat_layout::descriptor::Unit;
use domstat_layout::latest::Memory;
use domstat_layout::{Stat, Word};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::output::human::{bytes, clip, count, duration, or_absent};
use crate::output::paint::Styles;
use crate::output::{ABSENT, identity, plain};
use crate::rows::{BlkRow, Interval, Job, NetRow};

mod causes;
mod devices;
mod vcpus;

pub(crate) use vcpus::Vcpus;

/// A table with a head that names its columns.
pub(crate) struct Section {
    pub(crate) head: Line<'static>,
    pub(crate) lines: Vec<Line<'static>>,
}

/// Height of the lines above a domain's tables. Numbers get longer and shorter, and lines are broken
/// differently then: the tables stay where they are.
#[derive(Debug, Default)]
pub(crate) struct SteadyHead {
    domain: String,
    width: usize,
    height: usize,
}

impl SteadyHead {
    /// Adds empty lines to as many as the domain had at this width.
    pub(crate) fn pad(&mut self, domain: &str, width: usize, lines: &mut Vec<Line<'static>>) {
        if self.domain != domain || self.width != width {
            *self = Self { domain: domain.to_owned(), width, height: 0 };
        }
        self.height = self.height.max(lines.len());
        lines.resize(self.height, Line::default());
    }
}

/// Makes the tables of one width.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) styles: Styles,
    pub(crate) width: usize,
}

/// Columns of a device's name.
const DEVICE: usize = 12;

fn row(cells: &[String]) -> String {
    cells.iter().map(|cell| format!(" {cell:>6}")).collect()
}

impl View {
    fn head(self, text: &str) -> Line<'static> {
        Line::styled(format!("{:<1$}", clip(text, self.width), self.width), self.styles.head())
    }

    /// Lines of `parts`, as many on each as fit.
    pub(crate) fn flow(self, parts: impl IntoIterator<Item = Span<'static>>) -> Vec<Line<'static>> {
        self.joined(parts, "  ")
    }

    /// Text, wrapped between words.
    pub(crate) fn words(self, text: &str) -> Vec<Line<'static>> {
        self.joined(text.split(' ').map(|word| Span::raw(word.to_owned())), " ")
    }

    fn joined(
        self,
        parts: impl IntoIterator<Item = Span<'static>>,
        separator: &'static str,
    ) -> Vec<Line<'static>> {
        let (mut lines, mut spans, mut used) = (Vec::new(), Vec::new(), 0);
        for part in parts {
            let len = part.width();
            if used > 0 && used + separator.len() + len > self.width {
                lines.push(Line::from(std::mem::take(&mut spans)));
                used = 0;
            }
            if used > 0 {
                spans.push(Span::raw(separator));
                used += separator.len();
            }
            used += len;
            spans.push(part);
        }
        if !spans.is_empty() {
            lines.push(Line::from(spans));
        }
        lines
    }

    /// Identity and memory of the domain.
    pub(crate) fn identity(self, region: &Region, snapshot: &Snapshot) -> Vec<Line<'static>> {
        let identity = identity(snapshot);
        let uuid = identity.and_then(|i| i.uuid.bytes().map(|_| i.uuid.to_string()));
        let mut lines = self.flow([
            Span::raw(format!("uuid {}", uuid.as_deref().unwrap_or(ABSENT))),
            Span::raw(format!(
                "domid {}",
                identity.map_or(ABSENT.into(), |i| plain(i.domid.get()))
            )),
            Span::raw(format!("revision {}", region.header().revision)),
            Span::raw(format!("clock {}", region.clock().name())),
        ]);
        lines.extend(self.memory(snapshot));
        lines
    }

    fn memory(self, snapshot: &Snapshot) -> Vec<Line<'static>> {
        let sample = match snapshot.dom().dom_group::<Memory>() {
            Ok(Reading::Active(sample)) => sample,
            Ok(_) => return Vec::new(),
            Err(error) => return vec![Line::styled(error.to_string(), self.styles.bad())],
        };
        let parts = [
            ("current", sample.current_bytes, Unit::Bytes),
            ("maximum", sample.maximum_bytes, Unit::Bytes),
            ("resident", sample.rss_bytes, Unit::Bytes),
            ("unused", sample.unused_bytes, Unit::Bytes),
            ("usable", sample.usable_bytes, Unit::Bytes),
            ("major faults", sample.major_faults, Unit::Events),
            ("minor faults", sample.minor_faults, Unit::Events),
        ];
        let shown = |(name, word, unit): (&str, Word, Unit)| {
            let text = match (word.get(), unit) {
                (Stat::NotProduced | Stat::GroupInactive, _) => return None,
                (Stat::Value(n), Unit::Bytes) => bytes(n as f64),
                (Stat::Value(n), _) => count(n as f64),
                (other, _) => plain(other),
            };
            Some(Span::raw(format!("{name} {text}")))
        };
        let age = snapshot.taken().map(|now| now.since(sample.updated));
        let title = std::iter::once(Span::raw("memory"));
        let age = Span::raw(format!("age {}", or_absent(age, duration)));
        self.flow(title.chain(parts.into_iter().filter_map(shown)).chain([age]))
    }

    /// A bar divided as the time was.
    fn bar(self, shares: &[Option<f64>; 4], width: usize) -> Vec<Span<'static>> {
        let looks = [
            ('█', self.styles.good()),
            ('▒', self.styles.bad()),
            ('·', self.styles.dim()),
            (' ', self.styles.dim()),
        ];
        let (mut sum, mut used) = (0.0, 0);
        let mut spans = vec![Span::raw("[")];
        for (share, (block, style)) in shares.iter().zip(looks) {
            sum += share.unwrap_or(0.0);
            // Rounded where a part ends, so that the parts fill the bar.
            #[allow(clippy::cast_possible_truncation, reason = "it is at most the width")]
            #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
            let end = ((sum * width as f64).round() as usize).clamp(used, width);
            spans.push(Span::styled(block.to_string().repeat(end - used), style));
            used = end;
        }
        spans.push(Span::raw(" ".repeat(width - used) + "]"));
        spans
    }

    /// The disks, with rates or with totals; `None` if there are none.
    pub(crate) fn disks(self, interval: Interval<'_>, rates: bool) -> Option<Section> {
        let (empty, disks): (Vec<BlkRow>, Vec<BlkRow>) =
            interval.blks().partition(BlkRow::is_empty_drive);
        if disks.is_empty() && empty.is_empty() {
            return None;
        }
        let columns = match rates {
            true => " READ/s WRIT/s  REQ/s RD-LAT WR-LAT",
            false => "   READ  WRITE RD-REQ WR-REQ   SIZE",
        };
        let head = self.head(&format!("{:<DEVICE$}{columns} ERRORS FILLED  ALARM    AGE", "DISK"));
        let mut lines = Vec::new();
        for disk in &disks {
            lines.push(self.disk(disk, rates));
            lines.extend(self.disk_causes(disk));
            if let Some(job) = &disk.job {
                lines.push(self.job(job));
            }
        }
        if !empty.is_empty() {
            let names: Vec<_> = empty.iter().map(|disk| disk.name.as_str()).collect();
            let text = format!("without a medium: {}", names.join(", "));
            lines.push(Line::styled(clip(&text, self.width), self.styles.dim()));
        }
        Some(Section { head, lines })
    }

    fn disk(self, disk: &BlkRow, rates: bool) -> Line<'static> {
        let total = |field: fn(&domstat_layout::latest::BlkIo) -> Word| {
            disk.io.and_then(|io| field(&io).value()).map(|n| n as f64)
        };
        let numbers = match rates {
            true => [
                or_absent(disk.read, bytes),
                or_absent(disk.written, bytes),
                or_absent(disk.requests(), count),
                or_absent(disk.read_latency, duration),
                or_absent(disk.write_latency, duration),
            ],
            false => [
                or_absent(total(|io| io.rd_bytes), bytes),
                or_absent(total(|io| io.wr_bytes), bytes),
                or_absent(total(|io| io.rd_req), count),
                or_absent(total(|io| io.wr_req), count),
                or_absent(disk.capacity, |n| bytes(n as f64)),
            ],
        };
        let style = if disk.is_past_threshold() { self.styles.bad() } else { Style::new() };
        Line::from(vec![
            Span::raw(format!("{:<DEVICE$}{}", clip(&disk.name, DEVICE), row(&numbers))),
            Span::raw(row(&[or_absent(disk.errors(), |e| count(e as f64))])),
            Span::styled(
                row(&[
                    or_absent(disk.filled(), |share| format!("{:.0}%", share * 100.0)),
                    or_absent(disk.threshold, |n| bytes(n as f64)),
                ]),
                style,
            ),
            Span::raw(row(&[or_absent(disk.age, duration)])),
        ])
    }

    fn job(self, job: &Job) -> Line<'static> {
        let share = job.done();
        let text = format!(
            "  job {} {} {:>4}  {} of {} ",
            job.kind,
            job.state,
            or_absent(share, |s| format!("{:.0}%", s * 100.0)),
            or_absent(job.current, |b| bytes(b as f64)),
            or_absent(job.end, |b| bytes(b as f64)),
        );
        let bar = self.width.saturating_sub(text.len() + 2).min(60);
        let mut spans = vec![Span::raw(text)];
        if bar >= 10 {
            spans.extend(self.bar(&[share, None, share.map(|s| 1.0 - s), None], bar));
        }
        Line::from(spans)
    }

    /// The network interfaces, with rates or with totals; `None` if there are none.
    pub(crate) fn nets(self, interval: Interval<'_>, rates: bool) -> Option<Section> {
        let nets: Vec<NetRow> = interval.nets().collect();
        if nets.is_empty() {
            return None;
        }
        let columns = match rates {
            true => "   RX/s   TX/s RXPK/s TXPK/s",
            false => "     RX     TX RX-PKT TX-PKT",
        };
        let head =
            self.head(&format!("{:<DEVICE$}{columns} ERRORS    AGE  errors with drops", "NET"));
        let lines = nets
            .iter()
            .flat_map(|net| std::iter::once(self.net(net, rates)).chain(self.net_causes(net)));
        let lines = lines.collect();
        Some(Section { head, lines })
    }

    fn net(self, net: &NetRow, rates: bool) -> Line<'static> {
        let total = |field: fn(&domstat_layout::latest::NetIo) -> Word| {
            net.io.and_then(|io| field(&io).value()).map(|n| n as f64)
        };
        let numbers = match rates {
            true => [net.received, net.sent, net.packets_in, net.packets_out],
            false => [
                total(|io| io.rx_bytes),
                total(|io| io.tx_bytes),
                total(|io| io.rx_packets),
                total(|io| io.tx_packets),
            ],
        };
        let [rx, tx, packets_in, packets_out] = numbers;
        Line::raw(format!(
            "{:<DEVICE$}{}",
            clip(&net.name, DEVICE),
            row(&[
                or_absent(rx, bytes),
                or_absent(tx, bytes),
                or_absent(packets_in, count),
                or_absent(packets_out, count),
                or_absent(net.trouble(), |e| count(e as f64)),
                or_absent(net.age, duration),
            ]),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_never_gets_lower() {
        let mut steady = SteadyHead::default();
        let mut height = |domain, width, lines| {
            let mut lines = vec![Line::default(); lines];
            steady.pad(domain, width, &mut lines);
            lines.len()
        };
        assert_eq!([2, 3, 2].map(|lines| height("a", 80, lines)), [2, 3, 3]);
        assert_eq!([height("a", 120, 2), height("b", 120, 1)], [2, 1], "of another");
    }
}
