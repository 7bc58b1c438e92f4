#!/usr/bin/env bash
# Lints and tests what is built with the feature `otlp` only. OpenTelemetry's own Python classes decode
# what is pushed: OTLP_PYTHON is a Python that has them (default: one in cargo's target directory, with
# opentelemetry-proto from PyPI; where that cannot be had the test is skipped).
source "$(dirname "$0")/common.sh"
cargo clippy -p domstat-exporter -p domstat --features domstat/otlp,domstat-exporter/otlp \
    --all-targets --locked -- -D warnings
cargo test -p domstat-exporter --features otlp --test otlp --locked
if [ ! "${OTLP_PYTHON:-}" ]; then
    venv=${CARGO_TARGET_DIR:-target}/otlp-python
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || fail "there is no python3-venv: see ci/setup.sh"
    "$venv/bin/python" -c 'import opentelemetry.proto.metrics.v1.metrics_pb2' 2> /dev/null ||
        "$venv/bin/python" -m pip -q install 'opentelemetry-proto>=1.20' ||
        echo "there is no opentelemetry-proto to be had"
    OTLP_PYTHON=$(realpath "$venv")/bin/python
fi
DOMSTAT_TEST_OTLP_PYTHON=$OTLP_PYTHON cargo test -p domstat-exporter --features otlp --test otlp_consumer --locked
