//! The code in README.md and in the tutorial, compiled and run as documentation tests.
#![doc = include_str!("../../README.md")]
#![doc = include_str!("../../docs/tutorial.md")]

#[doc = include_str!("../../docs/handover.md")]
mod handover {}
