#!/usr/bin/env bash
# Boots a real Xen host under QEMU's TCG, runs domstat in its dom0 and judges the serial log.
#   ci/xen.sh            what domstat, Xen's tools, sysfs and the domU say, through a domU's life
#   ci/xen.sh record     the same, and makes it the recording that the tests of the source replay
#   ci/xen.sh patched    builds Xen with the patches of patches/xen/ and judges what the hypervisor writes
# XEN_DIR is where packages and images are kept (default: xen in cargo's target directory).
# Needs Debian's qemu-system-x86, cpio and strace; patched also bison, flex and patch.
source "$(dirname "$0")/common.sh"
mode=${1:-agree}
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
dir=${XEN_DIR:-$target/xen}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
for tool in qemu-system-x86_64 cpio strace losetup flock logger; do
    command -v $tool > /dev/null || fail "there is no $tool: see ci/setup.sh"
done

# Builds a program that needs no library in dom0, and copies it without what only a debugger reads.
static() { # PACKAGE KIND NAME [PROFILE]
    local out=$target/${4:-debug}
    cargo rustc --locked ${4:+"--$4"} -p "$1" "--$2" "$3" -- -C target-feature=+crt-static
    strip -o "$dir/bin/$3" "$out/$3"
    ldd "$dir/bin/$3" 2>&1 | grep -qE 'statically linked|not a dynamic' || fail "$3 is not static"
}
# Runs a scenario and judges it, and a log with one wrong number, which must not pass.
run() { # SCENARIO LIMIT WRONG
    local log=$dir/$1.log
    tests/xen/image.sh "$dir" "$dir"/bin/*
    echo "booting; the serial console goes to $log"
    tests/xen/boot.sh "$dir" "$1.sh" "$log" "$2" || { tail -n 30 "$log"; fail "$1: no end within $2 s"; }
    python3 tests/xen/judge.py "$1" "$log" > "$dir/$1.txt" || {
        grep -v '^ok ' "$dir/$1.txt" >&2
        fail "$1: see $dir/$1.txt and $log"
    }
    sed "$3" "$log" > "$dir/wrong.log"
    ! cmp -s "$log" "$dir/wrong.log" || fail "$1: nothing to make wrong with $3"
    ! python3 tests/xen/judge.py "$1" "$dir/wrong.log" &> /dev/null || fail "$1: the judge took a wrong log"
    echo "$(grep -c '^ok ' "$dir/$1.txt") checks hold: $dir/$1.txt"
}

rm -rf "$dir/bin"
mkdir "$dir/bin"
tests/xen/fetch.sh "$dir"
case $mode in
    agree | record)
        static domstat bin domstat
        static domstat-tests bin domstat-xen-record
        gcc -static -O1 -Wall -Wextra -Werror -o "$dir/bin/tapdisk" tests/xen/tapdisk.c
        run agree 900 's/"rd_bytes":[0-9]*/"rd_bytes":7/'
        if [ "$mode" = record ]; then
            python3 tests/xen/judge.py recording "$dir/agree.log" > sources/tests/recorded/xen-4.17.txt
        fi
        ;;
    patched)
        tests/xen/hypervisor.sh "$dir"
        static domstat bin domstat release
        static domstat-tests bin domstat-xen-cost release
        gcc -static -O1 -Wall -Wextra -Werror -o "$dir/bin/acquire" tests/xen/acquire.c
        XEN=$dir/xen-patched DOM0_VCPUS=2 run patched 900 's/same frames 1 of 1/same frames 0 of 1/'
        ;;
    *) fail "unknown: $mode" ;;
esac
