//! Failure of a command: one line that says what happened and what to do.
//!
//! One enum serves all verbs, so that the exit codes that scripts rely on stand in one table,
//! [`Failure::exit_code`], which the compiler keeps complete.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use domstat_consumer::AttachError;
use domstat_consumer::attach::Truncated;
use domstat_invariant_checker::NotAttachable;
use domstat_layout::SchemaError;
use domstat_producer::{AnnounceError, CreateError, RegionTruncated, ServeError};
use domstat_sources::SourceError;
use domstat_sources::contract::{ControlError, ErrorCode};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("{domain}: {source}")]
    Lost { domain: String, source: Truncated },
    #[error("{path}: {source}")]
    NotAttachable { path: String, source: NotAttachable },
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("a plain file is not handed over by a socket: use --file or --socket")]
    FileAndSocket,
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    #[error(transparent)]
    Truncated(#[from] RegionTruncated),
    #[error("{}", .0.with_causes())]
    Source(#[from] SourceError),
    #[error(
        "no directory for regions: set DOMSTAT_DIR, or XDG_RUNTIME_DIR as a login session does"
    )]
    NoDirectory,
    #[error("labels: {why}")]
    Labels { why: String },
    #[error("--name and --file are for one domain: choose it with --domid")]
    OneDomainOnly,
    #[error("more than one process says that it is {domain}: choose one of {owners}")]
    Ambiguous { domain: String, owners: String },
    #[error("the producer of {name} has exited: its last values are no longer shown")]
    ProducerGone { name: String },
    #[error(
        "{domain} does not describe itself: its producer's revision is {revision}, and 4 added it"
    )]
    NoSchema { domain: String, revision: u32 },
    #[error("{domain}: {source}")]
    Schema { domain: String, source: SchemaError },
    #[error("{path}: {why}")]
    Layout { path: String, why: String },
    #[error("cannot {action}: {source}")]
    Control { action: String, source: io::Error },
    #[error("no daemon answers at {}: {source}; start one with domstat run libvirt or run qemu", .path.display())]
    NoDaemon { path: PathBuf, source: io::Error },
    #[error("the daemon at {} has ended: no more events come", .path.display())]
    DaemonEnded { path: PathBuf },
    #[error(
        "the daemon at {} closed the connection without a word: it died, or was killed",
        .path.display()
    )]
    DaemonDied { path: PathBuf },
    #[error("{disk}: the threshold of {threshold_bytes} bytes is not armed any more: {why}")]
    NotArmed { disk: String, threshold_bytes: u64, why: String },
    #[error(transparent)]
    Refused(ControlError),
    #[error("cannot {action}: {source}")]
    Check { action: String, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] domstat_exporter::server::TlsError),
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Push(#[from] domstat_exporter::otlp::PushError),
    #[error("{path} holds no token: {why}")]
    Token { path: String, why: String },
    #[error("cannot use {}: {why}", .path.display())]
    Config { path: PathBuf, why: String },
    #[error("not a terminal: use `domstat top -b`, which writes lines")]
    NoTerminal,
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot {action}: {source}")]
    Os { action: &'static str, source: io::Error },
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Attach(_)
            | Self::Lost { .. }
            | Self::NotAttachable { .. }
            | Self::Create(_)
            | Self::Announce(_)
            | Self::Truncated(_)
            | Self::Serve(_)
            | Self::Source(_)
            | Self::NoDirectory
            | Self::Ambiguous { .. }
            | Self::NoSchema { .. }
            | Self::Layout { .. }
            | Self::Schema { .. }
            | Self::NoDaemon { .. }
            | Self::DaemonEnded { .. }
            | Self::ProducerGone { .. } => ExitCode::from(3),
            #[cfg(feature = "otlp")]
            Self::Push(_) => ExitCode::from(4),
            Self::Config { .. }
            | Self::Labels { .. }
            | Self::NoTerminal
            | Self::FileAndSocket
            | Self::OneDomainOnly => ExitCode::from(2),
            Self::NotArmed { .. } => ExitCode::from(5),
            Self::DaemonDied { .. } => ExitCode::from(6),
            Self::Refused(error) if error.code == ErrorCode::Invalid => ExitCode::from(2),
            Self::Output(_)
            | Self::Os { .. }
            | Self::Check { .. }
            | Self::Listen { .. }
            | Self::Tls(_)
            | Self::Token { .. }
            | Self::Refused(_)
            | Self::Control { .. } => ExitCode::from(4),
        }
    }
}
