#!/usr/bin/env bash
# Checks the producer without its default features: which crates it links, and that it compiles with each feature alone.
source "$(dirname "$0")/common.sh"
# Crates in the program; then those that only the compiler runs.
linked="bitflags domstat-layout domstat-producer linux-raw-sys rustix zerocopy"
derives="proc-macro2 quote syn unicode-ident zerocopy-derive"
found=$(cargo tree --locked -p domstat-producer --no-default-features -e normal --prefix none --format '{p}' | cut -d' ' -f1 | sort -u)
diff <(printf '%s\n' $linked $derives | sort) <(echo "$found") || fail "the producer needs other crates (>) than were agreed on (<)"
lint() { cargo clippy --quiet --locked -p domstat-producer --no-default-features "$@" -- -D warnings; }
lint
for feature in file server systemd thread-clock; do lint --features "$feature"; done
echo "the producer needs $(wc -w <<< "$linked") crates, and $(wc -w <<< "$derives") that the compiler runs"
