//! Harms writers, files and the machine, and checks every value that readers get meanwhile.
//!
//! ```text
//! domstat-faults [--faults N]   every case, with N kills and stops (default 200)
//!                [--case NAME]  one of them: kill, devices, storm, rivals, attach, files, hostile,
//!                               spin, exhaust
//!                [--torn]       the harness's own test: a writer of torn values, which must be found
//!                [--dir DIR]    where the shared files lie (default /dev/shm)
//! ```
//!
//! Exit status: 0 if all is well, 1 if a value was wrong or lost, or something took too long, 2 if
//! the harness could not go on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use domstat_tests::faults::report::Row;
use domstat_tests::faults::{
    Fallible, Place, attach, devices, exhaust, files, hostile, kill, storm, write,
};

const CASES: [&str; 9] =
    ["kill", "devices", "storm", "rivals", "attach", "files", "hostile", "spin", "exhaust"];

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("domstat-faults: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Fallible<ExitCode> {
    let (mut faults, mut how) = (200, "");
    let mut dir = PathBuf::from("/dev/shm");
    let mut cases: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--faults" => faults = value()?.parse()?,
            "--case" => cases.push(value()?),
            "--dir" => dir = value()?.into(),
            "--torn" => how = "torn",
            // What the harness starts itself as.
            "write" => return write(&value()?, Path::new(&value()?)),
            "device" => return devices::device(value()?.parse()?, &value()?),
            "descriptors" => {
                return Ok(told(&exhaust::descriptors(&Place::create(Path::new(&value()?))?)?));
            }
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    if cases.is_empty() {
        cases = CASES.map(str::to_owned).to_vec();
    }
    let place = Place::create(&dir)?;
    println!("{}", Row::head());
    let mut well = true;
    for case in &cases {
        well &= run_case(case, &place, faults, how)?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(row: &Row) -> ExitCode {
    println!("{row}");
    if row.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one case; whether all is well.
fn run_case(case: &str, place: &Place, faults: u64, how: &str) -> Fallible<bool> {
    let rows = match case {
        "kill" => kill::run(place, faults, how)?.to_vec(),
        "devices" => vec![devices::run(place, faults, how)?],
        "storm" => vec![storm::restarts(place, (faults / 4).max(50))?],
        "rivals" => vec![storm::rivals(place, (faults / 20).max(10))?],
        "attach" => {
            vec![attach::run(place, usize::try_from(faults)?.clamp(1_000, 10_000))?]
        }
        "files" => {
            vec![
                files::unlink_and_replace(place, (faults / 40).max(5))?,
                files::truncation(place, faults)?,
                files::sealed(place)?,
            ]
        }
        "hostile" => vec![
            hostile::header_flips(place, faults * 50)?,
            hostile::anything_anywhere(place, faults * 10)?,
        ],
        "spin" => {
            let time = Duration::from_millis((faults / 4).clamp(200, 5_000));
            vec![hostile::spinning_reader(place, time)?]
        }
        "exhaust" => {
            // Its limits are a process's own.
            let mut command = Command::new(std::env::current_exe()?);
            std::io::stdout().flush()?;
            let status = command.arg("descriptors").arg(place.dir()).status()?;
            let rows = exhaust::tmpfs(place)?;
            if rows.is_none() {
                eprintln!("skipped: tmpfs full: this process may not mount one");
            }
            return Ok(status.success() & rows.iter().all(shown));
        }
        _ => return Err(format!("unknown case {case}: one of {}", CASES.join(", ")).into()),
    };
    // Each is shown, whatever the others are.
    Ok(rows.iter().filter(|row| !shown(row)).count() == 0)
}

fn shown(row: &Row) -> bool {
    println!("{row}");
    row.is_well()
}
