//! `domstat top`: what all domains do, live.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;

use crate::error::Failure;
use crate::locate::{self, Places};
use crate::output::paint::When;
use crate::signals::Stop;

mod app;
mod batch;
mod columns;
mod config;
mod domain;
mod events;
mod graph;
mod header;
mod help;
mod history;
mod host;
mod keys;
mod menu;
mod sampler;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod tty;

const EXAMPLES: &str = "\
Examples:
  domstat top
  domstat top --sort steal --filter web
  domstat top --columns name,running,steal,memory
  domstat top -b -n 1
  domstat top -b --json | jq -c '.[] | select(.steal > 0.2) | .entry'

On the screen, h explains keys, columns and states. What is not known is - (null in JSON), never 0.

Files:
  $XDG_CONFIG_HOME/domstat/top.toml, else ~/.config/domstat/top.toml
      interval, stale (seconds), sort, reverse, color, columns;
      W on the screen writes it.";

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
    /// Time between two samples; default: 1
    #[arg(short = 'd', long, value_name = "SECONDS", value_parser = super::show::seconds)]
    interval: Option<Duration>,
    /// Sort by this column; default: running
    #[arg(short, long, value_name = "COLUMN", value_parser = columns())]
    sort: Option<String>,
    /// Show the last rows first
    #[arg(short, long)]
    reverse: bool,
    /// Only domains whose name or UUID contains TEXT, or that are in the state TEXT
    #[arg(short, long, value_name = "TEXT")]
    filter: Option<String>,
    /// Columns to show, in this order, of those that --sort names; default: those that fit
    #[arg(short, long, value_name = "COLUMN,...", value_delimiter = ',', value_parser = columns(), hide_possible_values = true)]
    columns: Option<Vec<String>>,
    /// A domain is stale when its newest number is older than this; default: 10
    #[arg(long, value_name = "SECONDS", value_parser = super::show::seconds)]
    stale: Option<Duration>,
    /// When to use colors; default: auto
    #[arg(long, value_enum)]
    color: Option<When>,
}

/// The names of the columns of domains.
fn columns() -> PossibleValuesParser {
    PossibleValuesParser::new(columns::DOMAINS.iter().map(|column| column.name))
}

/// How long batch mode waits for its first sample, at most.
const FIRST: Duration = Duration::from_secs(1);

/// How long the screen may take to end after a signal.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    // Scripts do not depend on the user's screen.
    let config = if args.batch { config::Config::default() } else { config::Config::load()? };
    let settings = settings::Settings::new(args, &config);
    let fleet = places.fleet()?;
    let place = places.describe()?;
    locate::raise_limit_of_files();
    let stop =
        if args.batch { Stop::on_signals()? } else { Stop::on_signals_within(GRACE, tty::leave)? };
    let mut sampler = sampler::Sampler::new(fleet, settings.interval, settings.stale);
    if args.batch {
        let mut out = std::io::stdout().lock();
        batch::run(&settings, args.json, args.count, &mut sampler, &stop, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !is_terminal {
        return Err(Failure::NoTerminal);
    }
    let mut app = app::App::new(settings, place);
    tty::with_screen(|terminal| app.run(terminal, &mut sampler, args.count, &stop))?;
    Ok(ExitCode::SUCCESS)
}
