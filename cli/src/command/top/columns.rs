//! The columns of the three tables: domains, disks, network interfaces.

use domstat_layout::Word;
use domstat_layout::latest::NetLimits;
use ratatui::style::Style;

use super::graph::spark;
use super::history::MAX_COLUMNS;
use super::sampler::{Disk, Net, Row};
use super::table::{Column, Key};
use crate::output::ABSENT;
use crate::output::human::{bytes, count, duration, or_absent, percent, percentile};
use crate::output::paint::Styles;
use crate::rows::{Percentile, sum};

const fn number<R>(
    name: &'static str,
    head: &'static str,
    width: usize,
    cell: fn(&R, usize) -> String,
    key: fn(&R) -> Key,
) -> Column<R> {
    let style = |_: &R, _: Styles| Style::new();
    Column {
        name,
        head,
        width,
        stretches: false,
        is_text: false,
        is_optional: false,
        cell,
        key,
        style,
    }
}

const fn text<R>(
    name: &'static str,
    head: &'static str,
    width: usize,
    cell: fn(&R, usize) -> String,
    key: fn(&R) -> Key,
) -> Column<R> {
    Column { is_text: true, ..number(name, head, width, cell, key) }
}

/// A column that is shown only where some row has a value.
const fn optional<R>(
    name: &'static str,
    head: &'static str,
    width: usize,
    cell: fn(&R, usize) -> String,
    key: fn(&R) -> Key,
) -> Column<R> {
    Column { is_optional: true, ..number(name, head, width, cell, key) }
}

/// A limit of an interface: 0 is none.
fn limit(net: &Net, field: fn(&NetLimits) -> Word) -> Option<f64> {
    let limit = field(net.net.limits.as_ref()?).value()?;
    (limit > 0).then_some(limit as f64)
}

#[allow(clippy::unnecessary_wraps, reason = "the type of a column's key")]
const fn n(value: Option<f64>) -> Key {
    Key::Number(value)
}

fn of(value: Option<u64>) -> Option<f64> {
    value.map(|n| n as f64)
}

/// The columns of domains, in the order of menus.
pub(super) static DOMAINS: [Column<Row>; 17] = [
    Column {
        stretches: true,
        ..text("name", "NAME", 12, |r, _| r.name(), |r| Key::Text(r.name()))
    },
    Column {
        style: |r, styles| match r.word() == r.standing {
            true => styles.standing(r.standing),
            false => styles.status(r.word()),
        },
        ..text("state", "STATE", 9, |r, _| r.word().to_owned(), |r| Key::Text(r.word().to_owned()))
    },
    number(
        "vcpus",
        "VCPUS",
        5,
        |r, _| or_absent(r.vcpus(), |n| n.to_string()),
        |r| n(r.vcpus().map(f64::from)),
    ),
    number("running", "%RUN", 6, |r, _| or_absent(r.sums.running, percent), |r| n(r.sums.running)),
    Column {
        style: |r, styles| {
            let vcpus = f64::from(r.sums.vcpus.max(1));
            styles.steal(r.sums.steal.map(|cpus| cpus / vcpus))
        },
        ..number("steal", "%STEAL", 6, |r, _| or_absent(r.sums.steal, percent), |r| n(r.sums.steal))
    },
    number("exits", "EXIT/s", 6, |r, _| or_absent(r.sums.exits, count), |r| n(r.sums.exits)),
    number(
        "disk",
        "DISK/s",
        6,
        |r, _| or_absent(sum(r.sums.read, r.sums.written), bytes),
        |r| n(sum(r.sums.read, r.sums.written)),
    ),
    number("read", "READ/s", 6, |r, _| or_absent(r.sums.read, bytes), |r| n(r.sums.read)),
    number("written", "WRIT/s", 6, |r, _| or_absent(r.sums.written, bytes), |r| n(r.sums.written)),
    number(
        "net",
        "NET/s",
        6,
        |r, _| or_absent(sum(r.sums.received, r.sums.sent), bytes),
        |r| n(sum(r.sums.received, r.sums.sent)),
    ),
    number("received", "RX/s", 6, |r, _| or_absent(r.sums.received, bytes), |r| n(r.sums.received)),
    number("sent", "TX/s", 6, |r, _| or_absent(r.sums.sent, bytes), |r| n(r.sums.sent)),
    Column {
        style: |r, styles| styles.steal(r.throttled),
        ..number(
            "throttled",
            "%THROT",
            6,
            |r, _| or_absent(r.throttled, percent),
            |r| n(r.throttled),
        )
    },
    Column {
        style: |r, styles| styles.steal(r.pressure),
        ..number("pressure", "%PRESS", 6, |r, _| or_absent(r.pressure, percent), |r| n(r.pressure))
    },
    number("memory", "MEM", 6, |r, _| or_absent(of(r.memory), bytes), |r| n(of(r.memory))),
    number("age", "AGE", 6, |r, _| or_absent(r.age, duration), |r| n(of(r.age))),
    Column {
        stretches: true,
        style: |_, styles| styles.good(),
        ..text(
            "history",
            "%RUN HISTORY (OWN SCALE)",
            24,
            |r, width| spark(&r.running.iter().copied().collect::<Vec<_>>(), width),
            |r| n(r.sums.running),
        )
    },
];

/// Columns of domains by their names where nothing else was chosen, and where there is room.
pub(super) const NARROW: &[&str] =
    &["name", "state", "vcpus", "running", "steal", "exits", "disk", "net", "memory", "age"];
pub(super) const WIDE: &[&str] = &[
    "name", "state", "vcpus", "running", "steal", "exits", "read", "written", "received", "sent",
    "memory", "age", "history",
];
/// All numbers, for batch mode.
pub(super) const BATCH: &[&str] = &[
    "name", "state", "vcpus", "running", "steal", "exits", "read", "written", "received", "sent",
    "memory", "age",
];
/// From this width on there is room for [`WIDE`].
pub(super) const WIDE_FROM: usize = 116;

pub(super) static DISKS: [Column<Disk>; 21] = [
    Column {
        stretches: true,
        ..text("domain", "DOMAIN", 14, |d, _| d.domain.clone(), |d| Key::Text(d.domain.clone()))
    },
    text("disk", "DISK", 12, |d, _| d.blk.name.clone(), |d| Key::Text(d.blk.name.clone())),
    number("read", "READ/s", 6, |d, _| or_absent(d.blk.read, bytes), |d| n(d.blk.read)),
    number("written", "WRIT/s", 6, |d, _| or_absent(d.blk.written, bytes), |d| n(d.blk.written)),
    number(
        "requests",
        "REQ/s",
        6,
        |d, _| or_absent(d.blk.requests(), count),
        |d| n(d.blk.requests()),
    ),
    optional(
        "read-p99",
        "RD-P99",
        8,
        |d, _| or_absent(d.blk.percentiles[0][1], percentile),
        |d| n(of(d.blk.percentiles[0][1].map(Percentile::bound))),
    ),
    optional(
        "write-p99",
        "WR-P99",
        8,
        |d, _| or_absent(d.blk.percentiles[1][1], percentile),
        |d| n(of(d.blk.percentiles[1][1].map(Percentile::bound))),
    ),
    optional(
        "queue",
        "QUEUE",
        6,
        |d, _| or_absent(d.blk.queue.length, count),
        |d| n(d.blk.queue.length),
    ),
    number(
        "read-latency",
        "RD-LAT",
        6,
        |d, _| or_absent(d.blk.read_latency, duration),
        |d| n(of(d.blk.read_latency)),
    ),
    number(
        "write-latency",
        "WR-LAT",
        6,
        |d, _| or_absent(d.blk.write_latency, duration),
        |d| n(of(d.blk.write_latency)),
    ),
    number(
        "errors",
        "ERRORS",
        6,
        |d, _| or_absent(of(d.blk.errors()), count),
        |d| n(of(d.blk.errors())),
    ),
    Column {
        style: |d, styles| if d.blk.is_past_threshold() { styles.bad() } else { Style::new() },
        ..number(
            "filled",
            "FILLED",
            6,
            |d, _| or_absent(d.blk.filled(), |s| format!("{:.0}%", s * 100.0)),
            |d| n(d.blk.filled()),
        )
    },
    Column {
        is_text: true,
        ..optional(
            "job",
            "JOB",
            24,
            |d, _| {
                d.blk.job.as_ref().map_or_else(String::new, |job| {
                    let done = or_absent(job.done(), |s| format!("{:.0}%", s * 100.0));
                    format!("{} {} {done}", job.kind, job.state)
                })
            },
            |d| n(d.blk.job.as_ref().and_then(crate::rows::Job::done)),
        )
    },
    Column {
        stretches: true,
        is_text: true,
        style: |_, styles| styles.good(),
        ..optional(
            "latency-history",
            "LAT-HIST",
            9,
            |d, width| d.history.latency.spark(width.min(MAX_COLUMNS)),
            |d| n(d.blk.latency()),
        )
    },
    Column {
        stretches: true,
        is_text: true,
        style: |_, styles| styles.good(),
        ..optional(
            "queue-history",
            "QUE-HIST",
            8,
            |d, width| d.history.queue.spark(width.min(MAX_COLUMNS)),
            |d| n(d.blk.queue_length()),
        )
    },
    number(
        "size",
        "SIZE",
        6,
        |d, _| or_absent(of(d.blk.capacity), bytes),
        |d| n(of(d.blk.capacity)),
    ),
    number(
        "alarm",
        "ALARM",
        6,
        |d, _| or_absent(of(d.blk.threshold), bytes),
        |d| n(of(d.blk.threshold)),
    ),
    number("age", "AGE", 6, |d, _| or_absent(d.blk.age, duration), |d| n(of(d.blk.age))),
    optional(
        "read-p50",
        "RD-P50",
        8,
        |d, _| or_absent(d.blk.percentiles[0][0], percentile),
        |d| n(of(d.blk.percentiles[0][0].map(Percentile::bound))),
    ),
    optional(
        "write-p50",
        "WR-P50",
        8,
        |d, _| or_absent(d.blk.percentiles[1][0], percentile),
        |d| n(of(d.blk.percentiles[1][0].map(Percentile::bound))),
    ),
    optional(
        "throttled",
        "THR-s/s",
        7,
        |d, _| or_absent(d.blk.queue.throttled, count),
        |d| n(d.blk.queue.throttled),
    ),
];

pub(super) static NETS: [Column<Net>; 11] = [
    Column {
        stretches: true,
        ..text("domain", "DOMAIN", 14, |d, _| d.domain.clone(), |d| Key::Text(d.domain.clone()))
    },
    text(
        "interface",
        "INTERFACE",
        16,
        |d, _| d.net.name.clone(),
        |d| Key::Text(d.net.name.clone()),
    ),
    number("received", "RX/s", 6, |d, _| or_absent(d.net.received, bytes), |d| n(d.net.received)),
    number("sent", "TX/s", 6, |d, _| or_absent(d.net.sent, bytes), |d| n(d.net.sent)),
    number(
        "packets-in",
        "RXPK/s",
        6,
        |d, _| or_absent(d.net.packets_in, count),
        |d| n(d.net.packets_in),
    ),
    number(
        "packets-out",
        "TXPK/s",
        6,
        |d, _| or_absent(d.net.packets_out, count),
        |d| n(d.net.packets_out),
    ),
    optional(
        "receive-limit",
        "RX-LIM",
        6,
        |d, _| or_absent(limit(d, |l| l.rx_limit_bytes), bytes),
        |d| n(limit(d, |l| l.rx_limit_bytes)),
    ),
    optional(
        "transmit-limit",
        "TX-LIM",
        6,
        |d, _| or_absent(limit(d, |l| l.tx_limit_bytes), bytes),
        |d| n(limit(d, |l| l.tx_limit_bytes)),
    ),
    optional(
        "throttled",
        "THR-s/s",
        7,
        |d, _| or_absent(d.net.throttled, count),
        |d| n(d.net.throttled),
    ),
    number(
        "errors",
        "ERRORS",
        6,
        |d, _| or_absent(of(d.net.trouble()), count),
        |d| n(of(d.net.trouble())),
    ),
    number("age", "AGE", 6, |d, _| or_absent(d.net.age, duration), |d| n(of(d.net.age))),
];

/// Columns of `all` by their names, in the order of `names`.
pub(super) fn named<R>(all: &'static [Column<R>], names: &[&str]) -> Vec<&'static Column<R>> {
    names.iter().filter_map(|name| all.iter().find(|column| column.name == *name)).collect()
}

/// The columns of which some row has a value, or that are shown in any case.
pub(super) fn known<R>(all: &'static [Column<R>], rows: &[&R]) -> Vec<&'static Column<R>> {
    let has_value = |column: &&Column<R>| {
        let is_known = |row: &&R| {
            let cell = (column.cell)(row, column.width);
            !cell.is_empty() && cell != ABSENT
        };
        !column.is_optional || rows.iter().any(is_known)
    };
    all.iter().filter(has_value).collect()
}

/// The name of a column of domains, as the tables spell it.
pub(super) fn domain_column(name: &str) -> Option<&'static str> {
    DOMAINS.iter().map(|column| column.name).find(|known| *known == name)
}
