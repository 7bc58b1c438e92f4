#!/usr/bin/env bash
# Runs the test suite under AddressSanitizer and LeakSanitizer, which must be silent, after one test
# that reads past the end of its memory, on which it must not be. Takes some minutes; arguments go to
# the tests.
source "$(dirname "$0")/common.sh"
target=x86_64-unknown-linux-gnu
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer"
# Guarded mappings have a handler of SIGBUS, and hand on to the one before, which must be the
# system's for the tests of that.
export ASAN_OPTIONS=handle_sigbus=0
test() {
    cargo test --locked --target "$target" --target-dir "${CARGO_TARGET_DIR:-target}/asan" "$@"
}

past=$(test -p domstat-tests --test address -- --ignored 2>&1) && fail "the read past the end was not found"
grep -q '^==[0-9]*==ERROR: AddressSanitizer: heap-buffer-overflow' <<< "$past" ||
    fail "the read past the end was not found: $past"
echo "a read past the end that is there is found"

# Not those that count allocations and forbid system calls: the tool makes both.
test --workspace --no-fail-fast --lib --bins --tests -- --skip quiet \
    --skip the_checks_can_fail --skip a_snapshot_only_looks_at_the_clock "$@"
