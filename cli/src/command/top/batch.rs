//! Samples as lines of text or JSON, for pipes.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::columns::Columns;
use super::order;
use super::sampler::{Row, Sampler};
use super::{Args, FIRST};
use crate::error::Failure;
use crate::signals::Stop;

pub(super) fn run(
    args: &Args,
    sampler: &mut Sampler,
    stop: &Stop,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let filter = args.filter.as_deref().unwrap_or("");
    // Rates need a look before the first one that is shown.
    sampler.sample()?;
    let mut wait = args.interval.min(FIRST);
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        if stop.wait(wait) {
            return Ok(());
        }
        wait = args.interval;
        sampler.sample()?;
        let mut rows: Vec<(&str, &Row)> =
            sampler.rows().filter(|(_, row)| order::matches(row, filter)).collect();
        order::sort(&mut rows, args.sort, args.reverse);
        if args.json {
            let rows: Vec<Value> = rows.iter().map(|(entry, row)| json(entry, row)).collect();
            writeln!(out, "{}", Value::Array(rows))?;
        } else {
            if shown > 0 {
                writeln!(out)?;
            }
            let widest = rows.iter().map(|(_, row)| row.name.width()).max();
            let columns = Columns::for_batch(widest.unwrap_or(0));
            writeln!(out, "{}", columns.heads(None).trim_end())?;
            for (_, row) in rows {
                writeln!(out, "{}", columns.line(row).trim_end())?;
            }
        }
        out.flush()?;
        shown += 1;
    }
    Ok(())
}

/// A domain with its rates in base units; what is not known is null.
fn json(entry: &str, row: &Row) -> Value {
    let rates = &row.rates;
    json!({
        "entry": entry,
        "name": row.name,
        "uuid": row.uuid,
        "state": row.health.name(),
        "error": row.error,
        "vcpus": row.vcpus(),
        "vcpus_maximum": row.vcpus().map(|_| row.slots),
        "running": rates.running,
        "steal": rates.steal,
        "exits_per_second": rates.exits,
        "read_bytes_per_second": rates.read,
        "written_bytes_per_second": rates.written,
        "received_bytes_per_second": rates.received,
        "sent_bytes_per_second": rates.sent,
        "memory_bytes": row.totals.now.memory,
        "age_seconds": row.age.map(|ns| Duration::from_nanos(ns).as_secs_f64()),
    })
}
