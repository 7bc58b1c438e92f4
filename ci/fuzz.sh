#!/usr/bin/env bash
# Runs the coverage-guided fuzz targets, as many at once as there are CPUs: ci/fuzz.sh [SECONDS
# [TARGET...]], by default 60 seconds each of all, as CI does; ci/fuzz.sh 3600 for an hour each. New
# inputs and crashes go to target/fuzz; a crash is an input file that the target's program takes as
# argument.
source "$(dirname "$0")/common.sh"
seconds=${1:-60}
shift $(($# ? 1 : 0))
targets=("$@")
[ $# -gt 0 ] || targets=(header schema snapshot rfc_v3 handover checker qmp control)
# What `cargo fuzz` asks a nightly compiler for: counters and comparisons for libFuzzer, and
# AddressSanitizer.
coverage=(--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address
    -Cunsafe-allow-abi-mismatch=sanitizer -Cdebug-assertions -Coverflow-checks)
triple=x86_64-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
RUSTC_BOOTSTRAP=1 RUSTFLAGS="${coverage[*]}" \
    cargo build --quiet --locked --release --manifest-path fuzz/Cargo.toml --target "$triple" --target-dir "$target"

run() { # target corpus found seconds
    "$target/$triple/release/$1" -max_total_time="$4" -timeout=20 -rss_limit_mb=4096 -max_len=16384 \
        -len_control=0 -artifact_prefix="$target/$1-" -print_final_stats=1 "$3" "fuzz/corpus/$2"
}

# In a schema that is legal, and that no seed is.
mkdir -p "$target/planted"
DOMSTAT_FUZZ_PLANTED=1 run schema schema "$target/planted" 60 &> "$target/planted.log" &&
    fail "the planted fault was not found, see $target/planted.log"
grep -q 'the planted fault' "$target/planted.log" || fail "another fault was found, see $target/planted.log"
rm -rf "$target"/planted "$target"/schema-crash-*
echo "a planted fault is found"

look() { # target
    local name=$1 seeds found=$target/found/$1 log=$target/$1.log runs last
    case $name in
        header | snapshot | checker) seeds=region ;;
        *) seeds=$name ;;
    esac
    mkdir -p "$found"
    run "$name" "$seeds" "$found" "$seconds" > "$log" 2>&1 || {
        tail -n 60 "$log"
        fail "$name: a crash, see $log"
    }
    # Without coverage it would be a shot in the dark.
    grep -q 'cov: [1-9]' "$log" || fail "$name: no coverage is counted, see $log"
    [ -n "$(ls "$found")" ] || fail "$name: no input was kept for what it covers, see $log"
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    last=$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)
    echo "$name: $runs runs in $seconds s, $last, no crash"
}

# Each in a process group, to end them all.
set -m
looks=()
trap 'for one in $(jobs -rp); do kill -- "-$one" || true; done' EXIT
for name in "${targets[@]}"; do
    [ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n
    look "$name" &
    looks+=($!)
done
for one in "${looks[@]}"; do wait "$one"; done
