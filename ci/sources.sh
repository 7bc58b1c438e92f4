#!/usr/bin/env bash
# Checks that each source compiles without the others: a program that pins other versions of a source's crates
# leaves that source out.
source "$(dirname "$0")/common.sh"
lint() { cargo clippy --quiet --locked -p domstat-sources --no-default-features "$@" -- -D warnings; }
lint
for feature in kvm process qemu xen; do lint --features "$feature"; done
tree=$(cargo tree --locked -p domstat-sources --no-default-features -e normal --prefix none)
! grep -E '^(kvm-|vmm-sys-util|virt-sys|glob)' <<< "$tree" || fail "the contracts need a source's crates"
echo "each source compiles without the others"
