//! `domstat push`: metrics to an OpenTelemetry collector.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use domstat_exporter::Exporter;
use domstat_exporter::otlp::Collector;

use crate::error::Failure;
use crate::locate::{self, Places};
use crate::output::message::message;
use crate::selection::SelectionArgs;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat push
  domstat push --to https://collector.example:4318/v1/metrics \\
      --token-file token --interval 60
  domstat push -n 1 && echo accepted

Names are those of `domstat export` with dots and without units and `total`, for example \
domstat.vcpu.state.time.";

/// Push the statistics of all domains to an OpenTelemetry collector (OTLP over HTTP)
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// URL of the collector
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318/v1/metrics")]
    to: String,
    /// Interval of pushes
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = super::show::seconds)]
    interval: Duration,
    /// Push N times and fail if one push fails
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Send the token in FILE as `Authorization: Bearer`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token to another host over http, where the network sees it
    #[arg(long, requires = "token_file")]
    token_in_clear: bool,
    #[command(flatten)]
    selection: SelectionArgs,
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let fleet = places.fleet()?;
    super::export::warn_unreadable(&fleet, places);
    locate::raise_limit_of_files();
    let token = args.token_file.as_deref().map(super::export::token).transpose()?;
    let collector = Collector::new(&args.to)?;
    let collector = match token {
        Some(token) if args.token_in_clear => collector.with_token_in_clear(token),
        Some(token) => collector.with_token(token)?,
        None => collector,
    };
    let exporter = Exporter::of(fleet).with_selection(args.selection.selection());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let resource = [("service.name", "domstat"), ("host.name", host.as_str())];
    let mut pushed = 0;
    loop {
        let scrape = exporter.pass();
        let result = collector.push(&scrape, &resource);
        exporter.give_back(scrape);
        match result {
            Ok(()) => {}
            Err(error) if args.count.is_some() => return Err(error.into()),
            // A collector may be down for a while; the counters continue meanwhile.
            Err(error) => message(&format!("{error}")),
        }
        pushed += 1;
        if args.count.is_some_and(|count| pushed >= count) || stop.wait(args.interval) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
