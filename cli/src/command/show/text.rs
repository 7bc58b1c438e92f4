//! A sample as text: who the domain is, its vCPUs, disks and interfaces.

use domstat_consumer::{Liveness, Region};
use ratatui::text::{Line, Span};

use crate::output::human::nr;
use crate::output::{ABSENT, Seen, identity, printable};
use crate::rows::{Interval, VcpuThreads};
use crate::view::{Section, SteadyHead, Vcpus, View};

/// Columns of the widest table: that of the vCPUs while watching, with their threads.
const WIDTH: usize = 103;

/// The lines of one sample: totals, or while watching, with a steady head, rates and the vCPUs' shares
/// of the interval.
pub(super) fn lines(
    region: &Region,
    interval: Interval<'_>,
    seen: Seen,
    steady: Option<&mut SteadyHead>,
    view: View,
) -> Vec<Line<'static>> {
    let watching = steady.is_some();
    let view = View { width: view.width.max(20), ..view };
    let tables = View { width: view.width.min(WIDTH), ..view };
    let styles = view.styles;
    let name = identity(interval.now()).and_then(|i| i.name.as_str().map(printable));
    let slots = interval.now().nr_vcpus();
    let vcpus = if watching { Vcpus::SharesAndTimes } else { Vcpus::Times };
    let threads = VcpuThreads::of(region);
    let present = interval.vcpus().count();
    let of = if present == usize::try_from(slots).unwrap_or(0) {
        nr(present, "vCPU")
    } else {
        format!("{present} of {}", nr(slots, "vCPU"))
    };
    let mut lines = view.flow([
        Span::styled(name.unwrap_or_else(|| ABSENT.to_owned()), styles.title()),
        Span::styled(seen.liveness.name(), styles.standing(seen.liveness.name())),
        Span::raw(of),
    ]);
    lines.extend(view.identity(region, interval.now()));
    lines.extend(view.labels(region));
    lines.extend(view.causes(interval));
    lines.extend(view.exits(interval));
    if let Some(steady) = steady {
        steady.pad("", view.width, &mut lines);
    }
    let sections = [
        (slots > 0).then(|| tables.vcpus(interval, &threads, slots, vcpus)),
        tables.disks(interval, watching),
        tables.nets(interval, watching),
    ];
    for Section { head, lines: rows } in sections.into_iter().flatten() {
        lines.extend([Line::default(), head]);
        lines.extend(rows);
    }
    if matches!(seen.liveness, Liveness::Stale { .. }) {
        let text = "no write for a while: the numbers are those of the last one";
        lines.push(Line::styled(text, styles.warn()));
    }
    lines
}
