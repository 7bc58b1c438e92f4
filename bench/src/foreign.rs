//! The public calls, measured in a package of its own that is built when the bench runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Effort, Spread};
use crate::report::{Report, number, spread};

const ABOUT: &str = "What a tool and a VMM call, from a crate outside the workspace \
(`bench/foreign`) that is built with Cargo's default release profile, so without link-time \
optimization, and what lies beneath each call: the protocol alone, on a group of the 48 bytes of a \
runstate, or on one field of it. A call adds the bounds, the bit, the generation and the twin. A value recorded in a histogram \
changes three words in one update; the bookkeeping of a request keeps numbers, bytes, times, the \
integral of the queue, and the distributions of latency and size. \
Every row is a function that is not inlined and returns all that it read, of memory that another \
thread may write, the `seqlock` crate's too.";

/// Rows: the name of the path, what it is, and the path beneath it.
const ROWS: &[(&str, &str, Option<&str>)] = &[
    ("word-load", "load of one hot word", None),
    ("field-read", "read of one field", None),
    ("vcpu-stat", "`vcpu.stat(Runstate::running_ns)`", Some("field-read")),
    ("group-read", "read of a group", None),
    ("vcpu-read", "`vcpu.read::<Runstate>()`", Some("group-read")),
    ("seqlock-read", "`seqlock` crate, read of 48 bytes", Some("group-read")),
    ("word-store", "store of one hot word", None),
    ("field-write", "update of one field", None),
    ("field-write-twice", "update of one field of two groups", None),
    ("vcpu-set", "`vcpu.set(Runstate::running_ns, ..)`", Some("field-write-twice")),
    ("group-write-twice", "write of two groups", None),
    ("vcpu-write", "`vcpu.write(&runstate)`", Some("group-write-twice")),
    ("seqlock-write", "`seqlock` crate, write of 48 bytes", Some("group-write-twice")),
    ("hist-record", "`hist.record::<Wait>(ns, now)`", Some("field-write")),
    ("device-request", "`disk.submit(now)` and `disk.complete(..)` of a read", None),
    ("share-request", "the same of one queue's share", None),
];

/// Figures by name: nanoseconds of a path, or a path over the one beneath it.
const FIGURES: &[(&str, &str, Option<&str>)] = &[
    ("hot_load_ns", "word-load", None),
    ("one_field_read_ns", "field-read", None),
    ("one_field_update_ns", "field-write", None),
    ("vcpu_read_ns", "vcpu-read", None),
    ("vcpu_write_ns", "vcpu-write", None),
    ("vcpu_read_over_group_read", "vcpu-read", Some("group-read")),
    ("vcpu_stat_over_field_read", "vcpu-stat", Some("field-read")),
    ("vcpu_write_over_two_group_writes", "vcpu-write", Some("group-write-twice")),
    ("record_over_one_field_update", "hist-record", Some("field-write")),
    ("device_request_ns", "device-request", None),
    ("share_request_ns", "share-request", None),
    ("vcpu_set_over_two_field_updates", "vcpu-set", Some("field-write-twice")),
];

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    report.section("The public calls", ABOUT, &["", "ns", "x what lies beneath"]);
    let rows = match measure(effort) {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("domstat-bench: without the public calls: {error}");
            return report.row(vec![format!("not measured: {error}"), "".into(), "".into()]);
        }
    };
    let runs = |path: &str| rows.iter().find(|row| row.0 == path).map(|row| &row.1[..]);
    for (path, what, beneath) in ROWS {
        let Some(of_path) = runs(path) else { continue };
        let ratio = beneath.and_then(runs).map(|beneath| Spread::ratio(of_path, beneath));
        let ratio = ratio.map_or(String::new(), |ratio| format!("{}x", number(ratio.median)));
        report.row(vec![(*what).into(), spread(Spread::of(of_path)), ratio]);
    }
    for (name, path, beneath) in FIGURES {
        match (runs(path), beneath.map(runs)) {
            (Some(runs), None) => report.ratio(name, Spread::of(runs)),
            (Some(runs), Some(Some(beneath))) => report.ratio(name, Spread::ratio(runs, beneath)),
            _ => {}
        }
    }
}

/// Builds the package, has it measure, and reads its rows: path, nanoseconds of every run.
fn measure(effort: Effort) -> Result<Vec<(String, Vec<f64>)>, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let target = target.join("foreign");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // Where only that it runs is looked at, the build that takes less time.
    let (profile, folder) =
        if effort.rounds > 1 { (Some("--release"), "release") } else { (None, "debug") };
    let mut build = Command::new(&cargo);
    build.args(["build", "--quiet", "--locked"]).args(profile);
    build.arg("--manifest-path").arg(package.join("Cargo.toml")).arg("--target-dir").arg(&target);
    let built = build.output().map_err(|e| format!("cannot run {cargo}: {e}"))?;
    if !built.status.success() {
        return Err(format!("{cargo}: {}", String::from_utf8_lossy(&built.stderr)));
    }
    let name = match effort.rounds {
        1 => "smoke",
        _ if effort.quick => "quick",
        _ => "full",
    };
    let program = target.join(folder).join("domstat-foreign");
    let run = Command::new(&program).args(["race", name]).output();
    let run = run.map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    if !run.status.success() {
        return Err(format!("{}: {}", program.display(), run.status));
    }
    String::from_utf8_lossy(&run.stdout).lines().map(row).collect()
}

fn row(line: &str) -> Result<(String, Vec<f64>), String> {
    let mut words = line.split(' ');
    let path = words.next().unwrap_or_default().to_owned();
    let runs: Result<Vec<f64>, _> = words.map(str::parse).collect();
    match runs {
        Ok(runs) if !runs.is_empty() => Ok((path, runs)),
        _ => Err(format!("no row of figures: {line}")),
    }
}
