//! The screen with one domain.

use domstat_consumer::{Reading, Region, SnapshotRecord};
use domstat_layout::latest::{REV, VcpuState};
use domstat_layout::{GroupDesc, Ns, RecordKind};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::{Frame, widgets::Paragraph};

use super::detail::{BlkRow, Job, VcpuRow, Watched};
use super::sampler::Row;
use super::style::Styles;
use crate::output::human::{ABSENT, bytes, clip, count, or_absent, percent, span};

/// What one domain is drawn from.
pub(super) struct Domain<'a> {
    pub(super) row: &'a Row,
    pub(super) region: Option<&'a Region>,
    pub(super) watched: &'a Watched,
    pub(super) styles: Styles,
    pub(super) paused: bool,
}

impl Domain<'_> {
    /// Draws from line `scroll` on; returns the last line from which that makes sense.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, scroll: usize) -> usize {
        let areas: [Rect; 2] =
            Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        let [body, foot] = areas;
        let lines = self.lines(usize::from(body.width));
        let most = lines.len().saturating_sub(usize::from(body.height));
        let from = scroll.min(most);
        let visible: Vec<Line<'_>> = lines.into_iter().skip(from).collect();
        frame.render_widget(Paragraph::new(visible), body);
        let more = if from < most { "  more below" } else { "" };
        let paused = if self.paused { "  PAUSED" } else { "" };
        let keys = format!("Esc back  up down scroll  Space pause  h help  q quit{more}{paused}");
        frame.render_widget(Paragraph::new(Line::styled(keys, self.styles.dim())), foot);
        most
    }

    fn lines(&self, width: usize) -> Vec<Line<'static>> {
        let mut lines = self.head();
        if self.row.health.is_current() || self.row.health == super::sampler::Health::Stale {
            self.groups(&mut lines, width);
            self.vcpus(&mut lines, width);
            self.blks(&mut lines, width);
            self.nets(&mut lines, width);
        } else if let Some(error) = &self.row.error {
            let error = crate::output::printable(error);
            lines.push(Line::styled(error, self.styles.bad()));
        } else {
            lines.push(Line::raw("its numbers are nobody's any more, and not shown"));
        }
        lines
    }

    fn head(&self) -> Vec<Line<'static>> {
        let row = self.row;
        let mut first = vec![
            Span::styled(row.name.clone(), self.styles.title()),
            Span::raw("  "),
            Span::styled(row.health.name(), self.styles.of(row.health)),
        ];
        let age = or_absent(row.age, span);
        if let Some(vcpus) = row.vcpus() {
            let text = format!("  {vcpus} of {} vCPUs  newest write {age} ago", row.slots);
            first.push(Span::raw(text));
        }
        let mut lines = vec![Line::from(first)];
        if let Some(region) = self.region {
            let uuid = row.uuid.as_deref().unwrap_or(ABSENT);
            lines.push(Line::raw(format!(
                "uuid {uuid}  revision {}  clock {}",
                region.header().revision,
                region.clock().name()
            )));
        }
        let rates = &row.rates;
        let memory = or_absent(row.totals.now.memory, |m| bytes(m as f64));
        lines.push(Line::raw(format!(
            "running {} %  steal {} %  exits {} /s  memory {memory}",
            or_absent(rates.running, percent),
            or_absent(rates.steal, percent),
            or_absent(rates.exits, count),
        )));
        lines
    }

    /// Each group: how old it is, or why it says nothing.
    fn groups(&self, lines: &mut Vec<Line<'static>>, width: usize) {
        lines.push(self.title("GROUPS", "age of the newest to the oldest record", width));
        let kinds = [RecordKind::Dom, RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net];
        let taken = self.watched.now.taken();
        for (kind, (name, records)) in kinds.into_iter().zip(self.watched.records()) {
            if records.is_empty() {
                continue;
            }
            let mut spans = vec![Span::raw(format!("{name:<5}"))];
            let mut used = 5;
            for desc in REV.groups(kind).iter().filter(|desc| desc.twin_of.is_none()) {
                let (text, style) = self.group(desc, &records, taken);
                let text = format!("{} {text}", desc.name);
                if used + text.len() + 2 > width {
                    lines.push(Line::from(std::mem::take(&mut spans)));
                    spans.push(Span::raw("     "));
                    used = 5;
                }
                used += text.len() + 2;
                spans.push(Span::styled(text, style));
                spans.push(Span::raw("  "));
            }
            lines.push(Line::from(spans));
        }
    }

    fn group(
        &self,
        desc: &'static GroupDesc,
        records: &[SnapshotRecord<'_>],
        taken: Option<Ns>,
    ) -> (String, ratatui::style::Style) {
        let (mut stalled, mut unknown, mut ages) = (0, 0, None::<(u64, u64)>);
        for record in records {
            match record.fields(desc) {
                Ok(Reading::Active(fields)) => {
                    let age = taken.map_or(0, |now| now.since(fields.updated));
                    let (least, most) = ages.unwrap_or((age, age));
                    ages = Some((least.min(age), most.max(age)));
                }
                Ok(Reading::Inactive) => {}
                Ok(Reading::Unknown) => unknown += 1,
                Err(_) => stalled += 1,
            }
        }
        match ages {
            _ if stalled > 0 => (format!("{stalled} stalled"), self.styles.bad()),
            None if unknown > 0 => ("not known".to_owned(), self.styles.dim()),
            None => ("not produced".to_owned(), self.styles.dim()),
            Some((least, most)) if span(least) == span(most) => (span(least), self.styles.good()),
            Some((least, most)) => (format!("{}..{}", span(least), span(most)), self.styles.good()),
        }
    }

    fn title(&self, what: &str, heads: &str, width: usize) -> Line<'static> {
        Line::styled(format!("{:<width$}", format!("{what:<5} {heads}")), self.styles.head())
    }

    fn vcpus(&self, lines: &mut Vec<Line<'static>>, width: usize) {
        let heads = "STATE       %RUN %STEAL  %WAIT EXIT/s    AGE";
        lines.push(self.title("VCPU", heads, width));
        let bar = width.saturating_sub(54).clamp(10, 100);
        for vcpu in self.watched.vcpus() {
            lines.push(self.vcpu(&vcpu, bar));
        }
        let empty = self.row.slots - self.row.totals.now.vcpus.min(self.row.slots);
        if empty > 0 {
            lines.push(Line::styled(format!("{empty} slots without a vCPU"), self.styles.dim()));
        }
    }

    fn vcpu(&self, vcpu: &VcpuRow, bar: usize) -> Line<'static> {
        if vcpu.stalled {
            let text = format!("{:<5} its writer is stalled", vcpu.index);
            return Line::styled(text, self.styles.bad());
        }
        let [running, _, blocked, _] = vcpu.shares;
        let steal = vcpu.steal;
        let style = match steal {
            Some(share) if share > 0.2 => self.styles.bad(),
            Some(share) if share > 0.05 => self.styles.warn(),
            _ => ratatui::style::Style::new(),
        };
        let state = vcpu.state.map_or(ABSENT, VcpuState::name);
        let mut spans = vec![
            Span::raw(format!("{:<5} {state:<9}", vcpu.index)),
            Span::raw(format!(" {:>6}", or_absent(running, percent))),
            Span::styled(format!(" {:>6}", or_absent(steal, percent)), style),
            Span::raw(format!(" {:>6}", or_absent(blocked, percent))),
            Span::raw(format!(" {:>6}", or_absent(vcpu.exits, count))),
            Span::raw(format!(" {:>6} ", or_absent(vcpu.age, span))),
        ];
        spans.extend(self.bar(&vcpu.shares, bar));
        Line::from(spans)
    }

    /// A bar that is divided as the time was.
    fn bar(&self, shares: &[Option<f64>; 4], width: usize) -> Vec<Span<'static>> {
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

    fn blks(&self, lines: &mut Vec<Line<'static>>, width: usize) {
        let blks: Vec<BlkRow> = self.watched.blks().collect();
        if blks.is_empty() {
            return;
        }
        let heads = "       READ/s WRIT/s  REQ/s RD-LAT WR-LAT ERRORS    AGE  FILLED, ALARM";
        lines.push(self.title("DISK", heads, width));
        for blk in blks {
            lines.push(self.blk(&blk));
            if let Some(job) = &blk.job {
                lines.push(self.job(job, width.saturating_sub(50).clamp(10, 60)));
            }
        }
    }

    fn blk(&self, blk: &BlkRow) -> Line<'static> {
        let over = blk.allocation.zip(blk.threshold).is_some_and(|(a, t)| a > t);
        let share = blk.allocation.zip(blk.capacity).filter(|(_, capacity)| *capacity > 0);
        let mut filled = or_absent(share, |(a, c)| format!("{:.0}%", a as f64 / c as f64 * 100.0));
        if let Some(threshold) = blk.threshold {
            let mark = if over { '>' } else { '<' };
            filled.push_str(&format!(" {mark} {}", bytes(threshold as f64)));
        }
        let style = if over { self.styles.bad() } else { ratatui::style::Style::new() };
        Line::from(vec![
            Span::raw(format!(
                "{:<12} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}  ",
                clip(&blk.name, 12),
                or_absent(blk.read, bytes),
                or_absent(blk.written, bytes),
                or_absent(blk.requests, count),
                or_absent(blk.read_latency, span),
                or_absent(blk.write_latency, span),
                or_absent(blk.errors, |e| count(e as f64)),
                or_absent(blk.age, span),
            )),
            Span::styled(filled, style),
        ])
    }

    fn job(&self, job: &Job, width: usize) -> Line<'static> {
        let share = job.current.zip(job.end).filter(|(_, end)| *end > 0);
        let share = share.map(|(current, end)| (current as f64 / end as f64).min(1.0));
        let text = format!(
            "  job {} {} {:>4}  {} of {} ",
            job.kind,
            job.state,
            or_absent(share, |s| format!("{:.0}%", s * 100.0)),
            or_absent(job.current, |b| bytes(b as f64)),
            or_absent(job.end, |b| bytes(b as f64)),
        );
        let mut spans = vec![Span::raw(text)];
        spans.extend(self.bar(&[share, None, share.map(|s| 1.0 - s), None], width));
        Line::from(spans)
    }

    fn nets(&self, lines: &mut Vec<Line<'static>>, width: usize) {
        let nets: Vec<_> = self.watched.nets().collect();
        if nets.is_empty() {
            return;
        }
        let heads = "         RX/s   TX/s RXPK/s TXPK/s ERRORS    AGE  (errors with drops)";
        lines.push(self.title("NET", heads, width));
        for net in nets {
            lines.push(Line::raw(format!(
                "{:<12} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6}",
                clip(&net.name, 12),
                or_absent(net.received, bytes),
                or_absent(net.sent, bytes),
                or_absent(net.packets_in, count),
                or_absent(net.packets_out, count),
                or_absent(net.trouble, |e| count(e as f64)),
                or_absent(net.age, span),
            )));
        }
    }
}
