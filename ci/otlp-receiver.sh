#!/usr/bin/env bash
# Pushes a micro-VM's statistics to a receiver that others wrote, VictoriaMetrics from Debian 13's package
# (unpacked, not installed), and compares its answers to queries with the region. Not part
# of .ci/run, because it needs another release's package.
source "$(dirname "$0")/common.sh"
target=$(realpath "${CARGO_TARGET_DIR:-target}")
dir=$target/otlp-receiver
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
if [ ! -x "$dir/root/usr/bin/victoria-metrics" ]; then
    # An index of its own: the machine's stays as it is.
    echo "deb http://deb.debian.org/debian trixie main" > "$dir/list"
    own=(-o Dir::Etc::sourcelist="$dir/list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/lists"
        -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root)
    apt-get -q "${own[@]}" update
    (cd "$dir" && apt-get -q "${own[@]}" download victoria-metrics)
    dpkg-deb -x "$dir"/victoria-metrics_*.deb "$dir/root"
fi
cargo build --quiet --locked -p domstat --features otlp
rm -rf "$dir/data" "$dir/regions"
mkdir "$dir/regions"
export DOMSTAT_DIR=$dir/regions
trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT
"$dir/root/usr/bin/victoria-metrics" -storageDataPath="$dir/data" -httpListenAddr=127.0.0.1:19428 \
    -search.latencyOffset=0s &> "$dir/log" &
"$target/debug/domstat" run kvm --name web1 2> "$dir/run.log" &
python3 ci/otlp_receiver.py "$target/debug/domstat" http://127.0.0.1:19428
