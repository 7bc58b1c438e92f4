//! Fuzz targets: what a library makes of bytes that another process wrote, and goes on writing.
//!
//! Each target is a function over the fuzzer's bytes. Where it reads shared memory, they are a
//! region and a script of writes ([`Input`]), which a thread of its own performs again and again
//! while the region is attached and read. No target only waits for a crash: each says what must
//! hold of what came out.

pub mod checker;
pub mod control;
pub mod handover;
pub mod header;
mod live;
pub mod qmp;
pub mod rfc_v3;
pub mod schema;
pub mod snapshot;

use domstat_consumer::Patience;
use std::time::Duration;

pub use live::{Input, Write};

/// A reader that does not wait: time is what the fuzzer has least of.
const IMPATIENT: Patience = Patience { spins: 2, yielding: Duration::ZERO };
