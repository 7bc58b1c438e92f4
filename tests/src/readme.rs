//! The code in docs/handover.md, compiled as documentation tests. The programs in README.md and in the
//! tutorial are examples of the crates (`ci/examples.sh`).
#![doc = include_str!("../../docs/handover.md")]
