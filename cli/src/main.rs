//! `domstat`: statistics of virtual machines through shared memory.

mod command;
mod control;

mod error;
mod locate;
mod output;
mod publish;
mod rows;
mod selection;
mod signals;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Failure;

const AFTER_HELP: &str = "\
Examples:
  domstat demo                          publish a micro-VM and read it
  domstat run process --pid 4242 &      publish a process's threads
  domstat ls                            what is published here
  domstat show web1 --watch             a live table
  domstat check web1 --watch 10         the layout's rules, on live data
  domstat top                           a live view of all domains
  domstat export                        serve all to Prometheus
  domstat run qemu --qmp /run/vm1.qmp   publish a VM and its disks
  domstat block threshold web1 vda 80%  one event past 80 % of the disk
  domstat events web1                   events as they come
  domstat abi diff old.h new.h          do two layouts go together?

Domains are found in $DOMSTAT_DIR; without it in /run/domstat for root and in \
$XDG_RUNTIME_DIR/domstat for others: by their entries there, and at the sockets of daemons \
(*.sock). With --socket or $DOMSTAT_SOCKET, that daemon alone is asked. With --scan, also in the \
memory of processes: the name is the region's own word there, process and user are the kernel's.

Exit codes: 0 done, 1 a rule of the layout is broken or two layouts are incompatible, 2 wrong \
usage, 3 a region cannot be attached or published, or none of those listed may be read, 4 anything else, \
5 the threshold that `block threshold --wait` waits for was replaced, disarmed or lost, 6 the daemon died \
while its events or its answer were waited for.";

/// Statistics of virtual machines, their vCPUs and devices through shared memory, read without a
/// system call, a hypercall or a lock.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    /// Directory of regions and of daemons' sockets (*.sock) [env: DOMSTAT_DIR]
    #[arg(long, global = true, value_name = "DIR", value_parser = maybe_empty())]
    dir: Option<PathBuf>,
    /// Read from this socket only; `run` serves at it [env: DOMSTAT_SOCKET]
    #[arg(long, global = true, value_name = "PATH", value_parser = maybe_empty())]
    socket: Option<PathBuf>,
    /// Also look into processes, as root: finds domains in jails, which are called NAME@PID
    #[arg(long, global = true, conflicts_with = "socket")]
    scan: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(command::demo::Args),
    Run(command::run::Args),
    Ls(command::ls::Args),
    Show(command::show::Args),
    Check(command::check::Args),
    Abi(command::abi::Args),
    Conform(command::conform::Args),
    Export(command::export::Args),
    #[cfg(feature = "otlp")]
    Push(command::push::Args),
    Top(command::top::Args),
    Man(command::man::Args),
    Completions(command::completions::Args),
    /// Print the version
    #[command(after_help = "Example:\n  domstat version")]
    Version,
    Block(command::block::Args),
    Events(command::events::Args),
}

/// A path, or nothing.
fn maybe_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not clap's: it would name these options in the usage of errors if the variables are set.
    // A variable that is set to nothing is not set.
    let given = |option: Option<PathBuf>, variable| {
        let path = option.or_else(|| std::env::var_os(variable).map(PathBuf::from))?;
        (!path.as_os_str().is_empty()).then_some(path)
    };
    let (dir, socket) = (given(cli.dir, "DOMSTAT_DIR"), given(cli.socket, "DOMSTAT_SOCKET"));
    let (dir, socket) = (dir.as_deref(), socket.as_deref());
    let places = locate::Places { dir, socket, scan: cli.scan };
    let result = match cli.command {
        Command::Demo(args) => command::demo::run(&args, dir),
        Command::Run(args) => command::run::run(&args, places),
        Command::Ls(args) => command::ls::run(&args, places),
        Command::Show(args) => command::show::run(&args, places),
        Command::Check(args) => command::check::run(&args, places),
        Command::Abi(args) => command::abi::run(&args),
        Command::Conform(args) => command::conform::run(&args),
        Command::Export(args) => command::export::run(&args, places),
        #[cfg(feature = "otlp")]
        Command::Push(args) => command::push::run(&args, places),
        Command::Top(args) => command::top::run(&args, places),
        Command::Man(args) => command::man::run(&args, Cli::command()),
        Command::Completions(args) => command::completions::run(&args, Cli::command()),
        Command::Version => command::version(),
        Command::Block(args) => command::block::run(&args, dir),
        Command::Events(args) => command::events::run(&args, dir),
    };
    match result {
        Ok(code) => code,
        // Who reads our output has seen enough.
        Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // It may hold what other processes wrote: names, paths, a daemon's words.
            output::message::message(&output::printable(&failure.to_string()));
            failure.exit_code()
        }
    }
}
