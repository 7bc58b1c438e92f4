//! The code in README.md, compiled and run as documentation tests.
#![doc = include_str!("../../README.md")]

#[doc = include_str!("../../docs/handover.md")]
mod handover {}
