//! `domstat man`: manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Failure;

/// Write the manual pages, one for each command
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  domstat man --out /usr/local/share/man/man1 && man domstat-top"
)]
pub(crate) struct Args {
    /// The directory that they are written to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, command: clap::Command) -> Result<ExitCode, Failure> {
    let os = |action| move |source| Failure::Os { action, source };
    std::fs::create_dir_all(&args.out).map_err(os("create the directory"))?;
    clap_mangen::generate_to(command, &args.out).map_err(os("write manual pages"))?;
    Ok(ExitCode::SUCCESS)
}
