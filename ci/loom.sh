#!/usr/bin/env bash
# Runs the models of the seqlock protocol under every interleaving, of the writer in Rust and of the
# one in C; arguments go to the tests.
source "$(dirname "$0")/common.sh"
RUSTFLAGS="--cfg loom" cargo test --locked -p domstat-layout --test loom --test loom_c --release -- --nocapture "$@"
