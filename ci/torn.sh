#!/usr/bin/env bash
# Hunts for torn reads between two processes: ci/torn.sh, ci/torn.sh soak (a hundred times longer).
source "$(dirname "$0")/common.sh"
case ${1:-} in
    '') reads=10000000 kills=1000 ;;
    soak) reads=1000000000 kills=100000 ;;
    *) fail "usage: ci/torn.sh [soak]" ;;
esac
torn() { cargo run --quiet --locked --release -p domstat-tests --bin domstat-torn -- "$@"; }
torn --no-check
torn --reads "$reads"
torn --kill "$kills"
echo "a writer in C:"
mkdir -p "${CARGO_TARGET_DIR:-target}/c"
writer=${CARGO_TARGET_DIR:-target}/c/torn
cc -std=gnu11 -O2 -I layout/include/domstat tests/c/torn.c -o "$writer"
torn --reads "$((reads / 10))" --writer "$writer"
torn --kill "$((kills / 10))" --writer "$writer"
