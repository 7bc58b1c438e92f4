#!/usr/bin/env bash
# Lints and tests what is built with the feature `otlp` only.
source "$(dirname "$0")/common.sh"
cargo clippy -p domstat-exporter -p domstat --features domstat/otlp,domstat-exporter/otlp \
    --all-targets --locked -- -D warnings
cargo test -p domstat-exporter --features otlp --test otlp --locked
