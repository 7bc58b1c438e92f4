#!/usr/bin/env bash
# Format, lints and documentation, warnings as errors.
source "$(dirname "$0")/common.sh"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
