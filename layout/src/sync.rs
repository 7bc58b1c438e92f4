//! Atomics of the protocol. `tests/loom.rs` replaces them by loom's.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
