//! The lines above the tables: all domains in sum, the host, and what is filtered.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};

use super::host::Host;
use super::sampler::Row;
use crate::output::human::{bytes, count, nr, or_absent};
use crate::output::paint::Styles;
use crate::rows::sum;
use crate::view::View;

/// Lines of the header.
pub(super) const HEIGHT: u16 = 3;

/// Below this width every column is needed.
const NARROW: usize = 100;

/// What the header is made of.
pub(super) struct Header<'a> {
    /// The domains that are shown, and all.
    pub(super) rows: &'a [&'a Row],
    pub(super) every: &'a [&'a Row],
    pub(super) host: &'a Host,
    pub(super) styles: Styles,
    pub(super) paused: bool,
    pub(super) filter: &'a str,
    /// Rows of the table, with and without the filter.
    pub(super) matching: usize,
    pub(super) all: usize,
    /// Which rows are in sight.
    pub(super) position: String,
    /// A failure, or what was done.
    pub(super) notice: Option<&'a str>,
}

/// CPUs' worth of time.
fn cpus(value: f64) -> String {
    format!("{value:.2} CPUs")
}

impl Header<'_> {
    pub(super) fn lines(&self, width: usize) -> Vec<Line<'static>> {
        let view = View { styles: self.styles, width };
        let first = |parts| view.flow(parts).into_iter().next().unwrap_or_default();
        vec![first(self.domains(width)), first(self.on_host(width)), first(self.standings())]
    }

    fn domains(&self, width: usize) -> Vec<Span<'static>> {
        let total =
            |value: fn(&Row) -> Option<f64>| self.rows.iter().map(|row| value(row)).fold(None, sum);
        let vcpus: u32 = self.rows.iter().filter_map(|row| row.vcpus()).sum();
        let title = if width < NARROW { "top" } else { "domstat top" };
        let mut parts = vec![Span::styled(title, self.styles.title())];
        if self.paused {
            parts.push(Span::styled("PAUSED", self.styles.warn()));
        }
        parts.extend([
            Span::raw(nr(self.rows.len(), "domain")),
            Span::raw(nr(vcpus, "vCPU")),
            Span::raw(format!("running {}", or_absent(total(|r| r.sums.running), cpus))),
            Span::raw(format!("steal {}", or_absent(total(|r| r.sums.steal), cpus))),
            Span::raw(format!("exits {}", or_absent(total(|r| r.sums.exits), |n| count(n) + "/s"))),
        ]);
        parts
    }

    fn on_host(&self, width: usize) -> Vec<Span<'static>> {
        let host = self.host;
        let busy = or_absent(host.busy, |share| format!("{:.0}%", share * 100.0));
        let used = or_absent(host.used, |n| bytes(n as f64));
        let memory = or_absent(host.memory, |n| bytes(n as f64));
        let used_share =
            host.used.zip(host.memory).map(|(used, all)| used as f64 / all.max(1) as f64);
        let meter =
            |share: Option<f64>| if width >= 120 { meter(share, 20) } else { String::new() };
        let nr_cpus = host.cpus.map_or_else(|| "CPUs".to_owned(), |n| nr(n, "CPU"));
        let mut parts = vec![
            Span::styled("host", self.styles.title()),
            Span::raw(format!("{nr_cpus} {}{busy} busy", meter(host.busy))),
            Span::raw(format!("memory {}{used} of {memory}", meter(used_share))),
        ];
        let vcpus: u32 = self.every.iter().filter_map(|row| row.vcpus()).sum();
        let given: u64 = self.every.iter().filter_map(|row| row.given).fold(0, u64::saturating_add);
        if let Some(cpus) = host.cpus {
            let overcommit = f64::from(vcpus) / f64::from(cpus);
            let style =
                if overcommit > 1.0 { self.styles.warn() } else { ratatui::style::Style::new() };
            parts.push(Span::styled(format!("{overcommit:.2} vCPUs/CPU"), style));
        }
        if let Some(memory) = host.memory.filter(|n| *n > 0) {
            let share = given as f64 / memory as f64;
            let style = if share > 1.0 { self.styles.warn() } else { ratatui::style::Style::new() };
            parts.push(Span::styled(format!("given {:.0}%", share * 100.0), style));
        }
        parts.push(Span::raw(format!("load {}", or_absent(host.load, |n| format!("{n:.2}")))));
        parts
    }

    fn standings(&self) -> Vec<Span<'static>> {
        let mut parts = Vec::new();
        if !self.filter.is_empty() {
            let text = format!("filter {}: {} of {}", self.filter, self.matching, self.all);
            parts.push(Span::styled(text, self.styles.warn()));
        }
        if !self.position.is_empty() {
            parts.push(Span::raw(format!("rows {}", self.position)));
        }
        if let Some(notice) = self.notice {
            parts.push(Span::styled(notice.to_owned(), self.styles.bad()));
        }
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for row in self.every {
            *kinds.entry(row.standing).or_default() += 1;
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        for (standing, n) in kinds {
            parts.push(Span::styled(format!("{n} {standing}"), self.styles.standing(standing)));
        }
        parts
    }
}

/// A share as a bar.
fn meter(share: Option<f64>, width: usize) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "it is at most the width")]
    #[allow(clippy::cast_sign_loss, reason = "it is not negative")]
    let full = ((share.unwrap_or(0.0).clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("[{}{}] ", "|".repeat(full), " ".repeat(width - full))
}
