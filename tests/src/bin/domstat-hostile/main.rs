//! Hostile peers against the programs, one after the other or all at once, and what the others
//! notice of it.
//!
//! ```text
//! domstat-hostile --domstat PROGRAM                a row for each behavior of each boundary
//!                 --domstat PROGRAM --only TEXT    the rows whose names contain TEXT
//!                 --domstat PROGRAM --strict       bounds that no program keeps: the harness's own test
//!                 --domstat PROGRAM mixed SECONDS  all of them at once next to 20 VMs
//! ```
//!
//! Prints a Markdown table. Exit status: 0 if every bound holds, 1 if one is broken, 2 if the
//! harness could not go on.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

mod attack;
mod daemon;
mod mixed;
#[path = "../../../../sources/tests/hostile/mod.rs"]
mod qmp;
mod rows;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Anything that keeps the harness from going on.
type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("domstat-hostile: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Fallible<bool> {
    let (mut program, mut only, mut mixed) = (PathBuf::new(), String::new(), None);
    let mut bounds = rows::Bounds::KEPT;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--domstat" => program = value()?.into(),
            "--only" => only = value()?,
            "--strict" => bounds = rows::Bounds::BROKEN,
            "mixed" => mixed = Some(Duration::from_secs(value()?.parse()?)),
            // What the harness starts itself as, maybe as another user.
            "attack" => {
                let (name, at) = (value()?, PathBuf::from(value()?));
                attack::run(&name, &at)?;
                return Ok(true);
            }
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    if !program.is_file() {
        return Err("--domstat must name the program".into());
    }
    match mixed {
        None => rows::run(&program, &only, &bounds),
        Some(time) => mixed::run(&program, time),
    }
}
