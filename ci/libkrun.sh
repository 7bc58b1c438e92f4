#!/usr/bin/env bash
# Patches libkrun, runs a guest in it, and judges what it publishes.
#   ci/libkrun.sh [VERB...]    verbs of tests/libkrun/judge.py; without one `check` and `books`
# DOMSTAT is the command, if it is not to be built. On Debian, as root, installs what is missing. Not part of
# .ci/run: docs/libkrun.md says how long it takes.
source "$(dirname "$0")/common.sh"
skip() { echo "skipped: $*"; exit 0; }
[ "$(uname -m)" = x86_64 ] || skip "the guest is for x86-64"
(: <> /dev/kvm) 2> /dev/null || skip "/dev/kvm cannot be opened"
missing=()
need() { command -v "$1" > /dev/null || missing+=("$2"); }
need gcc gcc
need ld binutils
need patch patch
need taskset util-linux
need python3 python3
echo '#include <stdint.h>' | gcc -E - &> /dev/null || missing+=(libc6-dev)
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || fail "these are missing: ${missing[*]}"
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi
# What the guest needs of KVM: a VM with its interrupt controller in the kernel, and a vCPU.
python3 - << 'END' || skip "KVM cannot run the guest here"
import fcntl, os, sys
try:
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    vm = fcntl.ioctl(kvm, 0xAE01, 0)
    fcntl.ioctl(vm, 0xAE60, 0)
    fcntl.ioctl(vm, 0xAE41, 0)
except OSError as error:
    sys.exit(f"/dev/kvm: {error.strerror}")
END
src=target/libkrun/src
crates=${CARGO_HOME:-$HOME/.cargo}/registry/cache
mkdir -p "$src"
while read -r sum crate; do
    name=${crate%%-[0-9]*}
    version=${crate#"$name"-}
    cargo info --quiet "$name@${version%.crate}" > /dev/null 2>&1 || skip "Cargo's registry does not have $crate"
    file=$(find "$crates" -name "$crate" | head -n 1)
    [ -n "$file" ] || fail "Cargo did not keep $crate"
    echo "$sum  $file" | sha256sum --check --quiet || fail "$crate is not the one that the patch is for"
    # As in libkrun's repository: src/libkrun, src/vmm, src/devices.
    dir=$src/${name#krun-}
    rm -rf "$dir" && mkdir "$dir"
    tar -xzf "$file" -C "$dir" --strip-components 1
done < patches/libkrun/SHA256SUMS
for file in patches/libkrun/*.patch; do
    patch --quiet -p1 -d "$src" < "$file"
    echo "$file: $(grep -cE '^\+($|[^+])' "$file") lines added, $(grep -cE '^-($|[^-])' "$file") removed"
done
tests/libkrun/guest/build.sh target/libkrun/guest.rom
[ -n "${DOMSTAT:-}" ] || cargo build --locked -p domstat
export CARGO_TARGET_DIR=$PWD/target/libkrun/build
cargo build --locked --release --manifest-path tests/libkrun/Cargo.toml
cargo fmt --manifest-path tests/libkrun/Cargo.toml --check
export DOMSTAT=${DOMSTAT:-$PWD/target/debug/domstat}
tests/libkrun/judge.py "$CARGO_TARGET_DIR/release/domstat-libkrun" target/libkrun/guest.rom "$@"
