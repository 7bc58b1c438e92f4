//! Table of a domain's vCPUs.

use domstat_layout::Stat;
use domstat_layout::latest::RunState;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::{Section, View, row};
use crate::output::human::{clip, count, duration, or_absent, percent, percentile, seconds};
use crate::output::{ABSENT, plain};
use crate::rows::{Interval, VcpuRow, VcpuThreads};

/// What the table of vCPUs shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vcpus {
    /// Time in each state.
    Times,
    /// Shares of the interval, and time in each state.
    SharesAndTimes,
    /// Shares of the interval, as numbers and as a bar that takes what is left of the width.
    Bars,
}

/// Widest name of a thread: the kernel's names have no more.
const MAX_THREAD: usize = 15;
/// Least columns of a longer name that is cut: it would not tell threads apart.
const CUT_THREAD: usize = 1 + 12;
/// Columns of a thread's id.
const ID: usize = 7;
/// Least columns of a bar, with its brackets, and most.
const BAR: (usize, usize) = (12, 102);

/// What there is room and reason for.
#[derive(Clone, Copy)]
struct Columns {
    what: Vcpus,
    waits: bool,
    thread_ids: bool,
    /// Columns of the threads' names; 0 for none.
    threads: usize,
    bar: usize,
}

impl Vcpus {
    const fn head(self) -> &'static str {
        match self {
            Self::Times => "  RUNNING s RUNNABLE s  BLOCKED s  OFFLINE s    AGE",
            Self::SharesAndTimes => {
                "   %RUN %STEAL  RUNNING s RUNNABLE s  BLOCKED s  OFFLINE s    AGE"
            }
            Self::Bars => "   %RUN %STEAL  %WAIT EXIT/s    AGE",
        }
    }
}

impl Columns {
    fn fit(what: Vcpus, interval: Interval<'_>, threads: &VcpuThreads, width: usize) -> Self {
        let waits = what != Vcpus::SharesAndTimes && interval.vcpus().any(|v| v.wait.is_some());
        let mut used = STATE.len() + what.head().len() + if waits { WAIT.len() } else { 0 };
        if what == Vcpus::Bars {
            used += 1 + BAR.0;
        }
        let names = threads.iter().filter_map(|thread| Some(thread.name.as_ref()?.width()));
        let name = names.max().map_or(0, |width| 1 + width.clamp(THREAD.len(), MAX_THREAD));
        let room = width.saturating_sub(used);
        let threads = if room >= name.min(CUT_THREAD) { name.min(room) } else { 0 };
        used += threads;
        let thread_ids = name > 0 && used + 1 + ID <= width;
        used += if thread_ids { 1 + ID } else { 0 };
        let bar = (width.saturating_sub(used) + BAR.0).min(BAR.1);
        Self { what, waits, thread_ids, threads, bar }
    }

    fn head(&self) -> String {
        let mut head = format!("{STATE}{}", self.what.head());
        if self.waits {
            head.push_str(WAIT);
        }
        if self.thread_ids {
            head.push_str(&format!(" {:>ID$}", "TID"));
        }
        if self.threads > 0 {
            head.push_str(&format!(" {THREAD}"));
        }
        head
    }
}

const STATE: &str = "VCPU  STATE   ";
const WAIT: &str = " WAIT-P99";
const THREAD: &str = "THREAD";

impl View {
    /// The vCPUs of a domain of `slots`.
    pub(crate) fn vcpus(
        self,
        interval: Interval<'_>,
        threads: &VcpuThreads,
        slots: u32,
        what: Vcpus,
    ) -> Section {
        let columns = Columns::fit(what, interval, threads, self.width);
        let head = self.head(&columns.head());
        let mut present = 0;
        let mut lines: Vec<_> = interval
            .vcpus()
            .map(|vcpu| {
                present += 1;
                self.vcpu(&vcpu, threads, columns)
            })
            .collect();
        let empty = slots.saturating_sub(present);
        if empty > 0 {
            let plural = if empty == 1 { "slot" } else { "slots" };
            lines.push(Line::styled(format!("{empty} {plural} without a vCPU"), self.styles.dim()));
        }
        Section { head, lines }
    }

    fn vcpu(self, vcpu: &VcpuRow, threads: &VcpuThreads, columns: Columns) -> Line<'static> {
        if let Some(error) = &vcpu.error {
            let text = clip(&format!("{:<5} {error}", vcpu.index), self.width);
            return Line::styled(text, self.styles.bad());
        }
        let [running, _, blocked, _] = vcpu.shares;
        let state = vcpu.state.map_or(ABSENT, RunState::name);
        let mut spans = vec![Span::raw(format!("{:<5} {state:<8}", vcpu.index))];
        if columns.what != Vcpus::Times {
            spans.push(Span::raw(format!(" {:>6}", or_absent(running, percent))));
            let steal = format!(" {:>6}", or_absent(vcpu.steal, percent));
            spans.push(Span::styled(steal, self.styles.steal(vcpu.steal)));
        }
        if columns.what == Vcpus::Bars {
            let cells = [or_absent(blocked, percent), or_absent(vcpu.exits, count)];
            spans.push(Span::raw(row(&cells)));
        } else {
            let times = vcpu.times.map(|word| match word.get() {
                Stat::Value(ns) => format!(" {:>10}", seconds(ns)),
                other => format!(" {:>10}", plain(other)),
            });
            spans.push(Span::raw(times.concat()));
        }
        spans.push(Span::raw(format!(" {:>6}", or_absent(vcpu.age, duration))));
        if columns.waits {
            spans.push(Span::raw(format!(" {:>8}", or_absent(vcpu.wait, percentile))));
        }
        let thread = threads.get(vcpu.index);
        if columns.thread_ids {
            let id = or_absent(thread.and_then(|thread| thread.id), |id| id.to_string());
            spans.push(Span::raw(format!(" {id:>ID$}")));
        }
        if let Some(width) = columns.threads.checked_sub(1) {
            let name = thread.and_then(|thread| thread.name.as_deref()).unwrap_or(ABSENT);
            let name = clip(name, width);
            let pad = width.saturating_sub(name.width());
            spans.push(Span::raw(format!(" {name}{}", " ".repeat(pad))));
        }
        if columns.what == Vcpus::Bars {
            spans.push(Span::raw(" "));
            spans.extend(self.bar(&vcpu.shares, columns.bar.saturating_sub(2)));
        }
        Line::from(spans)
    }
}
