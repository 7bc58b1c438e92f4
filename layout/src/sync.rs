//! The atomics that the protocol is written in.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
