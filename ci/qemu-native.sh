#!/usr/bin/env bash
# Builds Debian's QEMU 7.2 with the patches of patches/qemu/ and judges what it publishes of itself.
#   ci/qemu-native.sh [VERB...]    verbs of tools/qemu-native.py; without one `boot`
# QEMU_DIR is where source and build are kept (default: qemu in cargo's target directory), JOBS
# how many compilers run at a time. Not part of .ci/run: docs/qemu.md says how long it takes.
# Needs root, to install packages and to stop QEMU's main loop by ptrace.
source "$(dirname "$0")/common.sh"
repository=$PWD
verbs=("$@")
[ $# -gt 0 ] || verbs=(boot)
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
dir=${QEMU_DIR:-$target/qemu}
mkdir -p "$dir/source/lists/partial"
dir=$(cd "$dir" && pwd)
version=7.2+dfsg-7+deb12u18
export DEBIAN_FRONTEND=noninteractive

missing=()
for package in gcc g++ ninja-build pkg-config patch python3 libglib2.0-dev libpixman-1-dev libfdt-dev zlib1g-dev \
    libseccomp-dev qemu-system-x86; do
    dpkg-query -W -f '${Status}' $package 2> /dev/null | grep -q 'ok installed' || missing+=($package)
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get -q update
    apt-get -q install -y --no-install-recommends "${missing[@]}"
fi

cd "$dir/source"
if [ ! -e "qemu_$version.dsc" ]; then
    # An index of its own: most machines have no index of source packages.
    echo "deb-src http://deb.debian.org/debian bookworm main" > list
    own=(-o Dir::Etc::sourcelist="$PWD/list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$PWD/lists")
    apt-get -q "${own[@]}" update
    apt-get -q "${own[@]}" source --download-only "qemu=1:$version"
fi
# A change of patches or headers is a new tree; its objects stay, as far as they are newer.
wanted=$(cat "$repository"/patches/qemu/*.patch "$repository"/layout/include/domstat/*.h | sha256sum)
if [ "$(cat ../patched 2> /dev/null)" != "$wanted" ]; then
    rm -rf ../tree ../build ../patched
    mkdir ../tree ../build
    tar -xf qemu_7.2+dfsg.orig.tar.xz -C ../tree --strip-components=1
    tar -xf "qemu_$version.debian.tar.xz" -C ../tree
    cd ../tree
    grep -v '^#' debian/patches/series | while read -r name; do
        patch -p1 --quiet < "debian/patches/$name"
    done
    for name in "$repository"/patches/qemu/*.patch; do
        patch -p1 --fuzz=0 --quiet < "$name"
    done
    mkdir include/domstat
    for name in r5 region read write groups plan publish requests threads; do
        cp "$repository/layout/include/domstat/$name.h" include/domstat/
    done
    cd ../build
    ../tree/configure --target-list=x86_64-softmmu --without-default-features --enable-kvm --enable-tcg \
        --enable-seccomp --enable-fdt=system --disable-docs --with-git-submodules=ignore > ../configure.log 2>&1 ||
        { tail -n 20 ../configure.log >&2; fail "configure"; }
    echo "$wanted" > ../patched
fi
cd ../build
began=$SECONDS
ninja -j"${JOBS:-$(nproc)}" qemu-system-x86_64 > ../build.log 2>&1 || { tail -n 30 ../build.log >&2; fail "the build"; }
echo "built in $((SECONDS - began)) s: $PWD/qemu-system-x86_64"

cd "$repository"
cargo build --locked -p domstat
# Debian's source has no firmware.
export QEMU="$dir/build/qemu-system-x86_64 -L /usr/share/qemu -L /usr/share/seabios" DOMSTAT=$target/debug/domstat
for verb in "${verbs[@]}"; do
    tools/qemu-native.py "$verb" 2> "$dir/$verb.err" || { tail -n 20 "$dir/$verb.err" >&2; fail "$verb: the numbers differ"; }
done
