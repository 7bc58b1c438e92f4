#!/usr/bin/env bash
# Measures `domstat run libvirt` with 10 VMs of a libvirtd of its own (ci/libvirt.sh): keys next to `virsh domstats`;
# 50 thresholds across restarts of libvirtd and of the daemon; one VM that is stopped. Fails if a threshold is lost or
# duplicated, or another VM's numbers are older than 3 intervals. Takes minutes, so it is not part of .ci/run. With the
# argument `cost` it also measures costs and ages next to prometheus-libvirt-exporter: only on a machine without other
# load.
source "$(dirname "$0")/common.sh"
if [ -z "${DOMSTAT:-}" ]; then
    cargo build --release --locked -p domstat --features libvirt
    DOMSTAT=target/release/domstat
fi
DOMSTAT=$(realpath "$DOMSTAT")
export DOMSTAT
for verb in "keys 10" "firings 50 10" "stuck 10" ${1:+"$1 10"}; do
    # shellcheck disable=SC2086 # a verb and its numbers
    ci/libvirt.sh exec tools/libvirt-figures.py $verb
done
