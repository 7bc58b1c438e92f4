#!/usr/bin/env bash
# Draws docs/top.svg: `domstat top` of 14 made-up domains, one whose producer died, and a micro-VM if
# there is /dev/kvm.
source "$(dirname "$0")/../ci/common.sh"
cargo build --quiet --locked -p domstat
cargo build --quiet --locked -p domstat-bench --bin domstat-fleet
bin=$(realpath "${CARGO_TARGET_DIR:-target}/debug")
DOMSTAT_DIR=$(mktemp -d)
export DOMSTAT_DIR
started=()
session=domstat-picture-$$
finish() {
    tmux kill-session -t "$session" 2> /dev/null || true
    for pid in "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
    rm -rf "$DOMSTAT_DIR"
}
trap finish EXIT
"$bin/domstat" run process --pid $$ --name old-vm 2> /dev/null & old=$!
until [ -L "$DOMSTAT_DIR/old-vm.domstat" ]; do sleep 0.1; done
kill -KILL $old
"$bin/domstat-fleet" --domains 14 --vcpus 4 --rate 20 --seconds 600 > /dev/null & started+=($!)
if (: <> /dev/kvm) 2> /dev/null; then
    "$bin/domstat" run kvm --vcpus 2 --name micro 2> /dev/null & started+=($!)
fi
tmux new-session -d -s "$session" -x 120 -y 24 "DOMSTAT_DIR=$DOMSTAT_DIR exec $bin/domstat top"
sleep 20
tmux send-keys -t "$session" Down
sleep 1
tmux capture-pane -e -p -t "$session" | tools/picture.py 120 > docs/top.svg
