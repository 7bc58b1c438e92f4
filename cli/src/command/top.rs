//! `domstat top`: what all domains do, live.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use domstat_layout::latest::VcpuState;

use crate::error::Failure;
use crate::locate::{self, Places};
use crate::signals::Stop;

mod app;
mod batch;
mod columns;
mod detail;
mod domain;
mod help;
mod list;
mod order;
mod sampler;
mod style;
mod totals;

const EXAMPLES: &str = "\
Examples:
  domstat top
  domstat top --sort steal --filter web
  domstat top -b -n 1
  domstat top -b --json | jq -c '.[] | select(.steal > 0.2) | [.name, .steal]'

On the screen, h explains keys, columns and states. What is not known is - (null in JSON), never 0.";

/// Show what all domains of this host do, live
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write samples as text instead of drawing a screen
    #[arg(short, long)]
    batch: bool,
    /// Print JSON, one line for each sample
    #[arg(long, requires = "batch")]
    json: bool,
    /// End after this many samples
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time between two samples
    #[arg(short = 'd', long, value_name = "SECONDS", default_value = "1", value_parser = super::show::seconds)]
    interval: Duration,
    /// What comes first
    #[arg(short, long, value_enum, default_value = "running")]
    sort: order::Key,
    /// What comes first comes last
    #[arg(short, long)]
    reverse: bool,
    /// Only domains whose name or UUID contains TEXT, or that are in the state TEXT
    #[arg(short, long, value_name = "TEXT")]
    filter: Option<String>,
    /// When the newest number of a domain is older than this, it is stale
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = super::show::seconds)]
    stale: Duration,
    /// When to use colors
    #[arg(long, value_enum, default_value = "auto")]
    color: style::When,
}

/// How long batch mode looks before its first sample, at most.
const FIRST: Duration = Duration::from_secs(1);

/// The states of a vCPU, in order of their numbers.
const STATES: [VcpuState; 4] =
    [VcpuState::Running, VcpuState::Runnable, VcpuState::Blocked, VcpuState::Offline];

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let fleet = places.fleet()?;
    let place = fleet.place().display().to_string();
    locate::raise_limit_of_files();
    let stop = Stop::on_signals()?;
    let mut sampler = sampler::Sampler::new(fleet, args.interval, args.stale);
    if args.batch {
        batch::run(args, &mut sampler, &stop, &mut std::io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    let mut app = app::App::new(args, place);
    let mut terminal = ratatui::try_init()?;
    let result = app.run(&mut terminal, &mut sampler, args.interval, args.count, &stop);
    ratatui::restore();
    result?;
    Ok(ExitCode::SUCCESS)
}
