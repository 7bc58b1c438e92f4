//! One file per verb.

pub(crate) mod abi;
pub(crate) mod block;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod conform;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod ls;
pub(crate) mod man;
#[cfg(feature = "otlp")]
pub(crate) mod push;
pub(crate) mod run;
pub(crate) mod show;
mod tapdisk;
pub(crate) mod top;

/// `domstat version`, for those who look for a verb.
pub(crate) fn version() -> Result<std::process::ExitCode, crate::error::Failure> {
    use std::io::Write;
    writeln!(std::io::stdout(), "domstat {}", env!("CARGO_PKG_VERSION"))?;
    Ok(std::process::ExitCode::SUCCESS)
}
