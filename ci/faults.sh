#!/usr/bin/env bash
# Harms writers, files and the machine while readers check every value: ci/faults.sh [N], with N
# kills and stops of a writer (default 300), ci/faults.sh 10000 for the figures of docs/trust.md.
source "$(dirname "$0")/common.sh"
faults() { cargo run --quiet --locked --release -p domstat-tests --bin domstat-faults -- "$@"; }
torn=$(faults --torn --case kill --faults 40) && fail "a writer of torn values was not found out: $torn"
grep -q '^| SIGKILL | [0-9]* | [0-9]* | [1-9]' <<< "$torn" || fail "no torn value was found: $torn"
echo "torn values that are there are found"
faults --faults "${1:-300}"
