#!/usr/bin/env bash
# Drives the readers in Rust and in C by `domstat conform`: each passes every clause, and each fault that is
# planted into the one in C is found, by the clause that it breaks.
source "$(dirname "$0")/common.sh"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo build --quiet --locked -p domstat -p domstat-tests --bin domstat --bin domstat-reader-puppet
target=${CARGO_TARGET_DIR:-target}/debug
conform() { "$target/domstat" conform reader -- "$@"; }
"${CC:-cc}" -std=gnu11 -O2 -Wall -Wextra -Wpedantic -Werror -I layout/include/domstat \
    tests/c/reader_puppet.c -o "$dir/reader"

for reader in "$target/domstat-reader-puppet" "$dir/reader"; do
    conform "$reader" > "$dir/report" || { cat "$dir/report"; fail "$reader does not pass"; }
    echo "$(basename "$reader"): $(grep -c '^ok' "$dir/report") clauses," \
        "$(grep -c '# SKIP' "$dir/report") of them not claimed"
done

# Fault, and the clause that finds it.
faults=(
    does-not-look-at-seq:RD-8 looks-at-seq-once:RD-8 ignores-bits:RD-6 waits-for-what-is-not-active:RD-11
    waits-without-a-bound:RD-12 reads-past-the-record:RD-6 ends-where-a-group-begins:LA-15 knows-no-twins:RD-13
    not-produced-is-0:RD-14 not-produced-is-a-number:RD-14 saturated-is-a-number:RD-14 signed:RD-15
    floating-point:RD-15 text-without-an-end:RD-24 steps-by-size:RD-7 takes-every-header:RD-4
    refuses-later-revisions:RD-17 refuses-for-the-schema:RD-18
)
for entry in "${faults[@]}"; do
    (
        fault=${entry%:*} clause=${entry#*:}
        if conform "$dir/reader" "$fault" > "$dir/$fault"; then fail "$fault is not found"; fi
        grep -q "^not ok [0-9]* - $clause:" "$dir/$fault" || { cat "$dir/$fault"; fail "$fault: not found by $clause"; }
    ) &
    [ "$(jobs -rp | wc -l)" -lt 6 ] || wait -n
done
for job in $(jobs -p); do wait "$job"; done
echo "${#faults[@]} of ${#faults[@]} faults are found"
