#!/usr/bin/env bash
# Compiles the libraries that other programs depend on with the oldest compiler that they promise.
# Without rustup nothing is compiled; clippy looks for calls that are too new in any case (ci/lint.sh).
source "$(dirname "$0")/common.sh"
crates="domstat-layout domstat-producer domstat-consumer"
oldest=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
named = {p["name"]: p["rust_version"] for p in json.load(sys.stdin)["packages"]}
print(*{named[name] for name in sys.argv[1:]})' $crates)
[ "$(wc -w <<< "$oldest")" = 1 ] || fail "the libraries promise different compilers: $oldest"
if ! rustup toolchain install "$oldest" --profile minimal --no-self-update > /dev/null 2>&1; then
    echo "skipped: no toolchain $oldest can be had"
    exit
fi
for name in $crates; do
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/msrv cargo "+$oldest" check --quiet --locked -p "$name"
done
echo "the libraries compile with Rust $oldest"
