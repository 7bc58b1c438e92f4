//! The atomics that the protocol is written in. `tests/loom.rs` puts loom's in their place.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
