//! The daemon's control socket.
//!
//! [`domstat_sources::control`] defines its messages. The socket's permissions decide who
//! may connect: its owner and, for reading, its group. Requests that change a VM are for root and
//! the daemon's own user, by the credentials that the kernel vouches for.

use std::path::{Path, PathBuf};

use domstat_layout::directory::CONTROL_SOCKET;

mod armed_file;
pub(crate) mod client;
mod hub;
mod lines;
mod server;

pub(crate) use armed_file::ArmedFile;
pub(crate) use hub::Hub;
pub(crate) use server::Server;

/// Where the thresholds that are armed are kept: next to the control socket.
pub(crate) fn armed_path(control: &Path) -> PathBuf {
    control.with_extension("thresholds")
}

/// Where the control socket is unless another path is given.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join(CONTROL_SOCKET)
}
