#!/usr/bin/env bash
# Makes what QEMU boots: the kernel, and an initramfs whose init runs the scenario of the command line.
#   image.sh DIR DOMSTAT    DIR as fetch.sh left it; leaves DIR/vmlinuz and DIR/initrd
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=$(cd "$1" && pwd)
domstat=$2
root=$dir/root
release=$(basename "$root"/lib/modules/*)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work"/{bin,dev,proc,sys,tmp,run,modules,lib64,lib/x86_64-linux-gnu}
cp "$root/bin/busybox" "$work/bin/"
for applet in $("$root/bin/busybox" --list | grep -v '^busybox$'); do
    ln -s busybox "$work/bin/$applet"
done
for name in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio_balloon \
    irqbypass kvm kvm-amd; do
    find "$root/lib/modules/$release" -name "$name.ko*" -exec cp {} "$work/modules/" \;
    # Later kernels have them compressed.
    [ ! -e "$work/modules/$name.ko.xz" ] || xz -d "$work/modules/$name.ko.xz"
    [ -e "$work/modules/$name.ko" ] || grep -q "/$name.ko\$" "$root/lib/modules/$release/modules.builtin" || { echo "no module $name in $release" >&2; exit 1; }
done
install "$here/init" "$work/init"
gcc -static -O1 -Wall -Wextra -Werror -pthread -o "$work/bin/load" "$here/load.c"
strip -o "$work/bin/domstat" "$domstat"
ldd "$domstat" | grep -o '/[^ ]*' | while read -r lib; do
    case $lib in
        */ld-linux*) cp -L "$lib" "$work/lib64/" ;;
        *) cp -L "$lib" "$work/lib/x86_64-linux-gnu/" ;;
    esac
done
cp "$root/boot/vmlinuz-$release" "$dir/vmlinuz"
(cd "$work" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) > "$dir/initrd"
