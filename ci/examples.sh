#!/usr/bin/env bash
# Runs the programs that the documentation shows, each against the others: a region is published,
# read in Rust and in C, and removed when its producer ends.
source "$(dirname "$0")/common.sh"
cargo build --quiet --locked --examples -p domstat-producer -p domstat-consumer
cargo build --quiet --locked -p domstat
bin=${CARGO_TARGET_DIR:-target}/debug/examples
domstat=${CARGO_TARGET_DIR:-target}/debug/domstat
DOMSTAT_DIR=$(mktemp -d)
export DOMSTAT_DIR
entry=$DOMSTAT_DIR/hello.domstat
"$bin/publish" > "$DOMSTAT_DIR/log" &
producer=$!
trap 'kill $producer 2> /dev/null || true; rm -rf "$DOMSTAT_DIR"' EXIT
for _ in $(seq 100); do [ -e "$entry" ] && break; sleep 0.1; done
[ -e "$entry" ] || fail "nothing was published: $(cat "$DOMSTAT_DIR/log")"

# A vCPU's line, with some time in it.
line='^vCPU [01]: ran [1-9][0-9]* ns'
cc -std=gnu11 -O2 -Wall -Wextra -Werror -I layout/include/domstat layout/examples/read.c -o "$DOMSTAT_DIR/read"
sleep 0.2
read=$("$DOMSTAT_DIR/read" "$entry" 2)
[ "$(grep -cE "$line" <<< "$read")" = 4 ] || fail "the reader in C: $read"
read=$("$bin/read" "$entry")
[ "$(grep -cE "$line" <<< "$read")" = 2 ] || fail "the reader in Rust: $read"
fleet=$("$bin/fleet" "$DOMSTAT_DIR" 1)
grep -qE '^hello: ran [1-9][0-9]* ns$' <<< "$fleet" || fail "the reader of a fleet: $fleet"
"$bin/events" "$entry" > "$DOMSTAT_DIR/events" &
events=$!
sleep 0.2
echo "publish, and readers in Rust and C: well"

kill -INT $producer
wait $producer
wait $events
tail -n 1 "$DOMSTAT_DIR/events" | grep -qE '^the domain is (retired|dead)$' || fail "events: $(cat "$DOMSTAT_DIR/events")"
[ ! -L "$entry" ] || fail "the entry outlives its producer"

cc -std=gnu11 -O2 -Wall -Wextra -Werror -pthread -I layout/include/domstat layout/examples/write.c -o "$DOMSTAT_DIR/write"
entry=$DOMSTAT_DIR/hello-c.domstat
"$DOMSTAT_DIR/write" > "$DOMSTAT_DIR/log" &
producer=$!
for _ in $(seq 100); do [ -e "$entry" ] && break; sleep 0.1; done
[ -e "$entry" ] || fail "nothing was published in C: $(cat "$DOMSTAT_DIR/log")"
sleep 0.3
for reader in "$bin/read $entry" "$DOMSTAT_DIR/read $entry 1"; do
    read=$($reader)
    [ "$(grep -cE "$line" <<< "$read")" = 2 ] || fail "$reader of the producer in C: $read"
done
kill -INT $producer
wait $producer
[ ! -L "$entry" ] || fail "the entry outlives its producer in C"
echo "after Ctrl-C the entries are removed"

# A disk that another process serves: it is killed, and the next one goes on.
"$bin/device" > "$DOMSTAT_DIR/log" &
producer=$!
socket=$DOMSTAT_DIR/hello-device.sock
for _ in $(seq 100); do [ -e "$socket" ] && break; sleep 0.1; done
reads() { "$domstat" show hello-device --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["blks"][0]["groups"]["io"]["fields"]["rd_req"])'; }
before=$(reads)
kill -KILL "$(pgrep -P $producer)"
sleep 0.5
after=$(reads)
[ "$after" -gt "$before" ] || fail "reads of the device: $before, then $after"
kill -INT $producer
wait $producer
echo "a device process was killed, and the next one went on: $before reads, then $after"
