//! Files of tapdisk, Xen's disk backend on XenServer and XCP-ng, as `show` and `check` take them.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use domstat_sources::SourceError;
use domstat_sources::xen::tapdisk::{self, Counters, Layout, Rule, look};
use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::output::json::Safe;
use crate::signals::Stop;

/// The structure of the file that `domain` names, if it is one of tapdisk's.
pub(super) fn layout_of(domain: &str) -> Option<Layout> {
    domain.contains('/').then(|| tapdisk::layout_of(Path::new(domain))).flatten()
}

/// How often the file is looked at.
pub(super) enum Looks {
    Once,
    /// Every so often, at most so many times.
    Every(Duration, Option<u64>),
}

/// Prints what the file says, once or until it is gone.
pub(super) fn show(
    path: &Path,
    layout: Layout,
    looks: &Looks,
    json: bool,
) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let mut shown = 0;
    loop {
        let counters = match look(path, layout) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && shown > 0 => {
                return Err(Failure::ProducerGone { name: path.display().to_string() });
            }
            counters => counters.map_err(|source| unreadable(path, source))?,
        };
        let mut out = io::stdout().lock();
        if shown > 0 && !json {
            writeln!(out)?;
        }
        print(&mut out, layout, &counters, json)?;
        out.flush()?;
        shown += 1;
        let is_last = match looks {
            Looks::Once => true,
            Looks::Every(interval, count) => {
                count.is_some_and(|count| shown >= count) || stop.wait(*interval)
            }
        };
        if is_last {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn print(out: &mut impl Write, layout: Layout, counters: &Counters, json: bool) -> io::Result<()> {
    if json {
        let fields: Map<String, Value> =
            counters.fields().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        return writeln!(out, "{}", Safe(&json!({ "layout": name(layout), "fields": fields })));
    }
    writeln!(out, "tapdisk ({}), counters of one disk", name(layout))?;
    for (name, value) in counters.fields() {
        let value = value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let unit = match name.rsplit_once('_') {
            Some((_, "usecs")) => "us",
            Some((_, "sectors")) => "sectors of 512 bytes",
            _ => "requests",
        };
        writeln!(out, "  {name:<14}{value:>20}  {unit}")?;
    }
    Ok(())
}

/// Holds the file against tapdisk's rules.
pub(super) fn check(
    path: &Path,
    layout: Layout,
    watch: Option<Duration>,
    interval: Duration,
    json: bool,
) -> Result<ExitCode, Failure> {
    let start = Instant::now();
    let mut found: Vec<(Rule, String)> = Vec::new();
    let (mut before, mut looks): (Option<Counters>, u64) = (None, 0);
    loop {
        looks = looks.saturating_add(1);
        match look(path, layout) {
            Ok(counters) => {
                found.extend(counters.broken_rules(before.as_ref()));
                before = Some(counters);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                found.push((Rule::Structure, error.to_string()));
            }
            Err(source) => return Err(unreadable(path, source)),
        }
        let left = watch.map_or(Duration::ZERO, |time| time.saturating_sub(start.elapsed()));
        if left.is_zero() {
            break;
        }
        std::thread::sleep(interval.min(left));
    }
    // One line for each rule: what was found first.
    found.sort_by_key(|(rule, _)| *rule);
    found.dedup_by_key(|(rule, _)| *rule);
    let outcome = |rule: Rule| match found.iter().find(|(broken, _)| *broken == rule) {
        Some((_, what)) => ("fail", Some(what.as_str())),
        None if before.is_none() || rule == Rule::Monotonic && looks < 2 => ("not_checkable", None),
        None => ("pass", None),
    };
    let mut out = io::stdout().lock();
    if json {
        let rule = |rule: Rule| {
            let ((id, title), (outcome, found)) = (rule.title(), outcome(rule));
            json!({ "id": id, "title": title, "outcome": outcome, "found": found })
        };
        let rules: Vec<Value> = Rule::ALL.into_iter().map(rule).collect();
        let verdict = if found.is_empty() { "pass" } else { "fail" };
        let report = json!({
            "verdict": verdict, "layout": name(layout), "looks": looks, "rules": rules,
        });
        writeln!(out, "{}", Safe(&report))?;
    } else {
        for rule in Rule::ALL {
            let ((id, title), (outcome, found)) = (rule.title(), outcome(rule));
            writeln!(out, "{id}  {:<13}  {title}", outcome.replace('_', " "))?;
            if let Some(found) = found {
                writeln!(out, "     {found}")?;
            }
        }
        let verdict = if found.is_empty() { "PASS" } else { "FAIL" };
        let s = if looks == 1 { "" } else { "s" };
        writeln!(out, "{verdict}: tapdisk's rules, {looks} look{s}")?;
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

const fn name(layout: Layout) -> &'static str {
    match layout {
        Layout::Metrics => "metrics",
        Layout::Blkback => "blkback",
    }
}

fn unreadable(path: &Path, source: io::Error) -> Failure {
    SourceError::Os { action: format!("read {}", path.display()), source }.into()
}
