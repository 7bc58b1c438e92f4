#!/usr/bin/env bash
# Makes what QEMU boots of an unpacked Xen host: the hypervisor, dom0's kernel, dom0's files.
#   image.sh DIR FILE...    DIR as fetch.sh left it; each FILE goes to dom0's /bin
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(cd "$1" && pwd)
shift
root=$dir/root
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu
release() { (cd "$root/lib/modules" && printf '%s\n' ./*-"$1" | grep -v "${2:-none}" | cut -c3-); }
dom0_release=$(release amd64 cloud)
domu_release=$(release cloud-amd64)

# Copies the modules FILES of kernel RELEASE to TREE/modules.
modules() {
    local tree=$1 release=$2
    shift 2
    mkdir -p "$tree/modules"
    for name in "$@"; do
        find "$root/lib/modules/$release" -name "$name.ko" -exec cp {} "$tree/modules/" \;
        [ -e "$tree/modules/$name.ko" ] || { echo "no module $name in $release" >&2; exit 1; }
    done
}
# Copies a program with the libraries it is linked with.
program() {
    local tree=$1 from=$2 to=$3
    install -D "$from" "$tree/$to"
    { ldd "$from" 2> /dev/null || true; } | grep -o '/[^ ]*' | while read -r lib; do
        install -D "$lib" "$tree/lib/x86_64-linux-gnu/$(basename "$lib")"
    done
}
pack() { (cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1); }
skeleton() {
    mkdir -p "$1"/{bin,sbin,dev,proc,sys,run,tmp,etc,lib64,usr/bin,lib/x86_64-linux-gnu,var/lib/xen,var/lib/xenstored,var/log/xen/console}
    ln -s ../run "$1/var/run"
    ln -s ../run/lock "$1/var/lock"
    cp "$root/bin/busybox" "$1/bin/"
    for applet in $("$root/bin/busybox" --list | grep -v busybox); do
        ln -sf busybox "$1/bin/$applet"
    done
    install "$2/init" "$1/init"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

domu=$work/domu
skeleton "$domu" "$here/domu"
modules "$domu" "$domu_release" xen-blkfront xen-netfront

dom0=$work/dom0
skeleton "$dom0" "$here/dom0"
modules "$dom0" "$dom0_release" \
    xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-blkback xen-netback loop
for name in xl xenstored xenconsoled xen-init-dom0 xentop; do
    program "$dom0" "$root/usr/lib/xen-4.17/bin/$name" "usr/lib/xen-4.17/bin/$name"
    ln -s "../usr/lib/xen-4.17/bin/$name" "$dom0/sbin/$name"
done
for name in xenstore-read xenstore-write xenstore-ls xenstore-list xenstore-exists xenstore-rm; do
    program "$dom0" "$root/usr/bin/$name" "usr/bin/$name"
done
for name in bash flock losetup logger strace; do
    program "$dom0" "$(command -v $name)" "usr/bin/$name"
    rm -f "$dom0/bin/$name"
    ln -s "../usr/bin/$name" "$dom0/bin/$name"
done
cp -L /lib64/ld-linux-x86-64.so.2 "$dom0/lib64/"
cp -L /lib/x86_64-linux-gnu/libgcc_s.so.1 "$dom0/lib/x86_64-linux-gnu/"
cp -r "$root/etc/xen" "$dom0/etc/"
install "$here"/dom0/vif-none "$dom0/etc/xen/scripts/"
# The hotplug scripts look for the tools of their own version there.
mkdir -p "$dom0/usr/lib/xen-common"
cp -r "$root/usr/lib/xen-common/." "$dom0/usr/lib/xen-common/"
mkdir "$dom0/domu"
cp "$root/boot/vmlinuz-$domu_release" "$dom0/domu/kernel"
pack "$domu" > "$dom0/domu/initrd"
install "$here"/dom0/*.sh "$dom0/bin/"
for file in "$@"; do
    install "$file" "$dom0/bin/"
done
pack "$dom0" > "$dir/dom0.cpio.gz"

gunzip -c "$root/boot/xen-4.17-amd64.gz" > "$dir/xen"
python3 - "$root/boot/vmlinuz-$dom0_release" "$dir/vmlinux" << 'PYTHON'
import lzma, sys
image = open(sys.argv[1], "rb").read()
start = image.index(b"\xfd7zXZ\0")
open(sys.argv[2], "wb").write(lzma.LZMADecompressor().decompress(image[start:]))
PYTHON
