//! The public calls of producer and consumer, and what lies beneath them, from a crate of its own.
//!
//! ```text
//! domstat-foreign count PATH N      runs one path so many times, for a tool that counts
//! domstat-foreign race EFFORT       nanoseconds of each path, a row for each: full, quick, smoke
//! domstat-foreign --list            the paths
//! ```

#[path = "../../src/harness.rs"]
#[allow(dead_code, reason = "shared with the bench, which uses all of it")]
mod harness;
mod paths;

use std::process::ExitCode;

use crate::harness::Effort;
use crate::paths::{PATHS, Subjects};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["--list"] => PATHS.iter().for_each(|path| println!("{path}")),
        ["count", path, n] if PATHS.contains(&path) && n.parse::<u64>().is_ok_and(|n| n > 0) => {
            let mut subjects = Subjects::new();
            let mut of_path = subjects.in_order().zip(PATHS).find(|(_, name)| *name == path);
            if let (Some((subject, _)), Ok(n)) = (&mut of_path, n.parse()) {
                subject(n);
            }
        }
        ["race", effort @ ("full" | "quick" | "smoke")] => race(match effort {
            "full" => Effort::FULL,
            "quick" => Effort::QUICK,
            _ => Effort::SMOKE,
        }),
        _ => {
            eprintln!("usage: domstat-foreign count PATH N | race full|quick|smoke | --list");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Prints a row for each path: its name, and nanoseconds per call in every run.
fn race(effort: Effort) {
    harness::pin(0);
    let mut subjects = Subjects::new();
    let runs = harness::race(effort, &mut subjects.in_order().collect::<Vec<_>>());
    for (path, runs) in PATHS.iter().zip(runs) {
        let runs: Vec<String> = runs.iter().map(|ns| format!("{ns:.4}")).collect();
        println!("{path} {}", runs.join(" "));
    }
}
