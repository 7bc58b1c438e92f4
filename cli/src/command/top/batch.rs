//! Samples as lines of text or JSON, for pipes.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::FIRST;
use super::columns::{BATCH, DOMAINS, named};
use super::sampler::{Row, Sampler};
use super::settings::Settings;
use super::table::{Grid, TableRow, sort};
use crate::error::Failure;
use crate::output::json::Safe;
use crate::signals::Stop;

/// Least width of the columns, with one that holds every name.
const NUMBERS: usize = 13 + 5 + 6 * 9 + 11;

pub(super) fn run(
    settings: &Settings,
    as_json: bool,
    count: Option<u64>,
    sampler: &mut Sampler,
    stop: &Stop,
    out: &mut impl Write,
) -> Result<(), Failure> {
    // Rates need a sample before the first one that is shown.
    sampler.sample()?;
    let mut wait = settings.interval.min(FIRST);
    let mut shown = 0;
    let columns = match &settings.columns {
        Some(columns) => named(&DOMAINS, columns),
        None => named(&DOMAINS, BATCH),
    };
    while count.is_none_or(|count| shown < count) {
        if stop.wait(wait) {
            return Ok(());
        }
        wait = settings.interval;
        sampler.sample()?;
        let mut rows: Vec<&Row> =
            sampler.rows().filter(|row| row.matches(&settings.filter)).collect();
        sort(&mut rows, &DOMAINS, &settings.order);
        if as_json {
            let rows: Vec<Value> = rows.iter().map(|row| json(row)).collect();
            writeln!(out, "{}", Safe(&Value::Array(rows)))?;
        } else {
            if shown > 0 {
                writeln!(out)?;
            }
            let widest = rows.iter().map(|row| row.name().width()).max().unwrap_or(0);
            let grid = Grid::fit(&columns, &rows, NUMBERS + widest.max(12));
            writeln!(out, "{}", grid.heads(None).trim_end())?;
            for row in rows {
                writeln!(out, "{}", grid.line(row).trim_end())?;
            }
        }
        out.flush()?;
        shown += 1;
    }
    Ok(())
}

/// A domain with its rates in base units; what is not known is null.
fn json(row: &Row) -> Value {
    let sums = &row.sums;
    json!({
        "entry": row.entry,
        "name": row.own_name,
        "uuid": row.uuid,
        "liveness": row.standing,
        "status": row.status,
        "error": row.error,
        "vcpus": row.vcpus(),
        "vcpus_maximum": row.vcpus().map(|_| row.slots),
        "running": sums.running,
        "steal": sums.steal,
        "exits_per_second": sums.exits,
        "read_bytes_per_second": sums.read,
        "written_bytes_per_second": sums.written,
        "received_bytes_per_second": sums.received,
        "sent_bytes_per_second": sums.sent,
        "throttled": row.throttled,
        "pressure": row.pressure,
        "memory_bytes": row.memory,
        "age_seconds": row.age.map(|ns| Duration::from_nanos(ns).as_secs_f64()),
    })
}
