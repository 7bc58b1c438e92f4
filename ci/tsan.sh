#!/usr/bin/env bash
# Runs the threads tests under ThreadSanitizer, which must be silent, after one with a data race
# in it, which must not be. Assembly is invisible to the tool: only the portable form is built.
source "$(dirname "$0")/common.sh"
target=x86_64-unknown-linux-gnu
export RUSTC_BOOTSTRAP=1
# With line tables only, functions have other names than those that are looked for below.
export CARGO_PROFILE_DEV_DEBUG=full
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg domstat_portable"
# The tool knows no fences. The protocol needs none to be free of data races, since all its accesses
# are atomic; in the standard library, Arc does when it is dropped, and so does the channel on which
# the test harness hears of results. Nothing of this project's is below these functions.
suppressions=$(mktemp)
trap 'rm -f "$suppressions"' EXIT
cat > "$suppressions" <<'EOT'
race:<alloc::sync::Arc<*> as core::ops::drop::Drop>::drop
race:<test::event::CompletedTest
EOT
export TSAN_OPTIONS="halt_on_error=1 suppressions=$suppressions"
test() { cargo test --locked --target "$target" "$@"; }

# On a busy machine its two threads may run one after the other, and then there is no race.
found=
for _ in 1 2 3 4 5; do
    race=$(test -p domstat-tests --test torn -- --ignored 2>&1) || { found=1 && break; }
done
[ "$found" ] || fail "the data race was not found in five runs"
grep -q '^WARNING: ThreadSanitizer: data race' <<< "$race" &&
    grep -q '^ *#0 core::ptr::read_volatile' <<< "$race" ||
    fail "the data race was not found: $race"
echo "a data race that is there is found"

said=$(test -p domstat-tests --test torn -- one_process:: 2>&1) || fail "$said"
# Under that name there are tests.
grep -E '^test result: ok\. [1-9]' <<< "$said" || fail "no test ran: $said"
test -p domstat-tests --test concurrency
