#!/usr/bin/env bash
# Runs the checks that take too long for .ci/run: all of them, or those that are named.
#   ci/long.sh [NAME...]    NAME is the script without its suffix: ci/long.sh faults xen
# Each log stays in cargo's target directory, under long/; the last line of each is printed, and at the end
# what failed.
source "$(dirname "$0")/common.sh"
logs=${CARGO_TARGET_DIR:-target}/long
mkdir -p "$logs"
checks=(
    "asan.sh"
    "faults.sh 10000"
    "fuzz.sh 600"
    "hostile.sh mixed 600"
    "libkrun.sh"
    "libvirt-fleet.sh"
    "mutants.py"
    "otlp-receiver.sh"
    "package.sh --verify"
    "qemu-native.sh"
    "systemd.sh"
    "xen.sh patched"
)
failed=()
for check in "${checks[@]}"; do
    name=${check%%.*}
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    echo "=== ci/$check"
    began=$SECONDS
    read -ra command <<< "ci/$check"
    if "${command[@]}" &> "$logs/$name.log"; then said=passed; else said=FAILED failed+=("$name"); fi
    echo "$said in $((SECONDS - began)) s: $(tail -n 1 "$logs/$name.log")"
done
for name in "$@"; do
    [[ " ${checks[*]%%.*} " == *" $name "* ]] || fail "no such check: $name (there are ${checks[*]%%.*})"
done
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}: see $logs"
