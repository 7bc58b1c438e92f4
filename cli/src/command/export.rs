//! `domstat export`: metrics over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use domstat_consumer::fleet::Fleet;
use domstat_exporter::Exporter;
use domstat_exporter::server::{Options, Tls, serve};

use crate::error::Failure;
use crate::locate::{self, Places};
use crate::output::message::message;
use crate::selection::SelectionArgs;
use crate::signals::Stop;

const EXAMPLES: &str = "\
Examples:
  domstat export
  curl -s http://127.0.0.1:9956/metrics | promtool check metrics
  domstat export --include default,exits,blk_hist
  domstat export --vcpus sum --exclude sched
  domstat export --listen '[::]:9956' --token-file token \\
      --tls-cert host.pem --tls-key host.key

A scrape shows all domains of the host at one moment. Statistics that are not produced have no \
series; a removed domain has none from the next scrape on. `_created` of a counter changes when its \
producer starts again. docs/reference.md lists the names.

systemd can pass the listening socket; --listen is then ignored.";

/// Serve the statistics of all domains as OpenMetrics over HTTP, for Prometheus and others
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9956")]
    listen: SocketAddr,
    /// Concurrent scrapes; further ones wait, and are refused with status 503 after 5 s
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u8).range(1..=64))]
    max_scrapes: u8,
    /// Time for a client to read its answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = super::show::seconds)]
    timeout: Duration,
    /// Omit the start times of counters (_created): half as many series in Prometheus
    #[arg(long)]
    no_created: bool,
    /// Require the token in FILE as `Authorization: Bearer`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve HTTPS with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
}

pub(crate) fn run(args: &Args, places: Places<'_>) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    let fleet = places.fleet()?;
    warn_unreadable(&fleet, places);
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => Some(Tls::from_files(cert, key)?),
        _ => None,
    };
    let token = args.token_file.as_deref().map(token).transpose()?;
    let listener = listener(args.listen)?;
    let os = |action| move |source| Failure::Os { action, source };
    let at = listener.local_addr().map_err(os("read the address of the listening socket"))?;
    if !at.ip().is_loopback() && (tls.is_none() || token.is_none()) {
        message(&format!(
            "{at} is reachable from other hosts: \
             use --tls-cert, --tls-key and --token-file, or a firewall"
        ));
    }
    locate::raise_limit_of_files();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let options = Options {
        max_scrapes: usize::from(args.max_scrapes),
        timeout: args.timeout,
        created: !args.no_created,
        token,
        tls,
    };
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        while !stop.wait(Duration::from_secs(3600)) {}
        let _ = stopping.send(());
    });
    let place = fleet.place().display();
    message(&format!("{place} at {scheme}://{at}/metrics; stop with Ctrl-C"));
    // Fails only where no service manager waits for it.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let exporter = Exporter::of(fleet).with_selection(args.selection.selection());
    serve(exporter, listener, options, stopped).map_err(os("serve metrics"))?;
    Ok(ExitCode::SUCCESS)
}

/// Warns of a directory that cannot be read, which is otherwise an empty one. It may appear later.
pub(crate) fn warn_unreadable(fleet: &Fleet, places: Places<'_>) {
    if let (None, Err(error)) = (places.socket, std::fs::read_dir(fleet.place())) {
        let place = fleet.place().display();
        message(&format!(
            "cannot read {place}: {error}; there are no domains until it is readable"
        ));
    }
}

/// The listening socket: passed by systemd, or a new one.
fn listener(address: SocketAddr) -> Result<TcpListener, Failure> {
    if let Ok(Some(passed)) = listenfd::ListenFd::from_env().take_tcp_listener(0) {
        return Ok(passed);
    }
    // The library's backlog of 128 is short: a longer queue lets a flood delay others by more.
    TcpListener::bind(address).map_err(|source| Failure::Listen { address, source })
}

pub(crate) fn token(path: &Path) -> Result<String, Failure> {
    let failed = |why| Failure::Token { path: path.display().to_string(), why };
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    match text.trim() {
        "" => Err(failed("it is empty".to_owned())),
        token => Ok(token.to_owned()),
    }
}
