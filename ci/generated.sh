#!/usr/bin/env bash
# Compares what is generated from the code with what is checked in; --fix writes it.
source "$(dirname "$0")/common.sh"
made=$(mktemp)
trap 'rm -f "$made"' EXIT

compare() { # crate example file argument...
    cargo run --quiet --locked -p "$1" --example "$2" -- "${@:4}" > "$made"
    if [ "${fix:-}" ]; then
        cp "$made" "$3"
    else
        diff -u "$3" "$made" || fail "$3 is stale: run ci/generated.sh --fix"
    fi
}

[ "${1:-}" = --fix ] && fix=1
compare domstat-layout layout-table layout/TABLE.md
compare domstat-invariant-checker rules-table docs/checker.md
compare domstat-exporter metrics-table docs/metrics.md
revisions=$(cargo run --quiet --locked -p domstat-abi --example c-header)
for n in $revisions; do
    compare domstat-abi c-header "layout/include/domstat/r$n.h" "$n"
done
if [ "${fix:-}" ]; then
    cargo run --quiet --locked -p domstat-tests --bin domstat-peer -- golden tests/golden # only new ones
fi
