#!/usr/bin/env bash
# Measures the exporter and the live screen under load: tools/load.sh [DOMAINS...]
# Environment: FLEET and EXPORT, further options of domstat-fleet and of domstat export, such as
# FLEET='--causes --histograms' (revision 5) and EXPORT='--include *' (everything).
source "$(dirname "$0")/../ci/common.sh"
cargo build --quiet --release --locked -p domstat
cargo build --quiet --release --locked -p domstat-bench --bin domstat-fleet
bin=${CARGO_TARGET_DIR:-target}/release
export DOMSTAT_DIR
DOMSTAT_DIR=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
    rm -rf "$DOMSTAT_DIR"
}
trap finish EXIT

# Words, none of them a pattern of files.
set -f
fleet_options=(${FLEET:-}) export_options=(${EXPORT:-})
set +f

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

for domains in "${@:-1000}"; do
    "$bin/domstat-fleet" --domains "$domains" --rate 1 --seconds 600 "${fleet_options[@]}" > "$DOMSTAT_DIR/said" & fleet=$!
    started+=("$fleet")
    until grep -q domains "$DOMSTAT_DIR/said"; do sleep 0.2; done
    "$bin/domstat" export --listen 127.0.0.1:9957 "${export_options[@]}" 2> /dev/null & export=$!
    started+=("$export")
    until curl -sf -o /dev/null http://127.0.0.1:9957/-/healthy; do sleep 0.1; done
    for accept in "application/openmetrics-text; version=1.0.0" text/plain; do
        echo "$domains domains, $accept: bytes, seconds"
        for _ in 1 2 3 4 5; do
            curl -s -o /dev/null -H "Accept: $accept" -w '%{size_download} %{time_total}\n' \
                http://127.0.0.1:9957/metrics
        done
    done
    grep -E 'VmHWM|RssAnon' "/proc/$export/status"
    # A screen needs a terminal.
    session=domstat-load-$$
    tmux new-session -d -s "$session" -x 120 -y 40 \
        "DOMSTAT_DIR=$DOMSTAT_DIR exec $(realpath "$bin")/domstat top -d 0.1"
    top=$(tmux list-panes -t "$session" -F '#{pane_pid}')
    sleep 3
    before=$(cpu_ticks "$top")
    sleep 10
    echo "domstat top at 10 Hz: $(($(cpu_ticks "$top") - before)) of 1000 ticks"
    tmux kill-session -t "$session"
    kill "$export" "$fleet"
    wait "$export" "$fleet" 2> /dev/null || true
done
