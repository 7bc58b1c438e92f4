//! `domstat completions`: what shells complete.

use std::io::Write;
use std::process::ExitCode;

use clap_complete::Shell;

use crate::error::Failure;

/// Print the script with which a shell completes this program's arguments
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  domstat completions bash > /etc/bash_completion.d/domstat\n  domstat completions fish | source"
)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "domstat", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
