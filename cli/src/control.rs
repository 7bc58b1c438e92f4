//! The daemon's control socket.
//!
//! [`domstat_sources::control`] defines its messages. The socket's permissions decide who
//! may connect: its owner and, for reading, its group. Requests that change a VM are for root and
//! the daemon's own user, by the credentials that the kernel vouches for.

use std::path::{Path, PathBuf};

use domstat_layout::directory::CONTROL_SOCKET;

pub(crate) mod client;
mod hub;
mod lines;
mod server;

pub(crate) use hub::Hub;
pub(crate) use server::Server;

/// Where the control socket is unless another path is given.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join(CONTROL_SOCKET)
}
