//! `domstat conform`: drives a reader of any kind and says which clauses of the specification it keeps.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Failure;

mod answers;
mod puppet;
mod reader;
mod report;
mod vectors;

/// Drive a reader over the specification's vectors, and report by clause
///
/// The reader is a program that takes requests on its standard input and answers on its standard
/// output, a line each; docs/spec.md says which. It is given every region of the vectors, and one that
/// is written while it reads. What it does not claim to know is skipped.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  domstat conform reader -- ./my-reader\n  domstat conform reader --vectors vectors --json -- python3 reader.py"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    side: Side,
}

#[derive(clap::Subcommand)]
enum Side {
    Reader(ReaderArgs),
}

/// Drive a reader
#[derive(clap::Args)]
#[command(after_help = "Example:\n  domstat conform reader -- ./my-reader")]
struct ReaderArgs {
    /// Folder of the vectors
    #[arg(long, value_name = "DIR", default_value = "vectors")]
    vectors: PathBuf,
    /// Print the report as JSON instead of TAP
    #[arg(long)]
    json: bool,
    /// The reader and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Side::Reader(args) = &args.side;
    let failed = |action: &str| {
        let action = action.to_owned();
        move |source| Failure::Check { action, source }
    };
    let vectors = vectors::all(&args.vectors)
        .map_err(failed(&format!("read the vectors in {}", args.vectors.display())))?;
    let report = reader::drive(&args.command, &vectors).map_err(failed("drive the reader"))?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let json = serde_json::to_string_pretty(&report.json()).map_err(std::io::Error::from)?;
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
