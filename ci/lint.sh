#!/usr/bin/env bash
# Format, lints and documentation, warnings as errors.
source "$(dirname "$0")/common.sh"
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --manifest-path fuzz/Cargo.toml --no-default-features --all-targets --locked -- -D warnings
cargo fmt --manifest-path tests/no-std/Cargo.toml --check
cargo clippy --manifest-path tests/no-std/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/no-std" --locked -- -D warnings
cargo fmt --manifest-path tests/slim/Cargo.toml --check
cargo clippy --manifest-path tests/slim/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/slim" --locked -- -D warnings
cargo fmt --manifest-path bench/foreign/Cargo.toml --check
cargo clippy --manifest-path bench/foreign/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/foreign" --locked -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
