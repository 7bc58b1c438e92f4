#!/usr/bin/env bash
# Boots Debian with a real systemd under QEMU's TCG, starts the units of deploy/ there and judges
# what they do: socket activation, READY=1, memory that outlives kills, what the exporter sees at
# sockets, and what a program in its sandbox can read of other processes.
# SYSTEMD_DIR is the folder of the machine (default: systemd in cargo's target directory).
# Needs root, and Debian's debootstrap, cpio and qemu-system-x86.
source "$(dirname "$0")/common.sh"
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
dir=${SYSTEMD_DIR:-$target/systemd}
for tool in debootstrap cpio qemu-system-x86_64; do
    command -v $tool > /dev/null || fail "there is no $tool: apt-get install debootstrap cpio qemu-system-x86"
done
mkdir -p "$dir"
if [ ! -e "$dir/done" ]; then
    rm -rf "$dir/root"
    debootstrap --variant=minbase --include=systemd-sysv,procps bookworm "$dir/root" > "$dir/debootstrap.log" \
        || fail "see $dir/debootstrap.log"
    package=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
    (cd "$dir" && apt-get -q download "$package" > /dev/null && dpkg-deb --fsys-tarfile "$package"*.deb | tar -x --wildcards './boot/vmlinuz*')
    touch "$dir/done"
fi
root=$dir/root
cargo build --locked -p domstat
strip -o "$dir/domstat" "$target/debug/domstat"
DESTDIR=$root PREFIX=/usr/local BINARY=$dir/domstat deploy/install.sh
install tests/systemd/scenario.sh "$root/usr/local/bin/scenario"
install tests/systemd/probe.pl "$root/usr/local/bin/probe"
cat > "$root/etc/systemd/system/scenario.service" << 'UNIT'
[Unit]
After=basic.target systemd-tmpfiles-setup.service
[Service]
Type=oneshot
ExecStart=/usr/local/bin/scenario
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../scenario.service "$root/etc/systemd/system/multi-user.target.wants/scenario.service"
(cd "$root" && find . -xdev \( -path ./var/cache -o -path ./usr/share/doc -o -path ./var/lib/apt \) -prune -o -print0 \
    | cpio -0 --quiet -o -H newc | gzip -1) > "$dir/root.cpio.gz"
log=$dir/serial.log
echo "booting; the serial console goes to $log"
: > "$log"
timeout --foreground 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -display none -monitor none \
    -no-reboot -net none -serial "file:$log" -kernel "$dir"/boot/vmlinuz* -initrd "$dir/root.cpio.gz" \
    -append "console=ttyS0 rdinit=/sbin/init quiet mitigations=off no_timer_check panic=-1 systemd.show_status=no" || fail "no end within 900 s: see $log"
output=$(tr -d '\r' < "$log" | sed -n 's/^.*scenario: //p')
echo "$output"
hold() { # TIMES LINE
    [ "$(grep -cE "^$2\$" <<< "$output")" = "$1" ] || fail "expected $1 times: $2"
}
hold 1 'service before anybody connects: inactive'
hold 1 'service after: active'
# Users of their own: DynamicUser.
hold 1 'user: 6[0-9]{4}'
hold 1 'kept: 1'
hold 3 'killed: goes on'
hold 1 'check: 0 0 failed'
hold 1 'export: active as 6[0-9]{4}'
hold 1 'scrape: 1 build_info'
# The exporter's user may connect to the daemon's socket.
hold 1 'scrape: 1 up at a socket'
hold 1 'scrape: 1 up after a kill'
hold 1 'top: 1 running'
hold 1 'sockets left: 0'
hold 1 'qemu: active'
hold 1 'qemu socket: 660 domstat'
hold 1 'xen without Xen: inactive'
# From inside the exporter's unit nothing of other processes and no secret can be read.
for what in /proc/1/root/etc/shadow /etc/shadow /proc/1/environ /proc/1/mem process_vm_readv process_vm_writev; do
    hold 1 "exporter: $what: refused"
    hold 1 "nothing: $what: READ"
done
# The drop-in opens files and memory through /proc, as it says; the system calls are still forbidden.
hold 1 'entries: /proc/1/root/etc/shadow: READ'
hold 1 'entries: /proc/1/mem: READ'
hold 1 'entries: process_vm_readv: refused'
hold 1 'entries: process_vm_writev: refused'
hold 1 'failed units: 0'
