#!/usr/bin/env bash
# Boots Debian's Linux under QEMU's TCG and judges what domstat says of it, and in it.
#   ci/linux.sh [VERB...]    verbs of tools/qemu-guest.py; without one all of them
# LINUX_DIR is where packages and images are kept (default: linux in cargo's target directory).
source "$(dirname "$0")/common.sh"
verbs=("$@")
[ $# -gt 0 ] || verbs=(disk balloon errors limits)
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
dir=${LINUX_DIR:-$target/linux}
for tool in qemu-system-x86_64 cpio gcc; do
    command -v $tool > /dev/null || fail "there is no $tool: see ci/setup.sh"
done
cargo build --locked -p domstat
export GUEST=$dir DOMSTAT=$target/debug/domstat
tests/linux/fetch.sh "$dir"
tests/linux/image.sh "$dir" "$DOMSTAT"
for verb in "${verbs[@]}"; do
    tools/qemu-guest.py "$verb" 2> "$dir/$verb.err" || { tail -n 20 "$dir/$verb.err" >&2; fail "$verb: the numbers differ"; }
done
