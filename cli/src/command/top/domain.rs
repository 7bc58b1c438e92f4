//! The screen of one domain: its history, vCPUs, disks, interfaces, exits and groups.

use domstat_consumer::{Reading, Region, SnapshotRecord};
use domstat_layout::latest::REV;
use domstat_layout::{GroupDesc, Ns, RecordKind};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::{Frame, widgets::Paragraph};

use super::events::Events;
use super::graph;
use super::history::{DiskHistory, MAX_COLUMNS, SAMPLES};
use super::sampler::Row;
use crate::output::human::{bytes, clip, count, duration, nr, or_absent};
use crate::output::paint::Styles;
use crate::rows::{BlkRow, VcpuThreads, records};
use crate::view::{Section, SteadyHead, Vcpus, View};

/// What one domain is drawn from.
pub(super) struct Domain<'a> {
    pub(super) row: &'a Row,
    pub(super) region: Option<&'a Region>,
    pub(super) events: &'a Events,
    pub(super) threads: &'a VcpuThreads,
    pub(super) styles: Styles,
    pub(super) paused: bool,
    pub(super) interval: std::time::Duration,
}

/// Widest tables: longer lines are hard to follow.
const MAX_WIDTH: usize = 160;

impl Domain<'_> {
    /// Draws from line `scroll` on; returns the last line from which that makes sense.
    pub(super) fn draw(
        &self,
        frame: &mut Frame<'_>,
        scroll: usize,
        steady: &mut SteadyHead,
    ) -> usize {
        let area = frame.area();
        let width = usize::from(area.width);
        let view = View { styles: self.styles, width };
        let mut top = self.head(view);
        steady.pad(&self.row.entry, width, &mut top);
        let graph_height = usize::from(area.height / 6).clamp(2, 8);
        if area.height >= 20 && self.row.has_numbers() {
            top.extend(self.graphs(width, graph_height));
        }
        let top_height = u16::try_from(top.len()).unwrap_or(u16::MAX).min(area.height / 2);
        let areas: [Rect; 3] = Layout::vertical([
            Constraint::Length(top_height),
            Constraint::Min(1),
            Constraint::Length(1),
        ])
        .areas(area);
        let [head, body, foot] = areas;
        frame.render_widget(Paragraph::new(top), head);
        let height = usize::from(body.height);
        let (lines, most, from) = self.visible(view, height, scroll);
        frame.render_widget(Paragraph::new(lines), body);
        let more = match (from > 0, from < most) {
            (_, true) => "  more below",
            (true, false) => "  end",
            (false, false) => "",
        };
        let keys = format!("Esc back  up down scroll  Space pause  h help  q quit{more}");
        frame.render_widget(Paragraph::new(Line::styled(keys, self.styles.dim())), foot);
        most
    }

    /// The lines in sight; the head of the section that they are in stays above them.
    fn visible(
        &self,
        view: View,
        height: usize,
        scroll: usize,
    ) -> (Vec<Line<'static>>, usize, usize) {
        let mut lines = Vec::new();
        for Section { head, lines: rows } in self.sections(view) {
            lines.push((head.clone(), head.clone()));
            lines.extend(rows.into_iter().map(|line| (head.clone(), line)));
        }
        let most = lines.len().saturating_sub(height);
        let from = scroll.min(most);
        let mut visible: Vec<_> = lines.drain(from..).take(height).collect();
        if let Some((head, first)) = visible.first_mut() {
            *first = head.clone();
        }
        (visible.into_iter().map(|(_, line)| line).collect(), most, from)
    }

    fn sections(&self, view: View) -> Vec<Section> {
        if !self.row.has_numbers() {
            let why = match (&self.row.error, self.row.standing) {
                (Some(error), _) => error.clone(),
                (None, "retired") => "The domain has ended.".to_owned(),
                (None, _) => "Its producer has exited. Its last numbers are not shown.".to_owned(),
            };
            let lines = view.words(&why);
            return vec![Section { head: Line::default(), lines }];
        }
        let view = View { width: view.width.min(MAX_WIDTH), ..view };
        let interval = self.row.interval();
        let mut sections = vec![view.vcpus(interval, self.threads, self.row.slots, Vcpus::Bars)];
        sections.extend(view.disks(interval, true));
        sections.extend(self.histories(view));
        sections.extend(view.nets(interval, true));
        sections.extend(self.exits(view));
        sections.push(self.groups(view));
        sections
    }

    fn head(&self, view: View) -> Vec<Line<'static>> {
        let row = self.row;
        let mut first = vec![
            Span::styled(row.name(), self.styles.title()),
            Span::styled(row.standing, self.styles.standing(row.standing)),
        ];
        if self.paused {
            first.push(Span::styled("PAUSED", self.styles.warn()));
        }
        if let Some(vcpus) = row.vcpus() {
            first.push(Span::raw(format!("{vcpus} of {}", nr(row.slots, "vCPU"))));
            first.push(Span::raw(format!("newest write {} ago", or_absent(row.age, duration))));
        }
        let mut lines = view.flow(first);
        if let Some(region) = self.region.filter(|_| row.has_numbers()) {
            lines.extend(view.identity(region, row.snapshot()));
            lines.extend(view.flow(self.rates()));
            lines.extend(view.labels(region));
            lines.extend(view.causes(row.interval()));
        }
        lines
    }

    fn rates(&self) -> Vec<Span<'static>> {
        let sums = &self.row.sums;
        let cpus = |n: f64| format!("{n:.2} CPUs");
        let exits = sums.exits.or_else(|| self.events.exits(self.row.interval().has_rates()));
        let mut parts = vec![
            Span::raw(format!("running {}", or_absent(sums.running, cpus))),
            Span::raw(format!("steal {}", or_absent(sums.steal, cpus))),
            Span::raw(format!("exits {}", or_absent(exits, |n| count(n) + "/s"))),
        ];
        let devices = [
            ("read", sums.read),
            ("written", sums.written),
            ("received", sums.received),
            ("sent", sums.sent),
        ];
        let known = |(name, rate): (&str, Option<f64>)| {
            Some(Span::raw(format!("{name} {}/s", bytes(rate?))))
        };
        parts.extend(devices.into_iter().filter_map(known));
        parts
    }

    /// The history of running and steal, next to each other, on one scale.
    fn graphs(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let half = width.saturating_sub(2) / 2;
        let running: Vec<_> = self.row.running.iter().copied().collect();
        let steal: Vec<_> = self.row.steal.iter().copied().collect();
        let samples = half * 2;
        let span = self.interval.as_secs_f64() * samples as f64;
        let span = duration(
            std::time::Duration::from_secs_f64(span.min(1e9))
                .as_nanos()
                .try_into()
                .unwrap_or(u64::MAX),
        );
        let max = |values: &[Option<f64>]| {
            let shown = values.iter().rev().take(samples).flatten();
            shown.fold(0.1, |a: f64, b| a.max(*b))
        };
        let title =
            |what: &str, max: f64| clip(&format!("{what}: {span} wide, {max:.2} CPUs high"), half);
        let (running_max, steal_max) = (max(&running), max(&steal));
        let mut lines = vec![Line::from(vec![
            Span::styled(format!("{:<half$}  ", title("running", running_max)), self.styles.dim()),
            Span::styled(title("steal", steal_max), self.styles.dim()),
        ])];
        let left = graph::rows(&running, half, height, running_max);
        let right = graph::rows(&steal, half, height, steal_max);
        lines.extend(left.into_iter().zip(right).map(|(left, right)| {
            Line::from(vec![
                Span::styled(left, self.styles.good()),
                Span::raw("  "),
                Span::styled(right, self.styles.bad()),
            ])
        }));
        lines
    }

    /// The histories of the disks that have one.
    fn histories(&self, view: View) -> Option<Section> {
        // Name, two graphs, and the highest value after each.
        let width = (view.width.saturating_sub(12 + 2 * 9) / 2).min(MAX_COLUMNS);
        let span = self.interval.as_nanos() * (width * 2 * SAMPLES) as u128;
        let span = duration(u64::try_from(span).unwrap_or(u64::MAX));
        let title = |what: &str| clip(&format!("{what}, {span}"), width);
        let head = format!(
            "{:<12} {:<width$} {:>6}  {:<width$} {:>6}",
            "DISK",
            title("LATENCY"),
            "MOST",
            title("QUEUE LENGTH"),
            "MOST"
        );
        let line = |blk: BlkRow| {
            let DiskHistory { latency, queue } = self.row.history(&blk)?;
            latency.highest(width).or_else(|| queue.highest(width))?;
            #[allow(clippy::cast_possible_truncation, reason = "what does not fit is the largest")]
            #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
            let most = or_absent(latency.highest(width), |ns| duration(ns as u64));
            let longest = or_absent(queue.highest(width), count);
            Some(Line::from(vec![
                Span::raw(format!("{:<12} ", clip(&blk.name, 12))),
                Span::styled(format!("{:<width$}", latency.spark(width)), self.styles.good()),
                Span::raw(format!(" {most:>6}  ")),
                Span::styled(format!("{:<width$}", queue.spark(width)), self.styles.good()),
                Span::raw(format!(" {longest:>6}")),
            ]))
        };
        let blks = self.row.interval().blks().filter(|blk| !blk.is_empty_drive());
        let lines: Vec<_> = blks.filter_map(line).collect();
        let head = Line::styled(
            format!("{:<1$}", clip(&head, view.width), view.width),
            self.styles.head(),
        );
        (!lines.is_empty()).then_some(Section { head, lines })
    }

    /// Exits by reason, as kvm_stat lists them.
    fn exits(&self, view: View) -> Option<Section> {
        let (events, never) = self.events.list(self.row.interval().has_rates());
        if events.is_empty() {
            return None;
        }
        let head = format!("{:<32} {:>6} {:>6} {:>7}", "EXIT OR EVENT", "/s", "TOTAL", "%EXITS");
        let head = Line::styled(
            format!("{:<1$}", clip(&head, view.width), view.width),
            self.styles.head(),
        );
        let exits = events.first().filter(|event| event.name == "exits").and_then(|e| e.rate);
        let mut lines: Vec<_> = events
            .iter()
            .map(|event| {
                let is_exit = event.name.ends_with("_exits");
                let share = exits.filter(|exits| is_exit && *exits > 0.0);
                let share = share.and_then(|exits| Some(event.rate? / exits * 100.0));
                Line::raw(format!(
                    "{:<32} {:>6} {:>6} {:>7}",
                    clip(&event.name, 32),
                    or_absent(event.rate, count),
                    count(event.total as f64),
                    or_absent(share, |share| format!("{share:.1}")),
                ))
            })
            .collect();
        if never > 0 {
            lines.push(Line::styled(
                format!("{} never happened", nr(never, "other kind")),
                self.styles.dim(),
            ));
        }
        Some(Section { head, lines })
    }

    /// Each group: how old it is, or why it says nothing.
    fn groups(&self, view: View) -> Section {
        let title = "GROUP  age of the newest to the oldest record";
        let head = Line::styled(
            format!("{:<1$}", clip(title, view.width), view.width),
            self.styles.head(),
        );
        let kinds = [RecordKind::Dom, RecordKind::Vcpu, RecordKind::Blk, RecordKind::Net];
        let now = self.row.snapshot();
        let mut lines = Vec::new();
        for (kind, (name, records)) in kinds.into_iter().zip(records(now)) {
            if records.is_empty() {
                continue;
            }
            let groups = REV.groups(kind).iter().filter(|desc| desc.twin_of.is_none());
            let (mut parts, mut missing) = (Vec::new(), Vec::new());
            for desc in groups {
                match self.group(desc, &records, now.taken()) {
                    Some((text, style)) => {
                        parts.push(Span::styled(format!("{} {text}", desc.name), style));
                    }
                    None => missing.push(desc.name),
                }
            }
            if let Some(first) = missing.first() {
                let text = format!("not produced: {first}");
                parts.push(Span::styled(text, self.styles.dim()));
                let more = missing.iter().skip(1);
                parts.extend(more.map(|name| Span::styled((*name).to_owned(), self.styles.dim())));
            }
            let inner = View { width: view.width.saturating_sub(6), ..view };
            for (nth, mut line) in inner.flow(parts).into_iter().enumerate() {
                let label = if nth == 0 { name } else { "" };
                line.spans.insert(0, Span::raw(format!("{label:<6}")));
                lines.push(line);
            }
        }
        Section { head, lines }
    }

    /// How old a group is; `None` if it is not produced.
    fn group(
        &self,
        desc: &'static GroupDesc,
        records: &[SnapshotRecord<'_>],
        taken: Option<Ns>,
    ) -> Option<(String, ratatui::style::Style)> {
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
        Some(match ages {
            _ if stalled > 0 => (format!("{stalled} stalled"), self.styles.bad()),
            None if unknown > 0 => ("not known".to_owned(), self.styles.dim()),
            None => return None,
            Some((least, most)) if duration(least) == duration(most) => {
                (duration(least), self.styles.good())
            }
            Some((least, most)) => {
                (format!("{}..{}", duration(least), duration(most)), self.styles.good())
            }
        })
    }
}
