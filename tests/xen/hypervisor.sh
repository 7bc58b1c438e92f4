#!/usr/bin/env bash
# Builds Xen with the patches of xen/ from Debian's source package.
#   hypervisor.sh DIR    leaves the multiboot image in DIR/xen-patched
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
version=4.17.5+72-g01140da4e8
mkdir -p "$1/source/lists/partial"
dir=$(cd "$1" && pwd)
for tool in bison flex patch; do
    command -v $tool > /dev/null || { echo "there is no $tool: apt-get install bison flex patch" >&2; exit 1; }
done

cd "$dir/source"
if [ ! -e "xen_$version.orig.tar.xz" ]; then
    # An index of its own: most machines have none of sources.
    echo "deb-src http://deb.debian.org/debian bookworm main" > list
    own=(-o Dir::Etc::sourcelist="$PWD/list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$PWD/lists")
    apt-get -q "${own[@]}" update
    apt-get -q "${own[@]}" source --download-only "xen=$version-1"
fi
rm -rf "xen-$version"
tar -xf "xen_$version.orig.tar.xz"
cd "xen-$version"
for patch in "$repository"/patches/xen/*.patch; do
    patch -p1 --fuzz=0 --quiet < "$patch"
done
# The public header is that of revision 1, but for what a hypervisor has no use for.
diff "$repository/layout/include/domstat/r1.h" \
    <(grep -vxE '#ifndef __XEN__|#endif /\* !__XEN__ \*/' xen/include/public/domstat.h)
make -s -C xen XEN_TARGET_ARCH=x86_64 olddefconfig > ../build.log 2>&1
make -s -j"$(nproc)" -C xen XEN_TARGET_ARCH=x86_64 >> ../build.log 2>&1 ||
    { tail -n 30 ../build.log >&2; exit 1; }
cp xen/xen "$dir/xen-patched"
# What a change of a runstate costs where somebody looks: the function has no loop.
objdump --no-show-raw-insn --disassemble=domstat_write_runstate xen/xen-syms |
    awk '/^ *[0-9a-f]+:/ && $2 != "nop" { n++ }
         END { print n + 0, "instructions in domstat_write_runstate" }' | tee "$dir/instructions.txt"
