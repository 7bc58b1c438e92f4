#!/usr/bin/env bash
# Hostile peers against the programs, and what the others notice of it:
#   ci/hostile.sh                  a row for each behavior of each boundary, as Markdown
#   ci/hostile.sh mixed [SECONDS]  all of them at once next to 20 well-behaved VMs (default 60)
# PROFILE=release gives the figures of docs/trust.md. As root, clients attack as another user.
source "$(dirname "$0")/common.sh"
profile=${PROFILE:-dev}
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
cargo build --quiet --locked --profile "$profile" -p domstat -p domstat-tests --bin domstat --bin domstat-hostile
out=$target/${profile/#dev/debug}
hostile() { "$out/domstat-hostile" --domstat "$out/domstat" "$@"; }
if [ "${1:-}" = mixed ]; then
    hostile mixed "${2:-60}"
    exit
fi
hostile --strict --only control-garbage &> /dev/null && fail "a bound that is broken was not found"
hostile
# Clients of an exporter with a certificate or a token.
cargo test --quiet --locked -p domstat --test hostile_http -- --nocapture https_ token | sed -n 's|^.*hostile: ||p'
