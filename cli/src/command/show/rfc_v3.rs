//! A region in the vCPU-only layout of RFC v3.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use domstat_consumer::ReadError;
use domstat_consumer::legacy::LegacyRegion;
use domstat_layout::rfc_v3::{Record, Running, is_scaled};
use serde_json::{Value, json};

use super::Args;
use crate::error::Failure;
use crate::output;
use crate::output::human::nr;
use crate::output::json::Safe;
use crate::signals::Stop;

/// One look at every record.
type Sample = Vec<Result<Record, ReadError>>;

pub(super) fn run(args: &Args, path: &Path, region: &LegacyRegion) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    if !args.watch {
        let sample = region.vcpus().collect();
        still_there(args, region)?;
        show(&mut out, args, region, &sample, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let stop = Stop::on_signals()?;
    let live_screen = out.is_terminal() && !args.json;
    let mut before: Option<Sample> = None;
    let mut shown = 0;
    loop {
        let sample: Sample = region.vcpus().collect();
        if !path.exists() {
            return Err(Failure::ProducerGone { name: args.domain.clone() });
        }
        still_there(args, region)?;
        if live_screen {
            write!(out, "\x1b[H\x1b[J")?;
        } else if shown > 0 && !args.json {
            writeln!(out)?;
        }
        show(&mut out, args, region, &sample, before.as_ref())?;
        out.flush()?;
        shown += 1;
        if args.count.is_some_and(|n| shown >= n) || stop.wait(args.interval) {
            return Ok(ExitCode::SUCCESS);
        }
        before = Some(sample);
    }
}

fn still_there(args: &Args, region: &LegacyRegion) -> Result<(), Failure> {
    let lost = |source| Failure::Lost { domain: args.domain.clone(), source };
    region.intact().map_err(lost)
}

fn show(
    out: &mut impl Write,
    args: &Args,
    region: &LegacyRegion,
    sample: &Sample,
    before: Option<&Sample>,
) -> io::Result<()> {
    if args.json {
        writeln!(out, "{}", Safe(&as_json(region, sample)))
    } else {
        text(out, region, sample, before)
    }
}

/// Records that were ever written, as far as is known: one in mid-update is being written.
fn written(sample: &Sample) -> Vec<u32> {
    (0..)
        .zip(sample)
        .filter(|(_, record)| {
            record.as_ref().map_or(true, |r| r.running() != Running::NeverWritten)
        })
        .map(|(index, _)| index)
        .collect()
}

fn text(
    out: &mut impl Write,
    region: &LegacyRegion,
    sample: &Sample,
    before: Option<&Sample>,
) -> io::Result<()> {
    let g = region.geometry();
    writeln!(
        out,
        "layout RFC v3 (legacy, vCPUs only)  room for {}  size {}  stride {}",
        nr(g.nr_records(), "record"),
        g.size(),
        g.stride(),
    )?;
    let mut heads = vec!["VCPU", "RUNNING s", "WRITES"];
    if before.is_some() {
        heads.push("GAINED s");
    }
    let mut table = output::table(&heads);
    let mut notes = Vec::new();
    for (index, record) in sample.iter().enumerate() {
        let record = match record {
            Ok(record) => record,
            Err(stalled) => {
                notes.push(stalled.to_string());
                continue;
            }
        };
        let running = match record.running() {
            Running::Ns(ns) => output::human::seconds(ns),
            Running::InactiveOrOverflowed => "inactive or overflowed".to_owned(),
            Running::Unknown => "not in the record".to_owned(),
            Running::NeverWritten => continue,
        };
        let mut row = vec![index.to_string(), running, (record.seq / 2).to_string()];
        if let Some(before) = before {
            let earlier = before.get(index).and_then(|b| b.as_ref().ok());
            row.push(gained(record, earlier));
        }
        table.add_row(row);
    }
    if table.row_count() > 0 {
        writeln!(out, "{table}")?;
    }
    let written = written(sample);
    if written.len() < sample.len() {
        writeln!(
            out,
            "{} never written: no such vCPU, or none that changed its state since the \
             pages were cleared",
            nr(sample.len() - written.len(), "record"),
        )?;
    }
    if is_scaled(&g, written) {
        writeln!(
            out,
            "only every {}th record is written: this producer scales the stride by the record's \
             size, and record {} is vCPU 1",
            g.size(),
            g.size(),
        )?;
    }
    for note in notes {
        writeln!(out, "{note}")?;
    }
    Ok(())
}

/// Running time between two samples. Not a share of the time between: a vCPU that runs on and on
/// is not written until it stops.
fn gained(record: &Record, earlier: Option<&Record>) -> String {
    let gained = || record.running().ns()?.checked_sub(earlier?.running().ns()?);
    gained().map_or_else(|| "-".to_owned(), output::human::seconds)
}

fn as_json(region: &LegacyRegion, sample: &Sample) -> Value {
    let g = region.geometry();
    let vcpus: Vec<Value> = (0u32..)
        .zip(sample)
        .map(|(index, record)| match record {
            Ok(record) => json!({
                "index": index,
                "status": record.running().name(),
                "seq": record.seq,
                "running_ns": record.running().ns(),
            }),
            Err(stalled) => json!({
                "index": index,
                "status": "stalled",
                "seq": stalled.stalled().map(|s| s.seq),
                "error": stalled.to_string(),
            }),
        })
        .collect();
    json!({
        "layout": "rfc_v3",
        "offset": g.offset(),
        "size": g.size(),
        "stride": g.stride(),
        "nr_records": g.nr_records(),
        "stride_is_scaled": is_scaled(&g, written(sample)),
        "vcpus": vcpus,
    })
}
