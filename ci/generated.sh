#!/usr/bin/env bash
# Compares what is generated from the code with what is checked in; --fix writes it.
source "$(dirname "$0")/common.sh"
made=$(mktemp)
trap 'rm -f "$made"' EXIT

xtask() { cargo run --quiet --locked -p xtask -- "$@"; }
# Standard input is what the file must be.
hold() { # file
    cat > "$made"
    if [ "${fix:-}" ]; then
        cp "$made" "$1"
    else
        diff -u "$1" "$made" || fail "$1 is stale: run ci/generated.sh --fix"
    fi
}

[ "${1:-}" = --fix ] && fix=1
if [ "${fix:-}" ]; then
    cargo run --quiet --locked -p domstat-tests --bin domstat-peer -- golden tests/golden # only new ones
fi
xtask layout-table | hold layout/TABLE.md
xtask rules-table | hold docs/checker.md
revisions=$(xtask c-header)
for n in $revisions; do
    xtask c-header "$n" | hold "layout/include/domstat/r$n.h"
done
xtask c-groups | hold layout/include/domstat/groups.h
{ xtask commands && xtask metrics-table; } | hold docs/reference.md
for page in README.md docs/tutorial.md docs/c-authors.md docs/devices.md; do
    xtask embed "$page" | hold "$page"
done
xtask limits docs/trust.md | hold docs/trust.md
xtask specification docs/spec.md | hold docs/spec.md
cargo run --quiet --locked -p domstat -- abi show --svg | hold docs/region.svg
